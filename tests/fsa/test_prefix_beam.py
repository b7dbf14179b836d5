"""CTC prefix beam search, against all label sequences, torch's CTC loss, and the search on dictionaries."""

import itertools
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.prefix_beam import plain_prefix_beam_search
from moe_asr.errors import ConfigError, DataError
from moe_asr.fsa.prefix_beam import (
    PrefixHypothesis,
    prefix_beam_search,
    prefix_beam_search_batch,
)

SEEDS = st.integers(0, 2**32)
WIDE = 10_000
Tokens = tuple[int, ...]


def collapse(labels: Sequence[int]) -> Tokens:
    return tuple(label for label, _ in itertools.groupby(labels) if label)


def labels_of(hypothesis: PrefixHypothesis, num_frames: int) -> list[int]:
    """The label of every frame, as the frames of the tokens tell."""
    labels = [0] * num_frames
    spans = zip(hypothesis.tokens, hypothesis.token_frames, hypothesis.token_ends, strict=True)
    for token, first, last in spans:
        assert first <= last
        for frame in range(first, last + 1):
            assert labels[frame] == 0, hypothesis
            labels[frame] = token
    return labels


def score_of_labels(log_probs: np.ndarray, labels: Sequence[int]) -> float:
    return math.fsum(log_probs[np.arange(len(labels)), list(labels)].tolist())


def posteriors(seed: int, num_frames: int, num_labels: int, spread: float = 1.5) -> np.ndarray:
    logits = spread * np.random.RandomState(seed % 2**32).standard_normal((num_frames, num_labels))
    return torch.log_softmax(torch.from_numpy(logits), 1).float().numpy()


@settings(max_examples=150)
@given(SEEDS, st.integers(0, 5), st.integers(1, 4), st.sampled_from(["normal", "tied", "zeros"]))
def test_against_all_label_sequences(
    seed: int, num_frames: int, num_labels: int, kind: str
) -> None:
    """All of CTC: every sequence that any labels give, with the sum and the best of its alignments."""
    rng = random.Random(seed)
    log_probs = posteriors(seed, num_frames, num_labels)
    if kind == "tied":
        log_probs = np.rint(2 * log_probs) / 2
    if kind == "zeros":  # of probability
        log_probs[
            np.random.RandomState(seed % 2**32).random_sample(log_probs.shape) < 0.3
        ] = -np.inf
    scores: dict[Tokens, list[float]] = {}
    for labels in itertools.product(range(num_labels), repeat=num_frames):
        score = score_of_labels(log_probs, labels)
        if score > -math.inf:
            scores.setdefault(collapse(labels), []).append(score)
    found = prefix_beam_search(log_probs, WIDE)
    assert {h.tokens for h in found} == set(scores) and len(found) == len(scores)
    for h in found:
        assert h.score == pytest.approx(float(np.logaddexp.reduce(scores[h.tokens])), abs=1e-9)
        assert h.alignment_score == pytest.approx(max(scores[h.tokens]), abs=1e-9)
        labels = labels_of(h, num_frames)
        assert collapse(labels) == h.tokens
        assert score_of_labels(log_probs, labels) == pytest.approx(h.alignment_score, abs=1e-9)
    order = [(-h.score, h.tokens) for h in found]
    assert order == sorted(order)
    n = rng.randint(1, 4)
    assert prefix_beam_search(log_probs, WIDE, n=n) == found[:n]


def test_scores_are_those_of_the_ctc_loss() -> None:
    """When nothing is dropped: all sequences of up to 8 tokens of 3 kinds that fit into 8 frames."""
    log_probs = posteriors(0, 8, 4)
    found = [h for h in prefix_beam_search(log_probs, WIDE) if h.tokens]
    assert len(found) > 1000
    lengths = torch.tensor([len(h.tokens) for h in found])
    losses = torch.nn.functional.ctc_loss(
        torch.from_numpy(log_probs).double()[:, None].expand(-1, len(found), -1),
        torch.tensor([token for h in found for token in h.tokens]),
        torch.full((len(found),), 8),
        lengths,
        reduction="none",
    )
    assert torch.allclose(
        -losses, torch.tensor([h.score for h in found], dtype=torch.double), atol=1e-9
    )
    everything = np.logaddexp.reduce([h.score for h in prefix_beam_search(log_probs, WIDE)])
    assert everything == pytest.approx(0.0, abs=1e-6)  # rows are normalised in float32


