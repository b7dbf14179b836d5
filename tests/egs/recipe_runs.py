"""Running a recipe of a public corpus on its mock, from a server of our own; error rates from its files."""

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_recipe(name: str, exp: Path, *options: str) -> str:
    """What ``egs/NAME/run.sh --tiny`` printed; it must succeed."""
    result = subprocess.run(
        ["bash", str(ROOT / "egs" / name / "run.sh"), "--tiny", "--exp", str(exp), *options],
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serves ``folder`` over HTTP; gives its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def steps_made(output: str) -> list[str]:
    """The steps of which the recipe says that they were made, not that they were up to date."""
    return re.findall(r"^(\S+/\S+): made \(", output, re.MULTILINE)


def check_table(
    exp: Path, output: str, test_sets: list[str], split: Callable[[str], list[str]]
) -> None:
    """Every rate in summary.json and in the printed table is that of the files beside it.

    Rates are computed again here, by plain dynamic programming. ``split`` makes words (or characters).
    """
    summary = json.loads((exp / "summary.json").read_text())
    assert summary["note"].startswith("TINY") and summary["note"] in output
    methods = ["ctc_greedy", "one_best"]
    assert list(summary["results"]) == ["moe_1b"]
    assert list(summary["results"]["moe_1b"]) == test_sets
    assert summary["training"]["moe_1b"]["updates"] == 12
    rows = [line.split() for line in output.splitlines() if line.startswith("moe_1b ")]
    for test_set, modes in summary["results"]["moe_1b"].items():
        assert list(modes) == ["full", "chunk16"]
        for mode, figures in modes.items():
            assert list(figures) == methods
            cells = next(row for row in rows if row[1:3] == [test_set, mode])[3:]
            folder = exp / "moe_1b" / "decode" / test_set / mode
            references = read_texts(folder / "ref.txt")
            for method, cell in zip(methods, cells, strict=False):
                found = read_texts(folder / f"hyp_{method}.txt")
                assert set(found) == set(references) and references
                errors = sum(distance(split(references[k]), split(found[k])) for k in references)
                rate = 100.0 * errors / sum(len(split(text)) for text in references.values())
                assert abs(figures[method]["wer"] - rate) < 1e-9
                assert cell == f"{rate:.2f}"


def read_texts(path: Path) -> dict[str, str]:
    rows = (line.partition(" ") for line in path.read_text("utf-8").splitlines())
    return {name: text for name, _, text in rows}


def distance(a: list[str], b: list[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` that a second run must leave alone."""
    kept = ("*.jsonl*", "*.safetensors", "*.arpa", "words.txt", "tokens.txt", "provenance.json")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in kept
        for path in folder.rglob(pattern)
    }
