"""Release folders: made, verified, read; and the one that the repository ships recognises speech."""

import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from lhotse import CutSet

from moe_asr.audio.fbank import FbankOptions, make_fbank
from moe_asr.cli.main import main
from moe_asr.config import to_dict
from moe_asr.data.manifests import write_cuts
from moe_asr.decode.registry import DecodingResources, EncodedBatch, make_method
from moe_asr.errors import CheckpointError, ConfigError, GraphError, MoeAsrError
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.grammar import word_loop
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.time_correction import TimeCorrection
from moe_asr.model.config import preset
from moe_asr.model.directory import load_model_dir, save_model_dir
from moe_asr.model.u2 import U2MoeModel
from moe_asr.recognizer.endpoint import EndpointOptions, EndpointRule
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.release import (
    ReleaseAbout,
    is_release,
    read_release,
    read_release_info,
)
from moe_asr.recognizer.write_release import write_release
from moe_asr.text.lexicon import lexicon_from_tokenizer
from moe_asr.text.tokenizer import CharTokenizer
from tests.decode.conftest import make_cut
from tests.fsa.test_graph import equal

SHIPPED = Path(__file__).parents[2] / "egs" / "voice_commands" / "release"
ABOUT = ReleaseAbout("Numbers", "One and two.\n\nUntrained.", "None was used.", ("one two",))
PARTS = {
    *("config.yaml", "model.safetensors", "tokens.txt", "tokenizer.yaml"),
    *("graph.safetensors", "recognizer.yaml"),
}


@dataclass
class Made:
    """A model directory and a folder of its graphs."""

    model: Path
    graphs: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    tokenizer = CharTokenizer.from_texts(["one two"])
    torch.manual_seed(3)
    model = U2MoeModel(preset("tiny", vocab_size=tokenizer.vocab_size)).eval()
    save_model_dir(folder / "model", model, tokenizer, FbankOptions(), "int8")
    lexicon = lexicon_from_tokenizer(["one", "two"], tokenizer)
    grammar = word_loop(lexicon.words).to_fst(lexicon.word_table())
    built = build_graphs(lexicon, grammar, tokenizer.tokens, "standard", "openfst")
    built.lg.save(folder / "graphs" / "LG.safetensors")
    built.hlg.save(folder / "graphs" / "HLG.safetensors")
    return Made(folder / "model", folder / "graphs")


@pytest.fixture
def release(made: Made, tmp_path: Path) -> Path:
    write_release(tmp_path / "release", made.model, made.graphs, ABOUT)
    return tmp_path / "release"


def test_what_is_read_is_what_was_given(made: Made, tmp_path: Path) -> None:
    options = RecognizerOptions(
        chunk_size=8,
        method="one_best",
        method_options={"lm_scale": 1.5, "token_beam": float("inf")},
    )
    other = {"hlg": made.graphs / "HLG.safetensors"}
    info = write_release(
        tmp_path / "release", made.model, made.graphs, ABOUT, options, chunk_sizes=(4, 8),
        other_graphs=other, sources={"config": made.model / "config.yaml"},
    )  # fmt: skip
    loaded, graph, found = read_release(tmp_path / "release")
    original = load_model_dir(made.model)
    assert loaded.precision == "float32"
    state = load_model_dir(tmp_path / "release").model.state_dict()
    assert all(
        torch.equal(value, state[name]) for name, value in original.model.state_dict().items()
    )
    assert loaded.storage == "int8"
    assert found == options
    # of LG and HLG, the smaller one
    assert equal(graph, DecodingGraph.load(made.graphs / "LG.safetensors"))
    hlg = DecodingGraph.load(made.graphs / "HLG.safetensors")
    for second in (tmp_path / "release" / "graph_hlg.safetensors", hlg):
        assert equal(read_release(tmp_path / "release", second)[1], hlg)
    # JSON has no tuples
    read = read_release_info(tmp_path / "release")
    assert json.dumps(to_dict(read)) == json.dumps(to_dict(info))
    assert read.chunk_sizes == (8, 4) and read.about == ABOUT
    assert set(read.parts) == PARTS | {"graph_hlg.safetensors"}
    for name, part in read.parts.items():
        assert (tmp_path / "release" / name).stat().st_size == part.bytes
    readme = (tmp_path / "release" / "README.md").read_text()
    assert (
        "# Numbers" in readme
        and 'say "one two"' in readme
        and "chunks of 8, 4" in " ".join(readme.split())
    )
    assert "None was used." in readme


