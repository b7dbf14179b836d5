"""Final results against methods that decode the same frames themselves, word times, and confidences."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from moe_asr.decode.first_pass import with_bonus
from moe_asr.decode.phrases import phrase_contexts
from moe_asr.decode.registry import DecodingResources, EncodedBatch, make_method
from moe_asr.errors import ConfigError, DataError, GraphError
from moe_asr.evaluate.word_ctm import path_ctm, word_cutter
from moe_asr.fsa.confidence import word_confidences
from moe_asr.fsa.context import ContextGraph, Phrase
from moe_asr.fsa.context_lattice import apply_context, remove_context
from moe_asr.fsa.engine import SearchEngine
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.mbr import minimum_bayes_risk
from moe_asr.fsa.nbest import nbest
from moe_asr.fsa.time_correction import TimeCorrection
from moe_asr.lm.arpa import read_arpa
from moe_asr.model.directory import LoadedModel
from moe_asr.recognizer import final_words
from moe_asr.recognizer.finish import EndedSegment, SegmentFinisher
from moe_asr.recognizer.results import Result
from moe_asr.recognizer.word_timer import WordTimer
from tests.decode.conftest import Workplace, workplace
from tests.decode.test_graph_methods import ARPA
from tests.decode.test_second_pass_methods import batch, graph, model

__all__ = ["batch", "graph", "model", "workplace"]  # fixtures
NARROW = {"search_beam": 40.0, "output_beam": 15.0}
SHIFT = 0.04
CORRECTION = TimeCorrection(-0.02, 0.05, longest_gap_seconds=0.1)
SEGMENTS = [("x", 2), ("x", 3), ("y-1", 0)]  # the streams and numbers of the batch's utterances
FIRST_FRAMES = [0, 40, 7]
SCALES = {
    "one_best": {"lm_scale": 0.6, "length_bonus": 0.5},
    "nbest": {"n": 4, "lm_scale": 2.0},
    "mbr": {"n": 20, "acoustic_scale": 0.4, "lm_scale": 0.7},
    "lattice_attention_rescoring": {"n": 8, "lm_scale": 1.5, "length_bonus": 1.0},
    "nbest_lm_rescoring": {"lm_scale": 1.7, "length_bonus": 0.4},
    "lattice_lm_rescoring": {"lm_scale": 1.7, "lattice_beam": 60.0},
}


@pytest.fixture
def loaded(workplace: Workplace, model) -> LoadedModel:
    return workplace.loaded


def make_finisher(
    loaded: LoadedModel,
    graph: DecodingGraph,
    name: str,
    tmp_path: Path | None = None,
    **more: object,
) -> SegmentFinisher:
    lm = None
    if tmp_path is not None:
        (tmp_path / "lm.arpa").write_text(ARPA)
        lm = read_arpa(tmp_path / "lm.arpa")
    options = {**NARROW, **SCALES[name]}
    return SegmentFinisher.of_model(loaded, graph, name, options, CORRECTION, lm=lm, **more)


def streamed(
    engine: SearchEngine, batch: EncodedBatch, contexts: list[ContextGraph | None] | None = None
) -> list[EndedSegment]:
    """The batch's utterances as segments of streams."""
    segments = []
    for n, (stream_id, number) in enumerate(SEGMENTS):
        length, context = int(batch.lengths[n]), contexts[n] if contexts else None
        state = engine.start(context)
        engine.advance([state], [batch.log_probs[n, : length // 2]])
        engine.advance([state], [batch.log_probs[n, length // 2 : length]])
        segments.append(
            EndedSegment(
                stream_id, number, engine.finish(state), "rule2", FIRST_FRAMES[n],
                batch.memory[n, :length], context,
            )
        )  # fmt: skip
    return segments


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("phrases", [False, True])
def test_results_are_those_of_the_method(
    loaded, graph, batch, name: str, phrases: bool, tmp_path: Path
) -> None:
    finisher = make_finisher(loaded, graph, name, tmp_path)
    contexts = None
    if phrases:
        boosts = {"0": [Phrase("wet", 25.0)], "1": [Phrase("one one", 6.0), Phrase("no", -30.0)]}
        context_of = phrase_contexts(graph, loaded.tokenizer, [], boosts)
        contexts = [context_of("0"), context_of("1"), None]
    segments = streamed(finisher.method.first_pass.engine, batch, contexts)
    results = finisher.finish(segments)
    assert finisher._contexts == {}  # nothing of what has ended is kept
    # the same by the method alone, which searches by itself
    resources = DecodingResources(
        loaded.tokenizer, graph, model=loaded.model, lm=finisher.method.resources.lm, keep_paths=True,
        context_of=dict(zip("abc", contexts, strict=True)).get if contexts else None,
    )  # fmt: skip
    method = make_method(name, resources, {**NARROW, **SCALES[name]})
    cutter = word_cutter(graph, loaded.tokenizer)
    num_words = 0
    for n, hypothesis in enumerate(method.decode(batch)):
        result, lattice = results[n], segments[n].lattice
        assert (result.stream_id, result.segment) == SEGMENTS[n]
        assert result.is_final and result.endpoint == "rule2"
        assert result.text == hypothesis.text == " ".join(word.text for word in result.words)
        assert result.score == pytest.approx(hypothesis.score, abs=1e-4)
        assert [a.words for a in result.alternatives] == [a.words for a in hypothesis.alternatives]
        assert result.num_stable == len(result.words)
        begin = FIRST_FRAMES[n] * SHIFT
        assert result.start_seconds == pytest.approx(begin)
        assert result.end_seconds == pytest.approx(begin + int(batch.lengths[n]) * SHIFT)
        scale, bonus = SCALES[name].get("lm_scale", 1.0), SCALES[name].get("length_bonus", 0.0)
        if name.endswith("lm_rescoring"):
            scale = 1.0
        acoustic, context = SCALES[name].get("acoustic_scale", 1.0), segments[n].context
        weighted = with_bonus(lattice, bonus, scale)
        if context is not None:  # boosts are not scaled, but for Bayes risk with all scores
            weighted = with_bonus(remove_context(lattice, context), bonus, scale)
            weighted = apply_context(weighted, context, acoustic)
        path = hypothesis.path
        if path is None:
            path = next(
                p for p in nbest(weighted, 20, acoustic_scale=acoustic)
                if tuple(graph.word_symbols(p.words)) == hypothesis.words
            )  # fmt: skip
        lines = path_ctm(
            "x", path, cutter, graph.word_table, SHIFT, CORRECTION, lattice.num_frames * SHIFT
        )
        for word, line in zip(result.words, lines, strict=True):
            assert word.text == line.word
            assert word.start_seconds == pytest.approx(begin + line.start_seconds)
            assert word.end_seconds == pytest.approx(begin + line.end_seconds)
        sure = word_confidences(weighted, path.words, acoustic_scale=acoustic)
        assert [w.confidence for w in result.words] == pytest.approx(sure.tolist(), abs=1e-4)
        num_words += len(result.words)
    assert num_words > 5


def test_segments_without_anything(loaded, graph, batch) -> None:
    finisher = make_finisher(loaded, graph, "lattice_attention_rescoring")
    given = streamed(finisher.method.first_pass.engine, batch)
    width = loaded.model.config.dim
    nothing = EndedSegment("a", 0, Lattice.empty(0), "input_finished", 100, torch.zeros(0, width))
    no_path = EndedSegment("b", 1, Lattice.empty(25), "rule1", 100, torch.zeros(25, width))
    engine = finisher.method.first_pass.engine
    at_once = replace(nothing, lattice=engine.finish(engine.start(), partial=True))  # of no frames
    assert not at_once.lattice.is_empty
    assert finisher.finish([at_once]) == finisher.finish([nothing])
    for segments in ([nothing, *given, no_path], [nothing, no_path]):
        first, *_, last = finisher.finish(segments)
        assert first == Result("a", 0, True, "", (), 0, 4.0, 4.0, "input_finished")
        assert last == Result("b", 1, True, "", (), 0, 4.0, 5.0, "rule1")
    assert finisher.finish([]) == []
    alone = [finisher.finish([segment])[0] for segment in given]
    together = finisher.finish([nothing, *given, no_path])[1:-1]
    for one, other in zip(alone, together, strict=True):
        assert one.words == other.words and one.score == pytest.approx(other.score, abs=1e-4)


def test_words_of_a_graph_of_tokens(loaded, batch) -> None:
    tokens = loaded.tokenizer.tokens
    ids = np.arange(1, len(tokens), dtype=np.int32)
    zeros = np.zeros(len(ids) + 1, np.int32)
    loop = DecodingGraph(
        zeros, np.append(zeros[1:], 1).astype(np.int32), np.append(ids, -1).astype(np.int32),
        np.zeros(len(ids) + 1, np.float32), np.append(np.arange(len(ids) + 1), len(ids)).astype(np.int32),
        ids, tokens, tokens, {"kind": "T"},
    )  # fmt: skip
    options = {"search_beam": 8.0, "output_beam": 4.0}
    for name in ("one_best", "mbr"):
        finisher = SegmentFinisher.of_model(loaded, loop, name, options)
        segments = streamed(finisher.method.first_pass.engine, batch)
        for segment, result in zip(segments, finisher.finish(segments), strict=True):
            found = minimum_bayes_risk(segment.lattice, 50).words if name == "mbr" else None
            path = next(p for p in nbest(segment.lattice, 50) if found in (None, p.words))
            assert result.text == loaded.tokenizer.decode(path.tokens)
            assert [word.text for word in result.words] == result.text.split()
            # each word's tokens, from one separator to the next
            sure = word_confidences(segment.lattice, path.words)
            places: list[list[int]] = [[]]
            for place, token in enumerate(path.tokens):
                if tokens.symbol(token) == "▁":
                    places.append([])
                elif tokens.symbol(token) != "<sos/eos>":
                    places[-1].append(place)
            spelled = [group for group in places if group]
            assert len(spelled) == len(result.words) > 0
            for word, group in zip(result.words, spelled, strict=True):
                start = segment.first_frame + path.token_frames[group[0]]
                end = segment.first_frame + path.token_ends[group[-1]] + 1
                assert word.start_seconds == pytest.approx(start * SHIFT)
                assert word.end_seconds == pytest.approx(end * SHIFT)
                assert word.confidence == pytest.approx(
                    min(sure[group[0] : group[-1] + 1]), abs=1e-4
                )


def test_words_that_are_on_no_path_of_the_list(loaded, graph, batch, monkeypatch) -> None:
    finisher = make_finisher(loaded, graph, "mbr")
    (segment, *_) = streamed(finisher.method.first_pass.engine, batch)
    (expected,) = finisher.finish([segment])
    monkeypatch.setattr(final_words.FinalWords, "_find", lambda *_: None)
    (found,) = finisher.finish([segment])
    assert [(w.text, w.confidence) for w in found.words] == [
        (w.text, w.confidence) for w in expected.words
    ]
    starts = [word.start_seconds for word in found.words]
    assert starts == sorted(starts) and 0.0 <= starts[0]
    for word, other in zip(found.words, expected.words, strict=True):
        assert word.end_seconds == pytest.approx(word.start_seconds + SHIFT)
        assert abs(word.start_seconds - other.start_seconds) < 5 * SHIFT
    # two in one frame
    same = np.full(len(found.words), 4.6)
    monkeypatch.setattr(final_words.FinalWords, "_aligned", lambda *_: (np.ones(len(same)), same))
    (crowded,) = finisher.finish([segment])
    times = [t for word in crowded.words for t in (word.start_seconds, word.end_seconds)]
    assert len(times) >= 4 and times == sorted(times) and times[-1] <= crowded.end_seconds


def test_large_lattices_are_pruned_before_confidences(loaded, graph, batch, monkeypatch) -> None:
    finisher = make_finisher(loaded, graph, "one_best")
    segments = streamed(finisher.method.first_pass.engine, batch)
    exact = finisher.finish(segments)
    assert max(segment.lattice.num_arcs for segment in segments) > 100
    monkeypatch.setattr(final_words, "MAX_ARCS", 40)
    near = finisher.finish(segments)
    changed = 0
    for one, other in zip(exact, near, strict=True):
        assert one.text == other.text
        for word, same in zip(one.words, other.words, strict=True):
            assert same.confidence is not None and 0.0 <= same.confidence <= 1.0
            changed += word.confidence != same.confidence
    assert changed
    silent = SegmentFinisher(finisher.method, finisher.timer, {}, confidences=False)
    assert {word.confidence for one in silent.finish(segments) for word in one.words} == {None}


def test_long_segments_are_taken_piece_by_piece(loaded, graph, batch, monkeypatch) -> None:
    finisher = make_finisher(loaded, graph, "one_best")
    engine = finisher.method.first_pass.engine
    rows = torch.cat(
        [batch.log_probs[n, :length] for n, length in enumerate(batch.lengths.tolist())]
    )
    pieces: list[int] = []
    aligned = final_words.FinalWords._aligned

    def counted(self, lattice, ids):
        pieces.append(len(ids))
        assert tuple(ids) == nbest(lattice, 1)[0].words  # each piece has its own words
        return aligned(self, lattice, ids)

    monkeypatch.setattr(final_words.FinalWords, "_aligned", counted)
    for repeats, piece_frames in ((40, 250), (6, 30)):
        state = engine.start()
        for _ in range(repeats):
            engine.advance([state], [rows])
        segment = EndedSegment("x", 0, engine.finish(state))
        monkeypatch.setattr(final_words, "LONG_FRAMES", 4 * piece_frames)
        monkeypatch.setattr(final_words, "PIECE_FRAMES", piece_frames)
        pieces.clear()
        (result,) = finisher.finish([segment])
        assert len(pieces) > 4 and sum(pieces) == len(result.words) == 10 * repeats
    # paths may be aligned with words across the end of a piece, but hardly are
    weighted = with_bonus(segment.lattice, 0.5, 0.6)
    (path,) = nbest(weighted, 1)
    whole = word_confidences(weighted, path.words)
    found = np.array([word.confidence for word in result.words])
    assert np.abs(found - whole).max() < 0.1 and np.abs(found - whole).mean() < 0.01


def test_what_is_refused(loaded, graph, batch) -> None:
    message = "ctc_greedy does not work on lattices.*choose one of .*one_best"
    with pytest.raises(ConfigError, match=message):
        SegmentFinisher.of_model(loaded, graph, "ctc_greedy")
    with pytest.raises(ConfigError, match="did you mean 'one_best'"):
        SegmentFinisher.of_model(loaded, graph, "onebest")
    with pytest.raises(ConfigError, match="nbest_lm_rescoring rescores with a language model"):
        SegmentFinisher.of_model(loaded, graph, "nbest_lm_rescoring")
    with pytest.raises(ConfigError, match="nbest_oracle needs the references"):
        SegmentFinisher.of_model(loaded, graph, "nbest_oracle")
    timer = WordTimer(graph, loaded.tokenizer, SHIFT)
    resources = DecodingResources(loaded.tokenizer, graph, model=loaded.model)
    with pytest.raises(ConfigError, match="one_best was made without keep_paths"):
        SegmentFinisher(make_method("one_best", resources), timer)
    method = make_method("lattice_attention_rescoring", replace(resources, keep_paths=True), NARROW)
    finisher = SegmentFinisher(method, timer)
    (segment, *_) = streamed(method.first_pass.engine, batch)
    for wrong, message in (
        (replace(segment, memory=None), "stream x, segment 2: .* needs the encoder's output"),
        (
            replace(segment, memory=segment.memory[1:]),
            "encoder output of 11 frames, a lattice of 12",
        ),
        (replace(segment, context=SimpleNamespace()), "segment 2: phrases, but"),
    ):
        with pytest.raises(DataError, match=message):
            finisher.finish([wrong])
    with pytest.raises(DataError, match="given twice: x-2, x-2"):
        finisher.finish([segment, segment])
    other = WordTimer(replace(graph, word_table=graph.token_table), loaded.tokenizer, SHIFT)
    with pytest.raises(GraphError, match="stream x, segment 2: word 1 of"):
        SegmentFinisher(method, other).finish([segment])
