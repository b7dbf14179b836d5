"""Making a release folder: parts are collected, packed, hashed, described, and put in place at once."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moe_asr import __version__
from moe_asr.config import from_dict
from moe_asr.errors import ConfigError, GraphError
from moe_asr.files import PathLike, atomic_directory, read_json, write_json, write_text, write_yaml
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.lang.load_graph import load_graph
from moe_asr.lang.provenance import hash_path
from moe_asr.model.directory import WEIGHTS, load_model_dir, save_model_dir
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.release import (
    GRAPH,
    INFO,
    OPTIONS,
    README,
    Measured,
    Part,
    ReleaseAbout,
    ReleaseInfo,
    check_method_options,
    info_record,
    is_release,
    options_record,
)
from moe_asr.recognizer.release_readme import release_readme


def write_release(
    directory: PathLike,
    model: PathLike,
    graph: PathLike,
    about: ReleaseAbout,
    options: RecognizerOptions | None = None,
    *,
    storage: str | None = None,
    chunk_sizes: Sequence[int] = (),
    other_graphs: Mapping[str, PathLike] | None = None,
    results: Sequence[PathLike] = (),
    sources: Mapping[str, PathLike] | None = None,
) -> ReleaseInfo:
    """Writes a release folder, whole or not at all; one that is there is replaced.

    Args:
        directory: the folder.
        model: a model directory.
        graph: a decoding graph, or a folder with an ``LG`` and an ``HLG``: the one that takes fewer bytes.
        about: for people.
        options: of recognisers that are made of it.
        storage: of the weights; None keeps the model directory's own, to the bit.
        chunk_sizes: that it is made for; the default of the options comes first.
        other_graphs: by name, further ones over the same tokens: ``graph_NAME.safetensors``.
        results: folders that `moe-asr decode` wrote with this model and graph.
        sources: by name, other files that it was made of (tuned scales, ...), to be noted with their hashes.

    Raises:
        ConfigError: if the folder is something else, an option is wrong, or results are of another model or
            graph.
        GraphError: if a graph is not over the model's tokens.
        CheckpointError, StaleError: if the model or a graph is damaged, or is not what its record says.
    """
    directory, model = Path(directory).resolve(), Path(model)
    is_other = not directory.is_dir() or any(directory.iterdir())
    if directory.exists() and not is_release(directory) and is_other:
        raise ConfigError(f"{directory}: is there, and is no release: it is not replaced")
    options = options or RecognizerOptions()
    check_method_options(options, "options")
    loaded = load_model_dir(model)
    graphs = {GRAPH: graph}
    for name, path in (other_graphs or {}).items():
        if not re.fullmatch(r"[\w.+-]+", name):
            raise ConfigError(
                f"name of a graph: expected letters, digits and . _ + -, found {name!r}"
            )
        graphs[f"graph_{name}.safetensors"] = path
    with atomic_directory(directory) as folder:
        save_model_dir(
            folder, loaded.model, loaded.tokenizer, loaded.fbank_options, storage or loaded.storage
        )
        if storage in (None, loaded.storage):
            shutil.copyfile(model / WEIGHTS, folder / WEIGHTS)  # rounded once, not again
        made_of: dict[str, Any] = {
            "moe_asr": __version__,
            "model": {"storage": loaded.storage, "sha256": hash_path(model / WEIGHTS)},
        }
        for name, path in graphs.items():
            made_of[name] = _add_graph(folder / name, Path(path), loaded.tokenizer.tokens)
        write_yaml(folder / OPTIONS, options_record(options))
        for name, path in (sources or {}).items():
            made_of[name] = {"file": Path(path).name, "sha256": hash_path(path)}
        hashes = [hash_path(folder / WEIGHTS), made_of["model"]["sha256"]]
        graph_hashes = [made_of[name]["sha256"] for name in graphs]
        measured = [row for path in results for row in _measured(Path(path), hashes, graph_hashes)]
        parts = {
            file.name: Part(file.stat().st_size, hash_path(file))
            for file in sorted(folder.iterdir())
        }
        others = [size for size in chunk_sizes if size != options.chunk_size]
        info = ReleaseInfo(about, (options.chunk_size, *others), parts, made_of, tuple(measured))
        write_json(folder / INFO, info_record(info))
        write_text(folder / README, release_readme(info, directory.name))
    return info


def _add_graph(target: Path, source: Path, tokens: Any) -> dict[str, Any]:
    """Writes the smaller of the graphs that there are; tells what it is."""
    candidates = [source]
    if source.is_dir():
        candidates = [source / name for name in ("LG.safetensors", "HLG.safetensors")]
        candidates = [path for path in candidates if path.is_file()]
        if not candidates:
            raise GraphError(f"{source}: there is neither an LG.safetensors nor an HLG.safetensors")
    sizes: dict[Path, int] = {}
    graphs: dict[Path, DecodingGraph] = {}
    for path in candidates:
        graphs[path] = load_graph(path)
        try:
            graphs[path].check_tokens(tokens)
        except GraphError as error:
            raise GraphError(f"{path}: {error}") from error
        graphs[path].save(target, packed=True)
        sizes[path] = target.stat().st_size
    chosen = min(candidates, key=lambda path: sizes[path])
    graph = graphs[chosen]
    graph.save(target, packed=True)
    return {
        "file": chosen.name,
        "sha256": hash_path(chosen),
        "states": graph.num_states,
        "arcs": graph.num_arcs,
        "metadata": graph.metadata,
    }


def _measured(folder: Path, models: Sequence[str], graphs: Sequence[str]) -> list[Measured]:
    """The rows of a decoding's results, if they are of one of the models and graphs with these hashes."""
    options, results = read_json(folder / "options.json"), read_json(folder / "results.json")
    try:
        given = options["input"]
        files = {"model": Path(given["model"]) / WEIGHTS, "graph": Path(given["graph"])}
        for (what, file), known in zip(files.items(), (models, graphs), strict=True):
            if hash_path(file) not in known:
                raise ConfigError(
                    f"{folder}: decoded with {file}: that is not the release's {what}"
                )
        return [
            from_dict(
                Measured,
                {
                    "test_set": Path(given["manifest"]).name,
                    "mode": mode,
                    "method": method,
                    "unit": row["unit"],
                    "units": row["reference_words"],
                    "errors": row["substitutions"] + row["deletions"] + row["insertions"],
                    "rate": row["wer"],
                    "interval": row.get("interval"),
                    "options": options["options"][mode][method],
                    "precision": given.get("precision"),
                },
                str(folder),
            )
            for mode, rows in results.items()
            for method, row in rows.items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder}: not what `moe-asr decode` writes ({error!r})") from error
