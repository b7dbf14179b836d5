"""G of n-gram models: kaldilm's and ours accept every sentence with the score that the model gives it."""

import gzip
import itertools
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError, MissingDependencyError, TextError
from moe_asr.fsa import ngram_fst as module
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.ngram_fst import (
    backoff_stochasticity,
    g_from_arpa,
    ngram_fst,
    token_ngram_fst,
    uncovered_words,
)
from moe_asr.lm.corpus import corpus_of
from moe_asr.lm.kneser_ney import train_kneser_ney
from moe_asr.lm.model import NgramModel
from moe_asr.lm.perplexity import sentence_log_probs
from moe_asr.lm.prune import prune
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import CharTokenizer
from tests.lm.conftest import as_dictionaries
from tests.lm.references import Backoff, random_text


def word_table(model: NgramModel, but: tuple[str, ...] = ("<unk>",)) -> SymbolTable:
    """The model's words but those, in another order than the model's."""
    words = sorted(set(model.words) - {"<s>", "</s>", *but}, reverse=True)
    return SymbolTable(["<eps>", *words, "#0"], "words.txt")


def random_model(number: int, order: int) -> NgramModel:
    """Some are pruned, so that suffixes are missing and some histories have no n-grams."""
    model = train_kneser_ney(corpus_of(random_text(random.Random(number), 15, 4)), order).model
    return prune(model, 3e-3) if number % 2 else model


def leaving(fst: Fst, state: int) -> dict[int, int]:
    """The arcs of a state by label, which must be distinct."""
    arcs = range(int(fst.arc_splits[state]), int(fst.arc_splits[state + 1]))
    found = {int(fst.ilabel[arc]): arc for arc in arcs}
    assert len(found) == len(arcs), "not deterministic"
    return found


def walk(fst: Fst, labels: list[int], backoff: int) -> float:
    """The score of a path that backs off only where there is no arc; -inf if there is no such path."""
    state, score = 0, 0.0
    for label in labels:
        while label not in leaving(fst, state):
            if backoff not in leaving(fst, state):
                return -math.inf
            arc = leaving(fst, state)[backoff]
            state, score = int(fst.dst[arc]), score + float(fst.score[arc])
        arc = leaving(fst, state)[label]
        assert fst.olabel[arc] == label
        state, score = int(fst.dst[arc]), score + float(fst.score[arc])
    while not np.isfinite(fst.final_score[state]):
        if backoff not in leaving(fst, state):
            return -math.inf
        arc = leaving(fst, state)[backoff]
        assert fst.olabel[arc] == 0
        state, score = int(fst.dst[arc]), score + float(fst.score[arc])
    return score + float(fst.final_score[state])


def best(fst: Fst, labels: list[int], backoff: int) -> float:
    """The score of the best path, which may back off anywhere: what a decoder finds."""

    def backed_off(scores: dict[int, float]) -> dict[int, float]:
        queue = list(scores)
        while queue:
            state = queue.pop()
            arc = leaving(fst, state).get(backoff)
            if arc is not None:
                target, score = int(fst.dst[arc]), scores[state] + float(fst.score[arc])
                if score > scores.get(target, -math.inf):
                    scores[target] = score
                    queue.append(target)
        return scores

    scores = backed_off({0: 0.0})
    for label in labels:
        after: dict[int, float] = {}
        for state, score in scores.items():
            arc = leaving(fst, state).get(label)
            if arc is not None:
                target = int(fst.dst[arc])
                after[target] = max(after.get(target, -math.inf), score + float(fst.score[arc]))
        scores = backed_off(after)
    return max(
        (s + float(fst.final_score[state]) for state, s in scores.items()), default=-math.inf
    )


def best_by_definition(model: Backoff, words: list[str]) -> float:
    """The same from the n-grams alone: every way to leave words of the history out."""

    def follow(history: tuple[str, ...], rest: list[str]) -> float:
        found = -math.inf
        if (*history, rest[0]) in model.probability:
            found = math.log(model.probability[(*history, rest[0])])
            if len(rest) > 1:
                state = (*history, rest[0])
                while state and (state not in model.probability or len(state) == model.order):
                    state = state[1:]
                found += follow(state, rest[1:])
        if history:
            shorter = history[1:]
            while shorter and shorter not in model.probability:
                shorter = shorter[1:]
            found = max(found, math.log(model.weight[history]) + follow(shorter, rest))
        return found

    return follow(("<s>",) if model.order > 1 else (), [*words, "</s>"])


