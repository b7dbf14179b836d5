"""Fetching the Free Spoken Digit Dataset from its public repository."""

import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path

from moe_asr.data.fetch import fetch
from moe_asr.data.fsdd import scan_recordings
from moe_asr.errors import DataError
from moe_asr.files import PathLike

FSDD_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aa.tar.gz"


def download_fsdd(target: PathLike, url: str = FSDD_URL, timeout_seconds: float = 10.0) -> Path:
    """Downloads the corpus (about 10 MB) into ``target/recordings``.

    The folder appears only once it is complete and checked; a complete one is not fetched again.

    Returns:
        ``target``.

    Raises:
        DataError: if the network or the archive fails; says what to do instead.
    """
    target = Path(target)
    if (target / "recordings").is_dir():
        scan_recordings(target)
        return target
    target.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".download.", dir=target))
    try:
        archive = temporary / "fsdd.tar.gz"
        try:
            fetch(url, archive, timeout_seconds)
        except DataError as error:
            raise DataError(
                f"{error}; set FSDD_DIR to a folder that holds FSDD's 'recordings', or use synthetic "
                "digits"
            ) from error
        (temporary / "recordings").mkdir()
        _unpack(archive, temporary / "recordings", url)
        scan_recordings(temporary / "recordings")
        os.replace(temporary / "recordings", target / "recordings")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _unpack(archive: Path, folder: Path, url: str) -> None:
    """Writes the archive's ``*/recordings/*.wav`` into ``folder``; other members are left out."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                parts = Path(member.name).parts
                if len(parts) != 3 or parts[1] != "recordings" or not parts[2].endswith(".wav"):
                    continue
                content = tar.extractfile(member)
                if content is None:
                    raise DataError(f"{url}: {member.name} is not a plain file")
                (folder / parts[2]).write_bytes(content.read())
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{url}: damaged archive: {error}") from error
