import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, MonoCut

from moe_asr.audio.fbank import FbankOptions, make_fbank
from moe_asr.audio.io import read_audio
from moe_asr.data.batch import collate
from moe_asr.data.config import DataConfig
from moe_asr.data.dataset import AsrDataset, load_waveform, make_dataloader
from moe_asr.data.sampling import draw_speed_factor, random_for
from moe_asr.data.specaugment import SpecAugmenter, SpecAugmentOptions
from moe_asr.errors import AudioError, ConfigError, DataError

OPTIONS = FbankOptions()
PLAIN = DataConfig(
    max_duration_seconds=8,
    num_buckets=3,
    num_workers=0,
    speed_factors=(1.0,),
    gain_db=(0.0, 0.0),
    spec_augment=SpecAugmentOptions(enabled=False),
)
FULL = DataConfig(max_duration_seconds=8, num_buckets=3, num_workers=0, seed=7)


def path_of(cut: MonoCut) -> Path:
    return Path(cut.recording.sources[0].source)


def assert_same(batch, other):
    assert batch.utterance_ids == other.utterance_ids and batch.texts == other.texts
    for name in ("features", "feature_lengths", "targets", "target_lengths"):
        assert torch.equal(getattr(batch, name), getattr(other, name))
    assert batch.durations_seconds == other.durations_seconds


def test_evaluation_batches_are_the_plain_features(noise_cuts, tokenizer):
    fbank = make_fbank(OPTIONS)
    by_id = {cut.id: cut for cut in noise_cuts}
    seen = []
    for batch in make_dataloader(noise_cuts, tokenizer, OPTIONS, FULL, training=False):
        assert batch.features.dtype == torch.float32
        assert batch.features.shape[:2] == (len(batch), int(batch.feature_lengths.max()))
        seconds = 0.0
        for n, cut_id in enumerate(batch.utterance_ids):
            samples, rate = read_audio(path_of(by_id[cut_id]))
            seconds += len(samples) / rate
            expected = fbank(samples)
            length = int(batch.feature_lengths[n])
            assert length == len(expected)
            assert np.array_equal(batch.features[n, :length].numpy(), expected)
            assert (batch.features[n, length:] == 0).all()
            text = by_id[cut_id].supervisions[0].text
            tokens = tokenizer.encode(text)
            assert batch.texts[n] == text
            assert batch.targets[n].tolist() == tokens + [-1] * (
                batch.targets.shape[1] - len(tokens)
            )
            assert int(batch.target_lengths[n]) == len(tokens)
        assert batch.durations_seconds == pytest.approx(seconds)
        seen += batch.utterance_ids
    assert sorted(seen) == sorted(by_id)


def test_perturbation_off_in_training_is_evaluation(noise_cuts, tokenizer):
    cuts = noise_cuts.subset(first=5)
    assert_same(
        AsrDataset(tokenizer, OPTIONS, PLAIN, training=True)[cuts],
        AsrDataset(tokenizer, OPTIONS, PLAIN, training=False)[cuts],
    )


def test_speed_is_that_of_lhotse_and_gain_shifts_log_energies(noise_cuts, tokenizer):
    """Against `cut.perturb_speed`, and against adding 2 ln(gain) to the features."""
    config = dataclasses.replace(
        FULL, gain_db=(6.0, 6.0), spec_augment=SpecAugmentOptions(enabled=False)
    )
    cuts = noise_cuts.subset(first=12)
    batch = AsrDataset(tokenizer, OPTIONS, config, epoch=2, training=True)[cuts]
    fbank, factors, seconds = make_fbank(OPTIONS), set(), 0.0
    for n, cut in enumerate(cuts):
        factor = draw_speed_factor(random_for(7, 2, cut.id), config)
        factors.add(factor)
        samples = (cut if factor == 1.0 else cut.perturb_speed(factor)).load_audio()[0]
        assert len(samples) == pytest.approx(cut.num_samples / factor, abs=1)
        seconds += len(samples) / 16000
        expected = fbank(samples) + 2 * np.log(10 ** (6 / 20))
        length = int(batch.feature_lengths[n])
        assert length == len(expected)
        # lhotse may cut or mirror one sample at the end, which the last frames see
        difference = np.abs(batch.features[n, :length].numpy() - expected)
        assert difference[:-3].max() < 2e-3
    assert len(factors) == 3
    assert batch.durations_seconds == pytest.approx(seconds, abs=1e-3)


