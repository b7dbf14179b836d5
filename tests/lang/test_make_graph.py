"""Graphs of a language directory and of tokens: made when needed, of what belongs together, and right."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_asr.errors import GraphError, StaleError
from moe_asr.fsa.accept import best_score_of_words, score_g, score_lg, score_sentence, spellings_of
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.lang import provenance
from moe_asr.lang.directory import LangDir
from moe_asr.lang.make_g import make_g
from moe_asr.lang.make_graph import make_graph, make_token_graph
from moe_asr.lang.prepare import prepare_lang
from moe_asr.lang.tokenizer import make_tokenizer
from moe_asr.lm.train import train_arpa

TEXTS = ["one two three", "two two", "three one", "one", "three two one two", "two three"]
SCRIPTS = Path(__file__).parents[2] / "lang"


class Workplace:
    """A text, and the steps from it to a graph."""

    def __init__(self, folder: Path) -> None:
        self.text, self.words = folder / "text", folder / "words"
        self.units, self.lang, self.graph = folder / "units", folder / "lang", folder / "graph"
        self.arpa = folder / "lm.arpa"
        self.said: list[str] = []
        self.text.write_text("\n".join(TEXTS) + "\n")
        self.words.write_text("one\ntwo\nthree\nfour\n")
        characters = folder / "characters"
        characters.write_text("one two three four\n")
        make_tokenizer(self.units, "char", text=characters, report=self.said.append)
        prepare_lang(self.lang, self.units, words=self.words, report=self.said.append)
        train_arpa(output=self.arpa, text=self.text, order=2)

    def make_g(self) -> None:
        make_g(self.graph, self.lang, arpa=self.arpa, report=self.said.append)

    def make(self, **options: Any) -> bool:
        arguments = {"builder": "openfst", "report": self.said.append, **options}
        return make_graph(self.graph, self.lang, **arguments)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """Where everything is up to date."""
    place = Workplace(tmp_path)
    place.make_g()
    assert place.make()
    place.said.clear()
    return place


def test_graphs_hold_what_l_and_g_give(place: Workplace) -> None:
    lang = LangDir.load(place.lang)
    g, _ = Fst.load(place.graph / "G.safetensors")
    spellings = spellings_of(lang.lexicon, lang.tokens, lang.words)
    for name in ("LG", "HLG"):
        graph = DecodingGraph.load(place.graph / f"{name}.safetensors")
        assert graph.token_table == lang.tokens and graph.word_table == lang.words
        assert graph.metadata["g"]["source"] == "arpa"
        for text in [*TEXTS, "", "three three one one one two"]:
            words = [lang.words[word] for word in text.split()]
            expected = score_lg(spellings, g, words)
            assert expected is not None
            assert best_score_of_words(graph, spellings, words) == pytest.approx(expected, abs=1e-4)
        assert best_score_of_words(graph, spellings, [lang.words["four"]]) is None


def test_only_what_changed_is_made_again(place: Workplace) -> None:
    assert not place.make()
    assert place.said == ["graph/graph: up to date"]
    before = (place.graph / "HLG.safetensors").read_bytes()
    assert place.make(topology="modified")
    assert DecodingGraph.load(place.graph / "HLG.safetensors").metadata["topology"] == "modified"
    assert place.make()
    assert (place.graph / "HLG.safetensors").read_bytes() == before
    assert any(line.startswith("memory limit: ") for line in place.said)
    assert any("det(L o G)" in line and "states" in line for line in place.said)
    assert "note: 1 words of " in "\n".join(place.said) and "not in G: four" in "\n".join(
        place.said
    )
    with pytest.raises(GraphError, match="1 words of .*words.txt are not in G: four"):
        place.make(require_all_words=True)
    assert not place.make()
    provenance.verify(place.graph, "G")


def test_nothing_stale_is_used(place: Workplace) -> None:
    place.text.write_text("one two\n")
    train_arpa(output=place.arpa, text=place.text, order=2)
    with pytest.raises(StaleError, match=r"lm\.arpa.*has changed since step 'G'"):
        place.make()
    place.make_g()
    assert place.make()
    place.words.write_text("one\ntwo\nthree\n")
    with pytest.raises(StaleError, match=r"words.*has changed since step 'lang'"):
        place.make()
    prepare_lang(place.lang, place.units, words=place.words, report=place.said.append)
    with pytest.raises(StaleError, match=r"words\.txt"):
        place.make()
    place.make_g()
    assert place.make()
    (place.lang / "L_disambig.safetensors").write_bytes(b"other")
    with pytest.raises(StaleError, match="L_disambig"):
        place.make()


def test_a_g_of_other_words_is_refused(place: Workplace, tmp_path: Path) -> None:
    other = tmp_path / "other"
    words = tmp_path / "other_words"
    words.write_text("three\ntwo\none\nfour\n")
    prepare_lang(other, place.units, words=words, report=place.said.append)
    with pytest.raises(StaleError, match=r"made with the words of .*lang/words\.txt"):
        make_graph(place.graph, other, report=place.said.append)
    (place.lang / "words.txt").unlink()
    with pytest.raises(StaleError, match=r"lang/words\.txt.* is gone since step 'G'"):
        make_graph(place.graph, other, report=place.said.append)


def test_a_g_by_hand_is_looked_at(place: Workplace, tmp_path: Path) -> None:
    g, metadata = Fst.load(place.graph / "G.safetensors")
    place.graph = tmp_path / "by_hand"  # nothing is on record of it
    place.graph.mkdir()
    path = place.graph / "G.safetensors"
    g.save(path, metadata)
    assert place.make()
    label = np.where(g.ilabel == 1, 99, g.ilabel).astype(np.int32)
    replace(g, ilabel=label, olabel=np.where(label == 99, 99, g.olabel).astype(np.int32)).save(path)
    for require_all_words in (False, True):
        with pytest.raises(GraphError, match=r"by_hand/G\.safetensors: G: arc .*: ilabel 99, but"):
            place.make(require_all_words=require_all_words)


def test_a_memory_limit_that_is_reached_leaves_the_old_graphs(place: Workplace) -> None:
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    before = {path.name: path.read_bytes() for path in place.graph.iterdir()}
    with pytest.raises(GraphError, match="limit of 8 MB.*prune the LM"):
        place.make(topology="modified", memory_limit=8 << 20)
    assert {path.name: path.read_bytes() for path in place.graph.iterdir()} == before


def test_token_graphs(place: Workplace, tmp_path: Path) -> None:
    arpa, graph = tmp_path / "tokens.arpa", tmp_path / "token_graph"
    train_arpa(output=arpa, text=place.text, order=3, tokenizer=place.units)
    options = {"builder": "openfst", "report": place.said.append}
    assert make_token_graph(graph, place.units, arpa, **options)
    assert not make_token_graph(graph, place.units, arpa, **options)
    lang = LangDir.load(place.lang)
    g, _ = Fst.load(graph / "G.safetensors")
    for name in ("T", "HT"):
        found = DecodingGraph.load(graph / f"{name}.safetensors")
        assert found.kind == name and found.metadata["g"]["order"] == 3
        for text in TEXTS:
            tokens = lang.tokenizer.encode(text)
            assert score_sentence(found, tokens, tokens) == pytest.approx(
                score_g(g, tokens), abs=1e-4
            )
    assert make_token_graph(graph, place.units, arpa, backoff="exact", **options)
    exact = DecodingGraph.load(graph / "T.safetensors")
    assert exact.num_arcs < DecodingGraph.load(graph / "HT.safetensors").num_arcs
    assert exact.metadata["backoff"] == "exact"


def run(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SCRIPTS.parent), "PATH": ""},
    )


def test_scripts(place: Workplace, tmp_path: Path) -> None:
    build = ("build_graph.py", "--lang", place.lang, "--graph", place.graph, "--builder", "openfst")
    done = run(*build)
    assert (done.returncode, done.stdout) == (0, "graph/graph: up to date\n"), done.stderr
    done = run(*build, "--topology", "modified", "--memory-limit", "2GB")
    assert done.returncode == 0 and "memory limit: 2048 MB" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[3:]] == [
        "graph", "L_disambig", "G", "L", "det(L", "LG", "HLG", "in",
    ]  # fmt: skip
    for options, message in (
        (("--memory-limit", "much"), "expected an amount of memory such as 4GB"),
        (
            ("--topology", "standard", "--memory-limit", "9MB"),
            "needs more memory than the limit of 9 MB",
        ),
    ):
        done = run(*build, *options)
        assert done.returncode == 2
        assert done.stderr.startswith("build_graph.py: error: ") and message in done.stderr
        assert done.stderr.count("\n") == 1
    arpa = tmp_path / "tokens.arpa"
    train_arpa(output=arpa, text=place.text, order=2, tokenizer=place.units)
    token = ("make_token_graph.py", "--tokenizer", place.units, "--arpa", arpa)
    done = run(*token, "--output", tmp_path / "out", "--backoff", "exact", "--builder", "openfst")
    assert done.returncode == 0 and done.stdout.splitlines()[-2].startswith("HT"), done.stderr
    assert DecodingGraph.load(tmp_path / "out" / "HT.safetensors").kind == "HT"
    arpa.write_text("\\data\\\n")
    done = run(*token, "--output", tmp_path / "out2")
    assert done.returncode == 2 and "tokens.arpa" in done.stderr
