"""Forced alignment of cuts: features, encoder, alignment of each cut's text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from torch import Tensor
from tqdm import tqdm

from moe_asr.decode.runner import DecodingMode, check_ids, check_lengths, encode_cuts, load_once
from moe_asr.errors import DataError, TextError
from moe_asr.files import PathLike
from moe_asr.fsa.align import Alignment, TextAligner

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from moe_asr.model.directory import LoadedModel


@dataclass(frozen=True)
class AlignedCut:
    """A cut and what was found.

    Attributes:
        cut: as given.
        alignment: of its text.
        features: (T, F) float32, log-mel.
        log_probs: (S, C) float32, what was aligned, on the CPU.
    """

    cut: "Cut"
    alignment: Alignment
    features: Tensor
    log_probs: Tensor


def align_cuts(
    model: Union[PathLike, "LoadedModel"],
    cuts: Iterable["Cut"],
    texts: Mapping[str, str],
    aligner: TextAligner,
    mode: str | DecodingMode = "full",
    streaming: bool = False,
    max_batch_seconds: float = 60.0,
    progress: bool = True,
    failures: dict[str, str] | None = None,
) -> Iterator[AlignedCut]:
    """Aligns every cut with its text; longest cuts first, batch by batch.

    That every text can be spelled is seen before any audio is read.

    Args:
        model: a model directory, or what `load_model_dir` made of it.
        cuts: with audio.
        texts: by cut id.
        aligner: of the model's tokens.
        mode: the encoder's context.
        streaming: in a chunk mode, feed the encoder chunk by chunk, in memory that does not grow with the
            square of the duration, instead of one pass under a mask.
        max_batch_seconds: padded duration of a batch; a longer cut is a batch of its own.
        progress: show a bar.
        failures: if given, a cut that is too short, or whose text cannot be spelled or aligned with it, is
            left out, and gets its reason here by its id.

    Raises:
        DataError: on two cuts of one id, no cuts, a cut without a text or a text without a cut; without
            ``failures``, naming a cut that is too short, or whose text cannot be aligned with it.
        AudioError: naming the cut whose audio cannot be read.
        ConfigError: on an unknown mode.
    """
    if isinstance(mode, str):
        mode = DecodingMode.parse(mode)
    loaded = load_once(model)
    cuts = list(cuts)
    check_ids(cuts)
    _check_texts([cut.id for cut in cuts], texts)
    cuts = _spelled(cuts, texts, aligner, failures)
    with tqdm(total=len(cuts), desc="align", unit="utt", disable=not progress) as bar:
        for batch in encode_cuts(loaded, cuts, mode, streaming, max_batch_seconds):
            names = [cut.id for cut in batch.cuts]
            features, lengths, log_probs = batch.features, batch.lengths, batch.log_probs.cpu()
            for index, cut in enumerate(batch.cuts):
                one = slice(index, index + 1)
                try:
                    check_lengths(lengths[one], features[one], names[one])
                    (found,) = aligner.align(
                        log_probs[one], lengths[one], [texts[cut.id]], names[one]
                    )
                except DataError as error:
                    if failures is None:
                        raise
                    failures[cut.id] = str(error)
                    continue
                rows = log_probs[index, : found.num_frames]
                yield AlignedCut(cut, found, features[index].cpu(), rows)
            bar.update(len(names))


def _check_texts(names: list[str], texts: Mapping[str, str]) -> None:
    known = set(names)
    for what, missing in (
        ("cut(s) have no text", [name for name in names if name not in texts]),
        ("text(s) have no cut", [name for name in texts if name not in known]),
    ):
        if missing:
            more = f" (and {len(missing) - 3} more)" if len(missing) > 3 else ""
            raise DataError(f"{len(missing)} {what}: {', '.join(missing[:3])}{more}")


def _spelled(
    cuts: list["Cut"],
    texts: Mapping[str, str],
    aligner: TextAligner,
    failures: dict[str, str] | None,
) -> list["Cut"]:
    """The cuts whose texts can be spelled; of the others a `DataError`, or a line in ``failures``."""
    spelled = []
    for cut in cuts:
        try:
            aligner.speller.spell(texts[cut.id])
        except TextError as error:
            reason = f"utterance {cut.id}: {error}"
            if failures is None:
                raise DataError(reason) from error
            failures[cut.id] = reason
        else:
            spelled.append(cut)
    return spelled
