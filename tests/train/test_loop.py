import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from moe_asr.data.batch import collate
from moe_asr.errors import TrainingError
from moe_asr.train.checkpoint import list_checkpoints, read_model_state
from moe_asr.train.history import read_history
from tests.train.toy import (
    NUM_BATCHES,
    ToyModel,
    make_batch,
    make_epoch,
    make_valid,
    toy_config,
    toy_trainer,
)

REPOSITORY = Path(__file__).parents[2]


def losses(directory, kind="train"):
    rows = read_history(directory / "history.jsonl")
    return [(row["step"], row["loss"]) for row in rows if row["kind"] == kind]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of 12 steps that nothing interrupted."""
    directory = tmp_path_factory.mktemp("straight")
    toy_trainer(directory).train()
    return directory


def test_matches_a_plain_torch_loop(tmp_path):
    """Without dropout, so that the reference needs no generator of its own."""
    config = toy_config(
        max_steps=7, max_grad_norm=0.3, checkpoint_interval=100, valid_interval=7,
        schedule="inverse_sqrt",
    )  # fmt: skip
    torch.manual_seed(5)
    reference, trained = ToyModel(dropout=0.0), ToyModel(dropout=0.0)
    trained.load_state_dict(reference.state_dict())
    toy_trainer(tmp_path, config, model=trained).train()

    groups = [{"params": [p]} for p in reference.parameters()]
    for group in groups:
        group["weight_decay"] = config.weight_decay if group["params"][0].ndim > 1 else 0.0
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=config.betas, eps=config.epsilon)
    expected, norms = [], []
    for step in range(1, 8):
        epoch, i = divmod(step - 1, NUM_BATCHES)
        batch = make_batch([epoch, i])
        loss = reference(
            batch.features, batch.feature_lengths, batch.targets, batch.target_lengths
        ).total
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.3)))
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * min(step / 3, math.sqrt(3 / max(step, 3)))
        optimizer.step()
        expected.append(loss.item())
    assert max(norms) > 0.3  # clipping took part
    rows = [row for row in read_history(tmp_path / "history.jsonl") if row["kind"] == "train"]
    assert [row["loss"] for row in rows] == pytest.approx(expected, abs=1e-6)
    assert [row["grad_norm"] for row in rows] == pytest.approx(norms, rel=1e-5)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_validation_loss_is_token_weighted_and_in_eval_mode(tmp_path, chunk_size):
    trainer = toy_trainer(tmp_path, toy_config(max_steps=4, valid_chunk_size=chunk_size))
    said = []
    trainer.report = said.append
    trainer.train()
    model = trainer.model.eval()
    expected = {}
    for key, options in (("loss", {}), ("chunk_loss", {"chunk_size": 2})):
        total, tokens = 0.0, 0
        with torch.no_grad():
            for batch in make_valid():
                found = model(
                    batch.features,
                    batch.feature_lengths,
                    batch.targets,
                    batch.target_lengths,
                    **options,
                )
                total, tokens = total + float(found.per_utterance.sum()), tokens + found.num_tokens
        expected[key] = pytest.approx(total / tokens, abs=1e-6)
    assert expected["loss"] != expected["chunk_loss"].expected
    (row,) = (row for row in read_history(tmp_path / "history.jsonl") if row["kind"] == "valid")
    assert row["step"] == 4 and row["loss"] == expected["loss"]
    if chunk_size is None:
        assert "chunk_loss" not in row and "chunks" not in said[0]
    else:
        assert row["chunk_loss"] == expected["chunk_loss"]
        assert f"{row['chunk_loss']:.4f} in chunks of 2" in said[0]
    assert trainer.state.best_valid_loss == row["loss"]


def test_validation_in_chunks_does_not_disturb_training(straight, tmp_path):
    toy_trainer(tmp_path, toy_config(valid_chunk_size=2)).train()
    assert losses(tmp_path) == losses(straight)
    assert losses(tmp_path, "valid") == losses(straight, "valid")


def test_loader_and_validation_do_not_disturb_training(straight, tmp_path):
    quiet = toy_trainer(
        tmp_path,
        toy_config(valid_interval=100),
        make_epoch=lambda epoch, skip: [make_batch([epoch, i]) for i in range(skip, NUM_BATCHES)],
        make_valid=None,
    )
    quiet.train()
    assert losses(tmp_path) == losses(straight)


def test_learns(tmp_path):
    config = toy_config(max_steps=60, checkpoint_interval=60, valid_interval=60)
    one_batch = [make_batch([0, 0])]
    toy_trainer(tmp_path, config, make_epoch=lambda epoch, skip: one_batch[skip:]).train()
    found = [loss for _, loss in losses(tmp_path)]
    assert found[-1] < 0.75 * found[0]


def test_resume_after_sigkill_gives_the_same_losses(straight, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.train.toy", str(tmp_path), "12", "0.15"], cwd=REPOSITORY
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "history.jsonl").exists() or len(losses(tmp_path)) < 6:
            assert process.poll() is None and time.monotonic() < deadline, process.poll()
            time.sleep(0.02)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    killed_after = len(losses(tmp_path))
    assert 6 <= killed_after < 12
    trainer = toy_trainer(tmp_path, seed=77)  # other parameters, to be replaced
    resumed_from = trainer.resume()
    assert resumed_from is not None and trainer.state.step in (4, 8)
    trainer.train()
    assert losses(tmp_path) == losses(straight)
    assert losses(tmp_path, "valid") == losses(straight, "valid")
    ours = read_model_state(list_checkpoints(tmp_path / "checkpoints")[-1])
    theirs = read_model_state(list_checkpoints(straight / "checkpoints")[-1])
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_says_how_to_resume(straight, tmp_path, number):
    def with_signal(epoch, skip):
        for i, batch in enumerate(make_epoch(epoch, skip)):
            if (epoch, i) == (1, 1):  # during step 7
                os.kill(os.getpid(), number)
            yield batch

    said = []
    handler = signal.getsignal(number)
    trainer = toy_trainer(tmp_path, make_epoch=with_signal)
    trainer.report = said.append
    result = trainer.train()
    assert signal.getsignal(number) is handler
    assert result.interrupted == signal.Signals(number).name
    assert result.step == 7 and result.last_checkpoint.name == "step-00000007"
    assert "run the same command again to resume" in said[-1]
    again = toy_trainer(tmp_path, seed=5)
    assert again.resume() == result.last_checkpoint
    assert again.train().interrupted is None
    assert losses(tmp_path) == losses(straight)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_interrupts_at_once(tmp_path, number):
    def with_signals(epoch, skip):
        for i, batch in enumerate(make_epoch(epoch, skip)):
            if (epoch, i) == (1, 1):  # during step 7
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), number)
            yield batch

    handler = signal.getsignal(number)
    trainer = toy_trainer(tmp_path, make_epoch=with_signals)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert signal.getsignal(number) is handler
    assert trainer.state.step == 6
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["step-00000004"]


def test_resume_with_open_log_interval_and_accumulation(tmp_path):
    """Neither rows nor updates are aligned with checkpoints or epochs (5 batches, 2 an update)."""
    config = toy_config(max_steps=11, log_interval=3, accumulation_steps=2, checkpoint_interval=4)
    toy_trainer(tmp_path / "straight", config).train()
    part = toy_trainer(tmp_path / "resumed", config)

    class Killed(Exception):
        pass

    def killed_in_step_10(epoch, skip):
        for batch in make_epoch(epoch, skip):
            if part.state.step == 9:
                raise Killed
            yield batch

    part.make_epoch = killed_in_step_10
    with pytest.raises(Killed):
        part.train()
    rest = toy_trainer(tmp_path / "resumed", config, seed=3)
    rest.resume()
    assert (rest.state.step, rest.state.epoch, rest.state.batch_in_epoch) == (8, 3, 1)
    rest.train()
    assert losses(tmp_path / "resumed") == losses(tmp_path / "straight")
    assert [step for step, _ in losses(tmp_path / "resumed")] == [3, 6, 9]


@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
def test_accumulation_equals_one_large_batch(tmp_path, max_grad_norm):
    parts = [make_batch(1, 2), make_batch(2, 7), make_batch(4, 4)]
    assert len({int(batch.target_lengths.sum()) for batch in parts}) == 3
    whole = collate(
        [x[:n] for b in parts for x, n in zip(b.features, b.feature_lengths, strict=True)],
        [y[:n].tolist() for b in parts for y, n in zip(b.targets, b.target_lengths, strict=True)],
        [name for b in parts for name in b.utterance_ids],
        [""] * 13,
        sum(b.durations_seconds for b in parts),
    )
    results = []
    for name, batches in (("parts", parts), ("whole", [whole])):
        config = toy_config(
            max_steps=2, accumulation_steps=len(batches), max_grad_norm=max_grad_norm
        )
        trainer = toy_trainer(
            tmp_path / name,
            config,
            model=None,
            make_epoch=lambda epoch, skip, batches=batches: batches[skip:],
            make_valid=None,
        )
        trainer.model.dropout.p = 0.0
        trainer.train()
        rows = read_history(tmp_path / name / "history.jsonl")
        results.append((rows, trainer.model.state_dict(), trainer.optimizer.state_dict()["state"]))
    (rows, state, moments), (whole_rows, whole_state, whole_moments) = results
    for row, whole_row in zip(rows, whole_rows, strict=True):
        assert row["loss"] == pytest.approx(whole_row["loss"], abs=1e-6)
        assert row["grad_norm"] == pytest.approx(whole_row["grad_norm"], rel=1e-5)
    for index, entries in moments.items():  # the first moment is the gradient itself, times 0.1
        expected = whole_moments[index]["exp_avg"]
        torch.testing.assert_close(entries["exp_avg"], expected, rtol=1e-4, atol=1e-7)
    for name in state:
        torch.testing.assert_close(state[name], whole_state[name], rtol=1e-4, atol=1e-5)


def poisoned(epoch, skip):
    """Step 6 (epoch 1, batch 0) has one utterance with a NaN feature."""
    for i, batch in enumerate(make_epoch(epoch, skip), start=skip):
        if (epoch, i) == (1, 0):
            batch.features[2, 0, 0] = float("nan")
        yield batch


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_nan_loss_names_the_utterance_and_keeps_the_checkpoint(tmp_path, accumulation_steps):
    trainer = toy_trainer(
        tmp_path,
        toy_config(accumulation_steps=accumulation_steps, checkpoint_interval=2),
        make_epoch=poisoned,
    )
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    step, kept = (6, "step-00000004") if accumulation_steps == 1 else (3, "step-00000002")
    message = str(caught.value)
    assert message.startswith(f"step {step}: the loss is not finite")
    assert "utt-[1, 0]-2" in message and "utt-[1, 0]-1" not in message
    assert "utt-[0, 4]" not in message and kept in message
    assert trainer.state.step == step - 1
    assert all(bool(torch.isfinite(p).all()) for p in trainer.model.parameters())
    assert toy_trainer(tmp_path).resume().name == kept


def test_nan_gradient_names_the_batch(tmp_path):
    class Root(ToyModel):
        """sqrt(0) has a finite value and an infinite slope."""

        def forward(self, *batch):
            found = super().forward(*batch)
            found.total = found.total + (self.output.bias * 0).abs().sum().sqrt()
            return found

    trainer = toy_trainer(tmp_path, model=Root())
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(TrainingError, match=r"step 1: the gradient norm is nan.* none ") as caught:
        trainer.train()
    assert all(f"utt-[0, 0]-{i}" in str(caught.value) for i in range(4))
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_validation_that_is_not_finite_is_an_error(tmp_path):
    def bad_valid():
        batch = make_batch(3)
        batch.features[1] = float("inf")
        return [make_batch(2), batch]

    with pytest.raises(TrainingError, match="step 4: the validation loss .*utterances: utt-3-1[.]"):
        toy_trainer(tmp_path, make_valid=bad_valid).train()


def test_no_batches_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match="epoch 0 has no training batches"):
        toy_trainer(tmp_path, make_epoch=lambda epoch, skip: []).train()


def test_last_and_best_checkpoints_are_kept(straight, tmp_path):
    valid = dict(losses(straight, "valid"))
    best = min(valid, key=valid.get)
    names = sorted(path.name for path in (straight / "checkpoints").iterdir())
    assert names == [
        f"best-{best:08d}.json",
        f"best-{best:08d}.safetensors",
        "step-00000004",
        "step-00000008",
        "step-00000012",
    ]
    toy_trainer(
        tmp_path, toy_config(checkpoint_interval=2, keep_last=2, average_last=2), make_valid=None
    ).train()
    found = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert found == ["step-00000010", "step-00000012"]
    assert (tmp_path / "loss.png").stat().st_size > 1000


def test_a_finished_run_does_nothing_more_and_another_is_not_overwritten(straight):
    before = (straight / "history.jsonl").read_bytes()
    again = toy_trainer(straight)
    again.resume()
    assert again.train().step == 12
    assert (straight / "history.jsonl").read_bytes() == before
    with pytest.raises(TrainingError, match="holds another run"):
        toy_trainer(straight).train()


def test_minutes_are_a_budget_across_resumes(tmp_path):
    """A clock that gains 6 s per reading: the run ends by time, at the lowest learning rate."""

    class Clock:
        now = 1000.0

        def __call__(self):
            self.now += 6.0
            return self.now

    options = {"max_steps": None, "max_minutes": 5.0, "schedule": "linear", "warmup_steps": 0}
    config = toy_config(**options, checkpoint_interval=10, valid_interval=1000)
    part = toy_trainer(tmp_path, config, clock=Clock())
    part.make_epoch = lambda epoch, skip: stop_at(part, 6, epoch, skip)
    assert part.train().interrupted == "SIGTERM"
    used = part.state.minutes
    assert 1.0 < used < 5.0
    rest = toy_trainer(tmp_path, config, clock=Clock())
    rest.resume()
    assert rest.state.minutes == pytest.approx(used, abs=0.2)
    result = rest.train()
    assert result.minutes >= 5.0 and result.step > 6
    rows = [row for row in read_history(tmp_path / "history.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, result.step + 1))
    previous = 0.0
    for row in rows:
        rate = 0.02 * (1 - 0.99 * min(previous / 5.0, 1.0))
        assert row["learning_rate"] == pytest.approx(rate, abs=0.02 * 0.1)
        previous = row["minutes"]
    assert rows[-1]["learning_rate"] < 0.1 * rows[0]["learning_rate"]
    finished = toy_trainer(tmp_path, config)
    finished.resume()
    assert finished.train().step == result.step


def stop_at(trainer, step, epoch, skip):
    for batch in make_epoch(epoch, skip):
        if trainer.state.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        yield batch
