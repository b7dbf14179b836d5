"""Scales of a method, swept on a dev set; `moe_asr.evaluate.scales` keeps what came out."""

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import kaldialign
import numpy as np

from moe_asr.decode.candidates import Candidates, RescoringMethod
from moe_asr.decode.first_pass import FirstPassOptions
from moe_asr.decode.registry import (
    DecodingMethod,
    DecodingResources,
    EncodedBatch,
    Hypothesis,
    make_method,
)
from moe_asr.decode.runner import DecodingRun, decode_cuts
from moe_asr.decode.runner import texts as found_texts
from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.report import texts_in
from moe_asr.evaluate.wer import score, split_text
from moe_asr.text.normalize import normalize_text

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from moe_asr.model.directory import LoadedModel

Grid = Mapping[str, Sequence[float]]
_SEARCH_OPTIONS = {field.name for field in fields(FirstPassOptions)}
_MAX_POINTS = 1_000_000
_MAX_DECODINGS = 500


@dataclass(frozen=True, eq=False)
class Sweep:
    """Errors on a dev set at every point of a grid.

    Attributes:
        method: its name.
        grid: the values of each scale, ascending.
        errors: an axis for each scale, int64.
        num_units: words (or other units) of the references.
        default: the options' values before tuning.
        default_errors: with them.
        unit: what was counted.
    """

    method: str
    grid: dict[str, tuple[float, ...]]
    errors: np.ndarray
    num_units: int
    default: dict[str, float]
    default_errors: int
    unit: str = "word"

    @property
    def best(self) -> dict[str, float]:
        """The point with the fewest errors; of several the one nearest the middle of all of them.

        Errors are flat about the best scales: a point inside such a region is a safer choice than one at its
        edge. Distances are counted in steps of the grid; of equally near ones the first is taken.
        """
        points = np.argwhere(self.errors == self.errors.min())
        middle = points.mean(axis=0)
        nearest = points[np.argmin(((points - middle) ** 2).sum(axis=1))]
        return {
            name: values[place]
            for (name, values), place in zip(self.grid.items(), nearest.tolist(), strict=True)
        }

    @property
    def best_errors(self) -> int:
        return int(self.errors.min())

    def rate(self, errors: int) -> float:
        """In percent."""
        return 100.0 * errors / self.num_units if self.num_units else math.inf

    def at_edge(self) -> list[str]:
        """The scales whose best value is at an end of the grid: a wider one may have better."""
        found = []
        for name, value in self.best.items():
            lowest, highest = self.grid[name][0], self.grid[name][-1]
            below, above = value == lowest > 0.0, value == highest
            if name.endswith("_weight"):
                above = above and highest < 1.0
            if len(self.grid[name]) > 1 and (below or above):
                found.append(name)
        return found

    def curve(self, name: str) -> np.ndarray:
        """(values of one scale,) the fewest errors with each, whatever the others are."""
        axis = list(self.grid).index(name)
        others = tuple(i for i in range(self.errors.ndim) if i != axis)
        return self.errors.min(axis=others) if others else self.errors


