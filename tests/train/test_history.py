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


def test_curve_shows_the_losses(tmp_path):
    from matplotlib.image import imread

    row = {"kind": "train", "learning_rate": 0.1}
    rows = [{**row, "step": i, "loss": 2.0 / i} for i in range(1, 9)]
    draw_loss_curve([], tmp_path / "empty.png")
    draw_loss_curve(rows, tmp_path / "curve.png")
    empty, curve = imread(tmp_path / "empty.png"), imread(tmp_path / "curve.png")
    assert empty.shape == curve.shape == (450, 800, 4)
    assert abs(curve - empty).max() > 0.5
