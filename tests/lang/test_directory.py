"""Language directories: what is in them, when they are made again, what is refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moe_asr.errors import ConfigError, GraphError, MoeAsrError, StaleError, TextError
from moe_asr.fsa.fst import Fst
from moe_asr.lang import directory, provenance
from moe_asr.lang.directory import LangDir
from moe_asr.lang.prepare import prepare_lang
from moe_asr.lang.tokenizer import make_tokenizer
from moe_asr.text.bpe import train_bpe
from moe_asr.text.cjk import WordSplitter
from moe_asr.text.lexicon import Lexicon, add_disambig_symbols
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import CharTokenizer, load_tokenizer

ENGLISH = ["turn on the light", "turn off the light", "the lights are on", "light the light"]
CHINESE = ["打开北京的灯", "关灯", "北京大学在北京"]
MIXED = ["我想听hello world这首歌", "打开 bluetooth 灯", "hello 灯"]
LEXICON = """\
read 0.25 r iy d
read 0.75 r eh d
red 1 r eh d
a 0.5 ah
a 0.25 ey
abut 1 ah b
<unk> 1 SPN
"""


class Workplace:
    """Inputs of a language directory, and a way to make it of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text, self.words = folder / "text", folder / "words"
        self.tokenizer, self.lang = folder / "units", folder / "lang"
        self.said: list[str] = []

    def write(self, texts: list[str], words: list[str]) -> None:
        self.text.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        self.words.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")

    def train(self, kind: str, vocab_size: int | None = None) -> bool:
        return make_tokenizer(
            self.tokenizer, kind, text=self.text, vocab_size=vocab_size, report=self.said.append
        )

    def prepare(self, **changes: Any) -> bool:
        arguments = {"words": self.words, "report": self.said.append, **changes}
        return prepare_lang(self.lang, self.tokenizer, **arguments)

    def snapshot(self) -> dict[str, bytes]:
        files = (path for path in self.lang.rglob("*") if path.is_file())
        return {str(path.relative_to(self.lang)): path.read_bytes() for path in files}


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """A BPE tokenizer, and the words of its text."""
    place = Workplace(tmp_path)
    place.write(ENGLISH, sorted({word for text in ENGLISH for word in text.split()}))
    place.train("bpe", 28)
    return place


@pytest.fixture
def phones(tmp_path: Path) -> Workplace:
    """A phone tokenizer, its lexicon with probabilities in the place of the word list."""
    place = Workplace(tmp_path)
    place.words.write_text(LEXICON)
    make_tokenizer(
        place.tokenizer, "phone", lexicon=place.words, lexicon_probabilities=True,
        report=place.said.append,
    )  # fmt: skip
    return place


def readings(fst: Fst, labels: list[int]) -> set[tuple[int, ...]]:
    """All word sequences that a transducer without input epsilons gives for input labels."""
    alive: set[tuple[int, tuple[int, ...]]] = {(0, ())}
    for label in labels:
        alive = {
            (int(fst.dst[arc]), (*words, int(fst.olabel[arc])) if fst.olabel[arc] else words)
            for state, words in alive
            for arc in range(fst.arc_splits[state], fst.arc_splits[state + 1])
            if fst.ilabel[arc] == label
        }
    return {words for state, words in alive if fst.final_score[state] == 0.0}


