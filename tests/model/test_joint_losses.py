"""CTC against an enumeration of alignments, attention losses by hand, and how they combine."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.model.losses import add_sos_eos, ctc_loss, token_losses
from tests.nn.references import VOCAB, make_model, padded

INF = float("inf")


def collapse(path: tuple[int, ...]) -> list[int]:
    """An alignment's tokens: repetitions merged, blanks (0) dropped."""
    return [token for token, _ in itertools.groupby(path) if token != 0]


def ctc_by_enumeration(log_probs: torch.Tensor, target: list[int]) -> torch.Tensor:
    """-log of the summed probability of every alignment (S, C) of ``target``."""
    frames, num_tokens = log_probs.shape
    scores = [
        sum((log_probs[t, token] for t, token in enumerate(path)), log_probs.new_zeros(()))
        for path in itertools.product(range(num_tokens), repeat=frames)
        if collapse(path) == target
    ]
    return -torch.stack(scores).logsumexp(0) if scores else torch.tensor(INF)


CASES = [
    (4, [1, 2]),
    (5, [2, 2]),
    (3, [1]),
    (4, []),
    (1, [2]),
    (5, [1, 2, 1]),
    (2, [1, 1]),
    (1, [1, 2]),
]


@pytest.mark.parametrize("frames,target", CASES)
def test_ctc_equals_the_sum_over_alignments(frames, target):
    logits = torch.randn(1, frames, 3, requires_grad=True)
    targets = torch.tensor([target + [-1]])
    args = torch.tensor([frames]), targets, torch.tensor([len(target)])
    loss = ctc_loss(logits.log_softmax(-1), *args)
    expected = ctc_by_enumeration(logits[0].log_softmax(-1), target)
    torch.testing.assert_close(loss[0], expected)
    if expected < INF:
        (got,) = torch.autograd.grad(loss.sum(), logits)
        (want,) = torch.autograd.grad(expected, logits)
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_ctc_of_a_batch_with_padding():
    examples = [(t, y) for t, y in CASES if y]
    log_probs = torch.randn(len(examples), 6, 3).log_softmax(-1)
    targets = torch.full((len(examples), 4), -1)
    for row, (_, target) in enumerate(examples):
        targets[row, : len(target)] = torch.tensor(target)
    lengths = torch.tensor([frames for frames, _ in examples])
    target_lengths = torch.tensor([len(target) for _, target in examples])
    losses = ctc_loss(log_probs, lengths, targets, target_lengths)
    expected = [ctc_by_enumeration(log_probs[n, :t], y) for n, (t, y) in enumerate(examples)]
    torch.testing.assert_close(losses, torch.stack(expected))


def test_ctc_without_any_frame_is_infinite():
    log_probs = torch.randn(2, 4, 3).log_softmax(-1)
    targets, target_lengths = torch.tensor([[1, 2], [1, 2]]), torch.tensor([2, 2])
    losses = ctc_loss(log_probs, torch.tensor([4, 0]), targets, target_lengths)
    assert torch.isfinite(losses[0]) and losses[1] == INF


@given(st.lists(st.lists(st.integers(2, 9), max_size=5), min_size=1, max_size=4), st.integers(0, 2))
def test_add_sos_eos_equals_lists(sequences, extra):
    longest = max(map(len, sequences)) + extra
    rows = [sequence + [-1] * (longest - len(sequence)) for sequence in sequences]
    targets = torch.tensor(rows, dtype=torch.int64).view(len(rows), longest)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    for reverse in (False, True):
        inputs, outputs = add_sos_eos(targets, lengths, reverse)
        for n, sequence in enumerate(sequences):
            spoken = sequence[::-1] if reverse else sequence
            pad = [1] * (longest - len(sequence))
            assert inputs[n].tolist() == [1] + spoken + pad
            assert outputs[n].tolist() == spoken + [1] + pad


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_token_losses_equal_its_definition(smoothing):
    logits = torch.randn(3, 4, 5, requires_grad=True)
    outputs = torch.tensor([[2, 3, 4, 1], [3, 1, 1, 1], [1, 1, 1, 1]])
    lengths = torch.tensor([3, 1, 0])
    losses = token_losses(logits, outputs, lengths, smoothing).sum(1)
    rows = []
    for n in range(3):
        loss = logits.new_zeros(())
        for u in range(int(lengths[n]) + 1):
            log_p = logits[n, u] - logits[n, u].exp().sum().log()
            for token in range(5):
                wanted = smoothing / 5 + (1 - smoothing) * (token == int(outputs[n, u]))
                loss = loss - wanted * log_p[token]
        rows.append(loss)
    expected = torch.stack(rows)
    torch.testing.assert_close(losses, expected)
    (got,) = torch.autograd.grad(losses.sum(), logits)
    (want,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)


