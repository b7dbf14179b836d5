"""What a decoding run comes to: files of hypotheses and alignments, figures, a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moe_asr.decode.runner import DecodingRun, texts
from moe_asr.evaluate.wer import PLURALS, UNITS, score, write_transcripts
from moe_asr.files import PathLike
from moe_asr.text.normalize import normalize_text
from moe_asr.text.tokenizer import Tokenizer


def evaluate_run(
    run: DecodingRun,
    references: Mapping[str, str],
    directory: PathLike,
    tokenizer: Tokenizer,
    unit: str = "word",
) -> dict[str, dict[str, Any]]:
    """Scores every method of a run and writes ``ref.txt``, ``hyp_*.txt``, ``alignment_*.txt``.

    A method whose texts are tokens that spell no words (greedy search over phones) is scored in those,
    against the tokens of the references, which are in ``ref_phone.txt``.

    Args:
        run: of `decode_cuts`.
        references: by utterance id; normalised as tokenizers do before they are compared.
        directory: where the files go.
        tokenizer: the model's.
        unit: what errors are counted in where texts have words, a key of `UNITS`.

    Returns:
        By method: wer (percent), substitutions, deletions, insertions, reference_words, rtf, unit. With
        another unit than "word" wer and reference_words are of that.

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
            expected = {
                name: tokenizer.decode(tokenizer.encode(text)) for name, text in references.items()
            }
            write_transcripts(directory / f"ref_{counted}.txt", expected)
        report = score(expected, found, counted)
        write_transcripts(directory / f"hyp_{method}.txt", found)
        report.write(directory / f"alignment_{method}.txt")
        total = report.total
        figures[method] = {
            "wer": total.wer,
            "substitutions": total.substitutions,
            "deletions": total.deletions,
            "insertions": total.insertions,
            "reference_words": total.reference_length,
            "rtf": run.rtf(method),
            "unit": counted,
        }
    return figures


def format_table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """``results[mode][method]`` of `evaluate_run` as a table; a star is at rates of another unit."""
    units = [row["unit"] for methods in results.values() for row in methods.values()]
    unit = next((unit for unit in units if unit != "phone"), "phone")
    others = [other for other in dict.fromkeys(units) if other != unit]
    lines = [
        f"{'mode':<14}{'method':<14}{f'{UNITS[unit]} %':>8} {'sub':>7}{'del':>7}{'ins':>7}"
        f"{PLURALS[unit]:>8}{'RTF':>9}"
    ]
    for mode, methods in results.items():
        for method, row in methods.items():
            mark = " " if row["unit"] == unit else "*"
            lines.append(
                f"{mode:<14}{method:<14}{row['wer']:>8.2f}{mark}{row['substitutions']:>7}"
                f"{row['deletions']:>7}{row['insertions']:>7}{row['reference_words']:>8}"
                f"{row['rtf']:>9.4f}"
            )
    lines += [
        f"* {UNITS[other]}: errors and rate of {PLURALS[other]}, not of {PLURALS[unit]}"
        for other in others
    ]
    return "\n".join(lines)