def sequences(model: NgramModel, longest: int) -> list[list[str]]:
    words = sorted(set(model.words) - {"<s>", "</s>", "<unk>"})
    return [
        list(choice)
        for length in range(longest + 1)
        for choice in itertools.product(words, repeat=length)
    ]


def same_scores(fst: Fst, table: SymbolTable, model: NgramModel, longest: int) -> None:
    """Both conventions, on every sequence of the model's words up to a length."""
    reference, all_words = as_dictionaries(model), sequences(model, longest)
    expected = sentence_log_probs(model, [" ".join(words) for words in all_words])
    for words, score in zip(all_words, expected.tolist(), strict=True):
        labels = [table[word] for word in words]
        assert walk(fst, labels, table["#0"]) == pytest.approx(score, abs=2e-5), words
        top = best_by_definition(reference, words)
        assert best(fst, labels, table["#0"]) == pytest.approx(top, abs=2e-5), words
        assert top > score - 1e-9


def is_g(fst: Fst, table: SymbolTable) -> None:
    """What the builders of graphs expect of it."""
    backoff = fst.ilabel == table["#0"]
    assert (fst.olabel[backoff] == 0).all()
    assert (fst.olabel[~backoff] == fst.ilabel[~backoff]).all()
    assert fst.ilabel.min() > 0 and fst.ilabel.max() < len(table)
    for state in range(fst.num_states):
        labels = fst.ilabel[fst.arc_splits[state] : fst.arc_splits[state + 1]]
        assert (np.diff(labels) > 0).all()
    connected = fst.connect()
    assert (connected.num_states, connected.num_arcs) == (fst.num_states, fst.num_arcs)


@settings(max_examples=40)
@given(number=st.integers(0, 10**6), order=st.integers(1, 4))
def test_our_conversion_has_the_scores_of_the_model(number: int, order: int) -> None:
    model = random_model(number, order)
    table = word_table(model)
    fst = ngram_fst(model, table)
    is_g(fst, table)
    same_scores(fst, table, model, 3)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("number", [10, 11])
def test_kaldilm_has_the_scores_of_the_model_and_of_our_conversion(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], order: int, number: int
) -> None:
    model = random_model(number, order)
    model.write_arpa(tmp_path / "lm.arpa")
    table = word_table(model)
    theirs = g_from_arpa(tmp_path / "lm.arpa", table)
    assert capfd.readouterr() == ("", "")
    is_g(theirs, table)
    same_scores(theirs, table, model, 3)
    ours = ngram_fst(model, table)
    rng = random.Random(number)
    for _ in range(100):
        labels = [rng.randrange(1, len(table) - 1) for _ in range(rng.randint(4, 9))]
        for score in (walk, best):
            found = score(theirs, labels, table["#0"])
            assert found == pytest.approx(score(ours, labels, table["#0"]), abs=2e-5)


OTHERS = """\\data\\
ngram 1=6
ngram 2=5
ngram 3=2

\\1-grams:
-99 <s> -0.3
-0.7 </s>
-0.9 <unk> -0.4
-0.5 a -0.2
-0.6 b -0.1
-0.8 c -0.7

\\2-grams:
-0.2 <s> a -0.05
-0.3 a b -0.6
-0.4 b </s>
-0.5 b <unk>
-0.35 c a 0.3

\\3-grams:
-0.1 <s> a b
-0.15 c a </s>

\\end\\
"""


@pytest.mark.parametrize("dialect", ["plain", "crlf", "gzip"])
def test_files_of_others(tmp_path: Path, dialect: str) -> None:
    """c and "a b" have backoff weights, but no n-grams after them; kaldilm loses n-grams of CRLF files."""
    content = OTHERS.replace("\n", "\r\n") if dialect == "crlf" else OTHERS
    data = content.encode()
    (tmp_path / "lm").write_bytes(gzip.compress(data) if dialect == "gzip" else data)
    model = NgramModel.read_arpa(tmp_path / "lm")
    table = word_table(model)
    for fst in (g_from_arpa(tmp_path / "lm", table), ngram_fst(model, table)):
        is_g(fst, table)
        same_scores(fst, table, model, 4)


