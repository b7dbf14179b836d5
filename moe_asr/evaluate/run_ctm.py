"""The words of a decoding run with their times, as ctm files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moe_asr.decode.registry import Hypothesis
from moe_asr.decode.runner import DecodingRun
from moe_asr.errors import ConfigError
from moe_asr.evaluate.alignment_report import FrameTimes
from moe_asr.evaluate.ctm import CtmWord, write_ctm
from moe_asr.evaluate.word_ctm import path_ctm, word_cutter
from moe_asr.files import PathLike
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.time_correction import TimeCorrection
from moe_asr.fsa.word_times import WordCutter

if TYPE_CHECKING:
    from moe_asr.model.directory import LoadedModel


def write_run_ctm(
    run: DecodingRun,
    directory: PathLike,
    loaded: "LoadedModel",
    graph: DecodingGraph | None,
    durations: Mapping[str, float],
    correction: TimeCorrection | None = None,
) -> list[Path]:
    """Writes ``hyp_METHOD.ctm`` for every method whose hypotheses have paths.

    Args:
        run: of methods made with ``keep_paths``.
        loaded: the model that decoded.
        graph: that was searched.
        durations: seconds of each utterance.
        correction: of the times, see docs/alignment.md.

    Returns:
        The files.

    Raises:
        ConfigError: if there is no graph, or it is not of words.
        GraphError: if the tokens of a path do not spell its words.
    """
    graph = word_graph_of(graph)
    cutter = word_cutter(graph, loaded.tokenizer)
    times = FrameTimes.of_model(loaded.fbank_options, loaded.model.config.subsampling)
    files = []
    for method, hypotheses in run.hypotheses.items():
        if not any(hypothesis.path is not None for hypothesis in hypotheses.values()):
            continue
        words: list[CtmWord] = []
        for name, hypothesis in hypotheses.items():
            words += _words(
                hypothesis, cutter, graph, times.frame_shift_seconds, durations[name], correction
            )
        files.append(Path(directory) / f"hyp_{method}.ctm")
        write_ctm(files[-1], words)
    return files


def word_graph_of(graph: DecodingGraph | None) -> DecodingGraph:
    """The graph, if there is one and it is of words; `ConfigError` if not."""
    if graph is None or graph.kind not in ("HLG", "LG"):
        raise ConfigError("word times are of methods with a graph of words")
    return graph


def _words(
    hypothesis: Hypothesis,
    cutter: WordCutter,
    graph: DecodingGraph,
    frame_shift_seconds: float,
    duration: float,
    correction: TimeCorrection | None,
) -> Sequence[CtmWord]:
    if hypothesis.path is None:
        return []
    return path_ctm(
        hypothesis.utterance_id,
        hypothesis.path,
        cutter,
        graph.word_table,
        frame_shift_seconds,
        correction,
        duration,
        hypothesis.confidences,
        hypothesis.is_partial,
    )
