"""Global mean and variance of features: computed once on training data, then part of the model."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from moe_asr.errors import ConfigError, DataError
from moe_asr.files import PathLike, read_json, write_json

# Log-mel bins of speech have variances of 1 to 20. One far below is a bin without signal (above the
# band of upsampled telephone speech, say), which must not be blown up where it has signal later.
DEFAULT_VARIANCE_FLOOR = 1e-2

_KEYS = ("num_frames", "mean", "inv_std")


@dataclass(frozen=True, eq=False)
class CmvnStats:
    """Statistics that normalise features: ``(x - mean) * inv_std``.

    Attributes:
        mean: (F,) float32.
        inv_std: (F,) float32, one over the (floored) standard deviation.
        num_frames: how many frames they come from.

    Raises:
        ValueError: if the two are not finite vectors of one length, or an inv_std or num_frames is
            not above 0.
    """

    mean: np.ndarray
    inv_std: np.ndarray
    num_frames: int

    def __post_init__(self) -> None:
        for name in ("mean", "inv_std"):
            with np.errstate(
                over="ignore"
            ):  # too large for float32 becomes infinite, refused below
                value = np.asarray(getattr(self, name), dtype=np.float32)
            if value.ndim != 1 or len(value) == 0 or not np.isfinite(value).all():
                raise ValueError(f"{name}: expected finite values (F,), found shape {value.shape}")
            object.__setattr__(self, name, value)
        if self.mean.shape != self.inv_std.shape:
            raise ValueError(f"{len(self.mean)} values in mean, {len(self.inv_std)} in inv_std")
        if not (self.inv_std > 0).all():
            raise ValueError(f"inv_std has {self.inv_std.min()}; expected values above 0")
        if self.num_frames < 1:
            raise ValueError(f"num_frames is {self.num_frames}; expected at least 1")

    def apply(self, features: np.ndarray) -> np.ndarray:
        """(..., F) -> (..., F), normalised."""
        return (features - self.mean) * self.inv_std

    def save(self, path: PathLike) -> None:
        """Writes JSON, atomically; `load` gives back the same float32 values exactly."""
        write_json(
            path,
            {
                "num_frames": self.num_frames,
                "mean": [float(value) for value in self.mean],
                "inv_std": [float(value) for value in self.inv_std],
            },
        )

    @classmethod
    def load(cls, path: PathLike) -> "CmvnStats":
        """Reads what `save` wrote; ConfigError naming the file if it does not hold together."""
        values = read_json(path)
        if not isinstance(values, dict) or set(values) != set(_KEYS):
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise ConfigError(f"{path}: expected the keys {', '.join(_KEYS)}, found {found}")
        if type(values["num_frames"]) is not int:
            raise ConfigError(
                f"{path}: num_frames is {values['num_frames']!r}; expected an integer"
            )
        for name in ("mean", "inv_std"):
            value = values[name]
            if not isinstance(value, list) or any(type(x) not in (int, float) for x in value):
                raise ConfigError(f"{path}: {name}: expected a list of numbers")
        try:
            return cls(
                np.asarray(values["mean"], dtype=np.float64),
                np.asarray(values["inv_std"], dtype=np.float64),
                values["num_frames"],
            )
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"{path}: {error}") from error


def accumulate_cmvn(
    features: Iterable[np.ndarray], floor: float = DEFAULT_VARIANCE_FLOOR
) -> CmvnStats:
    """Mean and standard deviation of every bin over all frames.

    Sums of squared deviations are merged matrix by matrix in float64 (Chan, Golub and LeVeque
    1983), which stays exact where the variance is small beside the mean.

    Args:
        features: matrices (T_n, F), any number of frames each, none included.
        floor: the least variance a bin is given.

    Raises:
        DataError: naming the matrix by its position, if it is not finite or not of the shape of
            those before; or if there is no frame at all.
    """
    if not floor > 0:
        raise ValueError(f"floor is {floor}; expected more than 0")
    count = 0
    mean = deviations = np.zeros(0)
    for index, matrix in enumerate(features):
        matrix = np.asarray(matrix, dtype=np.float64)
        if matrix.ndim != 2 or (count > 0 and matrix.shape[1] != len(mean)):
            expected = f"(T, {len(mean)})" if count > 0 else "(T, F)"
            raise DataError(f"features {index}: shape {matrix.shape}; expected {expected}")
        if not np.isfinite(matrix).all():
            raise DataError(f"features {index}: NaN or infinity; expected finite values")
        if len(matrix) == 0:
            continue
        new_mean = matrix.mean(axis=0)
        new_deviations = ((matrix - new_mean) ** 2).sum(axis=0)
        if count == 0:
            count, mean, deviations = len(matrix), new_mean, new_deviations
            continue
        total = count + len(matrix)
        delta = new_mean - mean
        mean = mean + delta * (len(matrix) / total)
        deviations = deviations + new_deviations + delta**2 * (count * len(matrix) / total)
        count = total
    if count == 0:
        raise DataError("no frames to compute CMVN statistics from")
    inv_std = 1.0 / np.sqrt(np.maximum(deviations / count, floor))
    return CmvnStats(mean.astype(np.float32), inv_std.astype(np.float32), count)
