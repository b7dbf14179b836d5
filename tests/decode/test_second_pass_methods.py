"""Methods with a second pass: against one utterance and one hypothesis at a time, and one another."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from moe_asr.decode.first_pass import FirstPass
from moe_asr.decode.registry import (
    DecodingResources,
    EncodedBatch,
    Hypothesis,
    available_methods,
    get_method,
    make_method,
)
from moe_asr.decode.runner import decode_cuts
from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.wer import score
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.grammar import word_loop
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice_file import LatticeArchive
from moe_asr.fsa.nbest import nbest
from moe_asr.model.u2 import U2MoeModel
from moe_asr.text.lexicon import lexicon_from_tokenizer
from tests.decode.conftest import TEXTS, Workplace

WIDE = {"search_beam": 60.0, "output_beam": 40.0}
NAMES = [f"utt-{i}" for i in range(len(TEXTS))]
REFERENCES = dict(zip(NAMES, TEXTS, strict=True))


@pytest.fixture(scope="module")
def graph(workplace: Workplace) -> DecodingGraph:
    lexicon = lexicon_from_tokenizer(["one", "two", "no", "wet"], workplace.loaded.tokenizer)
    g = word_loop(lexicon.words).to_fst(lexicon.word_table())
    return build_graphs(lexicon, g, workplace.loaded.tokenizer.tokens).lg


@pytest.fixture(scope="module")
def model(workplace: Workplace) -> U2MoeModel:
    """The decoders of an untrained model prefer nothing: these do."""
    torch.manual_seed(8)
    with torch.no_grad():
        for decoder in (workplace.loaded.model.left_to_right, workplace.loaded.model.right_to_left):
            torch.nn.init.normal_(decoder.output.weight, std=0.8)
    return workplace.loaded.model


@pytest.fixture
def resources(workplace: Workplace, graph: DecodingGraph, model: U2MoeModel) -> DecodingResources:
    return DecodingResources(workplace.loaded.tokenizer, graph, model=model, references=REFERENCES)


@pytest.fixture(scope="module")
def batch(workplace: Workplace, model: U2MoeModel) -> EncodedBatch:
    torch.manual_seed(9)
    lengths = torch.tensor([12, 9, 20])
    memory = torch.randn(3, 20, model.config.dim)
    with torch.no_grad():
        return EncodedBatch(model.ctc_log_probs(memory), lengths, ["a", "b", "c"], memory)


def alone(batch: EncodedBatch) -> Iterator[tuple[EncodedBatch, torch.Tensor]]:
    """Each utterance without the others and without padding, and its memory."""
    for n, length in enumerate(batch.lengths.tolist()):
        memory = batch.memory[n : n + 1, :length]
        lengths = torch.tensor([length])
        names = [batch.utterance_ids[n]]
        yield EncodedBatch(batch.log_probs[n : n + 1, :length], lengths, names, memory), memory


@torch.no_grad()
def decoders(model: U2MoeModel, memory: torch.Tensor, tokens: tuple[int, ...]) -> list[float]:
    """Left-to-right and right-to-left scores of one hypothesis."""
    given = memory, torch.tensor([memory.shape[1]]), torch.tensor([tokens], dtype=torch.int64)
    return [
        model.decoder_log_probs(*given, torch.tensor([len(tokens)]), reverse).double().sum().item()
        for reverse in (False, True)
    ]


@pytest.mark.parametrize(
    "scales",
    [
        {},
        {"reverse_weight": 0.0},
        {"reverse_weight": 1.0, "attention_scale": 2.0},
        {"attention_scale": 0.0, "lm_scale": 0.25},
        {"attention_scale": 1.5, "lm_scale": 3.0, "length_bonus": 2.0, "max_megabytes": 0.01},
    ],
    ids=["default", "left-to-right", "right-to-left", "no attention", "all"],
)
def test_the_second_pass_on_lattices(resources, model, batch, scales) -> None:
    options = {"n": 12, **WIDE, **scales}
    method = make_method("lattice_attention_rescoring", resources, options)
    found = method.decode(batch)
    weight = method.options
    changed = 0
    for hypothesis, (single, memory) in zip(found, alone(batch), strict=True):
        one_best = make_method("one_best", resources, WIDE)
        (lattice,) = one_best.first_pass.lattices(single)
        scored = []
        for path in nbest(lattice, 12):
            l2r, r2l = decoders(model, memory, path.tokens)
            both = (1 - weight.reverse_weight) * l2r + weight.reverse_weight * r2l
            total = path.acoustic + weight.lm_scale * path.graph + weight.attention_scale * both
            scored.append((total + weight.length_bonus * len(path.tokens), path))
        expected, best = max(scored, key=lambda pair: pair[0])
        assert hypothesis.score == pytest.approx(expected, abs=1e-3)
        assert hypothesis.words == tuple(resources.graph.word_symbols(best.words))
        assert len(hypothesis.alternatives) == len(scored) == 12
        totals = [one.score for one in hypothesis.alternatives]
        assert totals == sorted(totals, reverse=True)
        changed += hypothesis.words != one_best.decode(single)[0].words
    if weight.attention_scale > 0:
        assert changed


def test_without_attention_the_second_pass_is_the_first(resources, batch) -> None:
    both = [
        make_method(name, resources, {**WIDE, **options}).decode(batch)
        for name, options in (
            ("lattice_attention_rescoring", {"attention_scale": 0.0}),
            ("one_best", {}),
        )
    ]
    for one, other in zip(*both, strict=True):
        assert one.words == other.words and one.score == pytest.approx(other.score, abs=1e-4)


def test_the_bonus_of_tokens_is_exact(resources, batch) -> None:
    """Of all word sequences: with the best path of each, whose tokens may be more on another."""
    scales = {**WIDE, "lm_scale": 0.5, "length_bonus": 15.0}
    names = ("one_best", "nbest", "nbest_oracle")
    method, listed, _ = (make_method(name, resources, {**scales}) for name in names)
    plain = make_method("one_best", resources, WIDE)
    changed = 0
    for name, found, best, before, lattice in zip(
        batch.utterance_ids, method.decode(batch), listed.decode(batch), plain.decode(batch),
        method.first_pass.lattices(batch), strict=True,
    ):  # fmt: skip
        starts = lattice.starts_token.astype(float)
        arcs = lattice.acoustic + 0.5 * lattice.graph.astype(float) + 15.0 * starts
        # every path by dynamic programming over the sorted arcs
        reached = np.full(lattice.num_states, -np.inf)
        reached[0] = 0.0
        for src, dst, gain in zip(lattice.src, lattice.dst, arcs, strict=True):
            reached[dst] = max(reached[dst], reached[src] + gain)
        assert found.score == pytest.approx(reached[-1], abs=1e-3), name
        assert best.words == found.words and best.score == pytest.approx(found.score, abs=1e-3)
        parts = best.alternatives[0].parts
        assert parts["length"] == len(best.tokens) >= len(before.tokens)
        total = parts["acoustic"] + 0.5 * parts["graph"] + 15.0 * parts["length"]
        assert best.score == pytest.approx(total, abs=1e-3)
        changed += found.words != before.words
    assert changed


def test_attention_rescoring_without_a_graph(resources, model, batch) -> None:
    given = {"beam_size": 6, "token_beam": float("inf")}
    scales = {"ctc_scale": 0.7, "attention_scale": 0.9, "reverse_weight": 0.4}
    plain = make_method("ctc_prefix_beam", resources, given).decode(batch)
    found = make_method("attention_rescoring", resources, {**given, **scales}).decode(batch)
    for first, hypothesis, (_, memory) in zip(plain, found, alone(batch), strict=True):
        assert len(first.alternatives) == 6 and first.tokens == first.alternatives[0].tokens
        scored = []
        for one in first.alternatives:
            l2r, r2l = decoders(model, memory, one.tokens)
            scored.append((0.7 * one.score + 0.9 * (0.6 * l2r + 0.4 * r2l), one.tokens))
        expected, tokens = max(scored)
        assert hypothesis.score == pytest.approx(expected, abs=1e-3)
        assert hypothesis.tokens == tokens
    assert [h.tokens for h in found] != [h.tokens for h in plain]


def test_attention_is_its_beam_search(resources, batch) -> None:
    method = make_method("attention", resources, {"beam_size": 4, "length_bonus": 0.5})
    for hypothesis in method.decode(batch):
        best = hypothesis.alternatives[0]
        assert hypothesis.tokens == best.tokens and hypothesis.score == best.score
        bonus = best.score - best.parts["left_to_right"]
        assert bonus == pytest.approx(0.5 * len(best.tokens), abs=1e-6)


LATTICE_METHODS = ["one_best", "nbest", "lattice_attention_rescoring", "nbest_oracle"]
LATTICE_METHODS += ["lattice_oracle"]


def test_methods_share_one_first_pass(workplace, resources, monkeypatch) -> None:
    searched = []
    kept = FirstPass._find

    def counted(self: FirstPass, given: EncodedBatch):
        searched.append(given.utterance_ids)
        return kept(self, given)

    monkeypatch.setattr(FirstPass, "_find", counted)
    methods = [make_method(name, resources, WIDE) for name in LATTICE_METHODS]
    assert len({id(method.first_pass) for method in methods}) == 1
    run = decode_cuts(workplace.loaded, workplace.cuts, methods, "full", False, 2.0, progress=False)
    assert sorted(name for names in searched for name in names) == NAMES
    shared = methods[0].first_pass.seconds
    for name in LATTICE_METHODS:
        second = run.second_pass_seconds[name]
        assert run.search_seconds[name] == pytest.approx(shared + second)
        assert run.second_pass_rtf(name) == pytest.approx(second / run.audio_seconds)
    other = make_method("one_best", resources, {"search_beam": 3.0})
    assert other.first_pass is not methods[0].first_pass


def test_oracles_are_never_worse_and_fall_with_n(workplace, resources) -> None:
    sizes = (1, 2, 5, 20)
    runs: dict[str, dict[str, Hypothesis]] = {}

    def decoded(name: str, **options) -> dict[str, str]:
        method = make_method(name, resources, {**WIDE, **options})
        run = decode_cuts(workplace.loaded, workplace.cuts, [method], progress=False)
        runs[name] = run.hypotheses[name]
        return {key: found.text for key, found in run.hypotheses[name].items()}

    def errors(texts: dict[str, str]) -> int:
        return score(REFERENCES, texts).total.errors

    one_best = errors(decoded("one_best"))
    of_n = [errors(decoded("nbest_oracle", n=n)) for n in sizes]
    lattice = errors(decoded("lattice_oracle"))
    assert [one_best, *of_n, lattice] == sorted([one_best, *of_n, lattice], reverse=True)
    assert of_n[0] == one_best and lattice < one_best
    assert sum(-found.score for found in runs["lattice_oracle"].values()) == lattice


def test_lattices_of_an_archive_are_taken(workplace, resources, tmp_path, batch) -> None:
    method = make_method("one_best", resources, WIDE)
    lattices = method.first_pass.lattices(batch)
    from moe_asr.fsa.lattice_file import write_lattices

    tables = resources.graph.token_table, resources.graph.word_table
    found = dict(zip(batch.utterance_ids, lattices, strict=True))
    write_lattices(tmp_path / "lattices.safetensors", found, *tables)
    with LatticeArchive(tmp_path / "lattices.safetensors") as archive:
        cached = replace(resources, archive=archive)
        again = make_method("one_best", cached, {})
        silent = EncodedBatch(torch.zeros_like(batch.log_probs), batch.lengths, batch.utterance_ids)
        assert again.decode(silent) == method.decode(batch)
        shorter = replace(batch, lengths=batch.lengths - 1)
        with pytest.raises(DataError, match="lattice of a has 12 frames, the utterance 11"):
            again.decode(shorter)
    about = {"has_phrases": True}
    write_lattices(tmp_path / "boosted.safetensors", found, *tables, metadata=about)
    with LatticeArchive(tmp_path / "boosted.safetensors") as archive:
        cached = replace(resources, archive=archive)
        with pytest.raises(ConfigError, match="searched with phrases"):
            make_method("one_best", cached, {})


def test_every_method_says_what_it_needs(workplace, graph, model, batch) -> None:
    bare = DecodingResources(workplace.loaded.tokenizer)
    for name in available_methods():
        if name in ("ctc_greedy", "ctc_prefix_beam"):
            continue
        with pytest.raises(ConfigError, match=name):
            make_method(name, bare)
    no_memory = EncodedBatch(batch.log_probs, batch.lengths, batch.utterance_ids)
    full = DecodingResources(workplace.loaded.tokenizer, graph, model=model, references={})
    for name in ("attention", "attention_rescoring", "lattice_attention_rescoring"):
        assert get_method(name).needs_memory
        with pytest.raises(DataError, match=f"{name} needs the encoder's output"):
            make_method(name, full).decode(no_memory)
    for name in ("lattice_oracle", "nbest_oracle"):
        with pytest.raises(DataError, match="utterance a has no reference"):
            make_method(name, full).decode(batch)


def test_options_of_scales_are_checked(resources) -> None:
    for name, option, value in (
        ("lattice_attention_rescoring", "attention_scale", -1.0),
        ("lattice_attention_rescoring", "reverse_weight", 1.5),
        ("lattice_attention_rescoring", "lm_scale", float("nan")),
        ("lattice_attention_rescoring", "length_bonus", float("inf")),
        ("lattice_attention_rescoring", "max_megabytes", 0.0),
        ("lattice_attention_rescoring", "n", 0),
        ("attention_rescoring", "ctc_scale", -0.1),
        ("attention_rescoring", "beam_size", 0),
        ("one_best", "lm_scale", -1.0),
        ("one_best", "length_bonus", float("nan")),
    ):
        with pytest.raises(ConfigError, match=option):
            make_method(name, resources, {option: value})


def test_a_batch_is_checked() -> None:
    log_probs, lengths = torch.zeros(2, 3, 4), torch.tensor([3, 1])
    with pytest.raises(DataError, match="2 utterances, 2 lengths, 1 ids"):
        EncodedBatch(log_probs, lengths, ["a"])
    with pytest.raises(DataError, match=r"but memory \(2, 2, 8\)"):
        EncodedBatch(log_probs, lengths, ["a", "b"], torch.zeros(2, 2, 8))
    with pytest.raises(DataError, match="expected log_probs"):
        EncodedBatch(log_probs[0], lengths, ["a", "b"])


def test_an_utterance_without_a_path(resources, batch) -> None:
    log_probs = batch.log_probs.clone()
    log_probs[1, :, 3:] = -float("inf")
    log_probs[1, 4, :] = -float("inf")
    broken = EncodedBatch(log_probs, batch.lengths, batch.utterance_ids, batch.memory)
    for name in ("nbest", "lattice_attention_rescoring", "lattice_oracle", "nbest_oracle"):
        given = replace(resources, references=dict.fromkeys("abc", "one two"))
        found = make_method(name, given, WIDE).decode(broken)
        assert found[1].words == () and found[0].words
        if "oracle" in name:
            assert found[1].score == -2
        else:
            assert found[1].score is None and np.isfinite(found[0].score)
