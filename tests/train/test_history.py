import pytest

from moe_asr.errors import CheckpointError
from moe_asr.train.history import History, draw_loss_curve, read_history


def test_rows_after_the_resumed_step_are_dropped(tmp_path):
    history = History(tmp_path)
    for step in range(1, 6):
        history.add("train", step, {"loss": 1.0 / step, "nan": float("nan")})
    history.close()
    with open(tmp_path / "history.jsonl", "a", encoding="utf-8") as file:
        file.write('{"kind": "train", "step": 6, "lo')  # killed while writing
    history = History(tmp_path, step=3)
    history.add("train", 4, {"loss": 9.0})
    history.close()
    rows = read_history(tmp_path / "history.jsonl")
    found = [(row["step"], row["loss"]) for row in rows]
    assert found == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 9.0)]
    assert "nan" not in rows[0]


def test_tensorboard_holds_the_scalars(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = History(tmp_path)
    history.add("train", 3, {"loss": 0.25})
    history.add("valid", 4, {"loss": 0.5})
    history.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(3, 0.25)]
    assert [(e.step, e.value) for e in events.Scalars("valid/loss")] == [(4, 0.5)]


def test_malformed_line_is_named(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"kind": "train", "step": 1}\nrubbish\n', encoding="utf-8")
    with pytest.raises(CheckpointError, match="history.jsonl:2"):
        read_history(path)


@pytest.mark.parametrize(
    "kind, key", [("train", "loss"), ("valid", "loss"), ("valid", "chunk_loss")]
)
def test_curve_shows_the_losses(tmp_path, kind, key):
    """Two series of the same range, and so with the same axes, differ in the curve only."""
    from matplotlib.image import imread

    images = []
    for losses in ([4.0, 3.0, 2.0, 1.0, 2.0], [4.0, 1.0, 2.0, 3.0, 2.0]):
        rows = [{"kind": kind, "step": i, key: loss} for i, loss in enumerate(losses)]
        draw_loss_curve(rows, tmp_path / "curve.png")
        images.append(imread(tmp_path / "curve.png"))
    assert images[0].shape == images[1].shape == (450, 800, 4)
    inside = abs(images[0] - images[1])[100:380, 120:700]  # of the axes
    assert (inside.max(axis=-1) > 0.5).sum() > 200
    draw_loss_curve([], tmp_path / "empty.png")
