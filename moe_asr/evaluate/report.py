"""What a decoding run comes to: files of hypotheses and alignments, figures, a table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moe_asr.decode.registry import Hypothesis
from moe_asr.decode.runner import DecodingRun, texts
from moe_asr.evaluate.bootstrap import wer_interval
from moe_asr.evaluate.wer import PLURALS, UNITS, WerReport, score, write_transcripts
from moe_asr.files import PathLike, write_text
from moe_asr.text.normalize import normalize_text
from moe_asr.text.tokenizer import Tokenizer


def evaluate_run(
    run: DecodingRun,
    references: Mapping[str, str],
    directory: PathLike,
    tokenizer: Tokenizer,
    unit: str = "word",
) -> dict[str, dict[str, Any]]:
    """Scores every method of a run; writes ``ref.txt``, ``hyp_*``, ``alignment_*`` and ``nbest_*`` files.

    A method whose texts are tokens that spell no words (greedy search over phones) is scored in those,
    against the tokens of the references, which are in ``ref_phone.txt``.

    Args:
        run: of `decode_cuts`.
        references: by utterance id; normalised as tokenizers do before they are compared.
        directory: where the files go.
        tokenizer: the model's.
        unit: what errors are counted in where texts have words, a key of `UNITS`.

    Returns:
        By method: wer (percent), its interval (the bootstrap's 95 %, two numbers; None of one utterance or no
        words), substitutions, deletions, insertions, reference_words, rtf, second_pass_rtf (None without a
        first pass), unit. With another unit than "word" wer and reference_words are of that.

    Raises:
        DataError: if references and hypotheses are not of the same utterances.
    """
    directory = Path(directory)
    references = {name: normalize_text(text) for name, text in references.items()}
    write_transcripts(directory / "ref.txt", references)
    figures: dict[str, dict[str, Any]] = {}
    for method, hypotheses in run.hypotheses.items():
        found, expected, counted = texts(hypotheses), references, unit
        if run.units[method] != "word":
            counted = run.units[method]
            expected = texts_in(counted, references, tokenizer)
            write_transcripts(directory / f"ref_{counted}.txt", expected)
        report = score(expected, found, counted)
        write_transcripts(directory / f"hyp_{method}.txt", found)
        report.write(directory / f"alignment_{method}.txt")
        if any(hypothesis.alternatives for hypothesis in hypotheses.values()):
            write_text(directory / f"nbest_{method}.jsonl", _nbest_lines(hypotheses))
        total = report.total
        figures[method] = {
            "wer": total.wer,
            "interval": _interval(report),
            "substitutions": total.substitutions,
            "deletions": total.deletions,
            "insertions": total.insertions,
            "reference_words": total.reference_length,
            "rtf": run.rtf(method),
            "second_pass_rtf": run.second_pass_rtf(method),
            "unit": counted,
        }
    return figures


def texts_in(unit: str, references: Mapping[str, str], tokenizer: Tokenizer) -> dict[str, str]:
    """The references in a unit: in that of a tokenizer that spells no words, their tokens."""
    if tokenizer.spells_words or unit != tokenizer.kind:
        return dict(references)
    return {name: tokenizer.decode(tokenizer.encode(text)) for name, text in references.items()}


def _interval(report: WerReport) -> list[float] | None:
    counts = [scored.counts for scored in report.utterances.values()]
    if len(counts) < 2 or not report.total.reference_length:
        return None
    interval = wer_interval(
        [count.errors for count in counts], [count.reference_length for count in counts]
    )
    return [interval.low, interval.high]


def _nbest_lines(hypotheses: Mapping[str, Hypothesis]) -> str:
    """A line an utterance: its id, and the n-best list with scores."""
    return "".join(
        json.dumps(
            {
                "id": name,
                "nbest": [
                    {"text": " ".join(one.words), "score": one.score, **one.parts}
                    for one in hypothesis.alternatives
                ],
            },
            ensure_ascii=False,
        )
        + "\n"
        for name, hypothesis in hypotheses.items()
    )


def format_table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """``results[mode][method]`` of `evaluate_run` as a table; a star is at rates of another unit."""
    units = [row["unit"] for methods in results.values() for row in methods.values()]
    unit = next((unit for unit in units if unit != "phone"), "phone")
    others = [other for other in dict.fromkeys(units) if other != unit]
    width = max([6, *(len(method) for methods in results.values() for method in methods)]) + 2
    lines = [
        f"{'mode':<14}{'method':<{width}}{f'{UNITS[unit]} %':>8} {'95 %':>15}{'sub':>7}{'del':>7}{'ins':>7}"
        f"{PLURALS[unit]:>8}{'RTF':>9}{'2nd pass':>10}"
    ]
    for mode, methods in results.items():
        for method, row in methods.items():
            mark = " " if row["unit"] == unit else "*"
            interval = (
                "-" if row["interval"] is None else "{:.2f} .. {:.2f}".format(*row["interval"])
            )
            second = "-" if row["second_pass_rtf"] is None else f"{row['second_pass_rtf']:.4f}"
            lines.append(
                f"{mode:<14}{method:<{width}}{row['wer']:>8.2f}{mark}{interval:>15}"
                f"{row['substitutions']:>7}{row['deletions']:>7}{row['insertions']:>7}"
                f"{row['reference_words']:>8}{row['rtf']:>9.4f}{second:>10}"
            )
    lines += [
        f"* {UNITS[other]}: errors and rate of {PLURALS[other]}, not of {PLURALS[unit]}"
        for other in others
    ]
    return "\n".join(lines)
