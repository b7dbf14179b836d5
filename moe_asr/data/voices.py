"""The voices of the spoken corpus: accents and variants of espeak-ng, and who speaks in which split.

A variant (the size and shape of a vocal tract, a pitch, a synthesis method) is what a speaker is to a
recording: each belongs to one split, whatever the accent. The variants were chosen by measurement:

- the first utterance of a process is the same, sample by sample, in every process. Variants with
  "breath" are not (f2, f3, f5, Alicia, sandro, victor, whisper ...): espeak-ng makes it of memory that
  it never set;
- spectra and pitch differ. On one text, at one rate and level, the RMS difference of the means and
  standard deviations of 40 log-mel energies is at least 0.44 (nepers) between any two variants of the
  list, 1.5 on average; of twins (robert and rob, steph and steph2) one is in the list;
- nothing that speaks through an effect (robots, announcers, long echoes).
"""

from collections.abc import Mapping
from dataclasses import dataclass

# accent -> espeak-ng's name of it
ACCENTS: Mapping[str, str] = {
    "en-us": "en-us",
    "en-us-nyc": "en-us-nyc",
    "en-gb": "en",  # "en-gb" is unknown to espeak_SetVoiceByName
    "en-gb-x-rp": "en-gb-x-rp",
    "en-gb-scotland": "en-gb-scotland",
    "en-gb-x-gbclan": "en-gb-x-gbclan",
    "en-gb-x-gbcwmd": "en-gb-x-gbcwmd",
    "en-029": "en-029",
}
SEEN_ACCENTS = ("en-us", "en-us-nyc", "en-gb", "en-gb-x-rp")
# Scotland, Lancaster, the West Midlands, the Caribbean: in a part of test, and nowhere else
UNSEEN_ACCENTS = tuple(accent for accent in ACCENTS if accent not in SEEN_ACCENTS)

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "train": (
        *("m1", "m2", "m3", "m7", "max", "Alex", "Gene", "Michael", "quincy", "robert", "iven3"),
        *("miguel", "ed", "f1", "linda", "Annie", "klatt4", "klatt6"),
    ),
    "dev": ("Andrea", "mike2", "norbert", "john", "ian"),
    "test": (
        *("f4", "belinda", "grandma", "edward", "david", "m5", "Mario", "pablo", "travis"),
        "paul",
    ),
}


@dataclass(frozen=True)
class Voice:
    """An accent spoken by a variant."""

    accent: str
    variant: str

    @property
    def name(self) -> str:
        """How manifests call the speaker: ``en-gb+m3``."""
        return f"{self.accent}+{self.variant}"

    @property
    def espeak_name(self) -> str:
        """What `EspeakSynthesizer` takes."""
        return f"{ACCENTS[self.accent]}+{self.variant}"


def voices_of(split: str, unseen_accents: bool = False) -> list[Voice]:
    """The voices of ``train``, ``dev`` or ``test``, with accents of the training set or others."""
    accents = UNSEEN_ACCENTS if unseen_accents else SEEN_ACCENTS
    return [Voice(accent, variant) for variant in VARIANTS[split] for accent in accents]
