"""The step that makes G: its labels, its metadata, and when it is made again."""

import math
from pathlib import Path
from typing import Any

import pytest

from moe_asr.errors import ConfigError, StaleError, TextError
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.grammar_compiler import compile_grammar
from moe_asr.lang.directory import LangDir
from moe_asr.lang.make_g import make_g
from moe_asr.lang.prepare import prepare_lang
from moe_asr.lang.provenance import hash_path, verify
from moe_asr.lang.tokenizer import make_tokenizer

GRAMMAR = """\
@start <command>;
<command> = play <what> | play;
<what> = @"what.txt";
"""
ARPA = """\
\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-1 <s> -0.5
-1 </s>
-0.5 play -0.25
-0.75 jazz
-1 news
-1 radio

\\2-grams:
-0.125 <s> play
-0.25 play jazz
-0.5 jazz </s>

\\end\\
"""


class Workplace:
    """A language directory and a grammar, and a way to make G of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.words = folder / "words"
        self.words.write_text("jazz\nmusic\nnews\nplay\nthe\n")
        text = folder / "text"
        text.write_text("play the news jazz music you\n")
        make_tokenizer(folder / "units", "char", text=text, report=self.said.append)
        self.prepare()
        self.grammar = folder / "g.gram"
        self.grammar.write_text(GRAMMAR)
        (folder / "what.txt").write_text("jazz\nthe news\n")

    def prepare(self) -> None:
        lang, units = self.folder / "lang", self.folder / "units"
        prepare_lang(lang, units, words=self.words, report=self.said.append)

    def make(self, **changes: Any) -> bool:
        arguments = {"grammar": self.grammar, "report": self.said.append, **changes}
        return make_g(self.folder / "graph", self.folder / "lang", **arguments)


def sentence_score(fst: Fst, labels: list[int], backoff: int, state: int = 0) -> float:
    """The best path of a sentence, by trying all arcs; a backoff is taken where the word has no arc."""
    if not labels and fst.final_score[state] > -math.inf:
        return float(fst.final_score[state])
    for label, rest in ((labels[:1], labels[1:]), ([backoff], labels)):
        for arc in range(fst.arc_splits[state], fst.arc_splits[state + 1]):
            if [fst.ilabel[arc]] == label:
                return float(fst.score[arc]) + sentence_score(fst, rest, backoff, fst.dst[arc])
    return -math.inf


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def test_g_of_a_grammar(place: Workplace) -> None:
    assert place.make() and not place.make()
    fst, metadata = Fst.load(place.folder / "graph" / "G.safetensors")
    lang = LangDir.load(place.folder / "lang")
    expected, _ = compile_grammar(place.grammar, lang.words)
    for name in ("src", "dst", "ilabel", "olabel", "score", "final_score"):
        assert (getattr(fst, name) == getattr(expected, name)).all()
    assert {lang.words.symbol(label) for label in fst.ilabel} == {"play", "jazz", "the", "news"}
    assert metadata == {
        "kind": "G",
        "source": "grammar",
        "file": "g.gram",
        "sha256": hash_path(place.grammar),
    }
    verify(place.folder / "graph")


def test_g_of_an_n_gram_model(place: Workplace) -> None:
    arpa = place.folder / "lm.arpa"
    arpa.write_text(ARPA)
    assert place.make(grammar=None, arpa=arpa) and not place.make(grammar=None, arpa=arpa)
    assert any("1 of 6 words are not in" in line and "radio" in line for line in place.said)
    fst, metadata = Fst.load(place.folder / "graph" / "G.safetensors")
    words = LangDir.load(place.folder / "lang").words
    assert metadata["kind"] == "G" and metadata["source"] == "arpa"
    assert {words.symbol(label) for label in fst.ilabel} == {"play", "jazz", "news", "#0"}
    backoffs = fst.ilabel == words["#0"]
    assert backoffs.any() and (fst.olabel[backoffs] == 0).all()
    assert (fst.olabel[~backoffs] == fst.ilabel[~backoffs]).all()
    for sentence, log10 in (("play jazz", -0.875), ("jazz", -1.75), ("play news jazz", -2.625)):
        labels = [words[word] for word in sentence.split()]
        assert sentence_score(fst, labels, words["#0"]) == pytest.approx(log10 * math.log(10))
    assert place.make() and "graph/G: made (another source)" in place.said
    assert Fst.load(place.folder / "graph" / "G.safetensors")[1]["source"] == "grammar"
    arpa.write_text(ARPA.replace("-0.25", "-0,25"))
    with pytest.raises(TextError, match=r"lm\.arpa:8: "):
        place.make(grammar=None, arpa=arpa)


@pytest.mark.parametrize("name", ["g.gram", "what.txt"])
def test_made_again_when_a_file_of_the_grammar_changes(place: Workplace, name: str) -> None:
    place.make()
    path = place.folder / name
    path.touch()
    assert not place.make()
    path.write_text(path.read_text().replace("news", "music") + "\n")
    with pytest.raises(StaleError, match=f"{name} .* has changed since step 'G'"):
        verify(place.folder / "graph")
    role = "grammar" if name == "g.gram" else "grammar: what.txt"
    assert place.make() and f"graph/G: made (changed: {role})" in place.said
    verify(place.folder / "graph")


def test_made_again_for_other_words(place: Workplace) -> None:
    place.make()
    place.words.write_text("jazz\nnews\nplay\nthe\nyou\n")
    with pytest.raises(StaleError, match=r"words \(words\): has changed since step 'lang'"):
        place.make()
    place.prepare()
    assert place.make()


def test_what_is_refused(place: Workplace) -> None:
    with pytest.raises(ConfigError, match="found neither"):
        place.make(grammar=None)
    with pytest.raises(ConfigError, match="found both"):
        place.make(arpa=place.words)
    (place.folder / "what.txt").write_text("nonsense\n")
    with pytest.raises(TextError, match=r"what\.txt:1:1: .*nonsense"):
        place.make()
    with pytest.raises(StaleError, match="no record of step 'lang'"):
        make_g(place.folder / "graph", place.folder, grammar=place.grammar)
    assert not (place.folder / "graph" / "G.safetensors").exists()
