"""What a run leaves to look at: ``history.jsonl``, TensorBoard events and the loss curve."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moe_asr.errors import CheckpointError, MissingDependencyError
from moe_asr.files import PathLike, atomic_path, read_text, write_text

HISTORY, CURVE, EVENTS = "history.jsonl", "loss.png", "tensorboard"
CURVES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (  # (kind, key of the row, label, style)
    ("train", "loss", "train", {"linewidth": 0.8}),
    ("valid", "loss", "valid", {"marker": "o", "markersize": 3}),
    ("valid", "chunk_loss", "valid, in chunks", {"marker": "s", "markersize": 3}),
)


class History:
    """Appends rows to ``history.jsonl`` and scalars to TensorBoard, and draws ``loss.png``.

    A row is ``{"kind": "train" | "valid", "step": ..., name: number, ...}``. Rows after ``step``
    (of a run that was killed and resumes from there) are dropped, so every step is there once.

    Args:
        directory: the run's output directory.
        step: the last step that is kept.
    """

    def __init__(self, directory: PathLike, step: int = 0) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.path = self.directory / HISTORY
        rows = [row for row in read_history(self.path) if row["step"] <= step]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = open(self.path, "a", encoding="utf-8")
        self._events = _summary_writer(self.directory / EVENTS, step + 1)

    def add(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Writes one row; values that are not finite are left out."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._file.write(json.dumps({"kind": kind, "step": step, **finite}) + "\n")
        self._file.flush()
        for name, value in finite.items():
            self._events.add_scalar(f"{kind}/{name}", value, step)

    def draw(self) -> None:
        """Draws training and validation losses and the learning rate over the steps."""
        draw_loss_curve(read_history(self.path), self.directory / CURVE)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._events.close()


def read_history(path: PathLike) -> list[dict[str, Any]]:
    """The rows of a ``history.jsonl``; none if it is absent. A last line cut by a kill is left out.

    Raises:
        CheckpointError: a line is not a row, naming file and line.
    """
    if not Path(path).exists():
        return []
    rows = []
    lines = read_text(path).splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
            row["step"], row["kind"]
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}:{number}: not a row of a training history") from error
        rows.append(row)
    return rows


def draw_loss_curve(rows: list[dict[str, Any]], path: PathLike) -> None:
    """Writes the loss curve as a PNG, atomically.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "the loss curve needs matplotlib: pip install matplotlib"
        ) from error
    figure = Figure(figsize=(8, 4.5), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    losses: list[float] = []
    for kind, key, label, style in CURVES:
        points = [(row["step"], row[key]) for row in rows if row["kind"] == kind and key in row]
        if points:
            axes.plot([x for x, _ in points], [y for _, y in points], label=label, **style)
            losses += [y for _, y in points]
    if losses and min(losses) > 0:
        axes.set_yscale("log")
    axes.set_xlabel("update")
    axes.set_ylabel("loss per target token")
    rates = [(row["step"], row["learning_rate"]) for row in rows if "learning_rate" in row]
    if rates:
        right = axes.twinx()
        right.plot([x for x, _ in rates], [y for _, y in rates], color="0.8", linewidth=0.8)
        right.set_ylabel("learning rate", color="0.6")
    if losses:
        axes.legend(loc="upper right")
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(str(temporary), format="png")


def _summary_writer(directory: Path, purge_step: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(
            f"training writes TensorBoard events: pip install tensorboard setuptools ({error})"
        ) from error
    return SummaryWriter(str(directory), purge_step=purge_step)
