"""The report of the encoder's speed: limits, checks and JSON, from cells whose times are given."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.encoder_cells import OURS, REFERENCE, Cell, Key
from benchmarks.encoder_work import Load, Work
from benchmarks.moe_report import BEGIN, END, Report, rows_of, write_section
from benchmarks.roofline import FLOAT_PRODUCT, INT8_PRODUCT, READING, Peaks
from moe_asr.errors import ConfigError
from moe_asr.nn.cpu.layers import PHASES

PEAKS = {
    threads: Peaks(
        {
            (FLOAT_PRODUCT, "one"): threads * 100e9,
            (INT8_PRODUCT, "one"): threads * 400e9,
            (READING, "one"): 10e9,
        }
    )
    for threads in (1, 2)
}


WORK = Work(50e9, 0.0, 1e9)


def cell(
    preset: str, precision: str, mode: str, streams: int, seconds: list[float],
    work: Work = WORK, engine: str = OURS, threads: int = 1,
) -> Cell:  # fmt: skip
    load = Load([0.5, 0.5], 1.0, 1.5) if preset == "moe_1b" else None
    key = Key(preset, precision, mode, streams, threads, engine)
    return Cell(key, lambda: None, 10.0, work, load, seconds)


CELLS = [
    cell("dense_225m", "fp32", "offline10", 1, [0.9, 1.0, 5.0]),
    cell("dense_225m", "fp32", "offline10", 1, [1.5], engine=REFERENCE),
    cell("moe_1b", "fp32", "offline10", 1, [1.4]),
    cell("moe_1b", "int8", "offline10", 1, [0.7], Work(10e9, 80e9, 1e9)),
    cell("moe_1b", "fp32", "chunk16", 1, [0.4], Work(1e9, 0.0, 3e9)),
    cell("moe_1b", "fp32", "chunk16", 1, [1.0], Work(1e9, 0.0, 3e9), REFERENCE),
    cell("moe_1b", "fp32", "offline10", 1, [1.0], threads=2),
]


def test_rows_know_their_limit() -> None:
    rows = {row.key: row for row in Report(rows_of(CELLS, PEAKS), PEAKS, {}).rows}
    dense, _, _, eight, chunk, _, two = (rows[one.key] for one in CELLS)
    assert dense.rtf == 0.1 and dense.spread == pytest.approx(4.1)
    assert dense.roofline_rtf == pytest.approx(0.05) and dense.bound == "FLOPs"
    assert dense.ratio == pytest.approx(2.0)
    assert eight.roofline_rtf == pytest.approx((0.1 + 0.2) / 10)
    assert chunk.roofline_rtf == pytest.approx(0.03) and chunk.bound == "bytes"
    assert two.roofline_rtf == pytest.approx(0.025)


def test_checks() -> None:
    report = Report(rows_of(CELLS, PEAKS), PEAKS, {"peak_gb": 1.7, "load_seconds": 2.0})
    checks = {one.name: (one.value, one.ok) for one in report.checks}
    assert len(checks) == 11
    assert checks == {
        "time over its limit, of the worst cell": (pytest.approx(4.0), False),
        "10 s, fp32: moe_1b / reference dense_225m": (pytest.approx(1.4 / 1.5), True),
        "10 s, fp32: moe_1b / dense_225m": (pytest.approx(1.4), True),
        "chunk 16 x 1, fp32: moe_1b / reference moe_1b": (pytest.approx(0.4), True),
        "chunk 16 x 16, fp32: moe_1b / dense_225m": (None, None),
        "chunk 16 x 1: int8 moe_1b / fp32 dense_225m": (None, None),
        "10 s: int8 moe_1b / fp32 dense_225m": (pytest.approx(0.7), False),
        "chunk 16 x 1: RTF of int8 moe_1b": (None, None),
        "10 s: RTF of int8 moe_1b": (pytest.approx(0.07), True),
        "peak memory of a loaded int8 moe_1b, GB": (1.7, False),
        "loading it from a warm disk cache, s": (2.0, True),
    }
    limits = {one.name: one.limit for one in report.checks}
    assert limits["10 s, fp32: moe_1b / reference dense_225m"] == pytest.approx(0.05 / 0.15)
    assert limits["10 s: int8 moe_1b / fp32 dense_225m"] == pytest.approx(0.03 / 0.05)
    assert limits["10 s: RTF of int8 moe_1b"] == pytest.approx(0.03)
    assert "NO" in report.text() and "not measured" in report.text()


def test_markdown_has_a_column_for_each_model() -> None:
    lines = Report(rows_of(CELLS, PEAKS), PEAKS, {}).markdown().splitlines()
    at = lines.index(
        "| 1 thread | `dense_225m` fp32 | `moe_1b` fp32 | `moe_1b` int8 | `dense_225m` fp32 (reference) "
        "| `moe_1b` fp32 (reference) |"
    )
    assert lines[at + 1 : at + 5] == [
        "|---|---:|---:|---:|---:|---:|",
        "| 10 s | 0.100 (2.00) | 0.140 (2.80) | 0.070 (2.33) | 0.150 (3.00) |  |",
        "| chunk 16 x 1 |  | 0.040 (1.33) |  |  | 0.100 (3.33) |",
        "",
    ]
    assert "| 2 threads | `moe_1b` fp32 |" in lines
    assert "| 10 s, fp32: moe_1b / dense_225m | 1.4 | 1.55 | yes | 1 |" in lines


def test_a_section_of_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "speed.md"
    write_section(path, "| new |")
    assert path.read_text() == "| new |\n"
    path.write_text(f"# Speed\n\n{BEGIN}\nold\nolder\n{END}\n\nThe end.\n")
    expected = f"# Speed\n\n{BEGIN}\n\n| new |\n\n{END}\n\nThe end.\n"
    for _ in range(2):  # nothing grows
        write_section(path, "| new |")
        assert path.read_text() == expected
    for wrong in (BEGIN, END, f"{END}\n{BEGIN}"):
        path.write_text(f"{wrong}\n")
        with pytest.raises(ConfigError, match="speed.md: expected a line '<!-- measured: begin"):
            write_section(path, "| new |")
        assert path.read_text() == f"{wrong}\n"


def test_phases_are_shares() -> None:
    one = cell("moe_1b", "int8", "chunk16", 16, [0.1])
    one.phases = np.array([1, 0, 5, 1, 1, 1, 1])
    report = Report(rows_of([one], PEAKS), PEAKS, {})
    phases = report.json()["cells"][0]["phases"]
    assert list(phases) == list(PHASES) and phases["experts"] == 0.5
    assert "| `moe_1b` int8, chunk 16 x 16 | 10 | 0 | 50 | 10 | 10 | 10 | 10 |" in report.markdown()


def test_json_has_the_keys_that_are_asked_for() -> None:
    found = Report(rows_of(CELLS, PEAKS), PEAKS, {"peak_gb": 1.5}).json()
    assert len(found["cells"]) == 5 and len(found["reference"]) == 2
    assert found["cells"][0]["gflops"] == 50.0 and found["cells"][0]["gbs"] == 1.0
    first = {"preset": "dense_225m", "precision": "fp32", "mode": "offline10", "streams": 1,
             "threads": 1, "rtf": 0.1, "roofline_rtf": 0.05}  # fmt: skip
    assert first.items() <= found["cells"][0].items()
    assert found["reference"][0]["rtf"] == 0.15
    assert found["cells"][1]["experts_used"] == 1.5 and found["cells"][0]["experts_used"] is None
    assert found["peak_gb"] == 1.5


def test_cells_below_their_limit_are_explained() -> None:
    below = cell("dense_225m", "int8", "chunk4", 1, [0.05], Work(1e9, 1e9, 1e9))
    assert "below their limit" not in Report(rows_of(CELLS, PEAKS), PEAKS, {}).text()
    rows = rows_of([*CELLS, below], PEAKS)
    assert "below their limit (a ratio below 1): 1." in Report(rows, PEAKS, {}).text()
    assert "up to 1000 MB a call" in Report(rows_of([below], PEAKS), PEAKS, {}).markdown()
