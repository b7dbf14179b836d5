"""Methods side by side: what `moe-asr decode` wrote, with the difference of each to the first pass."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moe_asr.evaluate.bootstrap import paired_difference
from moe_asr.evaluate.wer import UNITS, read_transcripts, score
from moe_asr.files import PathLike, read_json

FIRST_PASS = "one_best"
ORACLES = ("nbest_oracle", "lattice_oracle")
Rows = dict[str, dict[str, dict[str, Any]]]


def method_rows(directory: PathLike, base: str = FIRST_PASS) -> Rows:
    """Rows by mode and method: those of ``results.json``, and what they are less than a base method.

    Args:
        directory: the ``--output`` of `moe-asr decode`.
        base: the method that the others are compared with, where it is there and counts the same units.

    Returns:
        Beside the figures of ``results.json``: ``difference``, the rate less that of the base; and
        ``difference_interval``, the bootstrap's 95 % of it over the same utterances. Both None without base,
        for the base itself, and for oracles, which are told the references.

    Raises:
        ConfigError, DataError: if the files are not there or do not hold together.
    """
    directory = Path(directory)
    results: Rows = read_json(directory / "results.json")
    for mode, rows in results.items():
        for method, row in rows.items():
            row.update(difference=None, difference_interval=None)
            comparable = base in rows and rows[base]["unit"] == row["unit"]
            if not comparable or method == base or method in ORACLES:
                continue
            reference = "ref_phone.txt" if row["unit"] == "phone" else "ref.txt"
            references = read_transcripts(directory / mode / reference)
            counts = [
                score(
                    references, read_transcripts(directory / mode / f"hyp_{name}.txt"), row["unit"]
                ).errors_and_lengths()
                for name in (base, method)
            ]
            (first, lengths), (second, _) = counts
            if len(references) > 1 and lengths.sum():
                found = paired_difference(first, second, lengths)
                row["difference"] = found.estimate
                row["difference_interval"] = [found.low, found.high]
    return results


def format_method_table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """`method_rows` as a table in Markdown: rate, its interval, the difference and its interval, RTFs.

    ``1st pass`` is the RTF of features, encoder and search, ``2nd pass`` that of what came after the search.
    """
    lines = [
        "| mode | method | error rate % | 95 % | minus one-best | 95 % | RTF 1st pass | RTF 2nd pass |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for mode, methods in rows.items():
        for method, row in methods.items():
            second = row.get("second_pass_rtf")  # what was decoded by earlier versions has neither
            cells = [
                mode,
                method,
                f"{row['wer']:.2f}{'' if row['unit'] == 'word' else ' (' + UNITS[row['unit']] + ')'}",
                _interval(row.get("interval")),
                "" if row["difference"] is None else f"{row['difference']:+.2f}",
                _interval(row["difference_interval"], "+"),
                f"{row['rtf'] - (second or 0.0):.4f}",
                "" if second is None else f"{second:.4f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(bounds: list[float] | None, sign: str = "") -> str:
    return "" if bounds is None else f"{bounds[0]:{sign}.2f} .. {bounds[1]:{sign}.2f}"
