"""Tuning: a sweep counts what decoding at each point gives; files of scales; the commands."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_asr.cli.main import main
from moe_asr.decode.registry import DecodingResources, make_method
from moe_asr.decode.runner import decode_cuts
from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.draw_sweep import draw_sweep
from moe_asr.evaluate.report import evaluate_run
from moe_asr.evaluate.scales import Scales, options_by_mode, read_scales, scales_record
from moe_asr.evaluate.tune import Sweep, tune
from moe_asr.evaluate.wer import score, split_text
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.text.lexicon import Lexicon
from moe_asr.text.phone import PhoneTokenizer
from tests.decode.conftest import Workplace, workplace
from tests.decode.test_second_pass_methods import REFERENCES, WIDE, graph, model, resources

__all__ = ["graph", "model", "resources", "workplace"]  # fixtures


def decoded(
    workplace: Workplace, resources: DecodingResources, name: str, options
) -> dict[str, str]:
    method = make_method(name, resources, options)
    run = decode_cuts(workplace.loaded, workplace.cuts, [method], "chunk4", progress=False)
    return {key: found.text for key, found in run.hypotheses[name].items()}


@pytest.mark.parametrize(
    ("method", "options", "grid"),
    [
        (
            "lattice_attention_rescoring",
            WIDE,
            {"attention_scale": [2.0, 0.0], "reverse_weight": [0.0, 1.0], "lm_scale": [0.5]},
        ),
        (
            "attention_rescoring",
            {"beam_size": 30},
            {"ctc_scale": [0.1, 1.0], "length_bonus": [-5.0, 0.0, 40.0]},
        ),
        ("one_best", WIDE, {"lm_scale": [0.0, 1.0, 30.0]}),
        ("attention", {}, {"length_bonus": [0.0, 1.5, 3.0]}),
    ],
)
def test_a_sweep_is_decoding_at_every_point(workplace, resources, method, options, grid) -> None:
    given = workplace, resources, method
    # what one point finds is right, so that the others are wrong
    texts = decoded(*given, {**options, **{name: values[-1] for name, values in grid.items()}})

    def errors(point: dict[str, float]) -> int:
        return score(texts, decoded(*given, {**options, **point}), "char").total.errors

    sweep = tune(
        workplace.loaded, workplace.cuts, texts, resources, [method], {method: options},
        {method: grid}, "chunk4", unit="char", progress=False,
    )[method]  # fmt: skip
    assert sweep.grid == {name: tuple(sorted(values)) for name, values in grid.items()}
    assert sweep.num_units == sum(len(split_text(text, "char")) for text in texts.values()) > 0
    for index in np.ndindex(*sweep.errors.shape):
        places = zip(sweep.grid.items(), index, strict=True)
        point = {name: values[i] for (name, values), i in places}
        assert sweep.errors[index] == errors(point), point
    assert sweep.default_errors == errors({})
    assert np.ptp(sweep.errors) > 0  # else nothing was tried
    assert sweep.best_errors == errors(sweep.best) == 0


def test_the_bonus_of_autoregressive_decoding_is_tuned_by_default(workplace, resources) -> None:
    sweep = tune(
        workplace.loaded, workplace.cuts, REFERENCES, resources, ["attention"], progress=False
    )["attention"]
    (bonuses,) = sweep.grid.values()
    assert list(sweep.grid) == ["length_bonus"] and bonuses[0] == 0.0 and len(bonuses) > 3
    assert sweep.errors[0] == sweep.default_errors


def test_phones_are_tuned_as_they_are_scored(workplace, model, tmp_path: Path) -> None:
    """A method that finds phones counts their errors, not those of words that it cannot spell."""
    phones = [f"p{i}" for i in range(workplace.loaded.tokenizer.vocab_size - 3)]
    spelled = {"one": phones[:2], "two": [*phones[2:5], phones[0]]}
    lexicon = "".join(f"{word} {' '.join(row)}\n" for word, row in spelled.items())
    lexicon += "rest " + " ".join(phones) + "\n"
    (tmp_path / "lexicon.txt").write_text(lexicon)
    tokenizer = PhoneTokenizer.from_lexicon(Lexicon.read(tmp_path / "lexicon.txt"))
    loaded = replace(workplace.loaded, tokenizer=tokenizer)
    resources = DecodingResources(tokenizer, model=model)
    name, grid = "attention_rescoring", {"length_bonus": (-20.0, 0.0, 20.0)}
    sweep = tune(
        loaded, workplace.cuts, REFERENCES, resources, [name], grids={name: grid}, progress=False
    )[name]
    assert sweep.unit == "phone" and np.ptp(sweep.errors) > 0
    words = " ".join(REFERENCES.values()).split()
    assert sweep.num_units == sum(len(spelled[word]) for word in words)
    for bonus, errors in zip(grid["length_bonus"], sweep.errors, strict=True):
        method = make_method(name, resources, {"length_bonus": bonus})
        run = decode_cuts(loaded, workplace.cuts, [method], progress=False)
        row = evaluate_run(run, REFERENCES, tmp_path, tokenizer)[name]
        assert row["substitutions"] + row["deletions"] + row["insertions"] == errors


def test_decoders_that_are_not_there_are_not_tuned(workplace, model, resources) -> None:
    one_way = copy.copy(model)
    one_way._modules = {**model._modules, "right_to_left": None}
    given = replace(resources, model=one_way)
    for name in ("attention_rescoring", "lattice_attention_rescoring"):
        arguments = workplace.loaded, workplace.cuts, REFERENCES, given, [name]
        options = {name: {"reverse_weight": 0.0}}
        grid = {"reverse_weight": [], "attention_scale": [0.0, 1.0]}
        sweep = tune(*arguments, options, {name: grid}, progress=False)[name]
        assert sweep.grid == {"reverse_weight": (0.0,), "attention_scale": (0.0, 1.0)}
        make_method(name, given, sweep.best)
        grid = {"reverse_weight": [0.0, 0.5]}
        with pytest.raises(ConfigError, match=r"reverse_weight=0.5 asks for a decoder"):
            tune(*arguments, options, {name: grid}, progress=False)


def sweep_of(errors, **grid) -> Sweep:
    return Sweep("m", grid, np.array(errors), 200, dict.fromkeys(grid, 0.0), 9)


def test_of_equally_good_points_the_middle_one_is_taken() -> None:
    sweep = sweep_of([5, 2, 2, 2, 7], attention_scale=(0.0, 0.1, 0.2, 0.3, 0.4))
    assert sweep.best == {"attention_scale": 0.2} and sweep.at_edge() == []
    assert (sweep.best_errors, sweep.rate(sweep.best_errors)) == (2, 1.0)
    square = sweep_of([[3, 1], [1, 1]], lm_scale=(0.5, 1.0), reverse_weight=(0.0, 1.0))
    assert square.best == {"lm_scale": 1.0, "reverse_weight": 1.0}
    assert square.at_edge() == ["lm_scale"]  # a weight has no more than 1
    assert square.curve("lm_scale").tolist() == [1, 1]
    assert square.curve("reverse_weight").tolist() == [1, 1]
    assert sweep_of([1, 2], lm_scale=(0.5, 1.0)).at_edge() == ["lm_scale"]
    assert sweep_of([1, 2], lm_scale=(0.0, 1.0)).at_edge() == []


def test_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number, grid in enumerate(
        ({"a": (0.0, 1.0)}, {"a": (0.0, 1.0), "b": (2.0,)}, dict.fromkeys("abc", (0.0, 0.5, 1.0)))
    ):
        errors = rng.integers(0, 9, [len(values) for values in grid.values()])
        draw_sweep(sweep_of(errors, **grid), tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_grids_and_references(workplace, resources) -> None:
    def tuned(method: str, grid=None, references=REFERENCES) -> None:
        grids = {method: grid} if grid else None
        tune(workplace.loaded, workplace.cuts, references, resources, [method], None, grids)

    for method, grid, message in (
        ("one_best", {"lm_scal": [1.0]}, "one_best has no option 'lm_scal'"),
        ("nbest", {"n": [1.0]}, "nbest.n is no real number"),
        ("one_best", {"search_beam": []}, "no values for one_best.search_beam"),
        ("lattice_attention_rescoring", {"reverse_weight": [2.0]}, "reverse_weight must be"),
        ("ctc_greedy", None, "ctc_greedy has no scales"),
        ("attention", {"length_bonus": np.linspace(0, 1, 600)}, "at most 500"),
        ("attention_rescoring", dict.fromkeys(["ctc_scale", "attention_scale"], range(1, 1100)), "too large"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            tuned(method, grid)
    with pytest.raises(DataError, match="not of the same utterances"):
        tuned("one_best", references={"other": "one"})


def test_files_of_scales(tmp_path: Path, resources) -> None:
    options = make_method("one_best", resources, {"search_beam": 9.0}).options
    sweep = Sweep("one_best", {"lm_scale": (0.5, 1.0)}, np.array([3, 1]), 10, {"lm_scale": 1.0}, 1)
    record = scales_record({"full": sweep}, options, REFERENCES, "dev")
    path = tmp_path / "scales.json"
    path.write_text(json.dumps(record))
    found = read_scales([path], ["one_best"])["one_best"]
    assert found.options("full", {"search_beam": 9.0}) == {"search_beam": 9.0, "lm_scale": 1.0}
    assert found.is_of(REFERENCES) and not found.is_of([*REFERENCES, "another"])
    with pytest.raises(ConfigError, match="not tuned in mode chunk16, but in full"):
        found.options("chunk16", {})
    with pytest.raises(ConfigError, match=r"both give one_best\.lm_scale"):
        found.options("full", {"lm_scale": 2.0})
    with pytest.raises(ConfigError, match="are both of one_best"):
        read_scales([path, path], ["one_best"])
    with pytest.raises(ConfigError, match="one_best is not among the methods"):
        read_scales([path], ["mbr"])
    with pytest.raises(ConfigError, match="no scales of mbr, ctc_greedy"):
        read_scales([tmp_path], ["mbr", "ctc_greedy"])
    path.rename(tmp_path / "one_best.json")
    listed = read_scales([tmp_path], ["one_best", "nbest_oracle", "mbr"])
    assert list(listed) == ["one_best", "nbest_oracle"]  # which begins with the one-best
    assert listed["nbest_oracle"].options("full", {"n": 5}) == {"n": 5, "lm_scale": 1.0}
    (tmp_path / "one_best.json").rename(path)
    for wrong in ({}, [], {**record, "modes": {"full": {}}}, {**record, "modes": 3}):
        with pytest.raises(ConfigError, match="f.json: no file of tuned scales"):
            Scales.from_record(wrong, "f.json")
    record["modes"]["full"]["scales"] = {"lm_skale": 1.0}
    with pytest.raises(ConfigError, match=r"f.json: full: unknown key 'lm_skale'"):
        Scales.from_record(record, "f.json")
    record["method"] = "two_best"
    with pytest.raises(ConfigError, match="unknown decoding method 'two_best'"):
        Scales.from_record(record, "f.json")


def test_tune_then_decode_with_what_it_found(
    workplace: Workplace, graph: DecodingGraph, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph.save(tmp_path / "LG.safetensors")
    common = ["--model", str(workplace.model_dir), "--manifest", str(workplace.manifest)]
    common += ["--graph", str(tmp_path / "LG.safetensors"), "--threads", "1"]
    wide = ["--option", "all.search_beam=60"]
    method = ["--method", "lattice_attention_rescoring"]
    first = ["decode", *common, *wide, "--method", "one_best", *method, "--lattices"]
    assert main([*first, "--output", str(tmp_path / "first")]) == 0
    assert "2nd pass" in capsys.readouterr().out
    lattices = tmp_path / "first" / "full" / "lattices_one_best.safetensors"
    assert not (lattices.parent / "lattices_lattice_attention_rescoring.safetensors").exists()
    scales = tmp_path / "scales"
    sweep = ["tune", *common, *method, "--method", "one_best", "--output", str(scales)]
    sweep += ["--grid", f"{method[1]}.attention_scale"]
    grid = ["--grid", f"{method[1]}.lm_scale=0,0.5,1"]
    assert main([*sweep, *grid, "--lattices", str(lattices)]) == 0
    said = capsys.readouterr().out
    assert f"{method[1]}, full: WER" in said and "(33 points)" in said
    assert "one_best, full: WER" in said and "(80 points)" in said
    row = json.loads((scales / f"{method[1]}.json").read_text())["modes"]["full"]
    assert (scales / f"{method[1]}.full.png").is_file()

    again = ["decode", *common, *wide, *method, "--output", str(tmp_path / "second")]
    assert main([*again, "--scales", str(scales)]) == 0
    capsys.readouterr()
    figures = json.loads((tmp_path / "second" / "results.json").read_text())["full"][method[1]]
    assert figures["wer"] == pytest.approx(row["rate"])
    assert figures["scales"] == row["scales"] and figures["tuned_on_this_set"] is True
    options = json.loads((tmp_path / "second" / "options.json").read_text())["options"]
    assert options["full"][method[1]] == {"search_beam": 60, **row["scales"]}
    lines = (tmp_path / "second" / "full" / f"nbest_{method[1]}.jsonl").read_text().splitlines()
    listed = {entry["id"]: entry["nbest"] for entry in map(json.loads, lines)}
    hypotheses = (tmp_path / "second" / "full" / f"hyp_{method[1]}.txt").read_text().splitlines()
    assert [f"{name} {found[0]['text']}".strip() for name, found in listed.items()] == hypotheses
    assert set(listed["utt-0"][0]) >= {"acoustic", "graph", "left_to_right", "right_to_left"}

    for command, message in (
        ([*again, "--scales", str(scales), "--mode", "chunk4"], "not tuned in mode chunk4"),
        ([*again, "--scales", str(scales), "--option", f"{method[1]}.lm_scale=1"], "both give"),
        (["decode", *common, "--scales", str(scales), "--output", "o"], "no scales of ctc_greedy"),
        ([*again, "--option", "all.bean=1"], "all.bean: no method has such an option"),
        (
            [*sweep, "--grid", "one_best.lm_scale="],
            "--grid one_best.lm_scale=: expected METHOD.NAME",
        ),
        (
            [*sweep, "--lattices", str(lattices), "--mode", "chunk4"],
            "lattices of mode full, not of chunk4",
        ),
        (
            [*sweep, "--lattices", str(lattices), "--option", "all.graph_scale=0.5"],
            "searched with graph_scale 1.0, the options say 0.5",
        ),
        (
            [*sweep, "--lattices", str(lattices), "--grid", "one_best.search_beam=1,2"],
            "one_best.search_beam is of the search",
        ),
        ([*sweep, "--grid", "lm_scale=1"], "--grid lm_scale=1: expected METHOD.NAME"),
        ([*sweep, "--grid", "one_best.lm_scale=a"], "'a' are not numbers"),
        ([*sweep, "--mode", "full", "--mode", "chunk4", "--lattices", "x"], "tune one at a time"),
        ([*again, "--phrases", str(tmp_path / "none.txt")], "none.txt"),
    ):
        assert main(command) == 2
        assert message in capsys.readouterr().err


def test_scales_of_one_mode_can_be_taken_in_all() -> None:
    scales = {"one_best": Scales("one_best", {"full": {"lm_scale": 0.5}}, "", "file")}
    given = {"one_best": {"search_beam": 9.0}, "mbr": {"n": 3}}
    for_all = options_by_mode(["chunk4", "chunk8"], given, scales, "full")
    expected = {"one_best": {"search_beam": 9.0, "lm_scale": 0.5}, "mbr": {"n": 3}}
    assert for_all == {"chunk4": expected, "chunk8": expected}
    with pytest.raises(
        ConfigError, match="file: one_best was not tuned in mode chunk4, but in full"
    ):
        options_by_mode(["full", "chunk4"], given, scales)
