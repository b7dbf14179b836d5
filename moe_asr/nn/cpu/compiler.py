"""How numba compiles and keeps the kernels of this package."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numba.extending
from numba.core.caching import FunctionCache

# numba's, for kernels: its annotations speak of its types, not of the values
float32: Any = numba.float32
int32: Any = numba.int32
intrinsic: Any = numba.extending.intrinsic


def _sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SOURCES = _sources()


class _Cache(FunctionCache):
    """Numba's cache on disk forgets a kernel when its own file changes; this one when any file here does.

    Kernels contain those of other files that they call.
    """

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return super()._index_key(sig, codegen) + (_SOURCES,)


def kernel(function: Callable[..., Any]) -> Any:
    """`numba.njit` for kernels, without the GIL and kept on disk.

    Division by zero gives inf and is no error, which lets loops be vectorised; sums may be reordered, but NaN
    and inf stay what they are.
    """
    compiled = numba.njit(
        nogil=True,
        error_model="numpy",
        fastmath={"reassoc", "contract", "arcp", "nsz", "afn"},
    )(function)
    try:
        setattr(compiled, "_cache", _Cache(function))  # noqa: B010 - unknown to its annotations
    except RuntimeError:  # there is no place for a cache
        pass
    return compiled
