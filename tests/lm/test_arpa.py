"""ARPA files: round trips, the dialects of SRILM and KenLM, an independent reader, malformed files."""

import gzip
import math
import random
from pathlib import Path

import arpa
import numpy as np
import pytest

from moe_asr.errors import TextError
from moe_asr.lm.corpus import corpus_of
from moe_asr.lm.kneser_ney import train_kneser_ney
from moe_asr.lm.model import LOG_10, LOG_ZERO, NgramModel
from moe_asr.lm.perplexity import measure_perplexity
from moe_asr.lm.prune import prune
from tests.lm.conftest import as_dictionaries, ngrams_of
from tests.lm.references import random_text

ARRAYS = ("parent", "word", "log_prob", "backoff")

SRILM = """
\\data\\
ngram 1=5
ngram 2=4
ngram 3=2

\\1-grams:
-0.69897\t</s>
-99\t<s>\t-0.30103
-0.5\tbird\t-0.2
-0.6\tthe\t-0.125
-1.25\tworm

\\2-grams:
-0.3\t<s> the\t0.0625
-0.25\tbird </s>
-0.4\tthe bird\t-0.1
-0.45\tthe worm

\\3-grams:
-0.05\t<s> the bird
-0.15\tthe bird </s>

\\end\\
"""

KENLM = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.2\t<unk>\t0
0\t<s>\t-0.25
-0.7\t</s>\t0
-0.5\tbird\t-0.2
-0.6\tthe\t0

\\2-grams:
-0.3\t<s> the
-0.4\tthe bird
-0.2\tbird </s>

