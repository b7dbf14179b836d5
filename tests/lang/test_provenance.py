"""Steps: done when anything that decides their outputs has changed, and only then."""

import json
from pathlib import Path
from typing import Any

import pytest

from moe_asr.errors import ConfigError, MoeAsrError, StaleError
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.grammar import word_loop
from moe_asr.lang.load_graph import load_graph
from moe_asr.lang.provenance import (
    PROVENANCE_FILE,
    find_stale,
    make,
    makers,
    recorded_inputs,
    recorded_settings,
    verify,
    verify_made,
)
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.symbol_table import SymbolTable


class Copying:
    """A step that copies its input and counts how often it was done."""

    def __init__(self, tmp_path: Path) -> None:
        self.source = tmp_path / "source.txt"
        self.source.write_text("one\n")
        self.directory = tmp_path / "lang"
        self.done = 0
        self.said: list[str] = []

    def build(self, folder: Path) -> None:
        self.done += 1
        (folder / "copy.txt").write_text(self.source.read_text())

    def make(self, **changes: Any) -> bool:
        arguments: dict[str, Any] = {
            "inputs": {"text": self.source},
            "outputs": ["copy.txt"],
            "settings": {"order": 3},
            "build": self.build,
            "command": "copy it",
            "report": self.said.append,
            **changes,
        }
        return make(self.directory, "copy", **arguments)


@pytest.fixture
def step(tmp_path: Path) -> Copying:
    return Copying(tmp_path)


def test_done_once(step: Copying) -> None:
    assert step.make() and not step.make() and step.done == 1
    step.source.touch()
    assert not step.make()
    verify(step.directory)
    verify(step.directory, "copy")
    assert recorded_inputs(step.directory, "copy") == {"text": step.source.resolve()}
    assert recorded_settings(step.directory, "copy") == {"order": 3}
    assert "never made" in step.said[0] and "up to date" in step.said[1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"settings": {"order": 4}}, "another order"),
        ({"settings": {"order": 3, "prune": 0.0}}, "another prune"),
        ({"version": 2}, "another version"),
    ],
)
def test_done_again_for_other_settings(step: Copying, changes: Any, reason: str) -> None:
    step.make()
    assert step.make(**changes) and step.done == 2
    assert reason in step.said[-1]


def test_done_again_for_other_files(step: Copying) -> None:
    step.make()
    step.source.write_text("two\n")
    with pytest.raises(StaleError, match=r"source\.txt \(text\): has changed .* copy it"):
        verify(step.directory)
    assert step.make() and (step.directory / "copy.txt").read_text() == "two\n"
    (step.directory / "copy.txt").write_text("edited\n")
    with pytest.raises(StaleError, match=r"copy\.txt: has changed"):
        verify(step.directory)
    assert step.make() and (step.directory / "copy.txt").read_text() == "two\n"
    (step.directory / "copy.txt").unlink()
    assert find_stale(step.directory)[0].endswith("is gone since step 'copy' wrote it")
    assert step.make() and step.done == 4
    step.source.unlink()
    with pytest.raises(ConfigError, match=r"source\.txt: cannot be read"):
        step.make()


def test_a_folder_is_an_input(step: Copying, tmp_path: Path) -> None:
    folder = tmp_path / "bpe"
    folder.mkdir()
    (folder / "tokens.txt").write_text("a 0\n")
    assert step.make(inputs={"tokenizer": folder})
    assert not step.make(inputs={"tokenizer": folder})
    (folder / "bpe.model").write_text("")
    assert step.make(inputs={"tokenizer": folder}) and "changed: tokenizer" in step.said[-1]


def test_a_stale_input_is_refused(step: Copying, tmp_path: Path) -> None:
    step.make()
    copy = step.directory / "copy.txt"

    def again(source: Path) -> bool:
        return make(tmp_path / "other", "again", {"copy": source}, ["again.txt"], {},
                    lambda folder: (folder / "again.txt").touch())  # fmt: skip

    assert again(copy) and not again(copy)
    step.source.write_text("two\n")
    for source in (copy, step.directory):
        with pytest.raises(StaleError, match=r"source\.txt \(text\): has changed"):
            again(source)
    step.make()
    assert again(copy)


def test_what_a_stale_input_was_made_of_is_refused(step: Copying, tmp_path: Path) -> None:
    step.make()
    places = [step.directory / "copy.txt"]

    def next_step() -> bool:
        folder = tmp_path / f"step{len(places)}"
        return make(folder, "next", {"from": places[-1]}, ["next.txt"], {},
                    lambda to: (to / "next.txt").touch())  # fmt: skip

    for number in (1, 2, 3):
        assert next_step()
        verify(tmp_path / f"step{number}")
        places.append(tmp_path / f"step{number}" / "next.txt")
    step.source.write_text("two\n")
    message = r"source\.txt \(text\): has changed since step 'copy'.*run it again: copy it"
    for place in places:
        with pytest.raises(StaleError, match=message):
            verify_made(place)
        assert len(find_stale(place.parent)) == 1
    with pytest.raises(StaleError, match=message):
        next_step()
    step.source.write_text("one\n")
    assert next_step() and not next_step()


def test_a_link_to_a_stale_input_is_refused(step: Copying, tmp_path: Path) -> None:
    step.make()
    link = tmp_path / "links" / "deep" / "link.txt"
    link.parent.mkdir(parents=True)
    link.symlink_to(step.directory / "copy.txt")
    assert [maker for _, maker in makers(link)] == ["copy"]
    assert len(makers(step.directory / "copy.txt")) == 1
    verify_made(link)
    step.source.write_text("two\n")
    with pytest.raises(StaleError, match=r"source\.txt \(text\): has changed"):
        verify_made(link)


