"""The arrays of a decoding graph in fewer bytes, without loss: counts for what repeats, small integers.

Sources are sorted, so the number of arcs of each state tells them; row splits are sums of lengths. Every
array of integers is of the smallest type that holds it. An LG of a 3-gram takes 8.7 bytes an arc so, in place
of 21; a general compressor would save a third more, and has to be undone.
"""

from collections.abc import Mapping

import numpy as np

from moe_asr.errors import GraphError

PACKED = ("num_arcs", "dst", "token", "score", "num_words", "words")
_TYPES = (np.uint8, np.int8, np.uint16, np.int16, np.int32)


def pack_arcs(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays `PACKED` of those of a valid `DecodingGraph`.

    Of S states and A arcs: ``num_arcs`` (S - 1,) of each state but the last, which has none, ``num_words``
    (A,) of each arc; the others as they are, in smaller types.
    """
    integers = {
        "num_arcs": np.bincount(arrays["src"], minlength=int(arrays["dst"].max())),
        "dst": arrays["dst"],
        "token": arrays["token"],
        "num_words": np.diff(arrays["word_row_splits"]),
        "words": arrays["words"],
    }
    return {"score": arrays["score"], **{name: _smallest(a) for name, a in integers.items()}}


def unpack_arcs(packed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a `DecodingGraph` that `pack_arcs` took; whether they are a graph is not looked at.

    Raises:
        GraphError: naming the array that is of another type, or does not fit the others.
    """
    for name in PACKED:
        array = packed[name]
        types = (np.float32,) if name == "score" else _TYPES
        if array.ndim != 1 or array.dtype not in types:
            raise GraphError(f"{name}: found {array.dtype} {array.shape}, expected a vector")
    for name, others in (("num_arcs", "dst"), ("num_words", "words")):
        counts = packed[name].astype(np.int64)
        if (counts < 0).any() or counts.sum() != len(packed[others]):
            raise GraphError(
                f"{name}: counts of {counts.sum()} in all, for {len(packed[others])} {others}"
            )
    num_arcs = packed["num_arcs"]
    splits = np.concatenate([[0], np.cumsum(packed["num_words"], dtype=np.int64)])
    return {
        "src": np.repeat(np.arange(len(num_arcs), dtype=np.int32), num_arcs),
        "score": packed["score"],
        "word_row_splits": splits.astype(np.int32),
        **{name: packed[name].astype(np.int32) for name in ("dst", "token", "words")},
    }


def _smallest(values: np.ndarray) -> np.ndarray:
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    kind = next(kind for kind in _TYPES if np.iinfo(kind).min <= low <= high <= np.iinfo(kind).max)
    return values.astype(kind)