def batch(lengths=(90, 55, 70), target_lengths=(4, 1, 3)):
    features, feature_lengths = padded([torch.randn(n, 20) for n in lengths], garbage=20.0)
    targets = torch.full((len(lengths), max(target_lengths)), -1)
    for row, length in enumerate(target_lengths):
        targets[row, :length] = torch.randint(2, VOCAB, (length,))
    return features, feature_lengths, targets, torch.tensor(target_lengths)


def test_losses_under_a_given_chunk_mask():
    model = make_model(ctc_weight=1.0)
    features, feature_lengths, targets, target_lengths = batch()
    losses = model(features, feature_lengths, targets, target_lengths, chunk_size=3)
    memory, lengths = model.encode(features, feature_lengths, chunk_size=3)
    expected = ctc_loss(model.ctc_log_probs(memory), lengths, targets, target_lengths)
    torch.testing.assert_close(losses.per_utterance, expected, atol=1e-4, rtol=1e-5)
    full = model(features, feature_lengths, targets, target_lengths)
    assert (losses.per_utterance - full.per_utterance).abs().min() > 1e-4


@pytest.mark.parametrize("reverse_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.3, 1.0])
def test_total_is_the_documented_combination(ctc_weight, reverse_weight):
    model = make_model(ctc_weight=ctc_weight, reverse_weight=reverse_weight, label_smoothing=0.0)
    features, feature_lengths, targets, target_lengths = batch()
    losses = model(features, feature_lengths, targets, target_lengths)
    memory, lengths = model.encode(features, feature_lengths)
    ctc = ctc_loss(model.ctc_log_probs(memory), lengths, targets, target_lengths)
    args = memory, lengths, targets, target_lengths
    l2r, r2l = (-model.decoder_log_probs(*args, reverse=r).sum(1) for r in (False, True))
    attention = (1 - reverse_weight) * l2r + reverse_weight * r2l
    expected = ctc_weight * ctc + (1 - ctc_weight) * attention
    assert losses.num_tokens == 8
    torch.testing.assert_close(losses.per_utterance, expected, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(losses.total, expected.sum() / 8, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(losses.total.detach() * 8, losses.per_utterance.sum())
    parts = {
        "ctc": ctc if ctc_weight > 0 else 0 * ctc,
        "attention_l2r": l2r if ctc_weight < 1 and reverse_weight < 1 else 0 * l2r,
        "attention_r2l": r2l if ctc_weight < 1 and reverse_weight > 0 else 0 * r2l,
    }
    for name, part in parts.items():
        torch.testing.assert_close(getattr(losses, name), part.sum() / 8, atol=1e-4, rtol=1e-5)
        assert not getattr(losses, name).requires_grad
    assert losses.auxiliary == 0 and not losses.per_utterance.requires_grad
    assert losses.total.requires_grad


def test_only_the_weighted_parts_are_trained():
    for weights, idle in (
        ({"ctc_weight": 1.0}, ["left_to_right", "right_to_left"]),
        ({"ctc_weight": 0.0, "reverse_weight": 0.0}, ["ctc", "right_to_left"]),
        ({"ctc_weight": 0.0, "reverse_weight": 1.0}, ["ctc", "left_to_right"]),
    ):
        model = make_model(**weights).train()
        model(*batch()).total.backward()
        for name, part in model.named_children():
            grads = [p.grad for p in part.parameters() if p.grad is not None and p.grad.any()]
            assert bool(grads) == (name not in idle + ["cmvn"]), name


def test_models_without_decoders():
    model = make_model(ctc_weight=1.0, left_to_right_layers=0, right_to_left_layers=0)
    losses = model(*batch())
    assert losses.total == losses.ctc and losses.attention_l2r == 0
    features, feature_lengths, targets, target_lengths = batch()
    for reverse, name in ((False, "left-to-right"), (True, "right-to-left")):
        with pytest.raises(ValueError, match=name):
            model.decoder_log_probs(
                *model.encode(features, feature_lengths), targets, target_lengths, reverse
            )


@pytest.mark.parametrize("experts", [1, 4])
def test_an_utterances_loss_does_not_depend_on_its_batch(experts):
    model = make_model(num_experts=experts, num_chosen=min(experts, 2))
    features, feature_lengths, targets, target_lengths = batch()
    together = model(features, feature_lengths, targets, target_lengths).per_utterance
    for n in range(3):
        frames, tokens = int(feature_lengths[n]), int(target_lengths[n])
        alone = model(
            features[n : n + 1, :frames], feature_lengths[n : n + 1],
            targets[n : n + 1, :tokens], target_lengths[n : n + 1],
        ).per_utterance  # fmt: skip
        torch.testing.assert_close(alone[0], together[n], atol=1e-4, rtol=1e-5)
    order = [2, 0, 1]
    moved = model(features[order], feature_lengths[order], targets[order], target_lengths[order])
    torch.testing.assert_close(moved.per_utterance, together[order], atol=1e-4, rtol=1e-5)


def test_targets_that_do_not_fit_their_frames_have_an_infinite_loss():
    model = make_model()
    features, feature_lengths, targets, target_lengths = batch(target_lengths=(4, 15, 3))
    losses = model(features, feature_lengths, targets, target_lengths)
    # of 22, 13 and 17 frames
    assert torch.isinf(losses.per_utterance).tolist() == [False, True, False]
    assert torch.isinf(losses.total)


@pytest.mark.parametrize("lengths,expected", [((90, 5), [False, True]), ((5, 6), [True, True])])
@pytest.mark.parametrize("ctc_weight", [0.3, 1.0])
def test_utterances_too_short_for_a_frame_have_an_infinite_loss(lengths, expected, ctc_weight):
    model = make_model(ctc_weight=ctc_weight)
    losses = model(*batch(lengths, (2, 2)))
    assert torch.isinf(losses.per_utterance).tolist() == expected


def test_an_empty_transcript_has_a_finite_loss():
    model = make_model()
    features, feature_lengths, _, _ = batch()
    targets, target_lengths = (
        torch.zeros(3, 0, dtype=torch.int64),
        torch.zeros(3, dtype=torch.int64),
    )
    losses = model(features, feature_lengths, targets, target_lengths)
    assert torch.isfinite(losses.per_utterance).all() and losses.num_tokens == 1


def test_auxiliary_losses_come_from_encoder_and_decoders():
    plain = make_model().train()
    model = make_model(load_balance_weight=0.1, z_loss_weight=0.2).train()
    model.load_state_dict(plain.state_dict())
    data = batch()
    torch.manual_seed(1)
    without = plain(*data)
    torch.manual_seed(1)
    losses = model(*data)
    assert without.auxiliary == 0
    # 4 layers in the encoder and one in each decoder; a load-balance loss is about 1
    assert 6 * 0.1 * 0.8 < losses.auxiliary < 6 * (0.1 * 2 + 0.2 * 20)
    torch.testing.assert_close(losses.total, without.total + losses.auxiliary)
    torch.testing.assert_close(losses.per_utterance, without.per_utterance)
    losses.total.backward()
    without.total.backward()
    changed = [
        name
        for (name, a), b in zip(model.named_parameters(), plain.parameters(), strict=True)
        if name.endswith("router") and (a.grad - b.grad).abs().max() > 1e-6
    ]
    assert len(changed) == 6
    assert model.eval()(*data).auxiliary == 0


def decode_step_by_step(model, memory, lengths, tokens: list[int], reverse: bool) -> list[float]:
    """Each token's and eos's score, from a decoder call on the tokens before it only."""
    decoder = model.right_to_left if reverse else model.left_to_right
    spoken = tokens[::-1] if reverse else tokens
    scores = []
    for u, token in enumerate(spoken + [1]):
        prefix = torch.tensor([[1] + spoken[:u]])
        logits = decoder(prefix, torch.tensor([u + 1]), memory, lengths)
        scores.append(float(logits[0, -1].log_softmax(-1)[token]))
    return scores


@pytest.mark.parametrize("reverse", [False, True])
@torch.no_grad()
def test_decoder_log_probs_equal_the_decoder_step_by_step(reverse):
    model = make_model()
    features, feature_lengths, targets, target_lengths = batch(target_lengths=(4, 0, 3))
    memory, lengths = model.encode(features, feature_lengths)
    scores = model.decoder_log_probs(memory, lengths, targets, target_lengths, reverse)
    assert scores.shape == (3, 5)
    for n in range(3):
        length = int(lengths[n])
        tokens = targets[n, : target_lengths[n]].tolist()
        expected = decode_step_by_step(
            model, memory[n : n + 1, :length], lengths[n : n + 1], tokens, reverse
        )
        assert scores[n, : len(expected)].tolist() == pytest.approx(expected, abs=1e-4)
        assert not scores[n, len(expected) :].any()
