"""What a picture of an alignment shows, and where."""

from pathlib import Path

import numpy as np
import pytest

from moe_asr.errors import ConfigError
from moe_asr.fsa.align import AlignedToken, AlignedWord, Alignment
from moe_asr.fsa.draw_alignment import alignment_figure
from moe_asr.fsa.lattice_canvas import write_figure
from moe_asr.fsa.time_correction import TimedWord
from moe_asr.text.symbol_table import SymbolTable

TOKENS = SymbolTable(["<blk>", "▁", "$x", "灯"])
ALIGNMENT = Alignment(
    "utt_$1",
    10,
    (AlignedToken(2, 2, 3, -0.5), AlignedToken(3, 6, 6, -0.25)),
    (AlignedWord("$x", 2, 3, (0, 1), 0.9), AlignedWord("灯", 6, 6, (1, 2), 0.8)),
    -2.0,
    0.0,
)


def figure_of(num_features: int = 40, **arguments: object):
    rng = np.random.default_rng(1)
    log_probs = np.log(rng.dirichlet(np.ones(4), 10)).astype(np.float32)
    words = [TimedWord("$x", 0.08, 0.2), TimedWord("灯", 0.24, 0.28)]
    features = rng.normal(size=(num_features, 8)).astype(np.float32)
    figure = alignment_figure(
        ALIGNMENT, words, log_probs, 0.04, TOKENS, features, 0.01, **arguments
    )
    return figure, log_probs


def test_words_tokens_and_posteriors_are_where_they_belong(tmp_path: Path) -> None:
    figure, log_probs = figure_of(references=[TimedWord("$x", 0.07, 0.21)])
    mel, posteriors = figure.axes
    assert [line.get_xdata()[0] for line in mel.lines] == [0.08, 0.2, 0.24, 0.28, 0.07, 0.21]
    assert [line.get_linestyle() == "--" for line in mel.lines] == [False] * 4 + [True] * 2
    labels = {text.get_text(): text.get_position()[0] for text in mel.texts}
    assert labels == {"$x": pytest.approx(0.14), "灯": pytest.approx(0.26)}
    assert posteriors.get_xlim() == (0.0, 0.4)
    named = {text.get_text(): text.get_position()[0] for text in posteriors.texts}
    assert named == {
        "$x": pytest.approx(0.1),
        "灯": pytest.approx(0.26),
    }  # the middle of frames 2, 6
    curves = [line.get_ydata() for line in posteriors.lines if len(line.get_ydata()) == 10]
    np.testing.assert_allclose(curves, np.exp(log_probs[:, [2, 3]]).T)
    assert figure._suptitle.get_text() == "utt_$1"
    for suffix in ("png", "svg"):
        write_figure(figure, tmp_path / f"p.{suffix}")
        assert (tmp_path / f"p.{suffix}").stat().st_size > 3000


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"utterance utt_\$1: 60.5 s are too long"):
        figure_of(num_features=6050)