def test_masks_come_last_and_spare_the_padding(noise_cuts, tokenizer):
    plain = dataclasses.replace(FULL, spec_augment=SpecAugmentOptions(enabled=False))
    cuts = noise_cuts.subset(first=12)
    bare = AsrDataset(tokenizer, OPTIONS, plain, training=True)[cuts]
    masked = AsrDataset(tokenizer, OPTIONS, FULL, training=True)[cuts]
    assert torch.equal(bare.feature_lengths, masked.feature_lengths)
    num_masked = 0
    for n, length in enumerate(bare.feature_lengths.tolist()):
        changed = bare.features[n] != masked.features[n]
        assert not changed[length:].any()
        num_masked += bool(changed.any())
        mean = bare.features[n, :length].mean()
        if changed.any():
            torch.testing.assert_close(masked.features[n][changed], mean.expand(changed.sum()))
    assert 8 <= num_masked <= 12
    assert SpecAugmenter(FULL.spec_augment).options.probability == 0.9


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(noise_cuts, tokenizer, num_workers):
    expected = list(make_dataloader(noise_cuts, tokenizer, OPTIONS, FULL, 3, True))
    torch.rand(10), np.random.rand(10)
    config = dataclasses.replace(FULL, num_workers=num_workers)
    loader = make_dataloader(noise_cuts, tokenizer, OPTIONS, config, 3, True)
    found = list(loader)
    assert len(loader) == len(found) == len(expected) > 5
    for batch, other in zip(found, expected, strict=True):
        assert_same(batch, other)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_skipping_gives_the_batches_of_an_uninterrupted_epoch(noise_cuts, tokenizer, num_workers):
    everything = list(make_dataloader(noise_cuts, tokenizer, OPTIONS, FULL, 1, True))
    config = dataclasses.replace(FULL, num_workers=num_workers)
    skip = len(everything) - 3
    rest = list(make_dataloader(noise_cuts, tokenizer, OPTIONS, config, 1, True, skip))
    for batch, other in zip(rest, everything[skip:], strict=True):
        assert_same(batch, other)


def test_skipped_batches_are_not_computed(noise_cuts, tokenizer, make_cut):
    cuts = [*noise_cuts, make_cut("absent", 1.0)]
    batches = iter(make_dataloader(cuts, tokenizer, OPTIONS, FULL, 1, True))
    number = 0
    with pytest.raises(AudioError, match="absent"):
        for _ in batches:
            number += 1
    rest = list(make_dataloader(cuts, tokenizer, OPTIONS, FULL, 1, True, number + 1))
    assert all("absent" not in batch.utterance_ids for batch in rest)


def test_epochs_differ_and_the_thread_count_does_not_matter(noise_cuts, tokenizer):
    cuts = noise_cuts.subset(first=9)
    first = AsrDataset(tokenizer, OPTIONS, FULL, 0, True)[cuts]
    other = AsrDataset(tokenizer, OPTIONS, FULL, 1, True)[cuts]
    assert first.features.shape != other.features.shape or not torch.equal(
        first.features, other.features
    )
    num_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert_same(AsrDataset(tokenizer, OPTIONS, FULL, 0, True)[cuts], first)
    finally:
        torch.set_num_threads(num_threads)


def test_utterances_do_not_depend_on_their_batch(noise_cuts, tokenizer):
    dataset = AsrDataset(tokenizer, OPTIONS, FULL, 0, True)
    together = dataset[noise_cuts.subset(first=6)]
    for n, cut in enumerate(noise_cuts.subset(first=6)):
        alone = dataset[CutSet.from_cuts([cut])]
        length = int(together.feature_lengths[n])
        assert torch.equal(alone.features[0], together.features[n, :length])


def test_other_sample_rates_are_resampled(tmp_path, make_cut, tokenizer):
    path = tmp_path / "tone.wav"
    soundfile.write(str(path), 0.3 * np.sin(np.arange(8000) * 0.5), 8000)
    cut = make_cut("tone", 1.0, "ab", path, rate=8000)
    batch = AsrDataset(tokenizer, OPTIONS, PLAIN)[CutSet.from_cuts([cut])]
    samples, _ = read_audio(path, 16000)
    assert np.array_equal(batch.features[0].numpy(), make_fbank(OPTIONS)(samples))
    assert batch.durations_seconds == pytest.approx(1.0)


def test_a_part_of_a_recording_is_read(noise_cuts, tokenizer):
    cut = noise_cuts[0].truncate(offset=0.1, duration=0.25)
    samples, _ = read_audio(path_of(cut))
    assert np.array_equal(load_waveform(cut, 16000), samples[1600 : 1600 + 4000])


