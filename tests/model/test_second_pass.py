"""Second-pass scores: trees of hypotheses against one hypothesis at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, DataError
from moe_asr.model import second_pass
from moe_asr.model.config import preset
from moe_asr.model.second_pass import second_pass_scores
from moe_asr.model.token_tree import token_tree
from moe_asr.model.u2 import U2MoeModel

VOCAB = 9


@pytest.fixture(scope="module")
def model() -> U2MoeModel:
    torch.manual_seed(3)
    return U2MoeModel(preset("tiny", vocab_size=VOCAB)).eval()


@pytest.fixture(scope="module")
def encoded(model: U2MoeModel) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    lengths = torch.tensor([7, 12, 1])
    memory = torch.randn(3, 12, model.config.dim)
    memory[torch.arange(12)[None, :] >= lengths[:, None]] = 1e3  # behind the end: must not be seen
    return memory, lengths


HYPOTHESES = [
    [(3, 4, 5), (3, 4), (3, 4, 6, 7), (8,), (3, 4, 5), ()],
    [(2, 2, 2, 2, 5), (2, 2, 2, 5)],
    [],
]


def slow(model, memory, lengths, hypotheses, reverse) -> list[np.ndarray]:
    """One hypothesis at a time, without the frames behind the end."""
    scores = []
    for n, found in enumerate(hypotheses):
        row = memory[n : n + 1, : lengths[n]]
        scores.append(
            np.array(
                [
                    model.decoder_log_probs(
                        row, lengths[n : n + 1], torch.tensor([tokens], dtype=torch.int64),
                        torch.tensor([len(tokens)]), reverse,
                    ).double().sum().item()
                    for tokens in found
                ]
            )
        )  # fmt: skip
    return scores


@pytest.mark.parametrize("max_megabytes", [256.0, 0.02, 0.001], ids=["whole", "split", "tiny"])
@torch.no_grad()
def test_scores_are_those_of_one_hypothesis_at_a_time(model, encoded, max_megabytes) -> None:
    found = second_pass_scores(model, *encoded, HYPOTHESES, max_megabytes=max_megabytes)
    for reverse, name in ((False, "left_to_right"), (True, "right_to_left")):
        expected = slow(model, *encoded, HYPOTHESES, reverse)
        for row, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(getattr(row, name), wanted, atol=1e-4)
    first = found[0]
    assert first.left_to_right[0] == first.left_to_right[4]
    assert np.ptp(first.left_to_right) > 0.1 and np.ptp(first.right_to_left) > 0.1
    assert abs(first.left_to_right - first.right_to_left).max() > 0.01


@torch.no_grad()
def test_few_calls_and_a_bound_on_what_a_call_sees(model, encoded, monkeypatch) -> None:
    calls: list[tuple[int, int]] = []
    kept = second_pass._score_trees

    def counted(decoder, trees, *others):
        calls.append((len(trees), max(tree.num_nodes for tree in trees)))
        return kept(decoder, trees, *others)

    monkeypatch.setattr(second_pass, "_score_trees", counted)
    hypotheses = [[tuple(np.random.default_rng(i).integers(2, VOCAB, 6)) for i in range(50)]] * 3
    second_pass_scores(model, *encoded, hypotheses, right_to_left=False)
    assert len(calls) == 1 and calls[0][0] == 3
    calls.clear()
    megabytes = 0.25
    second_pass_scores(
        model, *encoded, hypotheses, right_to_left=False, max_megabytes=megabytes
    )  # fmt: skip
    assert len(calls) > 3
    limit = megabytes * 1e6 / 2 / (32 * model.config.dim)
    assert all(trees * nodes <= limit for trees, nodes in calls)


def test_combination() -> None:
    scores = second_pass.SecondPassScores(np.array([-1.0, -2.0]), np.array([-3.0, -1.0]))
    assert scores.combined(0.0).tolist() == [-1.0, -2.0]
    assert scores.combined(1.0).tolist() == [-3.0, -1.0]
    np.testing.assert_allclose(scores.combined(0.25), [-1.5, -1.75])


def test_a_decoder_that_is_not_asked_or_not_there(model, encoded) -> None:
    (first, *_) = second_pass_scores(model, *encoded, HYPOTHESES, right_to_left=False)
    assert not first.right_to_left.any() and first.left_to_right.all()
    config = preset("tiny", vocab_size=VOCAB, right_to_left_layers=0, reverse_weight=0.0)
    one_way = U2MoeModel(config).eval()
    with pytest.raises(ConfigError, match="no right-to-left decoder"):
        second_pass_scores(one_way, *encoded, HYPOTHESES)


def test_wrong_input_is_named(model, encoded) -> None:
    for tokens in ((0,), (VOCAB,), (-1,)):
        with pytest.raises(DataError, match=f"utterance b: hypothesis 1 has token {tokens[0]}"):
            second_pass_scores(
                model, *encoded, [[], [(3,), tokens], []], utterance_ids=["a", "b", "c"]
            )
    with pytest.raises(ConfigError, match="max_megabytes"):
        second_pass_scores(model, *encoded, HYPOTHESES, max_megabytes=0)
    with pytest.raises(DataError, match="3 lengths, hypotheses of 1"):
        second_pass_scores(model, *encoded, [[]])


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(2, 4), max_size=5).map(tuple), max_size=8))
def test_a_tree_is_its_sequences_in_preorder(sequences: list[tuple[int, ...]]) -> None:
    tree = token_tree(sequences, root=1)
    prefixes = {sequence[:i] for sequence in sequences for i in range(len(sequence) + 1)} | {()}
    assert tree.num_nodes == len(prefixes)

    def spelled(node: int) -> tuple[int, ...]:
        return () if node == 0 else (*spelled(int(tree.parents[node])), int(tree.tokens[node]))

    assert [spelled(node) for node in tree.last] == sequences
    for node in range(tree.num_nodes):
        ancestors = {0} | {
            k for k in range(tree.num_nodes) if spelled(node)[: len(spelled(k))] == spelled(k)
        }
        assert ancestors == {k for k in range(node + 1) if node < tree.ends[k]}
        assert tree.depths[node] == len(spelled(node))
    values = np.arange(tree.num_nodes, dtype=float)
    sums = tree.sums_to(values)
    for node in range(tree.num_nodes):
        assert sums[node] == sum(k for k in range(node + 1) if node < tree.ends[k])