def test_what_is_in_it(place: Workplace) -> None:
    assert place.prepare() and place.said[-1] == "lang/lang: made (never made)"
    files = {*directory.FILES, "provenance.json"}
    files |= {f"tokenizer/{name}" for name in ("tokenizer.yaml", "tokens.txt", "bpe.model")}
    assert set(place.snapshot()) == files
    for name in ("tokenizer.yaml", "tokens.txt", "bpe.model"):
        source = place.tokenizer / name
        assert (place.lang / "tokenizer" / name).read_bytes() == source.read_bytes()
    lang = LangDir.load(place.lang)
    assert lang.tokens == load_tokenizer(place.tokenizer).tokens
    assert SymbolTable.read(place.lang / "tokens.txt") == lang.tokens
    assert list(lang.words) == ["<eps>", *place.words.read_text().split(), "#0"]
    assert SymbolTable.read(place.lang / "words.txt") == lang.words
    assert not lang.has_probabilities
    # "light" begins "lights"
    assert lang.num_disambig == 1
    assert list(lang.tokens_disambig) == [*lang.tokens, "#0", "#1"]
    spelled = lang.lexicon["light"][0].tokens
    lines = (place.lang / "lexicon_disambig.txt").read_text().splitlines()
    assert f"light {' '.join(spelled)} #1" in lines
    assert sum("#1" in line for line in lines) == 1
    assert Fst.load(place.lang / "L.safetensors")[1]["kind"] == "L"
    assert Fst.load(place.lang / "L_disambig.safetensors")[1]["kind"] == "L_disambig"
    assert lang.L_disambig.ilabel.max() == len(lang.tokens) + 1


@pytest.mark.parametrize(
    ("kind", "texts", "vocab_size"),
    [
        ("char", ENGLISH, None),
        ("bpe", ENGLISH, 28),
        ("char", CHINESE, None),
        ("mixed", MIXED, 50),
        ("char", MIXED, None),
    ],
)
def test_texts_are_read_back_by_l(
    tmp_path: Path, kind: str, texts: list[str], vocab_size: int | None
) -> None:
    """The tokens of a training text lead through L to the words that a language model has of it."""
    place = Workplace(tmp_path)
    compounds = ["北京", "北京大学", "打开", "这首歌"]
    split = WordSplitter(compounds)
    words = dict.fromkeys(word for text in texts for word in split(text))
    place.write(texts, [*words])
    place.train(kind, vocab_size)
    place.prepare()
    lang = LangDir.load(place.lang)
    for text in texts:
        found = readings(lang.L, lang.tokenizer.encode(text, strict=True))
        expected = tuple(lang.words[word] for word in split(text))
        assert expected in found
        spelled = {"".join(lang.words.symbol(i) for i in reading) for reading in found}
        assert spelled == {text.replace(" ", "")}


def test_a_lexicon_with_probabilities(phones: Workplace) -> None:
    phones.prepare(words=None, lexicon=phones.words, lexicon_probabilities=True)
    lang = LangDir.load(phones.lang)
    assert (phones.lang / "lexicon.txt").read_text() == LEXICON
    assert lang.has_probabilities and not lang.tokenizer.spells_words
    assert (phones.lang / "lexicon_disambig.txt").read_text().splitlines() == [
        "read 0.25 r iy d",
        "read 0.75 r eh d #1",
        "red 1 r eh d #2",
        "a 0.5 ah #1",
        "a 0.25 ey",
        "abut 1 ah b",
        "<unk> 1 SPN",
    ]
    assert list(lang.words) == ["<eps>", "read", "red", "a", "abut", "<unk>", "#0"]
    symbols, highest = add_disambig_symbols(Lexicon.read(phones.words, True))
    assert lang.num_disambig == highest == 2
    # of a word list: the tokenizer's lexicon has the pronunciations
    phones.words.with_name("list").write_text("a\nread\n")
    phones.prepare(words=phones.words.with_name("list"))
    assert LangDir.load(phones.lang).has_probabilities
    assert (phones.lang / "lexicon.txt").read_text() == (
        "a 0.5 ah\na 0.25 ey\nread 0.25 r iy d\nread 0.75 r eh d\n"
    )


def test_a_lexicon_for_bpe(place: Workplace) -> None:
    lexicon = place.folder / "lexicon"
    lexicon.write_text("on \u2581 o n\n<unk> <unk>\n", encoding="utf-8")
    place.prepare(words=None, lexicon=lexicon)
    assert LangDir.load(place.lang).lexicon["<unk>"][0].tokens == ("<unk>",)


