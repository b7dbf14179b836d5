"""A release folder: a model, its decoding graph and its options in one place, held together by hashes.

It is a model directory (``config.yaml``, ``model.safetensors``, the tokenizer's files) with
``graph.safetensors``, ``recognizer.yaml`` (`RecognizerOptions`), ``RELEASE.json`` (`ReleaseInfo`) and a
``README.md`` for people. Nothing in it is code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from moe_asr.config import from_dict, to_dict
from moe_asr.decode.registry import get_method
from moe_asr.errors import CheckpointError, ConfigError
from moe_asr.files import PathLike, read_json, read_yaml
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.lang.load_graph import load_graph
from moe_asr.lang.provenance import hash_path
from moe_asr.model.directory import CONFIG, WEIGHTS, LoadedModel, load_model_dir
from moe_asr.model.storage import FLOAT32
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.text.tokenizer import Tokenizer, tokenizer_class, tokenizer_kinds

GRAPH, OPTIONS, INFO, README = "graph.safetensors", "recognizer.yaml", "RELEASE.json", "README.md"
FORMAT, VERSION = "moe_asr.release", 1


@dataclass(frozen=True)
class Part:
    """A file of a release: its size and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Measured:
    """An error rate of the parts of a release.

    Attributes:
        test_set: name of the manifest.
        mode: ``full``, ``chunk16``, ...
        method: of decoding.
        unit: what was counted: ``word``, ...
        units: how many.
        errors: substitutions, deletions and insertions.
        rate: in percent.
        interval: the bootstrap's 95 % of it, if there is one.
        options: of the method.
        precision: of the model's weights when it was measured, see `load_model_dir`.
    """

    test_set: str
    mode: str
    method: str
    unit: str
    units: int
    errors: int
    rate: float
    interval: tuple[float, float] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    precision: str | None = None


@dataclass(frozen=True)
class ReleaseAbout:
    """What people should know.

    Attributes:
        title: one line.
        description: what it recognises, what it was trained on, what it is not fit for.
        data_licence: of what it was trained on.
        examples: sentences that it knows.
    """

    title: str
    description: str
    data_licence: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReleaseInfo:
    """What ``RELEASE.json`` says.

    Attributes:
        format, version: `FORMAT`, `VERSION`.
        about: for people.
        chunk_sizes: those that it was made for, the default first.
        parts: by file name; all of them are verified when the release is loaded.
        made_of: names and hashes of what it was made of.
        measured: error rates.
    """

    about: ReleaseAbout
    chunk_sizes: tuple[int, ...]
    parts: dict[str, Part]
    made_of: dict[str, Any]
    measured: tuple[Measured, ...] = ()
    format: str = FORMAT
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.format != FORMAT or self.version != VERSION:
            raise ValueError(
                f"format {self.format!r}, version {self.version}: this code reads {FORMAT!r}, {VERSION}"
            )
        if not self.chunk_sizes or min(self.chunk_sizes) < 1:
            raise ValueError(f"chunk_sizes must be 1 or more, found {self.chunk_sizes}")


def is_release(directory: PathLike) -> bool:
    """Whether a folder says that it is a release; if not, it may be a model directory."""
    return (Path(directory) / INFO).is_file()


def read_release_info(directory: PathLike) -> ReleaseInfo:
    """Reads ``RELEASE.json``, and holds the parts against it.

    Raises:
        ConfigError: if it cannot be read, or is of another format or version.
        CheckpointError: naming the part that is missing, or another than it says; or a file that is read
            with the release, and is not among its parts.
    """
    directory = Path(directory)
    path = directory / INFO
    info = from_dict(ReleaseInfo, read_json(path), str(path))
    for name, part in info.parts.items():
        file = directory / name
        if Path(name).name != name or not file.is_file():
            raise CheckpointError(f"{file}: a part of the release, but there is no such file")
        size = file.stat().st_size
        if size != part.bytes:
            raise CheckpointError(
                f"{file}: not the part of the release: it has {size:,} bytes, {path} says {part.bytes:,}; "
                "get the release again"
            )
        found = hash_path(file)
        if found != part.sha256:
            raise CheckpointError(
                f"{file}: not the part of the release: its SHA-256 is {found[:12]}..., {path} says "
                f"{part.sha256[:12]}...; get the release again"
            )
    for name in sorted(_read_with(directory) - set(info.parts)):
        raise CheckpointError(
            f"{path}: {name} is not among its parts, but is read with the release"
        )
    return info


