"""What a decoding run comes to: files of hypotheses and alignments, figures, a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moe_asr.decode.runner import DecodingRun, texts
from moe_asr.evaluate.wer import score, write_transcripts
from moe_asr.files import PathLike
from moe_asr.text.normalize import normalize_text


def evaluate_run(
    run: DecodingRun, references: Mapping[str, str], directory: PathLike
) -> dict[str, dict[str, Any]]:
    """Scores every method of a run and writes ``ref.txt``, ``hyp_*.txt``, ``alignment_*.txt``.

    Args:
        run: of `decode_cuts`.
        references: by utterance id; normalised as tokenizers do before they are compared.
        directory: where the files go.

    Returns:
        By method: wer (percent), substitutions, deletions, insertions, reference_words, rtf.

    Raises:
        DataError: if references and hypotheses are not of the same utterances.
    """
    directory = Path(directory)
    references = {name: normalize_text(text) for name, text in references.items()}
    write_transcripts(directory / "ref.txt", references)
    figures: dict[str, dict[str, Any]] = {}
    for method, hypotheses in run.hypotheses.items():
        found = texts(hypotheses)
        report = score(references, found)
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
        }
    return figures


def format_table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """``results[mode][method]`` of `evaluate_run` as a table."""
    lines = [
        f"{'mode':<14}{'method':<14}{'WER %':>8}{'sub':>7}{'del':>7}{'ins':>7}"
        f"{'words':>8}{'RTF':>9}"
    ]
    for mode, methods in results.items():
        for method, row in methods.items():
            lines.append(
                f"{mode:<14}{method:<14}{row['wer']:>8.2f}{row['substitutions']:>7}"
                f"{row['deletions']:>7}{row['insertions']:>7}{row['reference_words']:>8}"
                f"{row['rtf']:>9.4f}"
            )
    return "\n".join(lines)