@pytest.mark.parametrize("name", ["words", "tokenizer.yaml", "bpe.model"])
def test_made_again_when_an_input_changes_and_only_then(place: Workplace, name: str) -> None:
    place.prepare()
    assert not place.prepare()
    path = place.words if name == "words" else place.tokenizer / name
    path.touch()
    assert not place.prepare() and place.said[-1] == "lang/lang: up to date"
    LangDir.load(place.lang)
    if name == "words":
        path.write_text("light\n")
    elif name == "tokenizer.yaml":
        path.write_text(path.read_text() + "# edited\n")
    else:
        place.write([*ENGLISH, "a lot of other text"], ["light"])
        place.train("bpe", 28)
    changed = "words" if name == "words" else "tokenizer.yaml"  # it has the hash of bpe.model
    with pytest.raises(StaleError, match=rf"{changed} \(.*\): has changed since step 'lang'"):
        LangDir.load(place.lang)
    if name == "tokenizer.yaml":  # nobody may edit what train_tokenizer wrote
        with pytest.raises(StaleError, match="has changed since step 'tokenizer' wrote it"):
            place.prepare()
        place.train("bpe", 28)
        assert not place.prepare()
    else:
        assert place.prepare() and "changed: " in place.said[-1]
    LangDir.load(place.lang)


def test_a_stale_tokenizer_is_refused(place: Workplace) -> None:
    place.prepare()
    before = place.snapshot()
    place.text.write_text("other text\n")
    with pytest.raises(StaleError, match=r"text \(text\): has changed since step 'tokenizer'"):
        place.prepare()
    assert place.snapshot() == before


@pytest.mark.parametrize(
    "name", [*directory.FILES, "tokenizer/tokenizer.yaml", "tokenizer/bpe.model", "provenance.json"]
)
@pytest.mark.parametrize("damage", ["edit", "remove"])
def test_a_file_that_is_not_what_was_written_is_refused(
    place: Workplace, name: str, damage: str
) -> None:
    place.prepare()
    before = place.snapshot()
    path = place.lang / name
    if damage == "remove":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    with pytest.raises(MoeAsrError, match=path.name):
        LangDir.load(place.lang)
    if (name, damage) == ("provenance.json", "edit"):
        with pytest.raises(ConfigError, match="provenance.json"):
            place.prepare()
        path.unlink()
    assert place.prepare()
    after = place.snapshot()
    assert {**after, "provenance.json": b""} == {**before, "provenance.json": b""}


def edit_line(path: Path, number: int, change: Callable[[str], str]) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[number - 1] = change(lines[number - 1])
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "line", "old", "new", "message"),
    [
        (
            "tokens.txt",
            5,
            " 4",
            " 40",
            "expected '.* 4' by the tokens of .*tokenizer, found '.* 40'",
        ),
        ("tokens_disambig.txt", 30, "#1", "#2", "expected '#1 29' by tokens.txt"),
        ("tokens_disambig.txt", 30, "#1 29\n", "", None),
        ("words.txt", 3, "light", "lamp", "expected 'light 2' by the words of lexicon.txt"),
        ("words.txt", 9, "#0", "#1", "expected '#0 8'"),
        ("lexicon.txt", 2, "light ", "#1 ", "'#1' is reserved"),
        ("lexicon.txt", 2, "light ", "light x ", "token 'x' is not in the token table"),
        ("lexicon_disambig.txt", 2, " #1", " #2", "expected 'light .* #1' by lexicon.txt"),
        ("lexicon_disambig.txt", 2, " #1", "", "expected 'light .* #1' by lexicon.txt"),
    ],
)
def test_files_are_held_against_each_other(
    place: Workplace, name: str, line: int, old: str, new: str, message: str | None
) -> None:
    """Without the hashes, too: the directory may be one whose inputs are no more."""
    place.prepare()
    path = place.lang / name
    if message is None:
        content = path.read_text(encoding="utf-8")
        assert content.endswith(old)
        path.write_text(content.removesuffix(old), encoding="utf-8")
        message = "expected '#1 29' by .*, found the end of the file"
    else:
        before = path.read_bytes()
        edit_line(path, line, lambda text: text.replace(old, new))
        assert path.read_bytes() != before
    with pytest.raises(TextError, match=rf"{name}:{line}: .*{message}"):
        LangDir.load(place.lang, verify=False)