def _read_with(directory: Path) -> set[str]:
    """The names of the files that are read with a release: those that have to be there, and that are."""
    tokenizers = {name for kind in tokenizer_kinds() for name in tokenizer_class(kind).files}
    perhaps = {OPTIONS, *tokenizers} - set(Tokenizer.files)
    return {
        CONFIG,
        WEIGHTS,
        GRAPH,
        *Tokenizer.files,
        *(n for n in perhaps if (directory / n).exists()),
    }


def read_release(
    directory: PathLike,
    graph: PathLike | DecodingGraph | None = None,
    device: str = "cpu",
    precision: str | None = None,
) -> tuple[LoadedModel, DecodingGraph, RecognizerOptions]:
    """All that a recogniser is made of, from a release folder or a plain model directory.

    Args:
        directory: of a release all parts are verified. A model directory has default options, unless there
            is a ``recognizer.yaml`` in it.
        graph: in place of the folder's own ``graph.safetensors``.
        device: of the model.
        precision: "float32" or "int8" on the packed kernels of the CPU, or "torch", see `load_model_dir`.
            None: float32 on a CPU, torch elsewhere.

    Raises:
        ConfigError: if there is no graph, or the options are wrong (naming file and key).
        CheckpointError: if a part was changed, or the model is damaged.
        GraphError: if the graph is damaged, or is not of the model's tokens.
        StaleError: if the graph has a record beside it, and is not what that says.
    """
    directory = Path(directory)
    if is_release(directory):
        read_release_info(directory)
    options = RecognizerOptions()
    if (directory / OPTIONS).is_file():
        options = read_options(directory / OPTIONS)
    if graph is None:
        graph = directory / GRAPH
        if not graph.is_file():
            raise ConfigError(f"{directory}: there is no {GRAPH} in it: a graph has to be given")
    if precision is None and torch.device(device).type == "cpu":
        precision = FLOAT32
    loaded = load_model_dir(directory, device, precision)
    if not isinstance(graph, DecodingGraph):
        graph = load_graph(graph)
    graph.check_tokens(loaded.tokenizer.tokens)
    return loaded, graph, options


def read_options(path: PathLike) -> RecognizerOptions:
    """The options in a YAML file, those of the method included.

    Raises:
        ConfigError: naming the file and the key.
    """
    options = from_dict(RecognizerOptions, read_yaml(path) or {}, str(path))
    check_method_options(options, str(path))
    return options


def check_method_options(options: RecognizerOptions, source: str) -> None:
    """`ConfigError` naming the source, if the method is none or has not these options."""
    try:
        method = get_method(options.method)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    from_dict(method.options_type, options.method_options, f"{source}: method_options")


def options_record(options: RecognizerOptions) -> dict[str, Any]:
    """The plain values of ``recognizer.yaml``: chunk size and method, and what else is not the default."""
    named = {"chunk_size": options.chunk_size, "method": options.method}
    return {**named, **_changes(to_dict(options), to_dict(RecognizerOptions()))}


def _changes(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What differs. Values of rules of endpoints stand together, as a rule has no default of its own."""
    changes: dict[str, Any] = {}
    for key, value in values.items():
        default = defaults.get(key)
        if value == default:
            continue
        if isinstance(value, Mapping) and isinstance(default, Mapping) and key[:4] != "rule":
            value = _changes(value, default)
        changes[key] = value
    return changes


def info_record(info: ReleaseInfo) -> dict[str, Any]:
    """The plain values of ``RELEASE.json``, what it is first."""
    values = to_dict(info)
    return {key: values.pop(key) for key in ("format", "version", "about")} | values
