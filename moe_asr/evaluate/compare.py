"""Scores one or more systems on the same references: rates, intervals, differences, what was left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.alternatives import Segments, best_readings
from moe_asr.evaluate.bootstrap import Interval, PairedDifference, paired_difference, wer_interval
from moe_asr.evaluate.units import UNITS, Words
from moe_asr.evaluate.wer import WerReport, score

Text = str | Segments
Texts = Mapping[str, Text]
Missing = Literal["refuse", "empty", "common"]
MISSING: tuple[Missing, ...] = ("refuse", "empty", "common")


@dataclass(frozen=True)
class CompareOptions:
    """How to score.

    Args:
        unit: what errors are counted in, a key of `UNITS`.
        missing: where a system has no hypothesis for a reference: ``refuse`` to score; take it for an
            ``empty`` one, so that all words are deletions (a ctm file cannot tell the two apart); or
            score only utterances that are ``common`` to references and all systems.
        num_samples: of the bootstrap; 0 for no intervals.
        level: of the intervals.
        seed: of the bootstrap.

    Raises:
        ConfigError: if a value is out of range.
    """

    unit: str = "word"
    missing: Missing = "refuse"
    num_samples: int = 10000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("unit", self.unit, tuple(UNITS)),
            ("missing", self.missing, MISSING),
        ):
            if value not in choices:
                raise ConfigError(f"{name} must be one of {', '.join(choices)}, found '{value}'")
        if self.num_samples < 0 or self.seed < 0:
            raise ConfigError("num_samples and seed must not be negative")
        if not 0.0 < self.level < 1.0:
            raise ConfigError(f"level must be between 0 and 1, found {self.level}")


@dataclass(frozen=True)
class Unmatched:
    """Utterances of one system that are not in both sets.

    Args:
        no_hypothesis: ids of references without a hypothesis; ``words`` is how many units they have: the
            deletions that they are, or would be.
        no_reference: ids of hypotheses without a reference.
        others: how many utterances that have both are left out because another system lacks them.
    """

    no_hypothesis: tuple[str, ...] = ()
    words: int = 0
    no_reference: tuple[str, ...] = ()
    others: int = 0


@dataclass(frozen=True)
class Comparison:
    """The scores of systems, by their names.

    Args:
        reports: errors and alignments of the utterances that were scored.
        options: as they were given.
        intervals: bootstrap intervals; empty if there are none, for the reason ``no_intervals``.
        differences: of every system but the first: its rate less the first's.
        blocks: what was drawn in the bootstrap, "utterances" or "speakers", and how many there are.
        speakers: of each utterance, if they are known.
        unmatched: of each system.
    """

    reports: dict[str, WerReport]
    options: CompareOptions
    intervals: dict[str, Interval] = field(default_factory=dict)
    differences: dict[str, PairedDifference] = field(default_factory=dict)
    blocks: tuple[str, int] = ("utterances", 0)
    no_intervals: str | None = None
    speakers: dict[str, str] | None = None
    unmatched: dict[str, Unmatched] = field(default_factory=dict)


def compare(
    references: Texts,
    systems: Mapping[str, Texts],
    options: CompareOptions = CompareOptions(),
    speakers: Mapping[str, str] | None = None,
    by_speaker: bool | None = None,
) -> Comparison:
    """Scores systems on the same utterances, in the order of the references.

    Args:
        references: texts, or texts with alternatives, by utterance id.
        systems: hypotheses likewise, by the name of the system.
        options: how.
        speakers: of every reference.
        by_speaker: draw speakers in the bootstrap, not utterances; None does if they are known.

    Raises:
        DataError: if sets of utterances differ (unless `CompareOptions.missing` says otherwise; a hypothesis
            without reference can only be left out), nothing is left to score, or no reference has a word.
        ConfigError: if there are no systems, or ``by_speaker`` is asked for without speakers.
    """
    if not systems:
        raise ConfigError("there is no hypothesis to score")
    if by_speaker and speakers is None:
        raise ConfigError("speakers can only be drawn if they are known")
    chosen = _choose(references, systems, options.missing)
    reports: dict[str, WerReport] = {}
    unmatched: dict[str, Unmatched] = {}
    for name, hypotheses in systems.items():
        reports[name] = score_texts(
            {key: references[key] for key in chosen},
            {key: hypotheses.get(key, "") for key in chosen},
            options.unit,
        )
        unmatched[name] = _unmatched(references, hypotheses, len(chosen), options)
        if reports[name].total.reference_length == 0:
            raise DataError("no reference has a word: there is no error rate")
    known = None if speakers is None else {key: speakers[key] for key in chosen}
    drawn = known if by_speaker or by_speaker is None else None
    kind = "utterances" if drawn is None else "speakers"
    number = len(chosen) if drawn is None else len(set(drawn.values()))
    intervals: dict[str, Interval] = {}
    differences: dict[str, PairedDifference] = {}
    reason = None
    if options.num_samples == 0:
        reason = "not asked for"
    elif number < 2:
        reason = f"the bootstrap needs more than one of the {kind}"
    else:
        sampling: dict[str, Any] = {
            "num_samples": options.num_samples,
            "level": options.level,
            "seed": options.seed,
            "blocks": None if drawn is None else list(drawn.values()),
        }
        arrays = {name: report.errors_and_lengths() for name, report in reports.items()}
        intervals = {name: wer_interval(*one, **sampling) for name, one in arrays.items()}
        (errors, lengths), *_ = arrays.values()
        for name in list(arrays)[1:]:
            other, other_lengths = arrays[name]
            differences[name] = paired_difference(
                errors, other, lengths, **sampling, other_lengths=other_lengths
            )
    return Comparison(
        reports, options, intervals, differences, (kind, number), reason, known, unmatched
    )


def score_texts(references: Texts, hypotheses: Texts, unit: str = "word") -> WerReport:
    """`score` of texts that may have alternatives: of each pair, the best readings."""
    plain: list[dict[str, str | Words]] = [{}, {}]
    for name, reference in references.items():
        hypothesis = hypotheses[name]
        pair: tuple[str | Words, str | Words]
        if isinstance(reference, str) and isinstance(hypothesis, str):
            pair = reference, hypothesis
        else:
            try:
                pair = best_readings(_segments(reference), _segments(hypothesis), unit)
            except DataError as error:
                raise DataError(f"utterance '{name}': {error}") from error
        plain[0][name], plain[1][name] = pair
    return score(plain[0], plain[1], unit)


def _segments(text: Text) -> Segments:
    return text.split() if isinstance(text, str) else text


def _choose(references: Texts, systems: Mapping[str, Texts], missing: Missing) -> Sequence[str]:
    """Ids of the utterances to score."""
    if missing == "common":
        chosen = [key for key in references if all(key in found for found in systems.values())]
        if not chosen:
            raise DataError("no utterance is common to the references and all hypotheses")
        return chosen
    for name, hypotheses in systems.items():
        for side, there, other in (
            ("hypothesis", references, hypotheses),
            ("reference", hypotheses, references),
        ):
            ids = [key for key in there if key not in other]
            if ids and not (side == "hypothesis" and missing == "empty"):
                more = f" (and {len(ids) - 3} more)" if len(ids) > 3 else ""
                raise DataError(
                    f"{name}: {len(ids)} utterance(s) have no {side}: {', '.join(ids[:3])}{more}; "
                    "scored only if option 'missing' says how"
                )
    return list(references)


def _unmatched(
    references: Texts, hypotheses: Texts, num_chosen: int, options: CompareOptions
) -> Unmatched:
    absent = tuple(key for key in references if key not in hypotheses)
    lost = (
        score_texts(
            {key: references[key] for key in absent}, dict.fromkeys(absent, ""), options.unit
        )
        if absent
        else None
    )
    others = len(references) - len(absent) - num_chosen
    return Unmatched(
        absent,
        lost.total.reference_length if lost else 0,
        tuple(key for key in hypotheses if key not in references),
        others if options.missing == "common" else 0,
    )
