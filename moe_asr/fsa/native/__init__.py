"""The native search engine, see `moe_asr.fsa.native.engine`; numba is loaded when it is first asked for."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_asr.fsa.native.compiling import CompileReport, warm_up
    from moe_asr.fsa.native.engine import NativeEngine
    from moe_asr.fsa.native.options import NativeSearchOptions
    from moe_asr.fsa.native.partial import PartialResult
    from moe_asr.fsa.native.stream import NativeStream

__all__ = [
    "CompileReport",
    "NativeEngine",
    "NativeSearchOptions",
    "NativeStream",
    "PartialResult",
    "warm_up",
]
_MODULES = {
    "CompileReport": "compiling",
    "NativeEngine": "engine",
    "NativeSearchOptions": "options",
    "NativeStream": "stream",
    "PartialResult": "partial",
    "warm_up": "compiling",
}


def __getattr__(name: str) -> Any:
    """What the submodules define, imported when it is used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