def test_another_step_takes_over_an_output(step: Copying) -> None:
    def build(folder: Path) -> None:
        for name in ("copy.txt", "more.txt"):
            (folder / name).write_text(step.source.read_text())

    def other() -> bool:
        return make(step.directory, "other", {}, ["copy.txt"], {},
                    lambda folder: (folder / "copy.txt").write_text("other\n"))  # fmt: skip

    assert step.make(outputs=["copy.txt", "more.txt"], build=build)
    assert other()
    verify(step.directory)
    assert makers(step.directory / "copy.txt") == [(step.directory, "other")]
    assert makers(step.directory / "more.txt") == [(step.directory, "copy")]
    assert step.make(outputs=["copy.txt", "more.txt"], build=build)
    verify(step.directory)
    with pytest.raises(StaleError, match="no record of step 'other'"):
        verify(step.directory, "other")
    assert other()


def test_outputs_in_a_folder(step: Copying) -> None:
    def build(folder: Path) -> None:
        (folder / "in").mkdir()
        (folder / "in" / "copy.txt").write_text(step.source.read_text())

    assert step.make(outputs=["in/copy.txt"], build=build)
    verify_made(step.directory / "in" / "copy.txt")
    verify_made(step.directory / "in")
    verify_made(step.directory / "other.txt")
    (step.directory / "in" / "copy.txt").write_text("edited\n")
    for made in (step.directory / "in" / "copy.txt", step.directory / "in", step.directory):
        with pytest.raises(StaleError, match=r"copy\.txt: has changed"):
            verify_made(made)
    assert step.make()  # under its old name
    assert not (step.directory / "in" / "copy.txt").exists()


def test_a_step_cannot_read_what_it_writes(step: Copying) -> None:
    with pytest.raises(ConfigError, match=r"copy\.txt \(text\): step 'copy' writes this file"):
        step.make(inputs={"text": step.directory / "copy.txt"})


def test_a_failing_step_leaves_the_old_files(step: Copying) -> None:
    step.make()
    step.source.write_text("two\n")

    def fail(folder: Path) -> None:
        (folder / "copy.txt").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        step.make(build=fail)
    assert (step.directory / "copy.txt").read_text() == "one\n"
    assert sorted(path.name for path in step.directory.iterdir()) == ["copy.txt", PROVENANCE_FILE]
    assert step.make()


def test_an_input_that_changes_under_way(step: Copying) -> None:
    def build(folder: Path) -> None:
        step.build(folder)
        step.source.write_text("two\n")

    with pytest.raises(StaleError, match="changed while"):
        step.make(build=build)
    assert not (step.directory / "copy.txt").exists()


def test_a_directory_can_be_moved(step: Copying, tmp_path: Path) -> None:
    step.make()
    make(step.directory, "again", {"copy": step.directory / "copy.txt"}, ["again.txt"], {},
         lambda folder: (folder / "again.txt").touch())  # fmt: skip
    moved = step.directory.rename(tmp_path / "moved")
    verify(moved)
    (moved / "copy.txt").write_text("edited")
    assert len(find_stale(moved)) == 2


def test_no_record(step: Copying) -> None:
    step.directory.mkdir()
    with pytest.raises(StaleError, match="no record of any step"):
        verify(step.directory)
    step.make()
    with pytest.raises(StaleError, match="no record of step 'copi'; did you mean 'copy'"):
        verify(step.directory, "copi")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "steps": {"copy": {}}}']
)
def test_damaged_record(step: Copying, content: str) -> None:
    step.make()
    path = step.directory / PROVENANCE_FILE
    whole = json.loads(path.read_text())
    path.write_text(content)
    with pytest.raises(MoeAsrError, match=r"provenance\.json"):
        step.make()
    for name in ("../source.txt", str(step.source)):  # would be removed as no longer wanted
        record = {**whole["steps"]["copy"], "outputs": {name: "0"}}
        path.write_text(json.dumps({"format": 1, "steps": {"copy": record}}))
        with pytest.raises(ConfigError, match="damaged"):
            step.make()
        assert step.source.is_file()
    whole["steps"]["copy"]["inputs"]["text"] = "gone"
    path.write_text(json.dumps(whole))
    with pytest.raises(ConfigError, match="damaged"):
        verify(step.directory)


def test_decoding_refuses_a_graph_of_changed_inputs_not_of_missing_ones(
    step: Copying, tmp_path: Path
) -> None:
    lexicon = Lexicon([Pronunciation("a", ("x",))])
    g = word_loop(["a"]).to_fst(lexicon.word_table())
    hlg = build_graphs(lexicon, g, SymbolTable(["<blk>", "x"])).hlg
    graph = step.directory / "HLG.safetensors"
    step.make()
    make(step.directory, "graph", {"copy": step.directory / "copy.txt"}, [graph.name], {},
         lambda folder: hlg.save(folder / graph.name))  # fmt: skip
    assert load_graph(graph).num_arcs == hlg.num_arcs
    step.source.write_text("two\n")  # two steps back
    with pytest.raises(StaleError, match=r"source\.txt"):
        load_graph(graph)
    step.source.unlink()
    assert load_graph(graph).num_arcs == hlg.num_arcs
    alone = tmp_path / "alone" / graph.name
    alone.parent.mkdir()
    alone.write_bytes(graph.read_bytes())
    assert load_graph(alone).num_arcs == hlg.num_arcs
    (step.directory / "copy.txt").write_text("edited")
    with pytest.raises(StaleError, match=r"copy\.txt"):
        load_graph(graph)
    (step.directory / "copy.txt").unlink()
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(StaleError, match=r"HLG\.safetensors: has changed"):
        load_graph(graph)
