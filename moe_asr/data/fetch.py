"""Fetching a file over HTTP: resumed where it was cut, in place only when it is complete."""

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from moe_asr.errors import DataError
from moe_asr.files import PathLike

_BLOCK = 1 << 18


def fetch(url: str, path: PathLike, timeout_seconds: float = 30.0) -> Path:
    """Downloads ``url`` to ``path``; a file that is there is left alone.

    What has come lies in ``path.part`` until it is as long as the server says, then moves to ``path``.
    After a failure the next call asks for the rest; a server that sends the whole again, or says that
    there is no such rest, is taken from the beginning.

    Raises:
        DataError: if the server or the network fails, or the connection ends too early.
    """
    path = Path(path)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        total = _continue(url, part, timeout_seconds)
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        raise DataError(f"{url}: cannot be downloaded: {error}") from error
    found = part.stat().st_size
    if total is not None and found != total:
        raise DataError(
            f"{url}: {found} of {total} bytes came; the same command goes on from there"
        )
    os.replace(part, path)
    return path


def _continue(url: str, part: Path, timeout_seconds: float) -> int | None:
    """Appends to ``part`` what it lacks; returns the length of the whole file, if the server says it."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "moe-asr"}  # some servers refuse Python's own
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout_seconds
        )
    except urllib.error.HTTPError as error:
        if not start or error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.unlink()  # as long as the file or longer: no telling whether it is that file
        return _continue(url, part, timeout_seconds)
    with response:
        if getattr(response, "status", None) != http.client.PARTIAL_CONTENT:  # file: has no status
            start = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with (
            open(part, "ab" if start else "wb") as file,
            tqdm(
                total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None
            ) as bar,
        ):
            while block := response.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
    return total
