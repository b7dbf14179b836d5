"""The native search engine, see `moe_asr.fsa.native.engine`."""

from moe_asr.fsa.native.engine import NativeEngine, NativeSearchOptions
from moe_asr.fsa.native.partial import PartialResult
from moe_asr.fsa.native.stream import NativeStream
from moe_asr.fsa.native.warm_up import CompileReport, warm_up

__all__ = [
    "CompileReport",
    "NativeEngine",
    "NativeSearchOptions",
    "NativeStream",
    "PartialResult",
    "warm_up",
]
