"""The cells of the speed table do the same work, ours and the reference's, and know how much it is."""

import pytest
import torch
from torch.testing import assert_close

from benchmarks import encoder_plan
from benchmarks.encoder_cells import OURS, REFERENCE, Cell, Key, measure, warm_up
from benchmarks.encoder_plan import Plan
from benchmarks.roofline import READING, Probe
from moe_asr.model.config import ModelConfig, preset

TINY = Plan(
    ["tiny"], ["fp32", "int8"], ["offline10", "chunk16"], [1, 3], [1],
    frozenset([("tiny", "offline10", 1), ("tiny", "chunk16", 1), ("tiny", "chunk16", 3)]),
)  # fmt: skip


@pytest.fixture(scope="module")
def cells() -> dict[Key, Cell]:
    return {cell.key: cell for cell in TINY.build()}


def test_all_combinations_are_there(cells: dict[Key, Cell]) -> None:
    expected = {
        Key("tiny", precision, mode, streams, 1, engine)
        for mode, streams in (("offline10", 1), ("chunk16", 1), ("chunk16", 3))
        for precision, engine in (("fp32", OURS), ("int8", OURS), ("fp32", REFERENCE))
    }
    assert set(cells) == expected


def test_audio_is_counted(cells: dict[Key, Cell]) -> None:
    for key, cell in cells.items():
        expected = 10.0 if key.mode == "offline10" else key.streams * 16 * 0.04
        assert cell.audio_seconds == pytest.approx(expected)
        assert cell.load is not None and 2.0 <= cell.load.used <= 4.0
        assert cell.load.entropy > 0.95, "the load is meant to be even"


@pytest.mark.parametrize(("mode", "streams"), [("offline10", 1), ("chunk16", 1), ("chunk16", 3)])
@torch.no_grad()
def test_ours_and_the_reference_encode_the_same(mode: str, streams: int) -> None:
    cells = {cell.key: cell for cell in TINY.build()}  # whose streams have gone equally far
    ours, reference = (
        cells[Key("tiny", "fp32", mode, streams, 1, engine)] for engine in (OURS, REFERENCE)
    )
    for _ in range(3 if mode == "chunk16" else 1):
        found, expected = ours.run(), reference.run()
        if mode == "offline10":
            found, expected = found[0], expected[0]
            assert found.shape == (1, 250, 32)
        else:
            found = torch.stack(list(found))
            assert found.shape == (streams, 16, 32)
        assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_int8_reads_less_and_does_as_much(cells: dict[Key, Cell]) -> None:
    full, eight = (cells[Key("tiny", p, "chunk16", 3, 1)] for p in ("fp32", "int8"))
    assert full.work.flops == eight.work.flops and full.work.int8_flops == 0.0
    assert eight.work.weight_bytes < 0.5 * full.work.weight_bytes


def test_everything_is_measured_in_every_round(cells: dict[Key, Cell]) -> None:
    before = torch.get_num_threads()
    some = [cell for key, cell in cells.items() if key.mode == "chunk16"]
    called: list[int] = []
    warm_up(some)
    assert all(not cell.rounds for cell in some)
    peaks = measure(some, [Probe(READING, "one", 1.0, called.append)], 3, 0.0001)
    torch.set_num_threads(before)
    assert len(called) > 3 and set(called) == set(peaks) == {1}
    assert peaks[1].best(READING) > 0.0
    for cell in some:
        assert len(cell.rounds) == 3 and cell.seconds == sorted(cell.rounds)[1]
        if cell.key.engine == OURS:
            assert cell.phases is not None and (cell.phases > 0).all()
        assert cell.rtf == cell.seconds / cell.audio_seconds


@torch.no_grad()
def test_dense_models_and_the_order_of_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest is built first, and what its cells need is there when its own weights are not."""
    built = []

    def make(name: str) -> ModelConfig:
        return preset("tiny", **({"num_experts": 1, "num_chosen": 1} if name == "dense" else {}))

    monkeypatch.setattr(encoder_plan, "preset", make)
    build = encoder_plan.build_encoder
    monkeypatch.setattr(
        encoder_plan, "build_encoder", lambda config: built.append(config) or build(config)
    )
    reference = frozenset([("dense", "offline10", 1)])
    plan = Plan(["dense", "tiny"], ["fp32"], ["offline10"], [1], [1], reference)
    ours, plain, other = plan.build()
    assert [one.key.preset for one in (ours, plain, other)] == ["dense", "dense", "tiny"]
    assert [config.num_experts for config in built] == [4, 1]
    assert_close(ours.run()[0], plain.run()[0], rtol=1e-3, atol=1e-3)
    assert ours.load is None and ours.work == plain.work
    assert 0 < ours.work.weight_bytes < other.work.weight_bytes
