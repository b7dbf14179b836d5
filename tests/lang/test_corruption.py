"""Every file of a language directory and of its graphs, and every input, is damaged in turn: nothing passes.

Each case is tried twice: as it is, when the hashes on record give it away and the next step refuses it (or
makes it again); and with all hashes on record forged to fit, when the check of the contents that is named
must find it, and say what is named.
"""

from pathlib import Path

import pytest

from moe_asr.errors import MoeAsrError
from tests.lang.damage_case import Case
from tests.lang.damages_of_graphs import GRAMMARS, GRAPHS, TOKEN_GRAPHS
from tests.lang.damages_of_lang import INPUTS, LEXICON_FSTS, LEXICONS, RECORDS, TABLES, TOKENIZERS
from tests.lang.validated import Workplace

CASES = [
    *TABLES,
    *LEXICONS,
    *LEXICON_FSTS,
    *TOKENIZERS,
    *RECORDS,
    *GRAMMARS,
    *GRAPHS,
    *TOKEN_GRAPHS,
    *INPUTS,
]

# What cannot be found when the hashes were forged as well, and why.
UNDETECTABLE = {
    "bpe/text: a line less": "the word list and the tokenizer are not made again from the text, and what is "
    "left of it is text of the same words",
}

# The hashes alone must give a damage away: no need to look far.
FEW = {"rebuild": False, "num_sentences": 1, "text": None}


def test_there_are_enough_cases() -> None:
    names = [str(case) for case in CASES]
    assert len(set(names)) == len(names) >= 200
    assert set(UNDETECTABLE) <= set(names)


@pytest.mark.parametrize("forged", [False, True], ids=["as-is", "forged"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_damage_is_found(
    built: dict[str, Workplace], tmp_path: Path, case: Case, forged: bool
) -> None:
    place = built[case.base].copy(tmp_path / "place")
    case.damage(place / case.file)
    options = {**FEW, **dict(case.options)}
    if forged:
        options = dict(case.options)
        if not case.file.endswith("provenance.json"):  # there, what it says is the damage
            place.forge()
    report = place.validate(*filter(None, [case.graph]), **options)
    if forged and str(case) in UNDETECTABLE:
        assert report.ok
        return
    assert not report.ok
    if forged:
        assert case.check in report.failed, report.text()
        assert any(case.says in error for error in report.errors(case.check)), report.text()
        return
    if not case.file.endswith("provenance.json"):
        assert "provenance" in report.failed, report.text()
    if case.step is not None:
        try:
            assert case.step(place), "the step said that all is up to date"
        except MoeAsrError:
            pass
