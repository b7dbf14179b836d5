"""What a decoding run comes to: files of hypotheses and alignments, figures, a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moe_asr.decode.runner import DecodingRun, texts
from moe_asr.evaluate.wer import score, write_transcripts
from moe_asr.files import PathLike
from moe_asr.text.cjk import text_words
from moe_asr.text.tokenizer import Tokenizer


def evaluate_run(
    run: DecodingRun, references: Mapping[str, str], directory: PathLike, tokenizer: Tokenizer
) -> dict[str, dict[str, Any]]:
    """Scores every method of a run and writes ``ref.txt``, ``hyp_*.txt``, ``alignment_*.txt``.

    Words are those of `text_words`: a Chinese character is one, so for Chinese this is the character
    error rate, however its words are spaced. A method whose texts are tokens that spell no words (greedy
    search over phones) is scored by tokens, against those that ``tokenizer`` gives for the reference, in
    ``ref_phone.txt``; its figures are of phones, then, and ``unit`` says so.

    Args:
        run: of `decode_cuts`.
        references: by utterance id.
        directory: where the files go.
        tokenizer: the model's.

    Returns:
        By method: wer (percent), substitutions, deletions, insertions, reference_words, unit, rtf.

    Raises:
        DataError: if references and hypotheses are not of the same utterances.
    """
    directory = Path(directory)
    words = {name: " ".join(text_words(text)) for name, text in references.items()}
    write_transcripts(directory / "ref.txt", words)
    figures: dict[str, dict[str, Any]] = {}
    for method, hypotheses in run.hypotheses.items():
        unit = run.units[method]
        found = texts(hypotheses)
        if unit == "word":
            expected = words
            found = {name: " ".join(text_words(text)) for name, text in found.items()}
        else:
            expected = {
                name: tokenizer.decode(tokenizer.encode(text)) for name, text in references.items()
            }
            write_transcripts(directory / f"ref_{unit}.txt", expected)
        report = score(expected, found)
        write_transcripts(directory / f"hyp_{method}.txt", found)
        report.write(directory / f"alignment_{method}.txt", unit)
        total = report.total
        figures[method] = {
            "wer": total.wer,
            "substitutions": total.substitutions,
            "deletions": total.deletions,
            "insertions": total.insertions,
            "reference_words": total.reference_length,
            "unit": unit,
            "rtf": run.rtf(method),
        }
    return figures


def format_table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """``results[mode][method]`` of `evaluate_run` as a table; a star is at rates that are not of words."""
    lines = [
        f"{'mode':<14}{'method':<14}{'WER %':>8} {'sub':>7}{'del':>7}{'ins':>7}"
        f"{'words':>8}{'RTF':>9}"
    ]
    others: dict[str, None] = {}
    for mode, methods in results.items():
        for method, row in methods.items():
            mark = " "
            if row["unit"] != "word":
                others[row["unit"]] = None
                mark = "*"
            lines.append(
                f"{mode:<14}{method:<14}{row['wer']:>8.2f}{mark}{row['substitutions']:>7}"
                f"{row['deletions']:>7}{row['insertions']:>7}{row['reference_words']:>8}"
                f"{row['rtf']:>9.4f}"
            )
    lines += [f"* errors and rate of {unit}s, not of words" for unit in others]
    return "\n".join(lines)