def test_words_that_are_not_in_the_table_are_left_out_and_told(tmp_path: Path) -> None:
    model = train_kneser_ney(corpus_of(random_text(random.Random(3), 40, 6)), 3).model
    model.write_arpa(tmp_path / "lm.arpa")
    table = word_table(model, ("<unk>", "w1", "w3"))
    assert uncovered_words(model, table) == [w for w in model.words if w in ("<unk>", "w1", "w3")]
    said: list[str] = []
    theirs = g_from_arpa(tmp_path / "lm.arpa", table, said.append)
    assert said == [
        f"{tmp_path}/lm.arpa: 3 of 9 words are not in words.txt and left out of G: "
        + ", ".join(uncovered_words(model, table))
    ]
    ours = ngram_fst(model, table)
    sentences = [" ".join(w) for w in itertools.product(("w0", "w2", "w4"), repeat=3)]
    expected = sentence_log_probs(model, sentences)
    for fst in (theirs, ours):
        is_g(fst, table)
        for sentence, score in zip(sentences, expected.tolist(), strict=True):
            labels = [table[word] for word in sentence.split()]
            assert walk(fst, labels, table["#0"]) == pytest.approx(score, abs=2e-5)
        assert (backoff_stochasticity(fst) < -0.01).all()
    full = word_table(model)
    assert g_from_arpa(tmp_path / "lm.arpa", full, said.append).num_arcs > theirs.num_arcs
    assert "1 of 9 words are not in words.txt and left out of G: <unk>" in said[1]
    with_unk = g_from_arpa(tmp_path / "lm.arpa", word_table(model, ()), said.append)
    assert len(said) == 2
    labels = [word_table(model, ())["<unk>"]]
    expected = sentence_log_probs(model, ["unheard"])
    assert walk(with_unk, labels, len(word_table(model, ())) - 1) == pytest.approx(expected[0])


def test_more_words_in_the_table_than_in_the_model(tmp_path: Path) -> None:
    (tmp_path / "lm").write_text(OTHERS)
    table = SymbolTable(["<eps>", "x", "b", "y", "a", "c", "<s>", "#0", "</s>"], "words.txt")
    fst = g_from_arpa(tmp_path / "lm", table)
    assert set(fst.ilabel.tolist()) == {table["a"], table["b"], table["c"], table["#0"]}


@pytest.mark.parametrize(
    ("change", "symbols", "message"),
    [
        (("-0.5 a", "x a"), "<eps> a b #0", "lm:10: expected a log probability, found 'x'"),
        (("", ""), "<eps> x y #0", "lm: none of its words is in words.txt"),
        (("", ""), "a b <eps> #0", "words.txt: a grammar needs <eps> as symbol 0"),
        (("", ""), "<eps> a b", "words.txt: a grammar needs <eps> as symbol 0, and #0"),
        (("<unk>", "#0"), "<eps> a b #0", "lm: '#0' is a word of the model"),
        (("<unk>", "<eps>"), "<eps> a b #0", "lm: '<eps>' is a word of the model"),
        (("</s>", "end"), "<eps> a b #0", "lm: no </s> among the unigrams"),
        (("<s>", "start"), "<eps> a b #0", "lm: no <s> among the unigrams"),
    ],
)
def test_what_cannot_be_a_grammar(
    tmp_path: Path, change: tuple[str, str], symbols: str, message: str
) -> None:
    (tmp_path / "lm").write_text(OTHERS.replace(*change))
    with pytest.raises(TextError, match=message):
        g_from_arpa(tmp_path / "lm", SymbolTable(symbols.split(), "words.txt"))
    if not message.startswith("lm:10"):
        model = NgramModel.read_arpa(tmp_path / "lm")
        with pytest.raises(TextError, match=message):
            ngram_fst(model, SymbolTable(symbols.split(), "words.txt"))


def test_a_failing_kaldilm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lm").write_text(OTHERS)
    table = SymbolTable(["<eps>", "a", "b", "#0"])
    aborting = "import os, sys; print('[E] line 7: bad', file=sys.stderr, flush=True); os.abort()"
    monkeypatch.setattr(module, "_KALDILM", aborting)
    with pytest.raises(TextError, match=r"lm: kaldilm cannot convert it: \[E\] line 7: bad"):
        g_from_arpa(tmp_path / "lm", table)
    monkeypatch.setattr(module, "_KALDILM", "import os; os.abort()")
    with pytest.raises(TextError, match="lm: kaldilm cannot convert it: exit status -6"):
        g_from_arpa(tmp_path / "lm", table)
    monkeypatch.setattr(module, "_KALDILM", "import sys; open(sys.argv[3], 'w').write('x')")
    with pytest.raises(TextError, match="lm: kaldilm's FST of it is damaged: .*G.fst: not an Open"):
        g_from_arpa(tmp_path / "lm", table)
    monkeypatch.setitem(sys.modules, "kaldilm", None)
    with pytest.raises(MissingDependencyError, match="pip install kaldilm"):
        g_from_arpa(tmp_path / "lm", table)