def test_options_are_written_where_they_differ(made: Made, tmp_path: Path) -> None:
    """Nested ones too; what is left out is what the default says."""
    rule = EndpointRule(True, 0.9, float("inf"))
    options = RecognizerOptions(
        left_chunks=0,
        endpoint=EndpointOptions(rule1=rule, enabled=False),
        correction=TimeCorrection(end_offset_seconds=0.1),
    )
    write_release(tmp_path / "release", made.model, made.graphs, ABOUT, options)
    assert read_release(tmp_path / "release")[2] == options
    assert yaml.safe_load((tmp_path / "release" / "recognizer.yaml").read_text()) == {
        "chunk_size": 16,
        "method": "lattice_attention_rescoring",
        "left_chunks": 0,
        "endpoint": {"rule1": to_dict(rule), "enabled": False},
        "correction": {"end_offset_seconds": 0.1},
    }


def test_weights_are_stored_as_asked_for_or_kept_to_the_bit(made: Made, tmp_path: Path) -> None:
    for storage, expected in ((None, "int8"), ("int8", "int8"), ("float32", "float32")):
        write_release(tmp_path / "release", made.model, made.graphs, ABOUT, storage=storage)
        assert load_model_dir(tmp_path / "release").storage == expected
        same = (tmp_path / "release" / "model.safetensors").read_bytes()
        assert (same == (made.model / "model.safetensors").read_bytes()) == (expected == "int8")


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_part_that_was_changed_or_is_missing_is_named(release: Path, name: str) -> None:
    content = bytearray((release / name).read_bytes())
    content[len(content) // 2] ^= 1
    (release / name).write_bytes(bytes(content))
    with pytest.raises(
        CheckpointError, match=f"release/{name}: not the part of the release: its SHA"
    ):
        read_release(release)
    (release / name).write_bytes(bytes(content[:-1]))
    with pytest.raises(CheckpointError, match=f"release/{name}: not the part of the release"):
        read_release(release)
    (release / name).unlink()
    with pytest.raises(CheckpointError, match=f"release/{name}: a part of the release, but"):
        read_release(release)


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda info: info.update(version=2), "version 2: this code reads"),
        (lambda info: info.update(format="other"), "format 'other'"),
        (lambda info: info.update(part={}), "unknown key 'part' .*did you mean 'parts'"),
        (lambda info: info.update(chunk_sizes=[]), "chunk_sizes must be 1 or more"),
        (lambda info: info.pop("parts"), "missing key.*parts"),
        (lambda info: info["parts"].update({"a": {"bytes": 1}}), "parts.a: missing key.*sha256"),
        (lambda info: info["parts"].update({"../config.yaml": info["parts"]["config.yaml"]}), "config.yaml"),
        (lambda info: info["parts"]["tokens.txt"].update(bytes=3), "tokens.txt.* bytes, .*says 3;"),
        *(
            (lambda info, name=name: info["parts"].pop(name), f"{name} is not among its parts")
            for name in sorted(PARTS)
        ),
    ],
)  # fmt: skip
def test_a_wrong_record_is_named(release: Path, change, message: str) -> None:
    path = release / "RELEASE.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))
    shutil.copy(release / "config.yaml", release.parent / "config.yaml")
    with pytest.raises(MoeAsrError, match=f"(RELEASE.json|release/).*{message}"):
        read_release(release)
    path.write_text("{")
    with pytest.raises(ConfigError, match="RELEASE.json:1: not JSON"):
        read_release(release)


def test_a_file_that_would_be_read_has_to_be_a_part(release: Path) -> None:
    """Others may lie beside the parts."""
    for name in ("notes.txt", "command.wav"):
        (release / name).write_text("")
    read_release(release)
    for name in ("bpe.model", "lexicon.txt"):
        (release / name).write_text("")
        with pytest.raises(CheckpointError, match=f"RELEASE.json: {name} is not among its parts"):
            read_release(release)
        (release / name).unlink()


def test_a_release_written_from_itself_and_behind_a_link(release: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("release")
    before = read_release_info(release).parts
    info = write_release(tmp_path / "link", release, release / "graph.safetensors", ABOUT)
    assert info.parts == before == read_release_info(release).parts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "release"]
    assert (tmp_path / "link").is_symlink()
    assert "--model release " in (release / "README.md").read_text()


def test_a_model_directory_is_read_with_a_graph(made: Made, tmp_path: Path) -> None:
    assert not is_release(made.model)
    with pytest.raises(
        ConfigError, match="model: there is no graph.safetensors in it: a graph has to be"
    ):
        read_release(made.model)
    _, graph, options = read_release(made.model, made.graphs / "HLG.safetensors")
    assert graph.kind == "HLG" and options == RecognizerOptions()
    plain = shutil.copytree(made.model, tmp_path / "plain")
    (plain / "recognizer.yaml").write_text("chunk_size: 4\nmethod_options: {n: 3}\n")
    options = read_release(plain, graph)[2]
    assert options == RecognizerOptions(chunk_size=4, method_options={"n": 3})
    for text, message in (
        ("method_options: {m: 3}", "method_options: unknown key 'm'"),
        ("method: one_bets", "unknown decoding method 'one_bets'; did you mean 'one_best'"),
        ("chunksize: 3", "unknown key 'chunksize' .*'chunk_size'"),
        ("- 1", "expected a mapping"),
    ):
        (plain / "recognizer.yaml").write_text(text)
        with pytest.raises(ConfigError, match=f"plain/recognizer.yaml: {message}"):
            read_release(plain, graph)