\\end\\
"""


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def same(a: NgramModel, b: NgramModel, atol: float = 0.0) -> None:
    assert a.words == b.words and a.splits == b.splits
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=atol)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["a.arpa", "a.arpa.gz"])
def test_round_trip(tmp_path: Path, order: int, name: str) -> None:
    model = train_kneser_ney(corpus_of(random_text(random.Random(order), 50)), order).model
    model.write_arpa(tmp_path / name)
    again = NgramModel.read_arpa(tmp_path / name)
    same(again, model, atol=1e-7)
    again.write_arpa(tmp_path / "b.arpa")
    same(NgramModel.read_arpa(tmp_path / "b.arpa"), again, atol=1e-14)
    is_packed = (tmp_path / name).read_bytes()[:2] == b"\x1f\x8b"
    assert is_packed == name.endswith(".gz")
    content = (tmp_path / name).read_bytes()
    model.write_arpa(tmp_path / name)
    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("threshold", [None, 1e-4])
def test_an_independent_reader_finds_the_same_perplexity(
    tmp_path: Path, order: int, threshold: float | None
) -> None:
    sentences = random_text(random.Random(2), 200, 20)
    held_out = [*random_text(random.Random(3), 40, 22), "unheard w1"]
    model = train_kneser_ney(corpus_of(sentences), order).model
    if threshold is not None:
        model = prune(model, threshold)
    model.write_arpa(tmp_path / "lm.arpa")
    (theirs,) = arpa.loadf(str(tmp_path / "lm.arpa"), encoding="utf-8")
    assert [count for _, count in theirs.counts()] == model.counts
    total = sum(theirs.log_s(sentence) for sentence in held_out)
    tokens = sum(len(sentence.split()) + 1 for sentence in held_out)
    report = measure_perplexity(NgramModel.read_arpa(tmp_path / "lm.arpa"), corpus_of(held_out))
    assert report.num_oov > 1
    assert report.perplexity_with_oov == pytest.approx(10 ** (-total / tokens), rel=1e-9)
    report = measure_perplexity(model, corpus_of(held_out))
    assert report.perplexity_with_oov == pytest.approx(10 ** (-total / tokens), rel=1e-6)


def test_srilm(tmp_path: Path) -> None:
    model = NgramModel.read_arpa(written(tmp_path / "lm", SRILM))
    assert list(model.words) == ["</s>", "<s>", "bird", "the", "worm"]
    assert model.order == 3 and model.counts == [5, 4, 2] and model.unk_id == -1
    found = as_dictionaries(model)
    assert found.probability[("<s>", "the", "bird")] == pytest.approx(10**-0.05)
    assert found.weight[("<s>", "the")] == pytest.approx(10**0.0625)
    assert found.weight[("worm",)] == 1.0
    assert model.log_prob[model.words["<s>"] + 1] == LOG_ZERO
    report = measure_perplexity(model, corpus_of(["the bird", "the cat worm"]))
    assert (report.num_oov, report.num_zero_probs, report.oov_log_prob) == (1, 0, None)
    first = -0.3 - 0.05 - 0.15  # worm </s>: two backoffs that are 0
    second = -0.3 - 1.25 - 0.69897  # nothing is known of what follows an unknown word
    assert report.log_prob / LOG_10 == pytest.approx(first + second)
    assert report.perplexity == pytest.approx(10 ** (-(first + second) / 6))
    assert report.perplexity_without_ends == pytest.approx(10 ** (-(first + second) / 4))
    assert report.oov_rate == pytest.approx(1 / 5)
    assert report.perplexity_with_oov is None


def test_kenlm(tmp_path: Path) -> None:
    model = NgramModel.read_arpa(written(tmp_path / "lm", KENLM))
    assert model.unk_id == 0
    assert model.log_prob[model.words["<s>"] + 1] == 0.0
    report = measure_perplexity(model, corpus_of(["the cat bird"]))
    assert report.log_prob / LOG_10 == pytest.approx(-0.3 - 0.5 - 0.2)
    assert report.oov_log_prob is not None
    assert report.oov_log_prob / LOG_10 == pytest.approx(-1.2)
    assert report.perplexity_with_oov == pytest.approx(10 ** (2.2 / 4))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\t", "  "),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "# made by hand\nngram 7=3\n\n" + text,
        lambda text: text.replace("-0.3\t", "\n \n-0.3\t"),
        lambda text: text.replace("ngram 2=", "ngram  2 = "),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("-99", "-inf"),
        lambda text: text.replace("-99", "-120.5"),
        lambda text: text.replace("-0.5\t", "-5.0e-1\t").replace("\t-0.2\n", "\t-.2\n"),
        lambda text: text.replace("ngram 3=2", "ngram 3=2\nngram 4=0").replace(
            "\\end", "\\4-grams:\n\n\\end"
        ),
        lambda text: text.replace("-0.05\t<s> the bird\n", "").replace(
            "bird </s>\n\n\\end", "bird </s>\n-0.05 <s> the bird\n\n\\end"
        ),
        lambda text: text.replace("the bird </s>", "the bird </s>\t0"),
        lambda text: gzip.compress(text.encode()),
    ],
)  # fmt: skip
def test_dialects_that_mean_the_same(tmp_path: Path, change: object) -> None:
    assert callable(change) and change(SRILM) != SRILM
    model = NgramModel.read_arpa(written(tmp_path / "lm", change(SRILM)))
    same(model, NgramModel.read_arpa(written(tmp_path / "plain", SRILM)))


def test_upper_case_unk(tmp_path: Path) -> None:
    model = NgramModel.read_arpa(written(tmp_path / "lm", KENLM.replace("<unk>", "<UNK>")))
    report = measure_perplexity(model, corpus_of(["the cat"]))
    assert model.unk_id == 0 and report.num_oov == 1
    assert report.oov_log_prob is not None and math.isfinite(report.oov_log_prob)


def test_suffixes_need_not_be_there(tmp_path: Path) -> None:
    """SRILM's pruning leaves trigrams whose last two words are no bigram."""
    text = SRILM.replace("ngram 2=4", "ngram 2=3").replace("-0.4\tthe bird\t-0.1\n", "")
    text = text.replace("ngram 3=2", "ngram 3=1").replace("-0.15\tthe bird </s>\n", "")
    model = NgramModel.read_arpa(written(tmp_path / "lm", text))
    node = ngrams_of(model).index(("<s>", "the", "bird"))
    assert ngrams_of(model)[model.suffix[node]] == ("bird",)
    report = measure_perplexity(model, corpus_of(["the bird"]))
    assert report.log_prob / LOG_10 == pytest.approx(-0.3 - 0.05 - 0.25)


