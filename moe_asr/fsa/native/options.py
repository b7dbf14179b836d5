"""Options of the native search; importing them does not load numba."""

import math
from dataclasses import dataclass

from moe_asr.fsa.engine import SearchOptions


@dataclass(frozen=True)
class NativeSearchOptions(SearchOptions):
    """`SearchOptions`, and what trades exactness for speed; all of that is off by default.

    Attributes:
        topology: of an LG or T: ``standard`` or ``modified``.
        blank_skip: a frame is left out if its blank has at least this posterior (0..1), and so had the frame
            before it. 1 leaves none out.
        token_beam: tokens more than this below the best of their frame are taken for impossible, but never
            blank.
        strict_max_active: instead of shrinking the beam over the frames, expand the ``max_active`` best
            states of each frame, as Kaldi's decoders do.
        max_pending_frames: frames (of those searched) that may wait for their paths to merge, 0 is no limit.
            It is looked at every 64 frames. Beyond it, paths that do not share the best path's past are given
            up, so that a stream's memory is bounded even where no paths ever merge.
    """

    topology: str = "standard"
    blank_skip: float = 1.0
    token_beam: float = math.inf
    strict_max_active: bool = False
    max_pending_frames: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.5 <= self.blank_skip <= 1.0:
            raise ValueError(f"blank_skip must be between 0.5 and 1, found {self.blank_skip}")
        if self.max_pending_frames < 0:
            raise ValueError(
                f"max_pending_frames must be 0 or more, found {self.max_pending_frames}"
            )
        if not self.token_beam > 0:
            raise ValueError(f"token_beam must be positive, found {self.token_beam}")
