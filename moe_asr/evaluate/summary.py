"""What a comparison comes to: a page of text, and a JSON object."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from moe_asr.evaluate.alignment_text import columns, format_report
from moe_asr.evaluate.compare import Comparison
from moe_asr.evaluate.confusions import Confusions, count_confusions
from moe_asr.evaluate.speakers import errors_by_speaker
from moe_asr.evaluate.units import PLURALS, UNITS
from moe_asr.evaluate.wer import ErrorCounts, WerReport
from moe_asr.files import PathLike, write_text

# A sample of n has sqrt(1 - 1/n) of the spread, and the quantiles are normal ones, not Student's: 8 % at 20.
FEW = 20


def format_comparison(comparison: Comparison, top: int = 10, speakers: bool = True) -> str:
    """Rates with intervals, differences, what was left out, speakers, the ``top`` most frequent errors.

    Args:
        comparison: of `compare`.
        top: 0 for none.
        speakers: whether to give a line to each, if they are known.
    """
    parts = [_totals(comparison), *_remarks(comparison)]
    for name, report in comparison.reports.items():
        title = f"{name}: " if len(comparison.reports) > 1 else ""
        if speakers and comparison.speakers is not None:
            parts.append(f"{title}speakers\n{_speaker_table(report, comparison.speakers)}")
        if top and report.total.errors:
            parts.append(_confusion_table(count_confusions(report), top, title))
    return "\n\n".join(parts)


def format_alignments(comparison: Comparison) -> str:
    """The report of every system with all its alignments."""
    many = len(comparison.reports) > 1
    return "\n".join(
        (f"== {name}\n" if many else "") + format_report(report)
        for name, report in comparison.reports.items()
    )


def _totals(comparison: Comparison) -> str:
    options = comparison.options
    rows = [
        ["system", f"{UNITS[options.unit]} %", f"{100 * options.level:g} % interval", "sub", "del"]
        + ["ins", PLURALS[options.unit], "utterances", "with errors"]
    ]
    for name, report in comparison.reports.items():
        interval = comparison.intervals.get(name)
        number = len(report.utterances)
        rows.append(
            [
                name,
                f"{report.total.wer:.2f}",
                f"{interval.low:.2f} - {interval.high:.2f}" if interval else "-",
                *_counts(report.total),
                str(number),
                f"{num_wrong(report)} ({100 * num_wrong(report) / number:.1f} %)",
            ]
        )
    return format_table(rows)


def _remarks(comparison: Comparison) -> list[str]:
    """What must be said beside the rates."""
    options, lines = comparison.options, []
    first = next(iter(comparison.reports))
    kind, number = comparison.blocks
    if comparison.intervals:
        lines.append(
            f"Intervals: bootstrap, {options.num_samples} samples of {number} {kind}, "
            f"seed {options.seed}."
        )
        if number < FEW:
            lines.append(f"These are few {kind}: the intervals are narrower than they should be.")
    elif options.num_samples:
        lines.append(f"No intervals: {comparison.no_intervals}.")
    for name, found in comparison.differences.items():
        lines.append(
            f"{name} less {first}: {found.estimate:+.2f} points, {100 * options.level:g} % interval "
            f"{found.low:+.2f} to {found.high:+.2f} (paired; "
            f"{'significant' if found.is_significant else 'not significant'}); "
            f"better with probability {found.probability_better:.4f}."
        )
    parts = ["\n".join(lines)] if lines else []
    notes = [*_unmatched(comparison), *_empty_references(comparison)]
    return [*parts, "\n".join(notes)] if notes else parts


def _unmatched(comparison: Comparison) -> Iterable[str]:
    unit = PLURALS[comparison.options.unit]
    left_out = comparison.options.missing == "common"
    for name, found in comparison.unmatched.items():
        if found.no_hypothesis:
            text = (
                f"{name}: {_some(found.no_hypothesis)} without hypothesis, {found.words} {unit}: "
            )
            if left_out:
                rate = with_deletions(comparison, name).wer
                text += (
                    f"left out; as {found.words} deletions they would make the "
                    f"{UNITS[comparison.options.unit]} {rate:.2f} %."
                )
            else:
                text += f"taken for empty, {found.words} deletions."
            yield text
        if found.no_reference:
            yield f"{name}: {_some(found.no_reference)} without reference: left out."
        if found.others:
            yield f"{name}: {found.others} utterance(s) that another system lacks: left out."


def _empty_references(comparison: Comparison) -> Iterable[str]:
    for name, report in comparison.reports.items():
        counts = [one.counts for one in report.utterances.values()]
        empty = [one for one in counts if one.reference_length == 0]
        if empty:
            yield (
                f"{name}: {len(empty)} utterance(s) have an empty reference; the rates count their "
                f"{sum(one.insertions for one in empty)} insertions."
            )


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
    return f"{len(ids)} utterance(s) ({shown})"


def _speaker_table(report: WerReport, speakers: dict[str, str]) -> str:
    rows = [
        ["speaker", f"{UNITS[report.unit]} %", "sub", "del", "ins"]
        + [PLURALS[report.unit], "utterances"]
    ]
    for name, (number, counts) in errors_by_speaker(report, speakers).items():
        rows.append([name, f"{counts.wer:.2f}", *_counts(counts), str(number)])
    return format_table(rows)


def _confusion_table(found: Confusions, top: int, title: str) -> str:
    blocks = []
    for kind, items in (
        ("substitutions", [(f"{a} -> {b}", n) for (a, b), n in found.substitutions.items()]),
        ("deletions", list(found.deletions.items())),
        ("insertions", list(found.insertions.items())),
    ):
        if items:
            shown = f"{min(top, len(items))} of {len(items)}"
            blocks.append(f"{title}most frequent {kind} ({shown})")
            blocks += [f"{number:>7}  {text}" for text, number in items[:top]]
    return "\n".join(blocks)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns that line up, the first to the left, others to the right."""
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            text + " " * (width - columns(text)) if i == 0 else " " * (width - columns(text)) + text
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _counts(counts: ErrorCounts) -> list[str]:
    return [
        str(counts.substitutions),
        str(counts.deletions),
        str(counts.insertions),
        str(counts.reference_length),
    ]


