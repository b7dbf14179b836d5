"""Second-pass scores: trees of hypotheses against one hypothesis at a time."""

import copy

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


def test_a_decoder_that_is_not_asked_or_not_there(model, encoded) -> None:
    (first, *_) = second_pass_scores(model, *encoded, HYPOTHESES, right_to_left=False)
    assert not first.right_to_left.any() and first.left_to_right.all()
    config = preset("tiny", vocab_size=VOCAB, right_to_left_layers=0, reverse_weight=0.0)
    one_way = U2MoeModel(config).eval()
    with pytest.raises(ConfigError, match="no right-to-left decoder"):
        second_pass_scores(one_way, *encoded, HYPOTHESES)


@pytest.mark.parametrize("reverse", [False, True])
def test_what_hypotheses_share_counts_once_where_trees_are_split(reverse) -> None:
    """Long hypotheses that differ in little: as few trees as can be, and each within the bound."""
    base = [3 + i % 5 for i in range(100)]
    found = [[*base[:k], 8, *base[k:]] for k in range(80, 100)]
    if reverse:
        found = [tokens[::-1] for tokens in found]
    parts = second_pass._parts([found], reverse, 200)
    assert sorted(i for _, members, _ in parts for i in members) == list(range(20))
    assert len(parts) == 3
    for _, members, tree in parts:
        sequences = [tuple(found[i][::-1] if reverse else found[i]) for i in members]
        assert tree.num_nodes == len({s[:k] for s in sequences for k in range(len(s) + 1)}) <= 200


@torch.no_grad()
def test_keys_and_values_of_many_utterances_are_within_the_bound(model, monkeypatch) -> None:
    calls: list[int] = []
    kept = second_pass._score_trees

    def counted(decoder, trees, memory, *others):
        calls.append(memory.shape[0] * memory.shape[1])
        return kept(decoder, trees, memory, *others)

    monkeypatch.setattr(second_pass, "_score_trees", counted)
    memory, lengths = torch.randn(20, 200, model.config.dim), torch.full((20,), 200)
    hypotheses = [[(3, 4, 2 + n % 7)] for n in range(20)]
    whole = second_pass_scores(model, memory, lengths, hypotheses)
    assert calls == [4000, 4000]
    calls.clear()
    split = second_pass_scores(model, memory, lengths, hypotheses, max_megabytes=1.0)
    assert sum(calls) == 8000
    assert all(5 * 4 * frames * model.config.dim <= 0.5e6 for frames in calls)
    for one, other in zip(whole, split, strict=True):
        np.testing.assert_allclose(one.left_to_right, other.left_to_right, atol=1e-4)


def test_bfloat16_is_near_float32(model, encoded) -> None:
    """Sums of many products: taken in half precision they would be off by more than the products are."""
    torch.manual_seed(0)
    states = torch.randn(1, 50, 512).bfloat16()
    weight = torch.randn(1, 50, 512).bfloat16()
    found = second_pass._logits(states, weight)
    assert found.dtype == torch.float32
    expected = (states.double() * weight.double()).sum(2)
    assert (found - expected).abs().max() < 0.1
    scores = second_pass_scores(
        copy.deepcopy(model).bfloat16(), encoded[0].bfloat16(), encoded[1], HYPOTHESES
    )
    for one, other in zip(scores, second_pass_scores(model, *encoded, HYPOTHESES), strict=True):
        np.testing.assert_allclose(one.left_to_right, other.left_to_right, atol=0.3)
        np.testing.assert_allclose(one.right_to_left, other.right_to_left, atol=0.3)


def test_scores_that_are_not_numbers_are_named(model, encoded) -> None:
    memory = encoded[0].clone()
    memory[1, 3, 2] = float("nan")
    with pytest.raises(DataError, match="utterance b: the decoder's scores are NaN"):
        second_pass_scores(model, memory, encoded[1], HYPOTHESES, utterance_ids=["a", "b", "c"])


def test_no_scores_in_training_mode(model, encoded) -> None:
    with pytest.raises(ConfigError, match="training mode"):
        second_pass_scores(copy.deepcopy(model).train(), *encoded, HYPOTHESES)


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