def test_another_l_is_refused(place: Workplace) -> None:
    place.prepare()
    path = place.lang / "L.safetensors"
    good, metadata = Fst.load(path)
    shutil.copy(place.lang / "L_disambig.safetensors", path)
    with pytest.raises(GraphError, match=r"L\.safetensors: expected L, found 'L_disambig'"):
        LangDir.load(place.lang, verify=False)
    for name, arc, value in (("ilabel", 3, 1), ("olabel", 0, 5), ("score", 2, -1.0), ("dst", 1, 3)):
        arrays = {key: getattr(good, key).copy() for key in vars(good) if key != "arc_splits"}
        assert arrays[name][arc] != value
        arrays[name][arc] = value
        Fst(**arrays).save(path, metadata)
        with pytest.raises(
            GraphError, match=rf"L\.safetensors: arc {arc}: {name} {value}; the lex"
        ):
            LangDir.load(place.lang, verify=False)
    good.take(good.src < 3).save(path, metadata)
    with pytest.raises(GraphError, match=r"L\.safetensors: .* arcs; the lexicon has"):
        LangDir.load(place.lang, verify=False)
    good.save(path, metadata)
    LangDir.load(place.lang)


def test_it_can_be_moved_and_used_without_its_inputs(place: Workplace) -> None:
    place.prepare()
    moved = place.lang.rename(place.folder / "elsewhere")
    before = LangDir.load(moved)
    shutil.rmtree(place.tokenizer)
    with pytest.raises(StaleError, match="is gone"):
        LangDir.load(moved)
    assert LangDir.load(moved, verify=False).words == before.words
    with pytest.raises(ConfigError, match="lang: no such directory"):
        LangDir.load(place.lang)
    (place.folder / "empty").mkdir()
    for verify in (True, False):
        with pytest.raises(StaleError, match="empty/provenance.json: no record of"):
            LangDir.load(place.folder / "empty", verify)


@pytest.mark.parametrize("exception", [OSError, KeyboardInterrupt])
def test_interruption_leaves_the_old_directory(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, exception: type[BaseException]
) -> None:
    place.prepare()
    before = place.snapshot()
    place.words.write_text("light\n")

    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise exception("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(directory, "lexicon_fst", interrupt)
        with pytest.raises(exception):
            place.prepare()
    assert place.snapshot() == before
    assert place.prepare() and LangDir.load(place.lang).lexicon.words == ["light"]


def test_a_cut_between_two_files_is_noticed(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.prepare()
    place.words.write_text("light\n")
    replace = os.replace

    def cut(source: Path, target: Path) -> None:
        if Path(target) == place.lang / "L.safetensors":
            raise SystemExit("power cut")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(provenance.os, "replace", cut)
        with pytest.raises(SystemExit):
            place.prepare()
    assert (place.lang / "words.txt").read_text() == "<eps> 0\nlight 1\n#0 2\n"
    with pytest.raises(StaleError):
        LangDir.load(place.lang)
    with pytest.raises(GraphError, match="L.safetensors"):
        LangDir.load(place.lang, verify=False)
    assert place.prepare() and LangDir.load(place.lang).lexicon.words == ["light"]


def test_another_kind_of_tokenizer_leaves_no_files_behind(place: Workplace) -> None:
    place.prepare()
    assert place.train("char") and place.prepare()
    assert isinstance(LangDir.load(place.lang).tokenizer, CharTokenizer)
    for folder in (place.tokenizer, place.lang / "tokenizer"):
        assert not (folder / "bpe.model").exists()


def test_words_that_cannot_be_spelled(place: Workplace) -> None:
    place.prepare()
    before = place.snapshot()
    place.words.write_text("light\nzoo\non\nquiz\n")
    with pytest.raises(TextError, match="words: 2 words cannot be spelled by .*: 'zoo', 'quiz'$"):
        place.prepare()
    assert place.snapshot() == before
    skipped = place.folder / "skipped"
    assert place.prepare(skip_unspellable=skipped) and skipped.read_text() == "zoo\nquiz\n"
    assert LangDir.load(place.lang).lexicon.words == ["light", "on"]
    skipped.unlink()
    assert not place.prepare(skip_unspellable=skipped) and skipped.read_text() == "zoo\nquiz\n"
    with pytest.raises(TextError):
        place.prepare()  # what was allowed once is not allowed for ever
    place.words.write_text("zoo\n")
    with pytest.raises(TextError, match="words: not one word can be spelled"):
        place.prepare(skip_unspellable=skipped)
    place.words.write_text("light\n")
    assert place.prepare() and not (place.lang / "unspellable.txt").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("light\nlight\n", "words:2: duplicate word"),
        ("light\nturn on\n", "words:2: expected a word, found more than one"),
        ("</s>\n", "words:1: '</s>' is reserved"),
    ],
)
def test_word_lists_that_are_refused(place: Workplace, content: str, message: str) -> None:
    place.words.write_text(content)
    with pytest.raises(TextError, match=message):
        place.prepare()
    assert not (place.lang / "words.txt").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("on o n\noff o f q\n", "lexicon:2: word 'off': token 'q' is not in the token table"),
        ("on 0.5 o n\n", "lexicon:1: word 'on': token '0.5'"),
        ("on\n", "lexicon:1: word 'on' has an empty pronunciation"),
    ],
)
def test_lexicons_that_are_refused(place: Workplace, content: str, message: str) -> None:
    lexicon = place.folder / "lexicon"
    lexicon.write_text(content)
    with pytest.raises(TextError, match=message):
        place.prepare(words=None, lexicon=lexicon)


