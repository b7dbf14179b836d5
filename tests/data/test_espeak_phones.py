import pytest

from moe_asr.cli.main import main
from moe_asr.data.espeak_phones import espeak_lexicon, phones_of, spoken_lexicon, write_lexicon
from moe_asr.data.voices import SEEN_ACCENTS
from moe_asr.errors import ConfigError, DataError

pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")


def pronunciations(lexicon, word):
    return {" ".join(phones): probability for w, phones, probability in lexicon if w == word}


def test_pronunciations_that_everyone_knows():
    lexicon = espeak_lexicon(["light", "judge", "thing", "cool", "choice"], ["en-us"])
    assert [(word, " ".join(phones), p) for word, phones, p in lexicon] == [
        ("light", "l aI t", 1.0),
        ("judge", "dZ V dZ", 1.0),
        ("thing", "T I N", 1.0),
        ("cool", "k u: l", 1.0),
        ("choice", "tS OI s", 1.0),
    ]


def test_accents_give_pronunciations_with_their_weights():
    words = ["better", "light"]
    lexicon = espeak_lexicon(words, {"en-us": 3.0, "en-gb": 1.0, "en-gb-x-rp": 1.0})
    assert pronunciations(lexicon, "better") == {
        "b E dx 3": pytest.approx(0.6),  # the tap of American English
        "b E t 3": pytest.approx(0.2),
        "b E t @": pytest.approx(0.2),
    }
    assert pronunciations(lexicon, "light") == {"l aI t": pytest.approx(1.0)}
    evenly = espeak_lexicon(words, ["en-us", "en-gb"])
    assert list(pronunciations(evenly, "better").values()) == [0.5, 0.5]


def test_allophones_are_merged_and_marks_dropped():
    names = ["'aI2", "_:", ",@L", "t#", "%I#", "(en)", ";", "r-", "VR", "?", "=a#", "|"]
    assert phones_of(names) == tuple("aI @ l dx I r V r q @".split())


def test_the_phones_of_english_are_few_and_fit_a_token_file():
    words = "the quick brown fox jumps over lazy dogs while judges measure thirty choice boys'"
    words += " thoughts about pure fire near bottles butter singing church zoo rare uncle hello"
    lexicon = espeak_lexicon(words.split(), SEEN_ACCENTS)
    phones = {phone for _, entry, _ in lexicon for phone in entry}
    assert 40 <= len(phones) <= 60
    assert not any(set("#<>_',%=;") & set(phone) or phone.isspace() for phone in phones)
    totals: dict[str, float] = {}
    for word, _, probability in lexicon:
        totals[word] = totals.get(word, 0) + probability
    assert set(totals) == set(words.split())
    assert list(totals.values()) == pytest.approx([1.0] * len(totals))
    assert len({(word, entry) for word, entry, _ in lexicon}) == len(lexicon)


@pytest.mark.parametrize(
    "accents, message",
    [
        ([], "at least one"),
        (["en-us", "fr"], "no accent 'fr'; expected some of en-us"),
        ({"en-us": 0.0}, "the weight of en-us is 0.0"),
    ],
)
def test_unusable_accents_are_refused(accents, message):
    with pytest.raises(ConfigError, match=message):
        espeak_lexicon(["one"], accents)


def test_a_word_without_a_sound_is_refused():
    with pytest.raises(DataError, match=r"no phones for '\.' in accent en-us"):
        espeak_lexicon(["one", "."], ["en-us"])


@pytest.fixture
def cuts(make_cut):
    """Ten cuts: "a" is nearly always weak, once strong; "car" now with, now without its r."""
    made = []
    for index in range(10):
        cut = make_cut(f"c{index}", text="a car")
        first, second = "'eI" if index == 9 else "a#", "k 'A@ r-" if index < 4 else "k 'A:"
        cut.supervisions[0].custom = {"phonemes": [first, second]}
        made.append(cut)
    return made


def test_pronunciations_as_they_were_spoken(cuts, make_cut):
    lexicon = spoken_lexicon(cuts, min_share=0.05)
    assert lexicon == [
        ("a", ("@",), 0.9),
        ("a", ("eI",), 0.1),
        ("car", ("k", "A:"), 0.6),
        ("car", ("k", "A@", "r"), 0.4),
    ]
    rare = spoken_lexicon(cuts, min_share=0.2)
    assert rare[0] == ("a", ("@",), 1.0) and len(rare) == 3
    with pytest.raises(DataError, match="cut 'other': no phonemes"):
        spoken_lexicon([make_cut("other")])
    cuts[3].supervisions[0].text = "a car please"
    with pytest.raises(DataError, match="cut 'c3': phonemes of 2 words for 3 words"):
        spoken_lexicon(cuts)


def test_no_word_is_left_without_a_pronunciation(cuts):
    assert [entry[0] for entry in spoken_lexicon(cuts, min_share=1.0)] == ["a", "car"]
    for share in (2.0, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="min_share: expected 0 to 1"):
            spoken_lexicon(cuts, min_share=share)


def test_files_are_normalised_by_maximum_or_by_sum(cuts, tmp_path):
    lexicon = spoken_lexicon(cuts)
    write_lexicon(lexicon, tmp_path / "max")
    assert (tmp_path / "max").read_text() == (
        "a 1 @\na 0.111111 eI\ncar 1 k A:\ncar 0.666667 k A@ r\n"
    )
    write_lexicon(lexicon, tmp_path / "sum", max_normalized=False)
    assert (tmp_path / "sum").read_text() == "a 0.9 @\na 0.1 eI\ncar 0.6 k A:\ncar 0.4 k A@ r\n"


def test_command(tmp_path, capsys):
    (tmp_path / "words").write_text("light\nbetter\n")
    output = tmp_path / "lexiconp.txt"
    arguments = ["make-espeak-lexicon", "--words", str(tmp_path / "words"), "--output", str(output)]
    assert main([*arguments, "--accents", "en-us,en-gb"]) == 0
    lines = output.read_text().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["better", "1"],
        ["better", "1"],
        ["light", "1"],
    ]
    assert "3 pronunciations of 2 words (2 from accents alone), 7 phones" in capsys.readouterr().out
    assert main([*arguments, "--accents", "en-us,klingon"]) == 2
    assert "no accent 'klingon'" in capsys.readouterr().err
    assert main(["make-espeak-lexicon", "--output", str(output)]) == 2
