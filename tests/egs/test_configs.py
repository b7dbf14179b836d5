"""Every configuration that a recipe ships can be read, and the model in it built."""

from pathlib import Path

import pytest

from moe_asr.config import to_dict
from moe_asr.model.config import preset
from moe_asr.model.meta import build_on_meta
from moe_asr.train.setup import RunConfig, read_run_config

EGS = Path(__file__).parents[2] / "egs"
CONFIGS = sorted(EGS.glob("*/conf/*.yaml"))
PUBLIC = ("librispeech", "aishell")


def read(path: Path) -> RunConfig:
    return read_run_config(path, [], vocab_size=5000)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_the_model_builds(path: Path) -> None:
    config = read(path)
    model = build_on_meta(config.model)
    assert model.num_parameters() > model.config.vocab_size
    assert config.model.num_features == config.features.num_bins
    assert config.train.average_last * config.train.checkpoint_interval <= (
        config.train.max_steps or 10**9
    )


@pytest.mark.parametrize("corpus", PUBLIC)
def test_public_corpora_have_the_papers_model_and_its_baseline(corpus: str) -> None:
    moe, dense = (read(EGS / corpus / "conf" / f"{name}.yaml") for name in ("moe_1b", "dense_225m"))
    assert moe.model == preset("moe_1b", vocab_size=5000)
    assert dense.model == preset("dense_225m", vocab_size=5000)
    sizes = [build_on_meta(config.model).num_parameters() for config in (moe, dense)]
    assert 1.03e9 < sizes[0] < 1.05e9 and 0.21e9 < sizes[1] < 0.22e9
    # nothing else differs: the comparison is of the models
    assert {**to_dict(moe), "model": None} == {**to_dict(dense), "model": None}


def test_there_is_something_to_test() -> None:
    assert {path.parts[-3] for path in CONFIGS} >= {*PUBLIC, "spoken_digits", "voice_commands"}