LINES = SRILM.split("\n")


def edited(line: int, *new: str) -> str:
    """The SRILM file with one of its lines (counted from 1) replaced by others."""
    return "\n".join([*LINES[: line - 1], *new, *LINES[line:]])


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("", 0, "no line \\data\\: this is no ARPA file"),
        ("hello\nworld\n", 2, "no line \\data\\"),
        (edited(2, "\\dato\\"), 24, "no line \\data\\"),
        (edited(3, ""), 4, "expected ngram 1=COUNT, found 'ngram 2=4'"),
        (edited(3, "ngram 1=x"), 3, "expected ngram 1=COUNT, found 'ngram 1=x'"),
        (edited(4, "ngram 3=4"), 4, "expected ngram 2=COUNT, found 'ngram 3=4'"),
        (edited(3, "ngram 1=6"), 14, "\\1-grams: has 5 n-grams, \\data\\ says 6"),
        (edited(4, "ngram 2=3"), 20, "\\2-grams: has 4 n-grams, \\data\\ says 3"),
        (edited(5, "ngram 3=9"), 24, "\\3-grams: has 2 n-grams, \\data\\ says 9"),
        (edited(17), 19, "\\2-grams: has 3 n-grams, \\data\\ says 4"),
        (edited(5, "ngram 3=2", "ngram 4=1"), 25, "expected \\4-grams:, found '\\\\end\\\\'"),
        (edited(5), 19, "expected \\end\\, found '\\\\3-grams:'"),
        (edited(7, "\\2-grams:"), 7, "expected \\1-grams:, found '\\\\2-grams:'"),
        (edited(14, "\\3-grams:"), 14, "expected \\2-grams:, found '\\\\3-grams:'"),
        (edited(14, "\\2-gram:"), 14, "expected \\2-grams:, found '\\\\2-gram:'"),
        (edited(14, ""), 15, "and perhaps a backoff weight, found 4 fields: '-0.3\\t<s> the"),
        (edited(24, ""), 24, "expected \\end\\, found the end of the file"),
        ("\n".join(LINES[:12]), 12, "expected \\2-grams:, found the end of the file"),
        ("\n".join(LINES[:11]), 11, "\\1-grams: has 4 n-grams, \\data\\ says 5"),
        (edited(25, "more"), 25, "expected nothing after \\end\\, found 'more'"),
        (edited(16, "-0.25\tbird"), 16, "2 word(s) and perhaps a backoff weight, found 2 fields"),
        (edited(16, "-0.25 a b c d"), 16, "found 5 fields: '-0.25 a b c d'"),
        (edited(16, "-0.25 the bird </s>"), 16, "a backoff weight after 2 word(s), found '</s>'"),
        (edited(21, "-0.05 <s> the bird </s>"), 21, "a backoff weight after 3 word(s)"),
        (edited(16, "x\tbird </s>"), 16, "expected a log probability, found 'x'"),
        (edited(16, "-0.2_5\tbird </s>"), 16, "expected a log probability, found '-0.2_5'"),
        (edited(16, "nan\tbird </s>"), 16, "expected a log probability, found 'nan'"),
        (edited(16, "inf\tbird </s>"), 16, "expected a log probability, found 'inf'"),
        (edited(16, "0.25\tbird </s>"), 16, "log probability '0.25' is positive"),
        (edited(17, "-0.4\tthe bird\tnan"), 17, "a backoff weight after 2 word(s), found 'nan'"),
        (edited(17, "-0.4\tthe bird\tinf"), 17, "a backoff weight after 2 word(s), found 'inf'"),
        (edited(17, "-0.4\tthe bird\t99.5"), 17, "a backoff weight after 2 word(s), found '99.5'"),
        (edited(12, "-0.6\tbird\t1e308"), 12, "a backoff weight after 1 word(s), found '1e308'"),
        (edited(17, "-0.25\tbird </s>"), 17, "n-gram 'bird </s>': it is there already"),
        (edited(12, "-0.5\tbird"), 12, "n-gram 'bird': it is there already"),
        (edited(12, "-0.5\tw\u3000m"), 12, "cannot be one: "),
        (edited(18, "-0.45\tthe cat"), 18, "word 'cat' is not among the unigrams"),
        (edited(18, "-0.45\tcat the"), 18, "word 'cat' is not among the unigrams"),
        (
            edited(21, "-0.05\tbird the worm"),
            21,
            "n-gram 'bird the worm': its history is not among the shorter n-grams",
        ),
        (SRILM.encode().replace(b"worm", b"w\xf6rm", 1), 12, "is not UTF-8"),
        (SRILM.encode().replace(b"the worm", b"the w\xf6rm"), 18, "is not among the unigrams"),
    ],
)  # fmt: skip
def test_malformed_files_are_refused_with_the_line(
    tmp_path: Path, content: str | bytes, line: int, message: str
) -> None:
    path = written(tmp_path / "lm.arpa", content)
    with pytest.raises(TextError) as caught:
        NgramModel.read_arpa(path)
    assert f"lm.arpa:{line}: " in str(caught.value) and message in str(caught.value)


