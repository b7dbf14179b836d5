"""lhotse cut manifests on disk: written atomically, read with errors that name the file."""

import os
from collections.abc import Iterable
from pathlib import Path

from lhotse import CutSet, MonoCut, MultiCut
from lhotse.cut import MixedCut, PaddingCut

from moe_asr.errors import DataError
from moe_asr.files import PathLike, atomic_path


def write_cuts(cuts: Iterable[MonoCut], path: PathLike) -> None:
    """Writes a manifest of any size atomically (``.jsonl`` or ``.jsonl.gz``)."""
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise DataError(f"{path}: expected a name ending in .jsonl or .jsonl.gz")
    suffix = ".jsonl.gz" if path.name.endswith(".gz") else ".jsonl"
    with atomic_path(path) as temporary:
        named = temporary.with_name(temporary.name + suffix)  # lhotse goes by the whole ending
        try:
            CutSet.from_cuts(cuts).to_file(named)
            os.replace(named, temporary)
        finally:
            named.unlink(missing_ok=True)


def read_cuts(path: PathLike) -> CutSet:
    """Reads a manifest into memory; relative audio paths are taken relative to its folder.

    Raises:
        DataError: if the file is absent, malformed or empty.
    """
    path = Path(path)
    try:
        cuts = CutSet.from_file(path).to_eager()
    except Exception as error:  # lhotse raises whatever its parsers do
        raise DataError(f"{path}: cannot be read as a lhotse cut manifest: {error!r}") from error
    if len(cuts) == 0:
        raise DataError(f"{path}: no cuts in it")
    for position, cut in enumerate(cuts):
        if not isinstance(cut, (MonoCut, MultiCut, MixedCut, PaddingCut)):
            raise DataError(f"{path}: item {position} is a {type(cut).__name__}; expected a cut")
    return CutSet.from_cuts(_with_absolute_paths(cut, path.parent) for cut in cuts)


def _with_absolute_paths(cut: MonoCut, folder: Path) -> MonoCut:
    if not isinstance(cut, MonoCut) or cut.recording is None:
        return cut
    for source in cut.recording.sources:
        if source.type == "file" and not os.path.isabs(source.source):
            source.source = os.path.join(folder, source.source)
    return cut
