"""The native search engine, see `moe_asr.fsa.native.engine`."""

from moe_asr.fsa.native.engine import NativeEngine, NativeSearchOptions
from moe_asr.fsa.native.partial import PartialResult
from moe_asr.fsa.native.stream import NativeStream

__all__ = ["NativeEngine", "NativeSearchOptions", "NativeStream", "PartialResult"]
