"""From cuts to hypotheses: the same as one utterance at a time, streaming as masked."""

import time
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.audio.fbank import make_fbank
from moe_asr.decode.registry import (
    DecodingMethod,
    DecodingResources,
    EncodedBatch,
    Hypothesis,
    make_method,
)
from moe_asr.decode.runner import DecodingMode, DecodingRun, decode_cuts, make_batches
from moe_asr.errors import AudioError, ConfigError, DataError
from tests.decode.conftest import Workplace, make_cut


class Recorder(DecodingMethod):
    """Keeps the log-probabilities of each utterance; takes its time when asked to."""

    name = "recorder"

    def __init__(self, sleep_seconds: float = 0.0) -> None:
        self.sleep_seconds = sleep_seconds
        self.log_probs: dict[str, torch.Tensor] = {}

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        time.sleep(self.sleep_seconds)
        for name, row, length in zip(
            batch.utterance_ids, batch.log_probs, batch.lengths.tolist(), strict=True
        ):
            self.log_probs[name] = row[:length].clone()
        return [Hypothesis(name, name, (name,), 0.0, ()) for name in batch.utterance_ids]


@torch.no_grad()
def one_at_a_time(
    workplace: Workplace, chunk_size: int, left_chunks: int
) -> dict[str, torch.Tensor]:
    """(S, C) log-probabilities of each utterance, encoded alone."""
    found = {}
    fbank = make_fbank(workplace.loaded.fbank_options)
    model = workplace.loaded.model
    for cut in workplace.cuts:
        samples, _ = soundfile.read(cut.recording.sources[0].source, dtype="float32")
        features = torch.from_numpy(np.asarray(fbank(samples)))[None]
        lengths = torch.tensor([features.shape[1]])
        memory, _ = model.encode(features, lengths, chunk_size, left_chunks)
        found[cut.id] = model.ctc_log_probs(memory)[0]
    return found


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("mode", "chunk_size", "left_chunks"),
    [("full", -1, -1), ("chunk4", 4, -1), ("chunk3-left2", 3, 2), ("chunk50", 50, -1)],
)
def test_log_probs_are_those_of_one_utterance_at_a_time(
    workplace: Workplace, mode: str, chunk_size: int, left_chunks: int, streaming: bool
) -> None:
    recorder = Recorder()
    decode_cuts(workplace.loaded, workplace.cuts, [recorder], mode, streaming, 3.0, progress=False)
    expected = one_at_a_time(workplace, chunk_size, left_chunks)
    assert recorder.log_probs.keys() == expected.keys()
    for name, log_probs in expected.items():
        assert recorder.log_probs[name].shape == log_probs.shape
        torch.testing.assert_close(recorder.log_probs[name], log_probs, atol=2e-4, rtol=0)


def test_the_modes_differ(workplace: Workplace) -> None:
    full, chunked = (one_at_a_time(workplace, *mode) for mode in ((-1, -1), (4, -1)))
    assert any((full[name] - chunked[name]).abs().max() > 0.05 for name in full)


def test_hypotheses_come_in_the_order_of_the_cuts(workplace: Workplace) -> None:
    greedy = make_method("ctc_greedy", DecodingResources(workplace.loaded.tokenizer))
    run = decode_cuts(
        workplace.model_dir, workplace.cuts, [greedy, Recorder()], max_batch_seconds=2.0,
        progress=False,
    )  # fmt: skip
    names = [cut.id for cut in workplace.cuts]
    for hypotheses in run.hypotheses.values():
        assert list(hypotheses) == names
        assert [hypothesis.utterance_id for hypothesis in hypotheses.values()] == names
    for name, log_probs in one_at_a_time(workplace, -1, -1).items():
        best = [label for label, _ in groupby(log_probs.argmax(1).tolist()) if label]
        assert run.hypotheses["ctc_greedy"][name].tokens == tuple(best)
    assert any(hypothesis.tokens for hypothesis in run.hypotheses["ctc_greedy"].values())


def test_time_is_charged_to_the_method_that_takes_it(workplace: Workplace) -> None:
    quick, slow = Recorder(), Recorder(sleep_seconds=0.1)
    slow.name = "slow"  # type: ignore[misc]
    run = decode_cuts(workplace.loaded, workplace.cuts, [quick, slow], progress=False)
    assert run.audio_seconds == pytest.approx(sum(cut.duration for cut in workplace.cuts))
    assert run.search_seconds["slow"] >= 0.1 > run.search_seconds["recorder"]
    assert run.feature_seconds > 0 and run.encoder_seconds > 0


def test_rtf() -> None:
    run = DecodingRun({}, 10.0, 1.0, 2.0, {"a": 0.5, "b": 4.0})
    assert (run.rtf("a"), run.rtf("b")) == (0.35, 0.7)


@given(st.lists(st.floats(0.1, 30.0), min_size=1, max_size=20), st.floats(1.0, 40.0))
def test_batches(durations: list[float], limit: float) -> None:
    class Cut:
        def __init__(self, duration: float) -> None:
            self.duration = duration

    cuts = [Cut(duration) for duration in durations]
    batches = list(make_batches(cuts, limit))  # type: ignore[arg-type]
    assert sorted(id(cut) for batch in batches for cut in batch) == sorted(map(id, cuts))
    for batch in batches:
        longest = max(cut.duration for cut in batch)
        assert len(batch) == 1 or longest * len(batch) <= limit


def test_modes_by_name() -> None:
    assert DecodingMode.parse("full") == DecodingMode("full", -1, -1)
    assert DecodingMode.parse("chunk16") == DecodingMode("chunk16", 16, -1)
    assert DecodingMode.parse("chunk8-left0") == DecodingMode("chunk8-left0", 8, 0)
    for name in ("chunk0", "chunk", "chunk-3", "Full", "chunk16left4", "chunk16 "):
        with pytest.raises(ConfigError, match="unknown decoding mode"):
            DecodingMode.parse(name)


def test_bad_cuts_are_named(workplace: Workplace, tmp_path: Path) -> None:
    def decode(*cuts: object) -> None:
        decode_cuts(workplace.loaded, cuts, [Recorder()], progress=False)  # type: ignore[arg-type]

    with pytest.raises(DataError, match="no cuts"):
        decode()
    with pytest.raises(DataError, match="two cuts have the id 'utt-0'"):
        decode(workplace.cuts[0], workplace.cuts[1], workplace.cuts[0])
    short = make_cut(tmp_path, "short", 0.05, "one")
    with pytest.raises(DataError, match="cut 'short': too short"):
        decode(workplace.cuts[0], short)
    gone = make_cut(tmp_path, "gone", 0.5, "one")
    (tmp_path / "gone.wav").unlink()
    with pytest.raises(AudioError, match="cut 'gone'"):
        decode(gone)
