"""The trie, lookups and scores of a model against dictionaries."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.lm.corpus import corpus_of
from moe_asr.lm.kneser_ney import train_kneser_ney
from moe_asr.lm.model import NgramModel
from moe_asr.lm.perplexity import measure_perplexity, sentence_log_probs, token_log_probs
from moe_asr.lm.prune import prune
from tests.lm.conftest import as_dictionaries, ngrams_of
from tests.lm.references import random_text


def random_model(number: int, order: int) -> NgramModel:
    """Pruned, so that some suffixes are missing."""
    model = train_kneser_ney(corpus_of(random_text(random.Random(number), 15)), order).model
    return prune(model, 3e-3) if number % 2 else model


@settings(max_examples=40)
@given(number=st.integers(0, 10**6), order=st.integers(1, 4))
def test_lookups(number: int, order: int) -> None:
    model = random_model(number, order)
    ngrams = ngrams_of(model)
    node_of = {ngram: node for node, ngram in enumerate(ngrams)}
    assert len(node_of) == model.num_nodes
    for node, ngram in enumerate(ngrams):
        longest = next((ngram[i:] for i in range(1, len(ngram)) if ngram[i:] in node_of), ())
        assert ngrams[model.suffix[node]] == longest
        assert model.has_children[node] == any(other[:-1] == ngram for other in ngrams if other)
        words = np.arange(-1, len(model.words))
        expected = [
            node_of.get((*ngram, model.words.symbol(word)), -1) if word >= 0 else -1
            for word in words.tolist()
        ]
        assert model.find(np.full(len(words), node), words).tolist() == expected
    assert model.find(np.array([-1]), np.array([0])).tolist() == [-1]
    assert [len(ngram) for ngram in ngrams] == sorted(len(ngram) for ngram in ngrams)
    assert sum(model.counts) == model.num_nodes - 1


@settings(max_examples=40)
@given(number=st.integers(0, 10**6), order=st.integers(1, 4))
def test_scores_of_tokens(number: int, order: int) -> None:
    model = random_model(number, order)
    reference = as_dictionaries(model)
    sentences = [*random_text(random.Random(number + 1), 6, 7), "w0 unheard w0 w1"]
    corpus = corpus_of(sentences)
    expected = []
    for sentence in sentences:
        words = [w if w in model.words else "<unk>" for w in sentence.split()]
        words = ["<s>", *words, "</s>"]
        expected.append(0.0)
        for i in range(1, len(words)):
            history = tuple(words[max(0, i - order + 1) : i])
            expected.append(math.log(reference.p(history, words[i])))
    np.testing.assert_allclose(token_log_probs(model, corpus), expected, rtol=1e-9)
    starts = np.flatnonzero(corpus.ids == 1)
    sums = np.add.reduceat(expected, starts)
    np.testing.assert_allclose(sentence_log_probs(model, sentences), sums, rtol=1e-9)


def test_sentences_without_words() -> None:
    model = random_model(3, 3)
    end = as_dictionaries(model).p(("<s>",), "</s>")
    np.testing.assert_allclose(sentence_log_probs(model, ["", "w0", ""])[[0, 2]], math.log(end))
    assert sentence_log_probs(model, []).shape == (0,)


def test_sums_show_what_is_wrong() -> None:
    model = random_model(4, 3)
    node = int(np.flatnonzero(model.has_children)[3])
    model.backoff[node] += 0.1
    off = np.abs(model.probability_sums() - 1.0) > 1e-6
    assert off[node] and not off[: model.splits[1]].any()


def test_report_of_a_text() -> None:
    model = train_kneser_ney(corpus_of(["a b", "b a"], ["a", "b"]), 2).model
    report = measure_perplexity(model, corpus_of(["a c b", "d", "<unk> a"]))
    assert (report.num_sentences, report.num_words, report.num_oov) == (3, 6, 3)
    assert report.oov_rate == 0.5
    p = as_dictionaries(model).p
    known = [
        p(("<s>",), "a"), p(("<unk>",), "b"), p(("b",), "</s>"), p(("<unk>",), "</s>"),
        p(("<unk>",), "a"), p(("a",), "</s>"),
    ]  # fmt: skip
    assert report.log_prob == pytest.approx(sum(map(math.log, known)))
    assert report.perplexity == pytest.approx(math.exp(-report.log_prob / 6))
    assert report.perplexity_without_ends == pytest.approx(math.exp(-report.log_prob / 3))
    unknown = [p(("a",), "<unk>"), p(("<s>",), "<unk>"), p(("<s>",), "<unk>")]
    assert report.oov_log_prob == pytest.approx(sum(map(math.log, unknown)))
    total = report.log_prob + sum(map(math.log, unknown))
    assert report.perplexity_with_oov == pytest.approx(math.exp(-total / 9))
    assert "3 unknown (50.00 %)" in report.table()
    nothing_known = measure_perplexity(model, corpus_of(["x y"]))
    assert math.isnan(nothing_known.perplexity_without_ends)
    assert nothing_known.perplexity > 1.0


def arpa_file(path: Path, unk: str, value: str) -> NgramModel:
    unigrams = f"-99\t<s>\t-99\n-0.3\t</s>\n-0.6\ta\t-99\n{value}\t{unk}\t-99\n"
    path.write_text(f"\\data\\\nngram 1=4\nngram 2=3\n\n\\1-grams:\n{unigrams}\n\\2-grams:\n"
                    f"-0.1\t<s> a\n-0.1\ta a\n-0.1\t{unk} a\n\n\\end\\\n")  # fmt: skip
    return NgramModel.read_arpa(path)


def test_unknown_words_by_any_name(tmp_path: Path) -> None:
    model = arpa_file(tmp_path / "lm.arpa", "<UNK>", "-0.7")
    report = measure_perplexity(model, corpus_of(["a <UNK> a", "<unk>", "z"]))
    assert (report.num_words, report.num_oov, report.num_zero_probs) == (5, 3, 3)


def test_unknown_words_of_probability_0(tmp_path: Path) -> None:
    model = arpa_file(tmp_path / "lm.arpa", "<unk>", "-99")
    report = measure_perplexity(model, corpus_of(["z a"]))
    assert report.oov_log_prob == -math.inf and report.perplexity_with_oov == math.inf
    assert "unknown words as <unk> inf" in report.table()