def test_tokens_that_look_like_disambiguation_symbols_are_refused(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    bpe = train_bpe(["press a#0 b#0 c#0"] * 9 + ["yes", "no"], 20, place.tokenizer)
    assert "#0" in bpe.tokens
    place.words.write_text("yes\nno\n")
    with pytest.raises(TextError, match=f"token {bpe.tokens['#0']}, '#0', is a disambiguation"):
        place.prepare()


def test_skipped_words_are_not_written_over_anything_else(place: Workplace) -> None:
    place.words.write_text("light\nzoo\n")
    for path in (place.words, place.tokenizer / "tokens.txt", place.lang / "lexicon.txt"):
        with pytest.raises(ConfigError, match=f"{path.name}: the skipped words cannot be written"):
            place.prepare(skip_unspellable=path)
    assert place.words.read_text() == "light\nzoo\n" and not place.lang.exists()
    assert place.prepare(skip_unspellable=place.lang / "unspellable.txt")
    assert (place.lang / "unspellable.txt").read_text() == "zoo\n"


@pytest.mark.parametrize("value", [None, "false", 0])
def test_a_damaged_setting_is_refused(place: Workplace, value: Any) -> None:
    place.prepare()
    path = place.lang / "provenance.json"
    record = json.loads(path.read_text())
    record["steps"]["lang"]["settings"].pop("probabilities")
    if value is not None:
        record["steps"]["lang"]["settings"]["probabilities"] = value
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"provenance\.json: step 'lang': setting probabilities"):
        LangDir.load(place.lang)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": None}, "a word list or a lexicon, found neither"),
        ({"lexicon": Path("lexicon")}, "a word list or a lexicon, found both"),
        ({"lexicon_probabilities": True}, "a word list has none"),
        (
            {"words": None, "lexicon": Path("a"), "skip_unspellable": Path("b")},
            "only words of a word list can be skipped",
        ),
        ({"words": Path("absent")}, "absent: cannot be read"),
    ],
)
def test_arguments_that_do_not_fit(place: Workplace, changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        place.prepare(**changes)


def test_a_directory_cannot_be_made_from_itself(place: Workplace) -> None:
    place.prepare()
    with pytest.raises(ConfigError, match="lies in the directory that is to be made from it"):
        prepare_lang(place.lang, place.lang / "tokenizer", words=place.words)
    with pytest.raises(
        ConfigError, match=r"lexicon\.txt \(lexicon\): step 'lang' writes this file"
    ):
        place.prepare(words=None, lexicon=place.lang / "lexicon.txt")