def test_the_line_is_right_after_many_blocks(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(300)]
    pairs = [(a, b) for a in words for b in words]
    lines = ["\\data\\", f"ngram 1={len(words)}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    lines += [f"-2.5\t{word}\t-0.5" for word in words]
    lines += [
        "",
        "\\2-grams:",
        *(f"-2.345678\t{a} {b}" + " " * 60 for a, b in pairs),
        "",
        "\\end\\",
    ]
    assert sum(map(len, lines)) > 1.5 * (1 << 22)
    path = written(tmp_path / "lm.arpa", "\n".join(lines))
    assert NgramModel.read_arpa(path).counts == [len(words), len(pairs)]
    lines[-50] = "-2.3\tw1 w1"
    path = written(tmp_path / "lm.arpa", "\n".join(lines))
    with pytest.raises(TextError, match=f"lm.arpa:{len(lines) - 49}: n-gram 'w1 w1': it is there"):
        NgramModel.read_arpa(path)


@pytest.mark.parametrize("size", range(1, 80))
def test_a_word_twice_is_told_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("moe_asr.lm.arpa._BLOCK_BYTES", size)
    path = written(tmp_path / "lm.arpa", edited(13, "-1.25\tbird"))
    with pytest.raises(TextError, match="lm.arpa:13: n-gram 'bird': it is there already"):
        NgramModel.read_arpa(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = SRILM.strip().encode()
    for length in range(len(content)):
        with pytest.raises(TextError, match="lm.arpa:"):
            NgramModel.read_arpa(written(tmp_path / "lm.arpa", content[:length]))
    packed = gzip.compress(content)
    for length in range(2, len(packed)):
        with pytest.raises(TextError, match="lm.arpa: cannot be read"):
            NgramModel.read_arpa(written(tmp_path / "lm.arpa", packed[:length]))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="none.arpa: cannot be read: No such file"):
        NgramModel.read_arpa(tmp_path / "none.arpa")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train_kneser_ney(corpus_of(["a b"]), 2).model
    path = tmp_path / "lm.arpa"
    model.write_arpa(path)
    old = path.read_bytes()
    broken = NgramModel.read_arpa(path)
    object.__setattr__(broken, "log_prob", None)
    with pytest.raises(TypeError):
        broken.write_arpa(path)
    assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["lm.arpa"]


def test_four_hundred_thousand_bigrams(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(15_000)]
    pairs = np.unique(rng.integers(0, len(words) ** 2, 400_000))
    first, second = np.divmod(pairs, len(words))
    lines = [f"\\data\\\nngram 1={len(words)}\nngram 2={len(pairs)}\n\n\\1-grams:\n"]
    lines += [f"-4.123456\t{word}\t-0.654321\n" for word in words]
    lines.append("\n\\2-grams:\n")
    lines += [
        f"-2.{i:06d}\t{words[a]} {words[b]}\n"
        for i, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True))
    ]
    path = written(tmp_path / "lm.arpa", "".join([*lines, "\n\\end\\\n"]))
    model = NgramModel.read_arpa(path)
    assert model.counts == [len(words), len(pairs)]
    np.testing.assert_allclose(model.log_prob[model.splits[2] + 5], -2.000005 * LOG_10)
