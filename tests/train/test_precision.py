"""Training in bf16 and fp16, and the loss scaling of fp16."""

import pytest
import torch

from moe_asr.errors import ConfigError, TrainingError
from moe_asr.train.history import read_history
from tests.train.toy import NUM_BATCHES, ToyModel, make_batch, toy_config, toy_trainer

TORCH_2 = int(torch.__version__.split(".")[0]) >= 2
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
needs_cpu_scaler = pytest.mark.skipif(
    not hasattr(torch.amp, "GradScaler"), reason="this torch scales losses on a GPU only"
)


def losses(directory):
    rows = read_history(directory / "history.jsonl")
    return [row["loss"] for row in rows if row["kind"] == "train"]


def plain_epoch(epoch, skip):
    return [make_batch([epoch, i]) for i in range(skip, NUM_BATCHES)]


def train(directory, device="cpu", **changes):
    torch.manual_seed(3)
    trainer = toy_trainer(
        directory,
        toy_config(max_steps=10, device=device, **changes),
        model=ToyModel(dropout=0.0).to(device),
        make_epoch=plain_epoch,
    )
    trainer.train()
    return trainer


@pytest.mark.skipif(TORCH_2, reason="torch 2 has it")
def test_torch_1_refuses_bf16_on_a_cpu_at_once(tmp_path):
    with pytest.raises(ConfigError, match="bf16 on a CPU needs torch 2.0"):
        toy_trainer(tmp_path, toy_config(precision="bf16"))


def test_fp16_on_a_cpu_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        toy_trainer(tmp_path, toy_config(precision="fp16"))


def check_against_fp32(directory, device, precision):
    """Nearly the losses of fp32 (though not the same), with parameters that stay in fp32."""
    train(directory / "fp32", device)
    trainer = train(directory / precision, device, precision=precision)
    exact, found = losses(directory / "fp32"), losses(directory / precision)
    assert found == pytest.approx(exact, rel=0.03) and found != exact
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert trainer.scaler.is_enabled() == (precision == "fp16")
    again = toy_trainer(
        directory / precision,
        toy_config(max_steps=12, device=device, precision=precision),
        model=ToyModel(dropout=0.0).to(device),
        make_epoch=plain_epoch,
    )
    again.resume()
    assert again.scaler.state_dict() == trainer.scaler.state_dict()
    assert again.train().step == 12


@pytest.mark.skipif(not TORCH_2, reason="torch 1 refuses it")
def test_bf16_on_a_cpu(tmp_path):
    check_against_fp32(tmp_path, "cpu", "bf16")


@needs_cuda
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_on_a_gpu(tmp_path, precision):
    check_against_fp32(tmp_path, "cuda", precision)


@needs_cuda
def test_fp32_run_resumed_in_fp16_on_a_gpu(tmp_path):
    train(tmp_path, "cuda")
    config = toy_config(max_steps=12, device="cuda", precision="fp16")
    trainer = toy_trainer(tmp_path, config, model=ToyModel().to("cuda"), make_epoch=plain_epoch)
    trainer.resume()
    assert trainer.scaler.is_enabled() and trainer.train().step == 12


class StrictScaler:
    """As an enabled `GradScaler` of any torch: it refuses the state of a disabled one."""

    def load_state_dict(self, state):
        if not state:
            raise RuntimeError("The source state dict is empty")
        self.state = state


def test_an_enabled_scaler_takes_an_fp32_run(tmp_path):
    train(tmp_path)
    trainer = toy_trainer(tmp_path, toy_config(max_steps=12))
    trainer.scaler = StrictScaler()
    assert trainer.resume() is not None and trainer.state.step == 10


def scaled_trainer(directory, scale, model=None):
    """On the CPU in fp32, but with an enabled scaler."""
    torch.manual_seed(3)
    trainer = toy_trainer(
        directory,
        toy_config(max_steps=10),
        make_epoch=plain_epoch,
        model=model or ToyModel(dropout=0.0),
    )
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return trainer


@needs_cpu_scaler
def test_scaling_changes_nothing_and_is_resumed(tmp_path):
    train(tmp_path / "plain")
    trainer = scaled_trainer(tmp_path / "scaled", 2.0**13)
    trainer.train()
    assert losses(tmp_path / "scaled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)
    again = scaled_trainer(tmp_path / "scaled", 2.0)
    again.resume()
    assert again.scaler.get_scale() == 2.0**13


class OverflowsOnce(ToyModel):
    """An infinite gradient from a finite loss in the third update."""

    def forward(self, *batch, **options):
        found = super().forward(*batch, **options)
        self.calls = getattr(self, "calls", 0) + self.training
        if self.training and self.calls in self.overflows:
            found.total = found.total + (self.output.bias * 0).abs().sum().sqrt()
        return found


@needs_cpu_scaler
def test_an_overflow_skips_the_update_and_lowers_the_scale(tmp_path):
    trainer = scaled_trainer(tmp_path, 2.0**13, model=OverflowsOnce())
    trainer.model.overflows = {3}
    seen = {}

    def watched(epoch, skip):
        for batch in plain_epoch(epoch, skip):
            state = {name: p.clone() for name, p in trainer.model.state_dict().items()}
            seen[trainer.state.step] = (state, trainer.scaler.get_scale())
            yield batch

    trainer.make_epoch = watched
    assert trainer.train().step == 10
    (before, scale), (after, lower), (later, _) = seen[2], seen[3], seen[4]
    assert (scale, lower) == (2.0**13, 2.0**12)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not torch.equal(later["output.bias"], after["output.bias"])


@needs_cpu_scaler
def test_overflows_without_end_are_an_error(tmp_path):
    trainer = scaled_trainer(tmp_path, 2.0**-8, model=OverflowsOnce())
    trainer.model.overflows = range(100)
    with pytest.raises(TrainingError, match=r"step 4: the gradient norm is nan.*'?utt-\[0, 3\]-0"):
        trainer.train()
