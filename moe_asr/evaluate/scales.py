"""Tuned scales on disk: written by tuning on a dev set, taken by every other decoding."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moe_asr.config import from_dict, to_dict
from moe_asr.decode.registry import get_method
from moe_asr.errors import ConfigError
from moe_asr.evaluate.tune import Sweep
from moe_asr.files import PathLike, read_json


def scales_record(
    sweeps: Mapping[str, Sweep], options: Any, references: Mapping[str, str], source: str
) -> dict[str, Any]:
    """What a scales file holds: plain JSON values.

    Args:
        sweeps: by mode, all of one method.
        options: those of the method before tuning.
        references: of the dev set.
        source: its name.
    """
    (method,) = {sweep.method for sweep in sweeps.values()}
    return {
        "method": method,
        "options": _plain(to_dict(options)),
        "modes": {
            mode: {
                "scales": sweep.best,
                "rate": sweep.rate(sweep.best_errors),
                "rate_before": sweep.rate(sweep.default_errors),
                "errors": sweep.best_errors,
                "units": sweep.num_units,
                "unit": sweep.unit,
                "grid": {name: list(values) for name, values in sweep.grid.items()},
                "grid_errors": sweep.errors.tolist(),
            }
            for mode, sweep in sweeps.items()
        },
        "tuned_on": {
            "source": source,
            "utterances": len(references),
            "sha256": set_id(references),
        },
    }


RANKED_BY_ONE_BEST = ("nbest", "nbest_oracle")


@dataclass(frozen=True)
class Scales:
    """A scales file as decoding takes it.

    Attributes:
        method: whose they are.
        modes: by mode, the values of options.
        set_id: of the dev set, see `set_id`.
        source: the file.
    """

    method: str
    modes: dict[str, dict[str, float]]
    set_id: str
    source: str

    @classmethod
    def from_record(cls, record: Any, source: str) -> "Scales":
        """Checks and takes what `scales_record` made.

        Raises:
            ConfigError: naming the file and what is wrong in it.
        """
        try:
            method, modes = record["method"], record["modes"]
            scales = {mode: dict(row["scales"]) for mode, row in modes.items()}
            identity = record["tuned_on"]["sha256"]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ConfigError(f"{source}: no file of tuned scales ({error!r})") from error
        options_type = get_method(method).options_type
        for mode, values in scales.items():
            from_dict(options_type, values, f"{source}: {mode}")
        return cls(method, scales, str(identity), source)

    def is_of(self, utterance_ids: Iterable[str]) -> bool:
        """Whether they were tuned on just these utterances: rates on these then say little."""
        return set_id(utterance_ids) == self.set_id

    def options(self, mode: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options of the method in a mode: these scales, and what else was given.

        Raises:
            ConfigError: if the mode was not tuned, or an option is given that was.
        """
        if mode not in self.modes:
            raise ConfigError(
                f"{self.source}: {self.method} was not tuned in mode {mode}, but in "
                f"{', '.join(self.modes)}"
            )
        twice = sorted(set(given) & set(self.modes[mode]))
        if twice:
            raise ConfigError(
                f"{self.source} and an option both give {self.method}.{twice[0]}: decode with one of them"
            )
        return {**given, **self.modes[mode]}


def set_id(utterance_ids: Iterable[str]) -> str:
    """SHA-256 of the sorted ids of a set of utterances."""
    return hashlib.sha256("\n".join(sorted(utterance_ids)).encode()).hexdigest()


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in options.items()
    }


def options_by_mode(
    modes: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    scales: Mapping[str, Scales],
    tuned_in: str | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """The options of every method in every mode, tuned scales included; errors as `Scales.options`.

    Args:
        tuned_in: the mode whose scales are taken in all modes; None takes in each its own.
    """
    return {
        mode: {
            method: scales[method].options(tuned_in or mode, given)
            if method in scales
            else dict(given)
            for method, given in options.items()
        }
        for mode in modes
    }


def _files(folder: Path, method: str) -> list[Path]:
    """The file of a method, if there is one."""
    names = [method, "one_best"] if method in RANKED_BY_ONE_BEST else [method]
    return [file for name in names if (file := folder / f"{name}.json").is_file()][:1]


def read_scales(paths: Iterable[PathLike], methods: Sequence[str]) -> dict[str, Scales]:
    """Scales files by method.

    Args:
        paths: files, and folders with a file ``METHOD.json`` for some of the methods. An n-best list that
            has none of its own there is ranked by what one_best was tuned to, so that it begins with that.
        methods: those that are to be decoded with.

    Raises:
        ConfigError: naming the file that is damaged or absent, or is of another method, or of one that
            another file is of too; a folder that has none of the methods'.
    """
    found: dict[str, Scales] = {}
    for path in map(Path, paths):
        files = [(path, "")]
        if path.is_dir():
            files = [(file, method) for method in methods for file in _files(path, method)]
            if not files:
                raise ConfigError(f"{path}: no scales of {', '.join(methods)}")
        for file, method in files:
            scales = Scales.from_record(read_json(file), str(file))
            if method in RANKED_BY_ONE_BEST and scales.method == "one_best":
                scales = replace(scales, method=method)
            if scales.method not in methods:
                raise ConfigError(f"{file}: {scales.method} is not among the methods")
            if scales.method in found:
                raise ConfigError(
                    f"{file} and {found[scales.method].source} are both of {scales.method}"
                )
            found[scales.method] = scales
    return found
