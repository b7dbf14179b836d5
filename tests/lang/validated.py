# ruff: noqa: E501  (tables read better a case a line)
"""Language directories with graphs, as the scripts make them: what validation is tried on."""

import json
import shutil
from pathlib import Path
from typing import Any

from moe_asr.lang.make_g import make_g
from moe_asr.lang.make_graph import make_graph, make_token_graph
from moe_asr.lang.prepare import prepare_lang
from moe_asr.lang.provenance import PROVENANCE_FILE, hash_path
from moe_asr.lang.text import make_word_list, split_text
from moe_asr.lang.tokenizer import make_tokenizer
from moe_asr.lang.validate import ValidationOptions, validate
from moe_asr.lang.validate_report import CheckResult, Report
from moe_asr.lm.train import train_arpa

ENGLISH = [
    "turn on the light",
    "turn off the light",
    "turn the lights off",
    "the lights are on",
    "light the light",
    "play some jazz",
    "play the news",
    "louder please",
    "play jazz louder",
    "turn the radio down",
]
ENGLISH_GRAMMAR = """\
@start <command>;
<command> = /2/ turn (on | off) the <device> [please] | play <what> [louder];
<device> = light | lights | radio;
<what> = @"what.txt";
"""
WHAT = "jazz\nthe news\nsome jazz\n"
CHINESE = ["打开北京的灯", "关灯", "北京大学在北京", "打开灯", "关北京的灯"]
CHINESE_WORDS = ["打开", "北京", "北京大学", "的", "灯", "关", "在"]
LEXICON = """\
read 0.25 r iy d
read 0.75 r eh d
red 1 r eh d
a 0.5 ah
a 0.25 ey
abut 1 ah b ah t
book 1 b uh k
<unk> 1 SPN
"""
SPOKEN = ["read a red book", "a book", "read a book", "abut a red book", "read red"]
PHONE_GRAMMAR = """\
@start <command>;
<command> = /3/ (read | abut) a [red]+ book | red (book | read) | a book;
"""


class Workplace:
    """A folder with inputs, the tokenizer ``units``, ``lang``, and the graphs ``ngram`` and ``grammar``.

    Inputs are ``text``, ``words`` or ``lexicon``, ``lm.arpa``, ``g.gram`` and its ``what.txt``; with byte pairs
    there are also ``tokens.arpa`` and the graph ``tokens``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def lang(self) -> Path:
        return self / "lang"

    def write(self, name: str, lines: list[str]) -> None:
        (self / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def train(self, order: int, vocab: str | None) -> None:
        vocabulary = self / vocab if vocab is not None else None
        train_arpa(self / "text", order, self / "lm.arpa", vocab=vocabulary)

    def make_units(self, **arguments: Any) -> bool:
        return make_tokenizer(self / "units", report=self.said.append, **arguments)

    def make_lang(self, **changes: Any) -> bool:
        if (self / "lexicon").is_file():
            arguments = {"lexicon": self / "lexicon", "lexicon_probabilities": True}
        else:
            arguments = {"words": self / "words"}
        arguments = {**arguments, "report": self.said.append, **changes}
        return prepare_lang(self.lang, self / "units", **arguments)

    def make_g(self, graph: str) -> bool:
        source = {"arpa": self / "lm.arpa"} if graph == "ngram" else {"grammar": self / "g.gram"}
        return make_g(self / graph, self.lang, report=self.said.append, **source)

    def make_graph(self, graph: str, **changes: Any) -> bool:
        arguments = {"builder": "openfst", "report": self.said.append, **changes}
        return make_graph(self / graph, self.lang, **arguments)

    def make_tokens(self, **changes: Any) -> bool:
        """T and HT of a bigram of the text's tokens."""
        arguments = {"builder": "openfst", "report": self.said.append, **changes}
        return make_token_graph(self / "tokens", self / "units", self / "tokens.arpa", **arguments)

    def make_graphs(self) -> None:
        for graph in ("ngram", "grammar"):
            self.make_g(graph)
            self.make_graph(graph)

    def copy(self, folder: Path) -> "Workplace":
        """The same in another folder, as if it had been made there; links stay links."""
        shutil.copytree(self.folder, folder, symlinks=True)
        for path in folder.rglob(PROVENANCE_FILE):
            path.write_text(path.read_text().replace(str(self.folder), str(folder)))
        return Workplace(folder)

    def validate(self, *graphs: str, **options: Any) -> Report:
        options = {"text": self / "text", "num_sentences": 20, **options}
        return validate(self.lang, [self / graph for graph in graphs], ValidationOptions(**options))

    def forge(self) -> None:
        """Puts every file on record as it is now, as what the steps read and wrote."""
        for path in self.folder.rglob(PROVENANCE_FILE):
            content = json.loads(path.read_text())
            for step in content["steps"].values():
                step["outputs"] = {
                    name: hash_path(path.parent / name)
                    for name in step["outputs"]
                    if (path.parent / name).exists()
                }
                for source in step["inputs"].values():
                    file = path.parent / source["path"]
                    if file.exists():
                        source["sha256"] = hash_path(file)
            path.write_text(json.dumps(content))


def build_bpe(folder: Path) -> Workplace:
    """English in byte pairs, "light" the beginning of "lights"; a word list; a 3-gram and a grammar."""
    place = Workplace(folder)
    place.write("text", ENGLISH)
    (place / "g.gram").write_text(ENGLISH_GRAMMAR)
    (place / "what.txt").write_text(WHAT)
    make_word_list(place / "words", place / "text", report=place.said.append)
    place.make_units(kind="bpe", text=place / "text", vocab_size=36)
    place.make_lang()
    place.train(3, "words")
    place.make_graphs()
    train_arpa(place / "text", 2, place / "tokens.arpa", tokenizer=place / "units")
    place.make_tokens()
    return place


def build_chinese(folder: Path) -> Workplace:
    """Chinese characters, words of several of them; a 3-gram and a grammar."""
    place = Workplace(folder)
    place.write("raw", CHINESE)
    place.write("words", CHINESE_WORDS)
    split_text(place / "text", place / "raw", place / "words", report=place.said.append)
    (place / "g.gram").write_text(
        "@start <a>;\n<a> = 打开 [北京 的] 灯 | 关 灯;\n", encoding="utf-8"
    )
    place.make_units(kind="char", text=place / "raw")
    place.make_lang()
    place.train(3, "words")
    place.make_graphs()
    return place


def build_phone(folder: Path) -> Workplace:
    """A lexicon with probabilities, two pronunciations of a word, homophones and beginnings."""
    place = Workplace(folder)
    place.write("text", SPOKEN)
    (place / "lexicon").write_text(LEXICON)
    (place / "g.gram").write_text(PHONE_GRAMMAR)
    place.make_units(kind="phone", lexicon=place / "lexicon", lexicon_probabilities=True)
    place.make_lang()
    place.train(2, None)
    place.make_graphs()
    return place


BUILDERS = {"bpe": build_bpe, "chinese": build_chinese, "phone": build_phone}


def by_name(report: Report, name: str) -> list[CheckResult]:
    """The results of all checks of a name."""
    return [result for result in report.results if result.name == name]
