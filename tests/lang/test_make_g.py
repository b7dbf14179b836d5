"""The step that makes G: its labels, its metadata, and when it is made again."""

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
