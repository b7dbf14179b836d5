"""Downloads from a server of our own: resumed, taken again, refused."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from moe_asr.data.fetch import fetch
from moe_asr.errors import DataError

CONTENT = bytes(range(256)) * 40


class Server(ThreadingHTTPServer):
    """Serves CONTENT; how, its attributes say."""

    ranges = True  # whether it can send a part
    cut_after: int | None = None  # close the connection after so many bytes of the answer
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if self.path != "/file.bin":
            self.send_error(404)
            return
        if wanted and self.server.ranges and start >= len(CONTENT):
            self.send_error(416)
            return
        if not self.server.ranges:
            start = 0
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut_after])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def url_of(server: Server, name: str = "file.bin") -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{name}"


def test_a_file_comes_once(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    for _ in range(2):
        assert fetch(url_of(server), path) == path
        assert path.read_bytes() == CONTENT
    assert server.asked == [None]
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_what_was_cut_is_completed(server: Server, tmp_path: Path, ranges: bool) -> None:
    path = tmp_path / "file.bin"
    server.cut_after = 4000
    with pytest.raises(DataError, match="4000 of 10240 bytes came; the same command goes on"):
        fetch(url_of(server), path)
    assert not path.exists()
    server.cut_after, server.ranges = None, ranges
    fetch(url_of(server), path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=4000-"]


def test_a_part_that_is_too_long_is_taken_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"x" * 20000)
    fetch(url_of(server), tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == ["bytes=20000-", None]


def test_failures_name_the_address(server: Server, tmp_path: Path) -> None:
    for url in (url_of(server, "other"), "http://127.0.0.1:9/file.bin"):
        with pytest.raises(DataError, match=f"{url}: cannot be downloaded"):
            fetch(url, tmp_path / "file.bin", timeout_seconds=2)
    assert not (tmp_path / "file.bin").exists()
