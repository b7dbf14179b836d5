"""How often words that were shown are changed later: the instability of partial results.

A word is *shown* when a text has it that the text before it in its segment had not, and *changed* when the
next one has it no longer; which words two texts share, the alignment with the fewest errors says, so that a
word may move without being changed. So every word that is shown is changed later or is in the final text:
shown = changed + final.

Compare the unstable partial word ratio (words that change, over the words of final texts) and segment ratio
(the share of segments with such a word) of Shangguan et al., "Analyzing the Quality and Stability of a
Streaming End-to-End On-Device Speech Recognizer" (Interspeech 2020, arXiv 2006.01416).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from moe_asr.evaluate.wer import matched_places
from moe_asr.recognizer.results import Result


@dataclass(frozen=True)
class Revisions:
    """Counts of words, of one segment or of many.

    Attributes:
        segments: that have a word at some time.
        unstable_segments: of these, with a word that was changed.
        shown: words that were shown.
        changed_by_first_pass: until the segment ended, or by the end of its search.
            With full-context re-encoding, that is the search of the new encoding.
        changed_by_second_pass: that the first pass's own final text still had.
        changed_at_end: by the final result, where that does not tell what the first pass found.
        final: words of final texts.
        stable: words that were stable when the segment ended.
        stable_changed_by_first_pass: of stable words; 0 by their definition, without re-encoding.
        stable_changed_by_second_pass: of ``stable``, not in the final text.
    """

    segments: int = 0
    unstable_segments: int = 0
    shown: int = 0
    changed_by_first_pass: int = 0
    changed_by_second_pass: int = 0
    changed_at_end: int = 0
    final: int = 0
    stable: int = 0
    stable_changed_by_first_pass: int = 0
    stable_changed_by_second_pass: int = 0

    def __add__(self, other: "Revisions") -> "Revisions":
        names = [field.name for field in fields(self)]
        return Revisions(*(getattr(self, name) + getattr(other, name) for name in names))

    @property
    def changed(self) -> int:
        """Words that were changed, by whatever."""
        return self.changed_by_first_pass + self.changed_by_second_pass + self.changed_at_end

    def figures(self) -> dict[str, Any]:
        """The counts and their shares, 0..1; None where there is nothing to be a share of."""
        counts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            **counts,
            "changed": self.changed,
            "changed_share": _share(self.changed, self.shown),
            "changed_by_first_pass_share": _share(self.changed_by_first_pass, self.shown),
            "changed_by_second_pass_share": _share(self.changed_by_second_pass, self.shown),
            "unstable_partial_word_ratio": _share(self.changed, self.final),
            "unstable_partial_segment_ratio": _share(self.unstable_segments, self.segments),
            "stable_changed_by_second_pass_share": _share(
                self.stable_changed_by_second_pass, self.stable
            ),
        }


def segment_revisions(results: Sequence[Result]) -> Revisions:
    """Those of one segment.

    Args:
        results: all of the segment, in the order of time, the last one final.
    """
    *partials, final = results
    assert final.is_final and not any(result.is_final for result in partials), final
    texts = [texts_of(result) for result in partials]
    shown = changed = broken = 0
    before: list[str] = []
    promised: list[str] = []  # stable words: later texts of the first pass begin with them
    for result, text in zip(partials, texts, strict=True):
        kept = kept_places(before, text)
        changed += len(before) - len(kept)
        shown += len(text) - len(kept)
        broken += _differing(promised, text)
        before, promised = text, text[: result.num_stable]
    last = texts_of(final)
    kept = kept_places(before, last)
    shown += len(last) - len(kept)
    lost = set(range(len(before))) - kept
    found = first_pass_text(final)
    by_second = 0
    if found is not None:
        by_second = len(lost & kept_places(before, found))
        broken += _differing(promised, found)
        changed += len(lost) - by_second
    at_end = len(lost) if found is None else 0
    return Revisions(
        segments=int(shown > 0),
        unstable_segments=int(changed + by_second + at_end > 0),
        shown=shown,
        changed_by_first_pass=changed,
        changed_by_second_pass=by_second,
        changed_at_end=at_end,
        final=len(last),
        stable=len(promised),
        stable_changed_by_first_pass=broken,
        stable_changed_by_second_pass=sum(place < len(promised) for place in lost),
    )


def stream_revisions(results: Iterable[Result]) -> Revisions:
    """Those of all segments of a stream, or of several streams one after the other."""
    total = Revisions()
    segment: list[Result] = []
    for result in results:
        segment.append(result)
        if result.is_final:
            total += segment_revisions(segment)
            segment = []
    assert not segment, f"stream {segment[0].stream_id} has no final result at its end"
    return total


def first_pass_text(final: Result) -> list[str] | None:
    """The words of the first pass's best path, of a final result's n-best list; None if it does not tell.

    It is the alternative with the best sum of the lattice's own scores, which is the best path of the
    lattice: n-best lists of lattices begin with it before they are sorted anew.
    """
    own = ("acoustic", "graph")
    if not final.alternatives or any(
        name not in entry.parts for entry in final.alternatives for name in own
    ):
        return None
    best = max(
        final.alternatives, key=lambda entry: sum(entry.parts.get(n, 0.0) for n in (*own, "boost"))
    )
    return list(best.words)


def texts_of(result: Result) -> list[str]:
    """The text of each word."""
    return [word.text for word in result.words]


def kept_places(before: Sequence[str], after: Sequence[str]) -> set[int]:
    """Places of a text's words that the next text still has, by the alignment with the fewest errors."""
    return {place for place, _ in matched_places(list(before), list(after))}


def _differing(promised: Sequence[str], text: Sequence[str]) -> int:
    same = sum(one == other for one, other in zip(promised, text, strict=False))
    return len(promised) - same


def _share(count: int, of: int) -> float | None:
    return count / of if of else None
