"""The training loop."""

import dataclasses
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from moe_asr.errors import TrainingError
from moe_asr.files import PathLike
from moe_asr.nn.moe.statistics import RoutingStatistics, collect_routing, draw_routing
from moe_asr.train.best import keep_best, list_best, save_best
from moe_asr.train.checkpoint import (
    TrainState,
    list_checkpoints,
    remove_checkpoint,
    remove_unfinished,
    restore,
    save_checkpoint,
)
from moe_asr.train.config import TrainConfig
from moe_asr.train.history import History
from moe_asr.train.interrupt import stop_on_signals
from moe_asr.train.optim import (
    autocast,
    global_norm,
    gradients,
    make_grad_scaler,
    make_optimizer,
    scale_,
)
from moe_asr.train.random_state import preserved_random_state, seed_everything
from moe_asr.train.valid_loss import (
    PARTS,
    compute_losses,
    loss_parts,
    mean_losses,
    not_finite,
    routing_values,
)

CHECKPOINTS, ROUTING = "checkpoints", "routing.png"
MIN_FP16_SCALE = 2.0**-10  # below it the gradients themselves, not the loss scale, are at fault


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How `Trainer.train` ended. ``interrupted`` names the signal that stopped it, if one did."""

    step: int
    minutes: float
    best_valid_loss: float | None
    best_step: int | None
    last_checkpoint: Path
    interrupted: str | None


class Trainer:
    """Trains ``model`` until its budget is used, with checkpoints that resume exactly.

    Args:
        model: ``model(features, feature_lengths, targets, target_lengths)`` gives a `ModelLosses`:
            ``total`` is the mean loss per target token, which is what is minimised. It is on its
            device already. The routing of its mixture layers is logged at validation. It takes
            ``chunk_size`` as well if ``config.valid_chunk_size`` is set.
        config: see `TrainConfig`; ``device``, ``num_threads`` are the caller's to apply.
        make_epoch: ``(epoch, skip_batches)`` -> the batches of that epoch without the first
            ``skip_batches``; they may depend on nothing else.
        output_dir: gets ``checkpoints/``, ``history.jsonl``, ``tensorboard/`` and ``loss.png``.
        make_valid: gives the validation batches, the same ones each time; None: no validation.
        run_config: JSON values that each checkpoint carries along.
        report: takes the lines that are printed besides the progress bar.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        make_epoch: Callable[[int, int], Iterable[Any]],
        output_dir: PathLike,
        make_valid: Callable[[], Iterable[Any]] | None = None,
        run_config: Mapping[str, Any] | None = None,
        report: Callable[[str], None] = tqdm.write,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.config = config
        self.make_epoch = make_epoch
        self.make_valid = make_valid
        self.output_dir = Path(output_dir)
        self.checkpoint_dir = self.output_dir / CHECKPOINTS
        self.run_config = dict(run_config or {})
        self.report = report
        self.clock = clock
        self.device = next(model.parameters()).device
        self.autocast = lambda: autocast(config.precision, self.device)
        self.autocast()  # an impossible precision is an error now, not at the first step
        self.optimizer = make_optimizer(model, config)
        self.scaler = make_grad_scaler(config.precision)
        self.state = TrainState()
        self._sums: dict[str, float] = {}  # of the steps since the last row of the history
        self._routing: dict[str, RoutingStatistics] = {}  # of the last validation
        self.last_checkpoint: Path | None = None
        self._saved = (0, False)  # (step, finished) of the last checkpoint
        self._saved_best: int | None = None  # the best step that the last checkpoint knows

    def resume(self) -> Path | None:
        """Restores the newest checkpoint of ``output_dir`` and returns it; None if there is none.

        What killed runs left half-written is tidied up. If the parameters of the best step are not
        there any more, the run looks for the best one afresh.

        Raises:
            CheckpointError: it is damaged, or of another architecture.
        """
        remove_unfinished(self.checkpoint_dir)
        found = list_checkpoints(self.checkpoint_dir)
        if not found:
            return None
        self.state, extra = restore(found[-1], self.model, self.optimizer)
        if extra["grad_scaler"]:  # of a run in fp16; an enabled scaler refuses an empty state
            self.scaler.load_state_dict(extra["grad_scaler"])
        self._sums = dict(extra["sums"])
        self.last_checkpoint, self._saved = found[-1], (self.state.step, self._finished())
        if self.state.best_step not in list_best(self.checkpoint_dir):
            self.state.best_valid_loss = self.state.best_step = None
        self._saved_best = self.state.best_step
        return found[-1]

    def train(self) -> TrainResult:
        """Trains from the current state to the end of the budget, or until SIGINT or SIGTERM.

        On a signal the step is finished and a checkpoint saved. A second one interrupts at once.

        Raises:
            TrainingError: a loss or gradient is not finite (the utterances are named, the optimiser
                has not stepped, the last checkpoint stays), or there are no training batches.
        """
        if self.last_checkpoint is None:
            if list_checkpoints(self.checkpoint_dir):
                raise TrainingError(
                    f"{self.checkpoint_dir} holds another run; resume() it or move it"
                )
            seed_everything(self.config.seed)
        remove_unfinished(self.checkpoint_dir)
        keep_best(self.checkpoint_dir, {self.state.best_step})
        history = History(self.output_dir, self.state.step)
        started = self.clock() - 60.0 * self.state.minutes
        batches = self._batches()
        self.model.train()
        try:
            with stop_on_signals() as stop, self._progress_bar() as bar:
                valid_minutes = saved_minutes = self.state.minutes
                while not stop and not self._finished():
                    self._step(batches)
                    self.state.step += 1
                    self.state.minutes = (self.clock() - started) / 60.0
                    self._show(bar)
                    if self.state.step % self.config.log_interval == 0:
                        self._log(history)
                    if self._due("valid_interval", valid_minutes) or self._finished():
                        self._validate(history)
                        self.state.minutes = valid_minutes = (self.clock() - started) / 60.0
                    if self._due("checkpoint_interval", saved_minutes):
                        self._save()
                        self._draw(history)
                        self.state.minutes = saved_minutes = (self.clock() - started) / 60.0
                if self._finished() and self.state.valid_step != self.state.step:
                    self._validate(history)
                if self.last_checkpoint is None or self._saved != (
                    self.state.step,
                    self._finished(),
                ):
                    self._save()
                    self._draw(history)
        finally:
            batches.close()
            history.close()
        assert self.last_checkpoint is not None
        if stop:
            self.report(
                f"stopped by {stop.signal_name} after step {self.state.step}, saved in "
                f"{self.last_checkpoint}; run the same command again to resume"
            )
        return TrainResult(
            self.state.step,
            self.state.minutes,
            self.state.best_valid_loss,
            self.state.best_step,
            self.last_checkpoint,
            stop.signal_name,
        )

    def _finished(self) -> bool:
        return self.config.progress(self.state.step, self.state.minutes) >= 1.0

    def _due(self, interval: str, since_minutes: float) -> bool:
        minutes: float | None = getattr(self.config, interval + "_minutes")
        return self.state.step % getattr(self.config, interval) == 0 or (
            minutes is not None and self.state.minutes - since_minutes >= minutes
        )

    def _batches(self) -> Generator[Any, None, None]:
        """The batches from the current position on, epoch after epoch, without end."""
        while True:
            for batch in self.make_epoch(self.state.epoch, self.state.batch_in_epoch):
                self.state.batch_in_epoch += 1
                yield batch
            if self.state.batch_in_epoch == 0:
                raise TrainingError(f"epoch {self.state.epoch} has no training batches")
            self.state.epoch += 1
            self.state.batch_in_epoch = 0

    def _step(self, batches: Iterator[Any]) -> None:
        """One update from ``accumulation_steps`` batches; leaves its sums in ``_sums``.

        The loss of the whole is sum_i n_i L_i / sum_i n_i, for n_i target tokens of batch i. The
        n_i are known only after each forward pass, so batch i is weighted by n_i / n_1 (about 1,
        which suits fp16) and the gradient is multiplied by n_1 / sum_i n_i in the end.
        """
        config, step = self.config, self.state.step + 1
        began = self.clock()
        utterance_ids: list[list[str]] = []
        per_utterance: list[Tensor] = []
        part_sums = torch.zeros(len(PARTS), dtype=torch.float64, device=self.device)
        tokens: list[int] = []
        audio_seconds = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        for _ in range(config.accumulation_steps):
            with preserved_random_state():
                batch = next(batches)
            batch = batch.to(self.device, non_blocking=True)
            with self.autocast():
                losses = compute_losses(self.model, batch)
            tokens.append(int(losses.num_tokens))
            weight = tokens[-1] / max(tokens[0], 1)
            self.scaler.scale(losses.total * weight).backward()
            part_sums += loss_parts(losses, self.device) * tokens[-1]
            utterance_ids.append(list(batch.utterance_ids))
            per_utterance.append(losses.per_utterance.detach())
            audio_seconds += batch.durations_seconds
        learning_rate = config.learning_rate_at(step, self.state.minutes)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.unscale_(self.optimizer)
        grads = gradients(self.optimizer)
        # One read-back from the device for the losses and the gradient norm.
        *values, norm = torch.cat([part_sums, global_norm(grads).double().reshape(1)]).tolist()
        normaliser = max(tokens[0], 1) / max(sum(tokens), 1)
        norm *= normaliser
        self._check_finite(step, values, norm, utterance_ids, per_utterance)
        factor = normaliser
        if config.max_grad_norm is not None and norm > config.max_grad_norm:
            factor *= config.max_grad_norm / norm
        if factor != 1.0:
            scale_(grads, factor)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._add("updates", 1)
        self._add("tokens", sum(tokens))
        for part, value in zip(PARTS, values, strict=True):
            self._add(part, value)
        self._add("grad_norm", norm if math.isfinite(norm) else 0.0)
        self._add("audio_seconds", audio_seconds)
        self._add("seconds", self.clock() - began)

    def _add(self, name: str, value: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value

    def _check_finite(
        self,
        step: int,
        values: list[float],
        norm: float,
        utterance_ids: list[list[str]],
        per_utterance: list[Tensor],
    ) -> None:
        """Raises `TrainingError` naming the utterances if a loss or the gradient is not finite.

        In fp16 a gradient that overflows is normal: the scaler skips the step and lowers its scale.
        """
        losses_finite = all(math.isfinite(value) for value in values)
        if losses_finite and math.isfinite(norm):
            return
        if losses_finite and self.scaler.is_enabled() and self.scaler.get_scale() >= MIN_FP16_SCALE:
            return
        what = f"the gradient norm is {norm}" if losses_finite else "the loss is not finite"
        every = [name for names in utterance_ids for name in names]
        guilty = not_finite(utterance_ids, per_utterance)
        if guilty:
            named = f"utterances with a loss that is not finite: {', '.join(guilty)}"
        else:
            named = f"utterances of the update: {', '.join(every)}"
        raise TrainingError(
            f"step {step}: {what}; {named}. The last good checkpoint stays: {self._kept()}"
        )

    def _validate(self, history: History) -> None:
        """Logs mean losses over the validation batches in evaluation mode; saves the best model.

        Raises:
            TrainingError: a loss is not finite, naming the utterances; or there are no batches.
        """
        if self.make_valid is None:
            return
        chunk_size = self.config.valid_chunk_size
        self.model.eval()
        try:
            with preserved_random_state(self.config.seed):
                with collect_routing(self.model) as self._routing:
                    values = self._mean_losses(self.make_valid())
                if chunk_size is not None:
                    in_chunks = self._mean_losses(self.make_valid(), chunk_size)
                    values["chunk_loss"] = in_chunks["total"]
        except TrainingError as error:
            raise TrainingError(
                f"step {self.state.step}: {error}. The last good checkpoint stays: {self._kept()}"
            ) from error
        self.model.train()
        loss = values.pop("total")
        values = {"loss": loss, **values, **routing_values(self._routing)}
        history.add("valid", self.state.step, values)
        self.state.valid_step = self.state.step
        best = self.state.best_valid_loss
        is_best = best is None or loss < best
        self.report(
            f"step {self.state.step}, epoch {self.state.epoch}, {self.state.minutes:.1f} min: "
            f"validation loss {loss:.4f}"
            + (f", {values['chunk_loss']:.4f} in chunks of {chunk_size}" if chunk_size else "")
            + (" (best)" if is_best else "")
        )
        if is_best:
            save_best(self.checkpoint_dir, self.model, self.state.step, loss)
            self.state.best_valid_loss, self.state.best_step = loss, self.state.step
            # A run that is killed now resumes from the last checkpoint, which names its own best.
            keep_best(self.checkpoint_dir, {self.state.best_step, self._saved_best})

    def _mean_losses(
        self, batches: Iterable[Any], chunk_size: int | None = None
    ) -> dict[str, float]:
        return mean_losses(self.model, batches, self.device, self.autocast, chunk_size)

    def _save(self) -> None:
        """Writes a checkpoint and deletes those beyond ``keep_last``, and superseded best models."""
        extra = {
            "config": self.run_config,
            "grad_scaler": self.scaler.state_dict(),
            "sums": self._sums,
        }
        self.last_checkpoint = save_checkpoint(
            self.checkpoint_dir, self.model, self.optimizer, self.state, extra
        )
        self._saved, self._saved_best = (self.state.step, self._finished()), self.state.best_step
        keep_best(self.checkpoint_dir, {self._saved_best})
        for old in list_checkpoints(self.checkpoint_dir)[: -self.config.keep_last]:
            remove_checkpoint(old)

    def _kept(self) -> str:
        return str(self.last_checkpoint or "there is none yet")

    def _draw(self, history: History) -> None:
        history.draw()
        if self._routing:
            draw_routing(self._routing, self.output_dir / ROUTING)

    def _log(self, history: History) -> None:
        """Writes the means over the steps since the last row, and starts new sums."""
        sums, self._sums = self._sums, {}
        means = {part: sums[part] / max(sums["tokens"], 1) for part in PARTS}
        history.add(
            "train",
            self.state.step,
            {
                "loss": means.pop("total"),
                **means,
                "grad_norm": sums["grad_norm"] / sums["updates"],
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "epoch": self.state.epoch,
                "minutes": self.state.minutes,
                "times_real_time": sums["audio_seconds"] / max(sums["seconds"], 1e-9),
            },
        )

    @contextmanager
    def _progress_bar(self) -> Iterator[Any]:
        with tqdm(
            total=self.config.max_steps,
            initial=self.state.step,
            unit="step",
            dynamic_ncols=True,
            disable=None,  # where the output is no terminal
        ) as bar:
            yield bar

    def _show(self, bar: Any) -> None:
        bar.update(1)
        if not bar.disable and self._sums:
            sums, minutes = self._sums, f"{self.state.minutes:.1f}"
            if self.config.max_minutes is not None:
                minutes += f"/{self.config.max_minutes:g}"
            bar.set_postfix_str(
                f"epoch {self.state.epoch}, loss {sums['total'] / max(sums['tokens'], 1):.3f}, "
                f"{sums['audio_seconds'] / max(sums['seconds'], 1e-9):.0f}x real time, "
                f"{minutes} min",
                refresh=False,
            )
