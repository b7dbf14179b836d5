"""How a recogniser works; all of it is chosen at run time, from one model."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moe_asr.fsa.time_correction import TimeCorrection
from moe_asr.recognizer.endpoint import EndpointOptions

SECOND_PASS = "lattice_attention_rescoring"
LEFT_FRAMES = 128  # encoder frames; 5.12 s where one is 40 ms


@dataclass(frozen=True)
class RecognizerOptions:
    """Chunks, caches, decoding method, endpoints.

    Attributes:
        chunk_size: encoder frames that a stream waits for before they are encoded together.
        left_chunks: chunks of left context that a stream keeps, 0 or more; None: as many as make
            `LEFT_FRAMES`, see `num_left_chunks`.
        max_streams: streams open at a time; their caches are allocated once.
        method: makes final results: one that works on lattices (docs/decoding.md).
        method_options: of that method, the search of the first pass included (``search_beam``, ...).
        full_context_final: encode a segment again in full context when it ends, and search that, for the
            final result: one model, both modes.
        keep_left_context: the encoder sees the end of a segment from the next one; else each segment starts
            afresh, as utterances do in training. (A segment that ended in mid-speech is always seen.)
        confidences: compute those of the words of final results.
        max_backlog_seconds: audio that a stream may be given ahead of its decoding; two chunks or more.
        partial_results: give results of segments that have not ended.
        max_segment_megabytes: what a stream may keep of its segment: encoder output, features, and the paths
            of the search. A segment that needs more ends (endpoint ``memory``).
        endpoint: when segments end.
        correction: of word times, see docs/alignment.md.
    """

    chunk_size: int = 16
    left_chunks: int | None = None
    max_streams: int = 64
    method: str = SECOND_PASS
    method_options: Mapping[str, Any] = field(default_factory=dict)
    full_context_final: bool = False
    keep_left_context: bool = False
    confidences: bool = True
    max_backlog_seconds: float = 600.0
    partial_results: bool = True
    max_segment_megabytes: float = 256.0
    endpoint: EndpointOptions = EndpointOptions()
    correction: TimeCorrection = TimeCorrection()

    def __post_init__(self) -> None:
        for name, least in (("chunk_size", 1), ("left_chunks", 0), ("max_streams", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, found {value}")
        infinity = float("inf")  # is no bound
        if not 0.0 < self.max_backlog_seconds < infinity:
            raise ValueError(
                f"max_backlog_seconds must be positive and finite, found {self.max_backlog_seconds}"
            )
        # the search of nothing takes some of it
        if not 1.0 <= self.max_segment_megabytes < infinity:
            raise ValueError(
                f"max_segment_megabytes must be at least 1 and finite, found {self.max_segment_megabytes}"
            )

    @property
    def num_left_chunks(self) -> int:
        """Chunks of left context."""
        return -(-LEFT_FRAMES // self.chunk_size) if self.left_chunks is None else self.left_chunks

    def replace(self, **changes: Any) -> "RecognizerOptions":
        """These options with others in place of some."""
        return dataclasses.replace(self, **changes)
