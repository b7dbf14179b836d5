"""Scores an archive of lattices: measures each, prints tables, draws the oracle's curve and reliability."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from moe_asr.errors import GraphError
from moe_asr.evaluate.calibration import GREATEST_SCALE, LEAST_SCALE, Calibration, fit_scale
from moe_asr.evaluate.lattice_quality import (
    LatticeQuality,
    QualityOptions,
    QualitySummary,
    WordIds,
    check_same_utterances,
    confidences_of,
    measure_lattice,
)
from moe_asr.files import PathLike, write_json, write_text
from moe_asr.fsa.lattice_file import LatticeArchive
from moe_asr.text.symbol_table import SymbolTable


def score_archive(
    archive: LatticeArchive,
    references: Mapping[str, str],
    options: QualityOptions | None = None,
    hypotheses: Mapping[str, str] | None = None,
    table: SymbolTable | None = None,
    progress: bool = False,
) -> QualitySummary:
    """Measures every lattice of an archive, one after another.

    Args:
        references: texts by utterance; of tokens, with that unit.
        hypotheses: texts likewise, whose words get confidences; default: the best sequences.
        table: of words, or of tokens; default: that of the archive.
        progress: show a bar.

    Raises:
        DataError: if lattices and texts are not of the same utterances, or there are none.
        GraphError: naming the lattice that cannot be read or measured, or if there is no table.
    """
    options = options or QualityOptions()
    if table is None:
        table = archive.word_table if options.unit == "word" else archive.token_table
    if table is None:
        raise GraphError(f"{archive.path}: has no table of {options.unit}s: give one")
    check_same_utterances(archive.names, references, "references")
    if hypotheses is not None:
        check_same_utterances(archive.names, hypotheses, "hypotheses")
    ids = WordIds(table)
    summary = QualitySummary(options, ids)
    for name in tqdm(archive.names, "lattices", disable=not progress, unit=""):
        words = None if hypotheses is None else ids(hypotheses[name])
        lattice = archive.read(name)
        try:
            measured = measure_lattice(lattice, ids(references[name]), options, words)
        except GraphError as error:
            raise GraphError(f"{archive.path}: lattice {name!r}: {error}") from error
        except AssertionError as error:
            raise AssertionError(f"{archive.path}: lattice {name!r}: {error}") from error
        summary.utterances[name] = measured
    return summary


def fit_confidence_scale(
    archive: LatticeArchive, summary: QualitySummary, progress: bool = False
) -> tuple[float, Calibration]:
    """The scale of scores with which the confidences of the words have the least cross entropy.

    The scale is fitted on these very words: as a measure of confidences it is optimistic. Fit it on a
    development set.

    Returns:
        the scale, and the calibration with it.
    """

    def at(scale: float) -> Calibration:
        options = dataclasses.replace(summary.options, confidence_scale=scale)
        rows = [
            confidences_of(archive.read(name), utterance.words, options)[0]
            for name, utterance in tqdm(
                summary.utterances.items(),
                f"scale {scale:.3f}",
                disable=not progress,
                unit="",
                leave=False,
            )
        ]
        return summary.calibration(rows)

    scale, _ = fit_scale(lambda scale: at(scale).cross_entropy or 0.0)
    return scale, at(scale)


def write_report(
    directory: PathLike,
    summary: QualitySummary,
    fitted: tuple[float, Calibration] | None = None,
) -> dict[str, Any]:
    """Writes ``lattices.json``, ``confidences.txt``, ``nbest_oracle.png`` and ``calibration.png``.

    ``confidences.txt`` has a line for each word: utterance, word, confidence, and 1 if it is correct, else 0.

    Args:
        fitted: of `fit_confidence_scale`.

    Returns:
        what is in the JSON file, without the utterances.
    """
    from moe_asr.evaluate.lattice_pictures import calibration_figure, oracle_figure
    from moe_asr.fsa.lattice_canvas import write_figure

    directory = Path(directory)
    figures = summary.figures()
    given = summary.calibration()
    curves = {f"scale {summary.options.confidence_scale:g}": given}
    report = {
        "options": dataclasses.asdict(summary.options),
        **figures,
        "confidence": dataclasses.asdict(given),
    }
    if fitted is not None:
        scale, calibration = fitted
        curves[f"scale {scale:.3g}, fitted on this set"] = calibration
        report["confidence_fitted_on_this_set"] = {
            "scale": scale,
            **dataclasses.asdict(calibration),
        }
    utterances = {name: _plain(measured) for name, measured in summary.utterances.items()}
    write_json(directory / "lattices.json", {**report, "by_utterance": utterances})
    lines = [
        f"{name} {summary.ids.symbol(word)} {confidence:.6f} {int(right)}\n"
        for name, u in summary.utterances.items()
        for word, confidence, right in zip(u.words, u.confidences, u.correct, strict=True)
    ]
    write_text(directory / "confidences.txt", "".join(lines))
    write_figure(oracle_figure(figures), directory / "nbest_oracle.png")
    write_figure(calibration_figure(curves), directory / "calibration.png")
    return report


def _plain(measured: LatticeQuality) -> dict[str, Any]:
    info = measured.info
    return {
        "reference_length": len(measured.reference),
        "one_best_errors": sum(measured.best),
        "nbest_errors": list(measured.nbest_errors),
        "oracle_errors": sum(measured.oracle),
        "sequences": measured.sequences,
        "rank": measured.rank,
        "is_in_lattice": measured.is_in_lattice,
        "frames": info["frames"],
        "arcs": info["arcs"],
        "word_arcs": info["word_arcs"],
        "density": info["density"],
        "depth": info["depth"],
        "max_depth": info["max_depth"],
        "log10_paths": info["log10_paths"],
        "is_partial": info["is_partial"],
        "covered": measured.covered,
    }


def format_summary(report: Mapping[str, Any]) -> str:
    """Tables of what `write_report` returns."""
    total, unit = report["reference_length"], report["options"]["unit"]
    empty = report["empty_references"]
    rate = "WER %" if unit == "word" else "TER %"
    lines = [
        f"{report['utterances']:,} lattices, {total:,} {unit}s in the references, "
        f"{report['unknown_words']:,} of them not in the table",
        *(
            [f"empty references: {empty:,}; the rates count what is inserted there"]
            if empty
            else []
        ),
        "",
        f"{'':<16}{rate:>8}{'errors':>9}{'sub':>7}{'del':>7}{'ins':>7}",
    ]

    def row(title: str, found: Mapping[str, Any]) -> str:
        counts = "".join(
            f"{found[k]:>7,}" for k in ("substitutions", "deletions", "insertions") if k in found
        )
        return f"{title:<16}{_number(found['wer']):>8}{found['errors']:>9,}{counts}"

    lines.append(row("one best", report["one_best"]))
    lines += [row(f"best of {n}", found) for n, found in report["nbest_oracle"].items() if n != "1"]
    lines.append(row("lattice oracle", report["lattice_oracle"]))
    reference, count = report["reference"], report["utterances"]
    most = list(report["nbest_oracle"])[-1]

    def part(number: int) -> str:
        return f"{100.0 * number / count:.1f} %"

    lines += [
        "",
        f"reference     in the lattice {part(reference['in_lattice'])}, in the {most} best "
        f"{part(reference[f'in_{most}_best'])} (median rank {reference['median_rank'] or 'none'}), "
        f"the best {part(reference['first'])}",
    ]
    size = report["size"]
    lines += [
        f"size          {_number(size['arcs_per_frame'])} arcs and "
        f"{_number(size['word_arcs_per_frame'])} with words a frame, of {size['frames']:,}; "
        f"{size['arcs']:,} arcs, {size['states']:,} states",
        f"depth         {_number(size['mean_depth'])} arcs over a frame, at most "
        f"{size['max_depth'] or 'none'}; 10 ** {_number(size['mean_log10_paths'])} paths in the "
        "geometric mean",
    ]
    odd = [f"{size[what]:,} {what}" for what in ("empty", "partial") if size[what]]
    if odd:
        lines.append(f"              {', '.join(odd)}")
    lines += ["", *_calibration_lines(report)]
    return "\n".join(lines)


def _calibration_lines(report: Mapping[str, Any]) -> list[str]:
    rows = [(f"{report['options']['confidence_scale']:.3g}", report["confidence"], "")]
    fitted = report.get("confidence_fitted_on_this_set")
    if fitted is not None:
        rows.append((f"{fitted['scale']:.3g}", fitted, "  (fitted on this set: optimistic)"))
        if not 1.01 * LEAST_SCALE < fitted["scale"] < 0.99 * GREATEST_SCALE:
            rows[-1] = (*rows[-1][:2], rows[-1][2] + "; an end of the range that was searched")
    words, correct = rows[0][1]["words"], rows[0][1]["correct"]
    lines = [
        f"confidences of {words:,} words, {correct:,} correct",
        f"{'scale':>8}{'mean':>8}{'correct':>9}{'ECE':>8}{'NCE':>8}",
    ]
    for scale, found, remark in rows:
        share = correct / words if words else None
        lines.append(
            f"{scale:>8}{_number(found['mean_confidence'], 3):>8}{_number(share, 3):>9}"
            f"{_number(found['expected_calibration_error'], 3):>8}"
            f"{_number(found['normalised_cross_entropy'], 3):>8}{remark}"
        )
    if report["least_covered"] < 0.999:
        lines.append(
            "confidences are of the most probable paths only, where too many differ: of one lattice of "
            f"{100.0 * report['least_covered']:.1f} % of all, of the others of more"
        )
    return lines


def _number(value: float | None, digits: int = 2) -> str:
    return "none" if value is None else f"{value:,.{digits}f}"
