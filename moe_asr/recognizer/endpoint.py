"""When a segment of a stream ends: Kaldi's five rules, on trailing blanks and the state of the search."""

from dataclasses import dataclass

RULES = ("rule1", "rule2", "rule3", "rule4", "rule5")


@dataclass(frozen=True)
class EndpointRule:
    """One rule, as in Kaldi's online2/online-endpoint.h; it fires when all of its conditions hold.

    Attributes:
        must_contain_speech: the best path has a token.
        min_trailing_silence_seconds: blanks at the end of the best path.
        max_relative_cost: nats that the best path that may end here is worse than the best path.
        min_length_seconds: of the segment.
    """

    must_contain_speech: bool
    min_trailing_silence_seconds: float
    max_relative_cost: float = float("inf")
    min_length_seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("min_trailing_silence_seconds", "max_relative_cost", "min_length_seconds"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must be 0 or more, found {getattr(self, name)}")


@dataclass(frozen=True)
class EndpointOptions:
    """The rules; a segment ends when any of them fires. The values are Kaldi's.

    Attributes:
        rule1: nothing but silence for long.
        rule2: a short pause where a sentence may well end.
        rule3: a longer pause where it may end.
        rule4: a long pause, wherever.
        rule5: the segment is long: it ends in the longest pause of its second half, though there is none now.
        enabled: False: segments end with the input only.
    """

    rule1: EndpointRule = EndpointRule(False, 5.0)
    rule2: EndpointRule = EndpointRule(True, 0.5, 2.0)
    rule3: EndpointRule = EndpointRule(True, 1.0, 8.0)
    rule4: EndpointRule = EndpointRule(True, 2.0)
    rule5: EndpointRule = EndpointRule(False, 0.0, min_length_seconds=20.0)
    enabled: bool = True