def test_tokens() -> None:
    tokenizer = CharTokenizer.from_texts(["abc d"])
    texts = ["ab c", "a d", "cab", "d d", "bad", "ab?c"]
    spelled = [" ".join(tokenizer.tokens.symbol(i) for i in tokenizer.encode(t)) for t in texts]
    model = train_kneser_ney(corpus_of(spelled, list(tokenizer.tokens)[3:]), 3).model
    fst = token_ngram_fst(model, tokenizer.tokens)
    backoff = tokenizer.vocab_size
    labels = set(fst.ilabel.tolist())
    assert labels == {*range(3, tokenizer.vocab_size), backoff}  # not the blank, sos/eos, <unk>
    for text in ("ab c", "dad", "", "b  a"):
        ids = tokenizer.encode(text)
        sentence = " ".join(tokenizer.tokens.symbol(i) for i in ids)
        expected = sentence_log_probs(model, [sentence])[0]
        assert walk(fst, ids, backoff) == pytest.approx(expected, abs=2e-5)
    with pytest.raises(TextError, match="none of its words is in"):
        token_ngram_fst(model, SymbolTable(["<blk>", "<sos/eos>", "<unk>", "x"]))


def total_by_definition(fst: Fst, state: int, backoff: int) -> float:
    labels = {int(label) for label in fst.ilabel.tolist()} - {backoff}
    total = 0.0
    for label in [*labels, None]:
        at, score = state, 0.0
        while True:
            arcs = np.flatnonzero((fst.src == at) & (fst.ilabel == label))
            if label is None and np.isfinite(fst.final_score[at]):
                total += math.exp(score + fst.final_score[at])
                break
            if label is not None and len(arcs):
                total += sum(math.exp(score + fst.score[arc]) for arc in arcs)
                break
            down = np.flatnonzero((fst.src == at) & (fst.ilabel == backoff))
            if not len(down):
                break
            at, score = int(fst.dst[down[0]]), score + float(fst.score[down[0]])
    return total


@settings(max_examples=50)
@given(st.integers(0, 10**6))
def test_stochasticity_of_any_fst(number: int) -> None:
    rng = random.Random(number)
    num_states, backoff = rng.randint(1, 6), 9
    arcs = [
        (rng.randrange(num_states), rng.randrange(num_states), label, label, -rng.random() * 3)
        for label in rng.choices(range(1, 5), k=rng.randint(0, 14))
    ]
    for state in range(1, num_states):  # down to lower states: no circles
        if rng.random() < 0.7:
            arcs.append((state, rng.randrange(state), backoff, 0, -rng.random()))
    finals = {s: -rng.random() for s in range(num_states) if rng.random() < 0.5}
    fst = Fst.from_list(arcs, {**finals, num_states - 1: 0.0})
    found = backoff_stochasticity(fst)
    for state in range(num_states):
        expected = total_by_definition(fst, state, backoff)
        assert math.exp(found[state]) == pytest.approx(expected, abs=1e-6), state


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("number", [20, 21])
def test_a_sound_model_is_stochastic(order: int, number: int) -> None:
    model = random_model(number, order)
    fst = ngram_fst(model, word_table(model, ()))
    np.testing.assert_allclose(backoff_stochasticity(fst), 0.0, atol=1e-5)
    model.log_prob[model.words["w0"] + 1] -= 0.5
    fst = ngram_fst(model, word_table(model, ()))
    assert backoff_stochasticity(fst).min() < -0.05


def test_backoffs_that_are_no_tree_are_refused() -> None:
    circle = [(0, 1, 9, 0, 0.0), (1, 2, 9, 0, 0.0), (2, 1, 9, 0, 0.0), (1, 1, 3, 3, 0.0)]
    with pytest.raises(GraphError, match="backoff arcs lead in a circle"):
        backoff_stochasticity(Fst.from_list(circle, {0: 0.0}))
    size = 100_000
    states = np.arange(size)
    labels = np.full(size, 9)
    fst = Fst.from_arcs(states, (states + 1) % size, labels, 0 * labels, 0.0 * labels, 0.0 * labels)
    with pytest.raises(GraphError, match="backoff arcs lead in a circle"):
        backoff_stochasticity(fst)
    twice = [(0, 1, 9, 0, 0.0), (1, 0, 9, 0, 0.0), (1, 2, 9, 0, 0.0)]
    with pytest.raises(GraphError, match="state 1: two backoff arcs"):
        backoff_stochasticity(Fst.from_list(twice, {2: 0.0}))