def tune(
    model: "LoadedModel",
    cuts: Sequence["Cut"],
    references: Mapping[str, str],
    resources: DecodingResources,
    methods: Sequence[str],
    options: Mapping[str, Mapping[str, Any]] | None = None,
    grids: Mapping[str, Grid] | None = None,
    mode: str = "full",
    streaming: bool = False,
    unit: str = "word",
    max_batch_seconds: float = 60.0,
    progress: bool = True,
) -> dict[str, Sweep]:
    """Sweeps scales of methods on a dev set; every utterance is encoded and searched once for all of them.

    A method whose score is a sum of parts (`RescoringMethod`) is not run again for each point: its candidates
    and their errors are all that is needed. Any other is run at each point, on the same lattices.

    Args:
        model, cuts, mode, streaming, max_batch_seconds, progress: as of `decode_cuts`.
        references: by utterance id.
        resources: what the methods need; with an ``archive``, its lattices are taken.
        methods: their names.
        options: by method, values of other options than those swept; of the swept ones, where tuning starts.
        grids: by method, the values to try; its ``scales`` by default, or those of them that are named with
            no values.
        unit: as of `score`; a method whose texts are tokens that spell no words is scored in those.

    Returns:
        By method.

    Raises:
        ConfigError: on an option that a method has not, or that is no number; a grid that is too large.
        DataError: if references and cuts are not of the same utterances; as `decode_cuts`.
    """
    names = [cut.id for cut in cuts]
    if set(names) != set(references):
        raise DataError(
            f"{len(names)} cuts and {len(references)} references, which are not of the same utterances"
        )
    texts = {name: normalize_text(references[name]) for name in names}
    tuned = [
        _Tuned(make_method(name, resources, (options or {}).get(name)), (grids or {}).get(name))
        for name in methods
    ]
    runners = [runner for one in tuned for runner in one.runners]
    run = decode_cuts(model, cuts, runners, mode, streaming, max_batch_seconds, progress)
    sweeps = {}
    for one in tuned:
        counted = unit if one.method.unit == "word" else one.method.unit
        expected = texts_in(counted, texts, resources.tokenizer)
        sweeps[one.method.name] = one.sweep(run, expected, counted)
    return sweeps


class _Tuned:
    """A method, its grid, and what is to be run for it."""

    def __init__(self, method: DecodingMethod, grid: Grid | None) -> None:
        self.method = method
        self.grid = _grid(method, grid)
        self.default = {name: float(getattr(method.options, name)) for name in self.grid}
        self.collector: _Collector | None = None
        self.runners: list[DecodingMethod]
        if isinstance(method, RescoringMethod) and set(self.grid) <= set(method.scales):
            self.collector = _Collector(method)
            self.runners = [self.collector]
            return
        points = [self.default, *_points(self.grid)]
        if len(points) > _MAX_DECODINGS:
            raise ConfigError(
                f"{method.name} is decoded at each of {len(points) - 1} points: at most {_MAX_DECODINGS}"
            )
        self.runners = [
            _Renamed(_with(method, point), f"{method.name} {number}")
            for number, point in enumerate(points)
        ]

    def sweep(self, run: DecodingRun, texts: Mapping[str, str], unit: str) -> Sweep:
        """After the run: the errors at every point."""
        if self.collector is not None:
            method = self.collector.rescoring
            lists = [self.collector.found[name] for name in texts]
            errors, units = candidate_errors(lists, texts, unit)
            values = sweep_candidates(method, lists, errors, self.grid)
            single = {name: [value] for name, value in self.default.items()}
            at_default = int(sweep_candidates(method, lists, errors, single).sum())
        else:
            totals = [
                score(texts, found_texts(run.hypotheses[runner.name]), unit).total
                for runner in self.runners
            ]
            at_default, units = totals[0].errors, totals[0].reference_length
            shape = [len(values) for values in self.grid.values()]
            values = np.array([total.errors for total in totals[1:]], np.int64).reshape(shape)
        return Sweep(self.method.name, self.grid, values, units, self.default, at_default, unit)


def candidate_errors(
    lists: Sequence[Candidates], references: Mapping[str, str], unit: str = "word"
) -> tuple[list[np.ndarray], int]:
    """[utt] (n,) int64 errors of each candidate (of no candidate: (1,) all deletions), and all units."""
    errors, units = [], 0
    for found in lists:
        reference = list(split_text(references[found.utterance_id], unit))
        units += len(reference)
        counts = [
            kaldialign.edit_distance(reference, list(split_text(" ".join(words), unit)))["total"]
            for words in found.words
        ]
        errors.append(np.array(counts or [len(reference)], np.int64))
    return errors, units


