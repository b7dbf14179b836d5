"""Tables of methods: differences to the first pass, from the files that decoding wrote."""

import json
from pathlib import Path

import pytest

from moe_asr.evaluate.method_table import format_method_table, method_rows

REFERENCES = ["one two three", "two two", "three one"]
FOUND = {  # errors of 7 words: 3, 1, 5, 0
    "one_best": ["one three", "two", "three two"],
    "mbr": ["one two three", "two two", "three two"],
    "attention": ["", "one two", "one one"],
    "nbest_oracle": REFERENCES,
}


def row(errors: int, **more) -> dict:
    return {"wer": 100.0 * errors / 7, "rtf": 0.5, "unit": "word", **more}


@pytest.fixture
def decoded(tmp_path: Path) -> Path:
    folder = tmp_path / "full"
    folder.mkdir()

    def write(name: str, texts: list[str]) -> None:
        lines = (f"u{i} {text}".strip() + "\n" for i, text in enumerate(texts))
        (folder / name).write_text("".join(lines))

    write("ref.txt", REFERENCES)
    for name, texts in FOUND.items():
        write(f"hyp_{name}.txt", texts)
    more = {"interval": [1.0, 2.0], "second_pass_rtf": 0.125}
    errors = {"one_best": 3, "mbr": 1, "attention": 5, "nbest_oracle": 0}
    rows = {name: row(count, **more) for name, count in errors.items()}
    rows["attention"]["second_pass_rtf"] = None
    (tmp_path / "results.json").write_text(json.dumps({"full": rows}))
    return tmp_path


def test_differences_are_those_of_the_hypotheses(decoded: Path) -> None:
    rows = method_rows(decoded)["full"]
    assert rows["mbr"]["difference"] == pytest.approx(-200.0 / 7)
    assert rows["attention"]["difference"] == pytest.approx(200.0 / 7)
    low, high = rows["mbr"]["difference_interval"]
    assert low <= -200.0 / 7 <= high <= 0
    for name in ("one_best", "nbest_oracle"):  # the base itself; what was told the references
        assert rows[name]["difference"] is None and rows[name]["difference_interval"] is None
    assert method_rows(decoded, "mbr")["full"]["one_best"]["difference"] == pytest.approx(200.0 / 7)
    assert method_rows(decoded, "nbest")["full"]["mbr"]["difference"] is None
    lines = format_method_table({"full": rows}).splitlines()
    assert "| full | mbr | 14.29 | 1.00 .. 2.00 | -28.57 |" in lines[3]
    assert lines[3].endswith("| 0.3750 | 0.1250 |")  # the first pass is what is left
    assert lines[4].endswith("| 0.5000 |  |")


def test_figures_of_earlier_versions_have_no_intervals() -> None:
    old = row(3, difference=None, difference_interval=None)
    table = format_method_table({"full": {"one_best": old}})
    assert table.splitlines()[2] == "| full | one_best | 42.86 |  |  |  | 0.5000 |  |"