def num_wrong(report: WerReport) -> int:
    """How many utterances have errors."""
    return sum(score.counts.errors > 0 for score in report.utterances.values())


def with_deletions(comparison: Comparison, name: str) -> ErrorCounts:
    """The errors of a system if references without its hypothesis are deletions, not left out."""
    total, words = comparison.reports[name].total, comparison.unmatched[name].words
    if comparison.options.missing != "common":
        return total
    return total + ErrorCounts(deletions=words, reference_length=words)


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Everything but the alignments, as plain values; a rate without reference words is None."""
    options = comparison.options
    systems = {}
    for name, report in comparison.reports.items():
        confusions, unmatched = count_confusions(report), comparison.unmatched[name]
        interval = comparison.intervals.get(name)
        systems[name] = {
            **_counts_json(report.total),
            "utterances": len(report.utterances),
            "utterances_with_errors": num_wrong(report),
            "interval": [interval.low, interval.high] if interval else None,
            "unmatched": {
                "no_hypothesis": list(unmatched.no_hypothesis),
                "no_hypothesis_words": unmatched.words,
                "no_reference": list(unmatched.no_reference),
                "lacking_in_other_systems": unmatched.others,
                "wer_with_deletions": _finite(with_deletions(comparison, name).wer),
            },
            "speakers": _speakers_json(report, comparison.speakers),
            "substitutions": [[*pair, n] for pair, n in confusions.substitutions.items()],
            "deletions": [[word, n] for word, n in confusions.deletions.items()],
            "insertions": [[word, n] for word, n in confusions.insertions.items()],
            "by_utterance": {
                key: _counts_json(score.counts) for key, score in report.utterances.items()
            },
        }
    return {
        "unit": options.unit,
        "missing": options.missing,
        "bootstrap": {
            "samples": options.num_samples if comparison.intervals else 0,
            "level": options.level,
            "seed": options.seed,
            "drawn": comparison.blocks[0],
            "number": comparison.blocks[1],
        },
        "differences": {
            name: {
                "estimate": found.estimate,
                "low": found.low,
                "high": found.high,
                "probability_better": found.probability_better,
            }
            for name, found in comparison.differences.items()
        },
        "systems": systems,
    }


def write_comparison_json(path: PathLike, comparison: Comparison) -> None:
    """Writes `comparison_json`, atomically: one line, which is faster to write than indented ones."""
    value = comparison_json(comparison)
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def _speakers_json(report: WerReport, speakers: dict[str, str] | None) -> dict[str, Any] | None:
    if speakers is None:
        return None
    return {
        name: {"utterances": number, **_counts_json(counts)}
        for name, (number, counts) in errors_by_speaker(report, speakers).items()
    }


def _counts_json(counts: ErrorCounts) -> dict[str, Any]:
    return {
        "wer": _finite(counts.wer),
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "reference_length": counts.reference_length,
    }


def _finite(rate: float) -> float | None:
    return rate if math.isfinite(rate) else None