def sweep_candidates(
    method: RescoringMethod, lists: Sequence[Candidates], errors: Sequence[np.ndarray], grid: Grid
) -> np.ndarray:
    """Errors at every point of a grid, an axis for each scale.

    Args:
        lists, errors: [utt] candidates, and the errors of each.
    """
    kept = [(found, counts) for found, counts in zip(lists, errors, strict=True) if found.words]
    lost = sum(
        int(counts[0]) for found, counts in zip(lists, errors, strict=True) if not found.words
    )
    shape = [len(values) for values in grid.values()]
    if not kept:
        return np.full(shape, lost, np.int64)
    sizes = np.array([len(counts) for _, counts in kept])
    begin = np.cumsum(sizes) - sizes
    parts = {
        name: np.concatenate([found.parts[name] for found, _ in kept]) for name in kept[0][0].parts
    }
    counts = np.concatenate([counts for _, counts in kept])
    place = np.arange(len(counts))
    result = []
    for point in _points(grid):
        total = method.total(parts, replace(method.options, **point))
        best = np.repeat(np.maximum.reduceat(total, begin), sizes)
        # of equals the first, as in decoding
        first = np.minimum.reduceat(np.where(total == best, place, len(place)), begin)
        result.append(int(counts[first].sum()) + lost)
    return np.array(result, np.int64).reshape(shape)


def _grid(method: DecodingMethod, grid: Grid | None) -> dict[str, tuple[float, ...]]:
    known = getattr(method, "scales", {})
    if not grid and not known:
        raise ConfigError(f"{method.name} has no scales to tune by default: give a grid")
    chosen: dict[str, tuple[float, ...]] = {}
    for name, values in (grid or known).items():
        if not hasattr(method.options, name):
            raise ConfigError(f"{method.name} has no option '{name}'")
        if type(getattr(method.options, name)) is not float:
            raise ConfigError(f"{method.name}.{name} is no real number: it cannot be tuned")
        if method.resources.archive is not None and name in _SEARCH_OPTIONS:
            raise ConfigError(
                f"{method.name}.{name} is of the search: given lattices do not change with it"
            )
        if not len(values) and name not in known:
            raise ConfigError(f"no values for {method.name}.{name}")
        tried = {float(value) for value in (values if len(values) else known[name])}
        if isinstance(method, RescoringMethod):
            possible = {value for value in tried if method.is_possible(name, value)}
            if len(values) and possible != tried and grid:
                value = min(tried - possible)
                raise ConfigError(
                    f"{method.name}.{name}={value:g} asks for a decoder that the model has not"
                )
            tried = possible
        chosen[name] = tuple(sorted(tried))
    num_points = math.prod(len(values) for values in chosen.values())
    if num_points > _MAX_POINTS:
        raise ConfigError(f"a grid of {num_points} points is too large: at most {_MAX_POINTS}")
    for name, values in chosen.items():
        for value in values:
            _with_options(method, {name: value})
    return chosen


def _points(grid: Grid) -> list[dict[str, float]]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _with_options(method: DecodingMethod, point: Mapping[str, float]) -> Any:
    try:
        return replace(method.options, **point)
    except ValueError as error:
        raise ConfigError(f"{method.name}: {error}") from error


def _with(method: DecodingMethod, point: Mapping[str, float]) -> DecodingMethod:
    options = _with_options(method, point)
    if not set(point) <= set(getattr(method, "scales", ())):
        return type(method)(method.resources, options)
    other = copy.copy(method)  # scales are looked at when it decodes
    other.options = options
    return other


class _Renamed(DecodingMethod):
    """A method under another name: one name, many options."""

    def __init__(self, method: DecodingMethod, name: str) -> None:
        super().__init__(method.resources, method.options)
        self.method, self.name = method, name  # type: ignore[misc]
        self.needs_memory = method.needs_memory  # type: ignore[misc]
        self.first_pass = method.first_pass

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        return self.method.decode(batch)


class _Collector(_Renamed):
    """Keeps the candidates of every utterance, with all their parts."""

    def __init__(self, method: RescoringMethod) -> None:
        super().__init__(method, method.name)
        self.rescoring = method
        method.is_tuned = True
        self.found: dict[str, Candidates] = {}

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        candidates = self.rescoring.candidates(batch)
        self.found.update((found.utterance_id, found) for found in candidates)
        return [self.rescoring.choose(found) for found in candidates]