@settings(max_examples=100)
@given(
    SEEDS,
    st.integers(0, 30),
    st.integers(2, 7),
    st.integers(1, 8),
    st.sampled_from([math.inf, 0.0, 1.0, 3.0]),
)
def test_narrow_beams_against_the_plain_search(
    seed: int, num_frames: int, num_labels: int, beam_size: int, token_beam: float
) -> None:
    """Prefixes that come back, children that outlive them: every sequence is still one, and its sum too."""
    log_probs = posteriors(seed, num_frames, num_labels)
    found = prefix_beam_search(log_probs, beam_size, token_beam)
    expected = plain_prefix_beam_search(log_probs, beam_size, token_beam)
    assert [h.tokens for h in found] == [tokens for tokens, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score in expected], abs=1e-9)
    for h in found:
        labels = labels_of(h, num_frames)
        assert collapse(labels) == h.tokens
        assert score_of_labels(log_probs, labels) == pytest.approx(h.alignment_score, abs=1e-9)
        assert h.alignment_score <= h.score + 1e-9


def test_a_long_utterance() -> None:
    """More prefixes and alignments than there is room for at first."""
    log_probs = posteriors(1, 600, 20, spread=3.0)
    found = prefix_beam_search(log_probs, 6)
    expected = plain_prefix_beam_search(log_probs, 6)
    assert [h.tokens for h in found] == [tokens for tokens, _ in expected]
    assert len(found[0].tokens) > 256
    for h in found:
        labels = labels_of(h, 600)
        assert collapse(labels) == h.tokens
        assert score_of_labels(log_probs, labels) == pytest.approx(h.alignment_score, abs=1e-6)


def test_ties_are_lexicographic() -> None:
    """Labels equally probable: what is kept and how it is listed is told by the ids alone."""
    one = prefix_beam_search(np.full((1, 9), -2.0), 3)
    assert [h.tokens for h in one] == [(), (1,), (2,)]
    no_blank = np.full((2, 5), -1.0)
    no_blank[:, 0] = -np.inf
    assert [h.tokens for h in prefix_beam_search(no_blank, 4)] == [(1,), (1, 2), (1, 3), (1, 4)]
    assert {h.score for h in prefix_beam_search(no_blank, 4)} == {-2.0}
    # (), (1,) and (2,) are equal at first, and only the first is kept, again and again
    assert [(h.tokens, h.score) for h in prefix_beam_search(np.full((3, 3), -1.0), 1)] == [
        ((), -3.0)
    ]


def test_utterances_do_not_depend_on_their_batch() -> None:
    lengths = [7, 0, 12, 1]
    rows = [posteriors(i, length, 6) for i, length in enumerate(lengths)]
    batch = torch.full((4, 14, 6), float("nan"))  # behind the lengths anything may stand
    for index, row in enumerate(rows):
        batch[index, : len(row)] = torch.from_numpy(row)
    found = prefix_beam_search_batch(batch, torch.tensor(lengths), 5, 4.0, 3)
    assert found == [prefix_beam_search(row, 5, 4.0, 3) for row in rows]
    assert found[1] == [PrefixHypothesis((), 0.0, 0.0, (), ())]


def test_a_token_beam_never_helps() -> None:
    """It takes prefixes away, with their part of the sum; 0 leaves the best label of each frame."""
    log_probs = posteriors(3, 6, 4)
    everything = {h.tokens: h.score for h in prefix_beam_search(log_probs, WIDE)}
    for token_beam in (0.0, 1.0, 2.0):
        found = prefix_beam_search(log_probs, WIDE, token_beam)
        assert len(found) < len(everything)
        assert all(h.score <= everything[h.tokens] + 1e-9 for h in found)
    greedy = collapse(log_probs.argmax(axis=1).tolist())
    assert greedy in {h.tokens for h in prefix_beam_search(log_probs, WIDE, 0.0)}


def test_a_frame_without_a_possible_label() -> None:
    log_probs = posteriors(0, 4, 3)
    log_probs[2] = -np.inf
    assert prefix_beam_search(log_probs) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size must be 1 to"),
        ({"beam_size": 4, "n": 5}, r"n must be 1 to beam_size \(4\), found 5"),
        ({"n": 0}, "n must be 1"),
        ({"token_beam": -1.0}, "token_beam must be 0 or more"),
        ({"token_beam": math.nan}, "token_beam must be 0 or more"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prefix_beam_search(posteriors(0, 3, 3), **options)


def test_wrong_input() -> None:
    batch = torch.zeros(2, 4, 3)
    for value in (math.nan, math.inf):
        batch[1, 2, 1] = value
        with pytest.raises(DataError, match="utterance b: log_probs of frame 2 hold"):
            prefix_beam_search_batch(batch, torch.tensor([4, 4]), utterance_ids=["a", "b"])
    assert len(prefix_beam_search_batch(batch, torch.tensor([4, 2]))) == 2
    with pytest.raises(DataError, match="utterance 0 of the batch: length 5"):
        prefix_beam_search_batch(batch, torch.tensor([5, 2]))
    with pytest.raises(DataError, match="expected log_probs"):
        prefix_beam_search_batch(batch[0], torch.tensor([4]))
    with pytest.raises(DataError, match=r"expected log_probs \(T, C\), found \(2, 4, 3\)"):
        prefix_beam_search(batch)
    with pytest.raises(DataError, match="with a blank"):
        prefix_beam_search(torch.zeros(3, 0))