def test_a_graph_of_other_tokens_is_refused(made: Made, release: Path, tmp_path: Path) -> None:
    tokenizer = CharTokenizer.from_texts(["ab"])
    lexicon = lexicon_from_tokenizer(["ab"], tokenizer)
    grammar = word_loop(lexicon.words).to_fst(lexicon.word_table())
    other = build_graphs(lexicon, grammar, tokenizer.tokens, "standard", "openfst").lg
    with pytest.raises(GraphError, match="does not belong to this model"):
        read_release(release, other)
    other.save(tmp_path / "other.safetensors")
    before = (release / "RELEASE.json").read_bytes()
    with pytest.raises(GraphError, match="other.safetensors: .*does not belong to this model"):
        write_release(release, made.model, tmp_path / "other.safetensors", ABOUT)
    # nothing of the failed attempt is left, and the old release is whole
    assert (release / "RELEASE.json").read_bytes() == before
    read_release(release)
    assert {path.name for path in tmp_path.iterdir()} == {"release", "other.safetensors"}


def test_what_is_no_release_is_not_replaced(made: Made, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write_release(tmp_path / "folder", made.model, made.graphs, ABOUT)  # empty: fine
    write_release(tmp_path / "folder", made.model, made.graphs, ABOUT)  # a release: fine
    (tmp_path / "folder" / "RELEASE.json").unlink()
    with pytest.raises(ConfigError, match="folder: is there, and is no release"):
        write_release(tmp_path / "folder", made.model, made.graphs, ABOUT)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file: is there, and is no release"):
        write_release(tmp_path / "file", made.model, made.graphs, ABOUT)
    (tmp_path / "file").unlink()
    for name in ("", "../../x", "a/b"):
        with pytest.raises(ConfigError, match=f"name of a graph: .*found '{name}'"):
            write_release(
                tmp_path / "other", made.model, made.graphs, ABOUT, other_graphs={name: made.graphs}
            )
    with pytest.raises(GraphError, match="folder: there is neither"):
        write_release(tmp_path / "other", made.model, tmp_path / "folder", ABOUT)
    with pytest.raises(ConfigError, match="options: method_options: unknown key 'm'"):
        options = RecognizerOptions(method_options={"m": 1})
        write_release(tmp_path / "other", made.model, made.graphs, ABOUT, options)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_command(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Decoded, tuned and released from the command line: options and error rates are in it."""
    cuts = [make_cut(tmp_path, f"utt-{i}", 0.5, text) for i, text in enumerate(["one two", "two"])]
    write_cuts(CutSet.from_cuts(cuts), tmp_path / "cuts.jsonl.gz")
    (tmp_path / "about.yaml").write_text(yaml.safe_dump(to_dict(ABOUT)))
    common = [
        "--model",
        str(made.model),
        "--threads",
        "1",
        "--manifest",
        str(tmp_path / "cuts.jsonl.gz"),
    ]
    common += [
        "--method",
        "one_best",
        "--mode",
        "chunk16",
        "--graph",
        str(made.graphs / "LG.safetensors"),
    ]
    grid = ["--grid", "one_best.lm_scale=0.5,1.5"]
    assert main(["tune", *common, *grid, "--output", str(tmp_path / "scales")]) == 0
    scales = ["--scales", str(tmp_path / "scales")]
    assert main(["decode", *common, *scales, "--output", str(tmp_path / "decoded")]) == 0
    release = ["release", "--model", str(made.model), "--graph", str(made.graphs), *scales]
    release += ["--about", str(tmp_path / "about.yaml"), "--method", "one_best"]
    release += [
        "--option",
        "one_best.search_beam=9",
        "--chunk-sizes",
        "16",
        "8",
        "--left-chunks",
        "3",
    ]
    release += ["--results", str(tmp_path / "decoded"), "--output", str(tmp_path / "release")]
    assert main(release) == 0
    assert "written: " in capsys.readouterr().out
    options = read_release(tmp_path / "release")[2]
    tuned = json.loads((tmp_path / "scales" / "one_best.json").read_text())["modes"]["chunk16"][
        "scales"
    ]
    assert options.method_options == {"search_beam": 9, **tuned} and options.left_chunks == 3
    info = read_release_info(tmp_path / "release")
    (row,) = info.measured
    results = json.loads((tmp_path / "decoded" / "results.json").read_text())["chunk16"]["one_best"]
    assert (row.mode, row.method, row.units) == ("chunk16", "one_best", 3)
    assert row.rate == results["wer"] == pytest.approx(100 * row.errors / 3)
    assert row.options == tuned and set(info.made_of) >= {"scales", "model", "graph.safetensors"}
    assert f"{row.rate:.2f} (WER)" in (tmp_path / "release" / "README.md").read_text()
    # a result of packed weights says so
    options_file = tmp_path / "decoded" / "options.json"
    record = json.loads(options_file.read_text())
    assert row.precision is None and "precision" not in record["input"]
    record["input"]["precision"] = "int8"
    options_file.write_text(json.dumps(record))
    assert main(release) == 0
    (row,) = read_release_info(tmp_path / "release").measured
    assert row.precision == "int8" and row.mode == "chunk16"
    assert "| chunk16, int8 | one_best |" in (tmp_path / "release" / "README.md").read_text()
    # a result of another model is none of this one's
    save_model_dir(
        tmp_path / "model",
        *(lambda m: (m.model, m.tokenizer, m.fbank_options))(load_model_dir(made.model)),
    )
    record["input"]["model"] = str(tmp_path / "model")
    options_file.write_text(json.dumps(record))
    assert main(release) == 2
    assert "that is not the release's model" in capsys.readouterr().err


def test_the_shipped_release_is_whole_and_small() -> None:
    info = read_release_info(SHIPPED)
    files = list(SHIPPED.iterdir())
    assert {file.name for file in files} == {*info.parts, "RELEASE.json", "README.md"}
    assert sum(file.stat().st_size for file in files) < 10_000_000
    assert max(info.chunk_sizes) <= 25 and info.chunk_sizes[0] == 16
    rates = {(row.mode, row.method): row.rate for row in info.measured}
    assert rates and all(rate < 5.0 for rate in rates.values())
    for row in info.measured:
        assert row.rate == pytest.approx(100 * row.errors / row.units)
        assert f"| {row.rate:.2f} (WER) |" in (SHIPPED / "README.md").read_text()
    record = json.dumps(json.loads((SHIPPED / "RELEASE.json").read_text()))
    assert "/" not in record.replace("egs/voice_commands/grammar/assistant.gram", ""), (
        "no paths of a machine"
    )


def test_the_shipped_release_recognises_speech() -> None:
    """What it says it knows, by voices that it has never heard too; first and second pass, both contexts."""
    pytest.importorskip("espeakng_loader")
    from moe_asr.data.speaking import say_text

    loaded, graph, options = read_release(SHIPPED)
    sentences = [
        *read_release_info(SHIPPED).about.examples,
        "call anna please",
        "open the garage door",
    ]
    resources = DecodingResources(loaded.tokenizer, graph, model=loaded.model)
    tuned = {name: options.method_options[name] for name in ("lm_scale", "length_bonus")}
    methods = [
        make_method("one_best", resources, tuned),
        make_method(options.method, resources, options.method_options),
    ]
    fbank = make_fbank(loaded.fbank_options)
    spoken = [(text, voice) for text in sentences for voice in ("en-us", "en-us+f4")]
    features = [torch.from_numpy(fbank(say_text(text, voice))) for text, voice in spoken]
    lengths = torch.tensor([len(one) for one in features])
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    for context in ((), (options.chunk_size, options.num_left_chunks)):
        with torch.no_grad():
            memory, frames = loaded.model.encode(padded, lengths, *context)
            log_probs = loaded.model.ctc_log_probs(memory)
            batch = EncodedBatch(
                log_probs, frames, [f"{voice}: {text}" for text, voice in spoken], memory
            )
            for method in methods:
                found = [hypothesis.text for hypothesis in method.decode(batch)]
                assert found == [text for text, _ in spoken], (method.name, context)


def test_the_first_use_in_the_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said, transcribed, and recognised while it arrives, by the very text of the README."""
    pytest.importorskip("espeakng_loader")
    section = (SHIPPED.parents[2] / "README.md").read_text().split("\n## ")[2]
    assert section.startswith("First use: recognise speech\n")
    section = section.replace("/tmp/command.wav", str(tmp_path / "command.wav"))
    section = section.replace("egs/voice_commands/release", str(SHIPPED))
    commands = [line.strip() for line in section.splitlines() if line.startswith("    moe-asr ")]
    assert [command.split()[1] for command in commands] == ["say", "transcribe"]
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "turn on the kitchen lights"
    exec(section.split("```python\n")[1].split("```")[0], {})
    *partial, final = capsys.readouterr().out.splitlines()
    assert final == f"final:  {said[-1]}"
    assert partial and all(line.startswith("so far: ") for line in partial)
    shown = [line.removeprefix("so far: ") for line in partial]
    assert "turn" in shown[-1] and all(said[-1].startswith(text) for text in shown)
