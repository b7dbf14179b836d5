"""Lattices that were searched elsewhere, put before methods."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from moe_asr.decode.phrases import phrase_contexts
from moe_asr.decode.registry import DecodingResources, EncodedBatch, make_method
from moe_asr.errors import ConfigError, DataError
from moe_asr.fsa.context import Phrase
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_file import LatticeArchive, write_lattices
from moe_asr.fsa.native import NativeEngine
from tests.decode.conftest import Workplace
from tests.decode.test_second_pass_methods import WIDE, batch, graph, model, resources

__all__ = ["batch", "graph", "model", "resources"]  # fixtures
BOOSTS = {"a": [Phrase("wet", 25.0)], "b": [Phrase("one one", 6.0), Phrase("no", -30.0)]}


@pytest.fixture
def listening(resources: DecodingResources, workplace: Workplace) -> DecodingResources:
    contexts = phrase_contexts(resources.graph, workplace.loaded.tokenizer, [], BOOSTS)
    return replace(resources, context_of=contexts)


@pytest.mark.parametrize("name", ["one_best", "nbest", "mbr", "lattice_attention_rescoring"])
def test_lattices_of_streams_are_decoded_as_if_they_had_been_searched_here(
    listening: DecodingResources, batch: EncodedBatch, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = make_method(name, listening, WIDE).decode(batch)
    method = make_method(name, replace(listening), WIDE)  # a copy has a first pass of its own
    engine = method.first_pass.engine
    assert isinstance(engine, NativeEngine)
    lattices = []
    for n, (utterance, length) in enumerate(
        zip(batch.utterance_ids, batch.lengths.tolist(), strict=True)
    ):
        state = engine.start(listening.context_of(utterance))
        for begin in range(0, length, 5):
            engine.advance([state], [batch.log_probs[n, begin : min(begin + 5, length)]])
        lattices.append(engine.finish(state))
    nothing = torch.zeros(1).expand(3, 20, 1)  # that methods do not look at
    given = EncodedBatch(nothing, batch.lengths, batch.utterance_ids, batch.memory)
    monkeypatch.setattr(engine, "search", None)
    seen: dict[str, Lattice] = {}
    method.first_pass.lattice_sink = seen.__setitem__
    method.first_pass.put(given, lattices)
    assert seen == dict(zip(batch.utterance_ids, lattices, strict=True))
    for hypothesis, wanted in zip(method.decode(given), expected, strict=True):
        assert hypothesis.words == wanted.words
        assert hypothesis.score == pytest.approx(wanted.score, abs=1e-4)
    assert method.first_pass.lattices(given) == lattices and method.first_pass.seconds == 0.0


def test_lattices_that_are_not_of_the_batch(resources, batch: EncodedBatch) -> None:
    first_pass = make_method("one_best", resources, WIDE).first_pass
    lattices = first_pass.lattices(batch)
    with pytest.raises(DataError, match="2 lattices of 3 utterances"):
        first_pass.put(batch, lattices[:2])
    shorter = replace(batch, lengths=batch.lengths - torch.tensor([0, 1, 0]))
    with pytest.raises(DataError, match="the lattice of b has 9 frames, the utterance 8"):
        first_pass.put(shorter, lattices)
    assert first_pass.lattices(batch) is lattices


def test_lattices_of_an_archive_have_no_engine(resources, batch, tmp_path: Path) -> None:
    lattices = make_method("one_best", resources, WIDE).first_pass.lattices(batch)
    tables = resources.graph.token_table, resources.graph.word_table
    found = dict(zip(batch.utterance_ids, lattices, strict=True))
    write_lattices(tmp_path / "lattices.safetensors", found, *tables)
    with LatticeArchive(tmp_path / "lattices.safetensors") as archive:
        first_pass = make_method("one_best", replace(resources, archive=archive)).first_pass
        with pytest.raises(ConfigError, match="lattices.safetensors: there is no search engine"):
            first_pass.engine  # noqa: B018
