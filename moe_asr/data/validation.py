"""What a cut must be to be trained on: checks that name the culprit, before training and while."""

import os
from collections.abc import Callable, Iterable, Sequence

from lhotse import MonoCut
from lhotse.cut import Cut

from moe_asr.audio.fbank import FbankOptions
from moe_asr.errors import DataError
from moe_asr.text.tokenizer import Tokenizer

MAX_CULPRITS = 10


def frames_after_conv4(num_frames: int) -> int:
    """Frames that two 3x3 convolutions of stride 2 without padding leave of ``num_frames``."""
    return max(0, ((num_frames - 1) // 2 - 1) // 2)


def min_ctc_frames(tokens: Sequence[int]) -> int:
    """Frames that CTC needs: one a token, and a blank between equal neighbours."""
    return len(tokens) + sum(a == b for a, b in zip(tokens, tokens[1:], strict=False))


def transcript_of(cut: Cut) -> str:
    """The text of the cut's one supervision.

    Raises:
        DataError: if there is none, more than one, or an empty text.
    """
    if len(cut.supervisions) != 1:
        raise DataError(f"cut '{cut.id}': found {len(cut.supervisions)} supervisions; expected one")
    text = cut.supervisions[0].text
    if text is None or not text.strip():
        raise DataError(f"cut '{cut.id}': empty transcript")
    return text


def check_tokens(
    cut_id: str,
    text: str,
    tokens: Sequence[int],
    num_frames: int,
    frames_after_subsampling: Callable[[int], int] = frames_after_conv4,
) -> None:
    """Raises `DataError` if CTC has no path: no tokens, or more than ``num_frames`` allow."""
    if not tokens:
        raise DataError(f"cut '{cut_id}': transcript '{text}' has no tokens")
    available, needed = frames_after_subsampling(num_frames), min_ctc_frames(tokens)
    if available < needed:
        raise DataError(
            f"cut '{cut_id}': transcript longer than its frames: {len(tokens)} tokens need "
            f"{needed} frames, {num_frames} feature frames leave {available} after subsampling: "
            f"'{text}'"
        )


def validate_cuts(
    cuts: Iterable[Cut],
    tokenizer: Tokenizer,
    fbank_options: FbankOptions,
    frames_after_subsampling: Callable[[int], int] = frames_after_conv4,
    max_speed_factor: float = 1.0,
    manifest: str | None = None,
) -> tuple[int, float]:
    """Checks a manifest without reading audio.

    Every cut must be a single-channel cut of a recording whose file exists, with an id of its own
    and one transcript that CTC can fit into its frames at the highest speed.

    Returns:
        The number of cuts and their duration in seconds.

    Raises:
        DataError: naming the manifest and up to ten culprits, each with what is wrong.
    """
    culprits: list[str] = []
    seen = set()
    num_cuts, total_seconds = 0, 0.0
    for cut in cuts:
        num_cuts += 1
        total_seconds += cut.duration
        try:
            if cut.id in seen:
                raise DataError(f"cut '{cut.id}': a second cut with this id")
            seen.add(cut.id)
            _check_recording(cut)
            text = transcript_of(cut)
            num_samples = int(cut.duration / max_speed_factor * fbank_options.sample_rate)
            num_frames = fbank_options.num_frames(num_samples)
            tokens = tokenizer.encode(text)
            check_tokens(cut.id, text, tokens, num_frames, frames_after_subsampling)
        except DataError as error:
            culprits.append(str(error))
            if len(culprits) == MAX_CULPRITS:
                culprits.append("... (the check stopped here)")
                break
    where = f"{manifest}: " if manifest else ""
    if culprits:
        raise DataError(where + "cuts that cannot be used:\n  " + "\n  ".join(culprits))
    if num_cuts == 0:
        raise DataError(f"{where}no cuts")
    return num_cuts, total_seconds


def _check_recording(cut: Cut) -> None:
    if not isinstance(cut, MonoCut) or cut.recording is None:
        raise DataError(
            f"cut '{cut.id}': found a {type(cut).__name__}; expected a MonoCut with a recording"
        )
    for source in cut.recording.sources:
        if source.type == "file" and not os.path.isfile(source.source):
            raise DataError(f"cut '{cut.id}': no such file: {source.source}")
