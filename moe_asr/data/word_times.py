"""When each word is spoken, and with which phonemes, from the events of espeak-ng."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from moe_asr.data.espeak import SpeechEvent
from moe_asr.errors import DataError

_STRESS = "'," + "%="
_PAUSE = "_"
_NOT_SPOKEN = ("", ";", "|", "||")  # marks between phonemes, which make no sound of their own


class SpokenWord(NamedTuple):
    """One word of a spoken text.

    Attributes:
        text: as written.
        start, end: its samples, from the first (a stop's closure included) to the one after the last.
        phonemes: espeak-ng's names, without stress marks.
    """

    text: str
    start: int
    end: int
    phonemes: tuple[str, ...]


class _Phone(NamedTuple):
    name: str
    start: int
    end: int


def strip_stress(name: str) -> str:
    """A phoneme's name without the stress mark before it; empty if it is a mark and nothing else."""
    name = name.lstrip(_STRESS)
    return "" if name in _NOT_SPOKEN else name


def word_times(
    text: str,
    events: Sequence[SpeechEvent],
    num_samples: int,
    pronounce: Callable[[str], Sequence[str]],
) -> list[SpokenWord]:
    """The words of ``text`` (whatever white space separates) as they were spoken, in order.

    The words do not overlap and lie within the audio; pauses belong to none. Where espeak-ng speaks
    words as one (``in the``), the boundary is put where the phonemes best fit (least edit distance)
    those of the words by themselves.

    Args:
        text, events, num_samples: what was spoken, and what `EspeakSynthesizer.speak` returned for it.
        pronounce: the phonemes of a word by itself.

    Raises:
        DataError: if some word was not spoken.
    """
    spans = [(match.start(), match.end()) for match in re.finditer(r"\S+", text)]
    units = _group(spans, events, num_samples, text)
    words: list[SpokenWord] = []
    for (first, start, phones), following in zip(
        units, [unit[0] for unit in units[1:]] + [len(spans)], strict=True
    ):
        texts = [text[begin:end] for begin, end in spans[first:following]]
        if len(phones) < len(texts):
            raise DataError(
                f"'{text}': {len(phones)} phonemes were spoken for '{' '.join(texts)}'; "
                "expected at least one a word"
            )
        cuts = [0, len(phones)]
        if len(texts) > 1:
            names = [phone.name for phone in phones]
            expected = [[strip_stress(p) for p in pronounce(word)] for word in texts]
            for word, own_names in zip(texts, expected, strict=True):
                if not any(own_names):  # a dash, say: its neighbour's phonemes are not its own
                    raise DataError(f"'{text}': espeak-ng has nothing to say for '{word}'")
            cuts = _split(names, expected)
        for index, word in enumerate(texts):
            own = phones[cuts[index] : cuts[index + 1]]
            begin = start if index == 0 else own[0].start
            words.append(SpokenWord(word, begin, own[-1].end, tuple(p.name for p in own)))
    return words


def _group(
    spans: Sequence[tuple[int, int]], events: Sequence[SpeechEvent], num_samples: int, text: str
) -> list[tuple[int, int, list[_Phone]]]:
    """Units of words spoken as one: (first word, first sample, phonemes)."""
    units: list[tuple[int, int, list[_Phone]]] = []
    for position, event in enumerate(events):
        following = events[position + 1].sample if position + 1 < len(events) else num_samples
        if event.phoneme == "":
            index = next((i for i, span in enumerate(spans) if event.character < span[1]), None)
            if index is None or (units and index < units[-1][0]):
                raise DataError(
                    f"'{text}': espeak-ng spoke character {event.character} out of turn"
                )
            if not units or index > units[-1][0]:  # a word may have several events (o'clock)
                units.append((index, event.sample, []))
        elif units and not event.phoneme.startswith(_PAUSE):
            name = strip_stress(event.phoneme)
            phones = units[-1][2]
            if name:
                phones.append(_Phone(name, event.sample, following))
            elif phones:  # a mark: its time belongs to the phoneme before it
                phones[-1] = phones[-1]._replace(end=following)
    if not units or units[0][0] != 0:
        raise DataError(f"'{text}': espeak-ng did not speak the first word")
    return units


def _split(spoken: Sequence[str], words: Sequence[Sequence[str]]) -> list[int]:
    """Cuts ``spoken`` into one non-empty piece a word: the (len(words) + 1) bounds.

    Least sum of the edit distances of piece and word; the earliest bounds among equals.
    """
    num = len(spoken)
    best = np.full((len(words) + 1, num + 1), np.inf)
    source = np.zeros((len(words) + 1, num + 1), dtype=int)
    best[0, 0] = 0
    for k, word in enumerate(words):
        for end in range(k + 1, num + 1):
            for begin in range(k, end):
                cost = best[k, begin] + _edit_distance(spoken[begin:end], word)
                if cost < best[k + 1, end]:
                    best[k + 1, end], source[k + 1, end] = cost, begin
    bounds = [num]
    for k in range(len(words), 0, -1):
        bounds.append(int(source[k, bounds[-1]]))
    return bounds[::-1]


def _edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
