"""The AISHELL recipe, every stage of it, on a mock of the corpus."""

from pathlib import Path

import pytest

from moe_asr.data.aishell import read_lexicon_words
from moe_asr.data.manifests import read_cuts
from moe_asr.errors import DataError
from tests.egs import mock_corpora
from tests.egs.recipe_runs import check_table, contents, run_recipe, serving, steps_made

OPTIONS = ("--systems", "moe_1b")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The recipe from the download on: its folder, and what it printed."""
    exp = tmp_path_factory.mktemp("exp")
    mock = mock_corpora.make("aishell", exp / "mock")
    with serving(mock_corpora.pack("aishell", mock, exp / "server")) as url:
        output = run_recipe("aishell", exp, *OPTIONS, "--mirror", url)
    return exp / "tiny", output


def characters(text: str) -> list[str]:
    """Of a transcript; what the tokens cannot spell is one."""
    return list(text.replace(" ", "").replace("<unk>", "?"))


def test_the_table_is_that_of_the_files(run: tuple[Path, str]) -> None:
    exp, output = run
    check_table(exp, output, ["dev", "test"], characters)
    assert "CER in percent" in output


def test_transcripts_have_no_spaces_and_language_models_words(run: tuple[Path, str]) -> None:
    cuts = list(read_cuts(run[0] / "data" / "cuts_train.jsonl.gz"))
    texts = (run[0] / "data" / "text_train.txt").read_text("utf-8").splitlines()
    assert [cut.supervisions[0].text for cut in cuts] == [t.replace(" ", "") for t in texts]
    assert "今天 天气 很 好" in texts
    tokens = (run[0] / "char" / "tokens.txt").read_text("utf-8")
    assert "天 " in tokens and "▁" not in tokens


def test_words_of_text_and_lexicon_are_searched(run: tuple[Path, str]) -> None:
    exp, _ = run
    words = (exp / "words.txt").read_text("utf-8").split()
    assert {"天气", "天", "冷", "一", "鼹鼠"} <= set(words) and "SIL" not in words
    # no speech has the characters of these words of the lexicon
    assert (exp / "unspellable.txt").read_text("utf-8").split() == ["一", "鼹鼠"]
    searched = {
        line.split()[0] for line in (exp / "lang/words.txt").read_text("utf-8").splitlines()
    }
    assert searched == {"<eps>", "#0", *words} - {"一", "鼹鼠"}


def test_a_second_run_needs_no_server_and_makes_nothing_again(run: tuple[Path, str]) -> None:
    exp, output = run
    assert {"data/part_train", "tiny/words.txt"} <= set(steps_made(output))
    before = contents(exp)
    nowhere = ("--mirror", "http://127.0.0.1:9")
    assert (
        steps_made(run_recipe("aishell", exp.parent, *OPTIONS, *nowhere, "--stop-stage", "4")) == []
    )
    assert contents(exp) == before


def test_a_lexicon_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("SIL sil\n好 h ao3\n好 h ao4\nｋ k ei1\n", "utf-8")
    assert read_lexicon_words(path) == ["好", "K"]
    path.write_text("好 h ao3\n坏\n", "utf-8")
    with pytest.raises(
        DataError, match="lexicon.txt:2: expected 'word phone phone ...', found '坏'"
    ):
        read_lexicon_words(path)
