"""Options of the training loop."""

from dataclasses import dataclass

from moe_asr.train.schedule import SCHEDULES, learning_rate_factor

PRECISIONS = ("fp32", "bf16", "fp16")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    ``max_steps`` or ``max_minutes`` must be set; the first to be reached ends the training.

    Attributes:
        max_steps: optimiser steps (updates) of the whole run.
        max_minutes: wall-clock budget of the whole run, validation and checkpoints included;
            resumed runs count the minutes they had used. With it the schedules that follow the
            budget follow the clock (and a run is no longer bitwise repeatable).
        learning_rate: the peak, reached after ``warmup_steps`` updates.
        schedule: decay after the warm-up, one of `SCHEDULES`. "cosine" and "linear" follow the
            budget: a run ends at its lowest learning rate however fast the machine is.
            "inverse_sqrt" knows the updates only.
        final_lr_factor: the decay never falls below this part of ``learning_rate``.
        weight_decay: AdamW's, on parameters of two or more dimensions only.
        betas, epsilon: AdamW's decay rates of the two moments, and the term in its denominator.
        max_grad_norm: gradients are scaled down to this global norm; None leaves them alone.
        accumulation_steps: batches per update, which equals that of one batch holding them all.
        precision: "fp32", or autocast to "bf16" or "fp16" (fp16 on a GPU only, with loss scaling).
        valid_interval: updates between validations.
        valid_chunk_size: validate a second time under a mask of chunks of this many encoder frames,
            as a stream sees them (``chunk_loss``); None: in full context only.
        checkpoint_interval: updates between checkpoints.
        valid_interval_minutes, checkpoint_interval_minutes: the same by the clock, in addition.
        keep_last: checkpoints kept (the weights of the best step are kept besides).
        average_last: how many of the last checkpoints `export` averages unless told otherwise.
        log_interval: updates per line of ``history.jsonl`` and per point in TensorBoard.
        device: "cpu", "cuda", or "auto", which is the GPU where there is one.
        num_threads: CPU threads of torch; None leaves torch's choice.
        seed: of parameters, dropout, chunk sampling; the data have their own.
    """

    max_steps: int | None = None
    max_minutes: float | None = None
    learning_rate: float = 1e-3
    warmup_steps: int = 500
    schedule: str = "cosine"
    final_lr_factor: float = 0.01
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-8
    max_grad_norm: float | None = 5.0
    accumulation_steps: int = 1
    precision: str = "fp32"
    valid_interval: int = 500
    valid_chunk_size: int | None = None
    checkpoint_interval: int = 500
    valid_interval_minutes: float | None = None
    checkpoint_interval_minutes: float | None = None
    keep_last: int = 10
    average_last: int = 5
    log_interval: int = 10
    device: str = "auto"
    num_threads: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        if self.max_steps is None and self.max_minutes is None:
            raise ValueError("set max_steps or max_minutes (or both)")
        for name in (
            "max_steps",
            "max_minutes",
            "learning_rate",
            "epsilon",
            "max_grad_norm",
            "accumulation_steps",
            "valid_interval",
            "valid_chunk_size",
            "checkpoint_interval",
            "valid_interval_minutes",
            "checkpoint_interval_minutes",
            "keep_last",
            "average_last",
            "log_interval",
            "num_threads",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, found {value!r}")
        for name in ("warmup_steps", "weight_decay", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, found {getattr(self, name)!r}")
        for name, choices in (
            ("schedule", tuple(SCHEDULES)),
            ("precision", PRECISIONS),
            ("device", DEVICES),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}; found {getattr(self, name)!r}"
                )
        if not 0 <= self.final_lr_factor <= 1:
            raise ValueError(f"final_lr_factor must be in [0, 1], found {self.final_lr_factor}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), found {self.betas}")
        if self.average_last > self.keep_last:
            raise ValueError(
                f"average_last ({self.average_last}) checkpoints are averaged at the end, "
                f"but only keep_last ({self.keep_last}) are kept"
            )

    def progress(self, step: int, minutes: float) -> float:
        """Part of the budget, in [0, 1], that ``step`` updates and ``minutes`` have used."""
        parts = [0.0]
        if self.max_steps is not None:
            parts.append(step / self.max_steps)
        if self.max_minutes is not None:
            parts.append(minutes / self.max_minutes)
        return min(max(parts), 1.0)

    def learning_rate_at(self, step: int, minutes: float) -> float:
        """The learning rate of update number ``step`` (from 1), ``minutes`` into training."""
        return self.learning_rate * learning_rate_factor(
            self.schedule,
            step,
            self.progress(step - 1, minutes),
            self.warmup_steps,
            self.final_lr_factor,
        )
