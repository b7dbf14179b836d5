import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.audio.fbank import FbankOptions
from moe_asr.data.validation import (
    check_tokens,
    frames_after_conv4,
    min_ctc_frames,
    validate_cuts,
)
from moe_asr.errors import DataError

OPTIONS = FbankOptions()


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(str(path), [0.1] * 1000, 16000)
    return path


@settings(max_examples=60)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=8))
def test_min_ctc_frames_is_where_torch_finds_a_path(tokens):
    needed = min_ctc_frames(tokens)
    for num_frames in {needed, max(1, needed - 1)}:
        loss = torch.nn.functional.ctc_loss(
            torch.zeros(num_frames, 1, 4).log_softmax(-1),
            torch.tensor([tokens]),
            torch.tensor([num_frames]),
            torch.tensor([len(tokens)]),
        )
        assert torch.isfinite(loss) == (num_frames >= needed)


@pytest.mark.parametrize("num_frames", range(7, 60))
def test_frames_after_conv4_is_what_two_convolutions_leave(num_frames):
    conv = torch.nn.Conv1d(1, 1, 3, stride=2)
    assert frames_after_conv4(num_frames) == conv(conv(torch.zeros(1, 1, num_frames))).shape[-1]


def test_frames_after_conv4_of_too_few():
    assert [frames_after_conv4(n) for n in range(7)] == [0] * 7


def test_check_tokens_at_the_limit():
    check_tokens("cut1", "aab", [3, 3, 4], 4, lambda n: n)
    with pytest.raises(
        DataError, match="cut 'cut1': transcript longer than its frames: 3 tokens need 4 frames, 3"
    ):
        check_tokens("cut1", "aab", [3, 3, 4], 3, lambda n: n)
    with pytest.raises(DataError, match="cut 'cut1': transcript '!' has no tokens"):
        check_tokens("cut1", "!", [], 3, lambda n: n)


def test_good_manifests_are_counted(make_cut, wav, tokenizer):
    cuts = [make_cut(f"cut{i}", 1.5, path=wav) for i in range(4)]
    assert validate_cuts(cuts, tokenizer, OPTIONS) == (4, 6.0)


def test_all_culprits_are_named_together(make_cut, wav, tokenizer):
    good, silent, empty, absent, long = (
        make_cut("good", path=wav),
        make_cut("silent", text="  ", path=wav),
        make_cut("none", text=None, path=wav),
        make_cut("absent", path="/no/such.wav"),
        make_cut("long", 0.5, "abcdefghijklm", path=wav),
    )
    bare = make_cut("bare", path=wav)
    bare.supervisions = []
    padded = make_cut("padded", path=wav).pad(2.0, preserve_id=True)
    twice = make_cut("good", path=wav)
    with pytest.raises(DataError) as caught:
        validate_cuts(
            [good, silent, empty, absent, long, bare, padded, twice],
            tokenizer,
            OPTIONS,
            manifest="cuts_train.jsonl.gz",
        )
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("cuts_train.jsonl.gz: ")
    expected = [
        ("silent", "empty transcript"),
        ("none", "empty transcript"),
        ("absent", "no such file: /no/such.wav"),
        ("long", "transcript longer than its frames: 13 tokens need 13 frames"),
        ("bare", "found 0 supervisions"),
        ("padded", "found a MixedCut"),
        ("good", "a second cut with this id"),
    ]
    assert len(lines) == 1 + len(expected)
    for line, (cut_id, message) in zip(lines[1:], expected, strict=True):
        assert f"cut '{cut_id}'" in line and message in line


def test_the_list_of_culprits_ends(make_cut, wav, tokenizer):
    cuts = [make_cut(f"cut{i}", text="", path=wav) for i in range(50)]
    with pytest.raises(DataError) as caught:
        validate_cuts(cuts, tokenizer, OPTIONS)
    assert str(caught.value).count("empty transcript") == 10
    with pytest.raises(DataError, match="dev.jsonl: no cuts"):
        validate_cuts([], tokenizer, OPTIONS, manifest="dev.jsonl")


def test_the_highest_speed_counts(make_cut, wav, tokenizer):
    """0.55 s are 55 frames and 13 after subsampling; at 1.1 times the speed, 50 and 11."""
    cuts = [make_cut("cut", 0.55, "abcdefghijklm", path=wav)]
    validate_cuts(cuts, tokenizer, OPTIONS)
    with pytest.raises(DataError, match="13 tokens need 13 frames, 50 feature frames leave 11"):
        validate_cuts(cuts, tokenizer, OPTIONS, max_speed_factor=1.1)
    validate_cuts(
        cuts,
        tokenizer,
        OPTIONS,
        frames_after_subsampling=lambda num_frames: num_frames // 3,
        max_speed_factor=1.1,
    )
