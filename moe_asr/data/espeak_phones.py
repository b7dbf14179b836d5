"""A pronunciation lexicon from espeak-ng: several accents give a word several pronunciations.

Phones are espeak-ng's ASCII names of English phonemes without stress marks, allophones merged (see
`phones_of`): about 50 of them. They name classes of words more than sounds: ``A@`` is the vowel of "car"
whether an accent sounds the r or not. Where accents differ in the class (``b E dx 3`` and ``b E t 3`` for
"better") they give different pronunciations.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from lhotse.cut import Cut

from moe_asr.data.espeak import EspeakSynthesizer
from moe_asr.data.voices import ACCENTS
from moe_asr.data.word_times import strip_stress
from moe_asr.errors import ConfigError, DataError
from moe_asr.files import PathLike, write_text

Pronunciation = tuple[str, tuple[str, ...], float]  # word, phones, probability

# What differs only in place, stress or accent, and in no pair of words.
_MERGED: Mapping[str, tuple[str, ...]] = {
    **{name: ("@",) for name in ("@2", "@5", "@-", "a#")},  # about, the, commA
    **{name: ("I",) for name in ("I2", "I#", "I2#")},
    **{name: ("aI",) for name in ("aI2", "aI3")},
    **{name: ("i@",) for name in ("i@3",)},
    **{name: ("0",) for name in ("O2",)},  # "on" in American accents
    **{name: ("t",) for name in ("t2", "t[")},
    **{name: (name[0],) for name in ("w#", "r-", "n-", "l-", "m-", "d#", "n#", "l#")},
    "oU#": ("oU",),
    "e#": ("E",),
    "@L": ("@", "l"),  # bottle
    "VR": ("V", "r"),  # word, Scottish
    "IR": ("I", "r"),  # bird, Scottish
    "t#": ("dx",),  # the tap of American "better"; no "#": it begins disambiguation symbols
    "?": ("q",),  # glottal stop
}


def phones_of(phonemes: Iterable[str]) -> tuple[str, ...]:
    """The phones of espeak-ng's phoneme names: stress marks and marks of language dropped."""
    phones: list[str] = []
    for phoneme in phonemes:
        name = strip_stress(phoneme)
        if name and not name.startswith(("(", "_")):  # "(en)": a word of another language
            phones.extend(_MERGED.get(name, (name,)))
    return tuple(phones)


def espeak_lexicon(
    words: Sequence[str], accents: Sequence[str] | Mapping[str, float]
) -> list[Pronunciation]:
    """How each word is pronounced by itself in some accents.

    Args:
        words: in any order; duplicates are dropped.
        accents: names (`moe_asr.data.voices.ACCENTS`), perhaps with weights, such as their shares of
            the training data; without, all weigh the same.

    Returns:
        ``[(word, phones, probability)]`` in the order of the words; the pronunciations of a word are
        sorted by falling probability, and their probabilities sum to 1.

    Raises:
        ConfigError: on an unknown accent, or weights that are not positive.
        DataError: if a word has no phones.
    """
    weights = dict(accents) if isinstance(accents, Mapping) else dict.fromkeys(accents, 1.0)
    if not weights:
        raise ConfigError("accents: expected at least one")
    for accent, weight in weights.items():
        if accent not in ACCENTS:
            raise ConfigError(
                f"accents: no accent '{accent}'; expected some of {', '.join(ACCENTS)}"
            )
        if not weight > 0:
            raise ConfigError(f"accents: the weight of {accent} is {weight}; expected more than 0")
    engine = EspeakSynthesizer()
    counts: dict[str, Counter[tuple[str, ...]]] = {word: Counter() for word in words}
    for accent, weight in weights.items():  # a change of voice costs a thousand words
        for word in counts:
            phones = phones_of(engine.phonemes(word, ACCENTS[accent]))
            if not phones:
                raise DataError(f"espeak-ng has no phones for '{word}' in accent {accent}")
            counts[word][phones] += weight  # type: ignore[assignment]
    return _normalized(counts)


def spoken_lexicon(cuts: Iterable[Cut], min_share: float = 0.02) -> list[Pronunciation]:
    """How the words of a spoken corpus were pronounced, with their relative frequencies.

    Unlike `espeak_lexicon` it knows what words sound like among others: the "a" and the "the" of
    running speech. A pronunciation with less than ``min_share`` of a word's occurrences is left out,
    unless none is more frequent.

    Raises:
        ConfigError: if ``min_share`` is not between 0 and 1.
        DataError: if a cut has not one supervision with ``phonemes`` for each of its words: it was not
            made by `make_spoken_corpus`, or its text was changed since.
    """
    if not 0 <= min_share <= 1:
        raise ConfigError(f"min_share: expected 0 to 1, found {min_share}")
    counts: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for cut in cuts:
        supervision = cut.supervisions[0] if len(cut.supervisions) == 1 else None
        if supervision is None or not (supervision.custom and "phonemes" in supervision.custom):
            raise DataError(f"cut '{cut.id}': no phonemes in it; expected a spoken corpus")
        words, spoken = (supervision.text or "").split(), supervision.custom["phonemes"]
        if len(words) != len(spoken):
            raise DataError(
                f"cut '{cut.id}': phonemes of {len(spoken)} words for {len(words)} words"
            )
        for word, phonemes in zip(words, spoken, strict=True):
            counts[word][phones_of(phonemes.split())] += 1
    return [entry for entry in _normalized(counts, min_share) if entry[1]]


def write_lexicon(
    lexicon: Iterable[Pronunciation], path: PathLike, max_normalized: bool = True
) -> None:
    """Writes ``word probability phone phone ...`` lines, atomically.

    Args:
        max_normalized: divide the probabilities of a word by their largest, as Kaldi does, so that a
            word with several pronunciations is not at a disadvantage in the search; else they sum to 1.
    """
    entries = list(lexicon)
    best: dict[str, float] = defaultdict(float)
    for word, _, probability in entries:
        best[word] = max(best[word], probability)
    lines = []
    for word, phones, probability in entries:
        shown = probability / best[word] if max_normalized else probability
        lines.append(f"{word} {shown:.6g} {' '.join(phones)}\n")
    write_text(path, "".join(lines))


def _normalized(
    counts: Mapping[str, Counter[tuple[str, ...]]], min_share: float = 0.0
) -> list[Pronunciation]:
    lexicon = []
    for word, pronunciations in counts.items():
        total = sum(pronunciations.values())
        least = min(min_share * total, max(pronunciations.values()))  # no word is left without any
        kept = {p: count for p, count in pronunciations.items() if count >= least}
        total = sum(kept.values())
        for phones, count in sorted(kept.items(), key=lambda item: (-item[1], item[0])):
            lexicon.append((word, phones, count / total))
    return lexicon