def test_short_files_are_found_out_where_lhotse_would_mirror(tmp_path, make_cut):
    path = tmp_path / "short.wav"
    soundfile.write(str(path), 0.1 * np.ones(12000), 16000)  # the manifest says 16000
    cut = make_cut("short", 1.0, "a", path)
    assert cut.load_audio().shape == (1, 16000)
    with pytest.raises(AudioError, match="cut 'short' .*: found 12000 samples; expected 16000"):
        load_waveform(cut, 16000)
    with pytest.raises(AudioError, match="cut 'short.*found 12000 samples; expected 16000"):
        load_waveform(cut.truncate(offset=0.5, duration=0.5, preserve_id=True), 16000)
    other_rate = make_cut("fast", 1.5, "a", path, rate=8000)
    with pytest.raises(AudioError, match="found 16000 Hz; expected 8000 Hz"):
        load_waveform(other_rate, 16000)


def spoiled(tmp_path, make_cut, kind):
    path = tmp_path / f"{kind}.wav"
    samples = 0.1 * np.ones(16000, dtype=np.float32)
    if kind == "stereo":
        soundfile.write(str(path), np.stack([samples, samples], axis=1), 16000)
    elif kind == "nan":
        samples[500] = np.nan
        soundfile.write(str(path), samples, 16000, subtype="FLOAT")
    elif kind != "absent":
        soundfile.write(str(path), samples, 16000)
        content = path.read_bytes()
        if kind == "truncated":
            path.write_bytes(content[:20000])
        elif kind == "headless":
            path.write_bytes(content[:10])
        elif kind == "garbage":
            path.write_bytes(b"no audio at all" * 100)
    return make_cut(kind, 1.0, "abc", path)


KINDS = ["absent", "truncated", "headless", "garbage", "stereo", "nan"]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_audio_names_cut_file_and_manifest(tmp_path, make_cut, noise_cuts, tokenizer, kind):
    cuts = CutSet.from_cuts([noise_cuts[0], spoiled(tmp_path, make_cut, kind)])
    dataset = AsrDataset(tokenizer, OPTIONS, FULL, training=True, manifest="cuts_x.jsonl.gz")
    with pytest.raises(AudioError) as caught:
        dataset[cuts]
    message = str(caught.value)
    assert message.startswith(f"cuts_x.jsonl.gz: cut '{kind}' ({tmp_path / kind}.wav): ")


def test_errors_of_workers_keep_their_type_and_culprit(tmp_path, make_cut, noise_cuts, tokenizer):
    cuts = [*noise_cuts.subset(first=4), spoiled(tmp_path, make_cut, "truncated")]
    config = dataclasses.replace(FULL, num_workers=1)
    with pytest.raises(AudioError, match="cut 'truncated'"):
        list(make_dataloader(cuts, tokenizer, OPTIONS, config, training=True))


def test_bad_transcripts_are_named(noise_cuts, make_cut, tokenizer):
    dataset = AsrDataset(tokenizer, OPTIONS, FULL, manifest="cuts_x.jsonl.gz")
    path = path_of(noise_cuts[0])
    duration = noise_cuts[0].duration
    empty = make_cut("empty", duration, " ", path)
    with pytest.raises(DataError, match=r"cuts_x\.jsonl\.gz: cut 'empty': empty transcript"):
        dataset[CutSet.from_cuts([empty])]
    bare = make_cut("bare", duration, "a", path)
    bare.supervisions = []
    with pytest.raises(DataError, match="cut 'bare': found 0 supervisions"):
        dataset[CutSet.from_cuts([bare])]
    long = make_cut("long", duration, "abcdefghij" * 10, path)
    with pytest.raises(DataError, match="cut 'long': transcript longer than its frames"):
        dataset[CutSet.from_cuts([long])]


def test_dither_is_refused_in_training(tokenizer):
    options = FbankOptions(dither=1e-5)
    AsrDataset(tokenizer, options, FULL, training=False)
    with pytest.raises(ConfigError, match="dither"):
        AsrDataset(tokenizer, options, FULL, training=True)


def test_batch_to_moves_all_tensors():
    batch = collate([np.ones((3, 2), np.float32)], [[4, 5]], ["a"], ["x y"], 0.03)
    moved = batch.to("meta")
    for name in ("features", "feature_lengths", "targets", "target_lengths"):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(batch, name).device.type == "cpu"
    assert moved.utterance_ids == ["a"] and moved.durations_seconds == 0.03
