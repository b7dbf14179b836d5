"""How numba compiles and keeps the kernels of this package."""

import contextlib
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numba.extending
from llvmlite import binding
from numba import types
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.registry import cpu_target

from moe_asr.errors import ConfigError

if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ConfigError(
        "NUMBA_DISABLE_JIT is set, but the kernels of moe_asr.nn.cpu only run compiled; unset it, or use "
        "the modules of torch (--precision torch)"
    )

# numba's, for kernels: its annotations speak of its types, not of the values
float32: Any = numba.float32
int32: Any = numba.int32
intrinsic: Any = numba.extending.intrinsic


def target() -> tuple[bool, set[str]]:
    """Whether numba compiles for x86, and the names of the processor's features that it may use.

    They are not always the machine's: ``NUMBA_CPU_NAME``, ``NUMBA_CPU_FEATURES`` and ``NUMBA_ENABLE_AVX``
    limit them, for code that runs on all machines of a cluster, say.
    """
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return triple.startswith("x86_64"), {
        name[1:] for name in features.split(",") if name.startswith("+")
    }


_LOGGER = logging.getLogger(__name__)


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

    _told = False

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        kept = super().load_overload(sig, target_context)
        if kept is None and not _Cache._told:  # the first of many
            _Cache._told = True
            _LOGGER.info("compiling the encoder's kernels for this processor, once: about 20 s")
        return kept

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):  # the disk is full, say: it runs without being kept
            super().save_overload(sig, data)


_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "arcp", "nsz", "afn"},
}


def kernel(function: Callable[..., Any]) -> Any:
    """`numba.njit` for kernels, without the GIL and kept on disk.

    Division by zero gives inf and is no error, which lets loops be vectorised; sums may be reordered, but NaN
    and inf stay what they are.
    """
    compiled = numba.njit(**_OPTIONS)(function)
    _keep(compiled, function)
    return compiled


def part(function: Callable[..., Any]) -> Any:
    """A few lines of kernels that are written into each kernel that uses them, instead of compiled first."""
    return numba.njit(inline="always")(function)


def compiled_once(num_arguments: int) -> Callable[[Callable[..., Any]], Any]:
    """A kernel of int64 arguments, without a result, whose code others call instead of containing it.

    numba compiles what a kernel calls again with each kernel that calls it: large ones are better compiled
    once. It is compiled where it is defined, or taken from the cache.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        signature = types.void(*(types.int64,) * num_arguments)
        compiled = CFunc(function, (signature.args, signature.return_type), {}, dict(_OPTIONS))
        _keep(compiled, function)
        compiled.compile()
        _ALIVE.append(compiled)
        symbol = f"{function.__module__}.{function.__qualname__}.{_SOURCES[:16]}"
        binding.add_symbol(symbol, compiled.address)
        return types.ExternalFunction(symbol, signature)

    return decorate


_ALIVE: list[Any] = []  # what symbols are addresses of


def _keep(compiled: Any, function: Callable[..., Any]) -> None:
    try:
        compiled._cache = _Cache(function)
    except RuntimeError:  # there is no place for a cache
        pass
