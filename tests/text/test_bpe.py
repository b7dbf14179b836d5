import io
import re

import pytest
import sentencepiece

from moe_asr.errors import TextError
from moe_asr.text.bpe import train_bpe
from moe_asr.text.tokenizer import load_tokenizer

TEXTS = ["one two three", "four five six seven", "eight nine zero oh", "two tone stone"] * 3


def files(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_training_is_deterministic_quiet_and_saves(tmp_path, capfd):
    tokenizer = train_bpe(TEXTS, 40, tmp_path / "a")
    train_bpe(iter(TEXTS), 40, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert tokenizer.vocab_size == 40
    assert load_tokenizer(tmp_path / "a").tokens == tokenizer.tokens
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_frequent_words_become_tokens(tmp_path):
    tokenizer = train_bpe(["seven seven seven"] * 20 + ["one"], 22, tmp_path)
    assert "▁seven" in tokenizer.tokens


def test_too_large_a_vocabulary_says_what_the_text_supports(tmp_path):
    with pytest.raises(TextError, match="vocab_size is 5000; this text supports at most") as raised:
        train_bpe(TEXTS, 5000, tmp_path / "a")
    largest = int(re.search(r"at most (\d+) tokens", str(raised.value))[1])
    assert not (tmp_path / "a").exists()
    assert train_bpe(TEXTS, largest, tmp_path / "b").vocab_size == largest
    with pytest.raises(TextError, match=f"at most {largest} tokens"):
        train_bpe(TEXTS, largest + 1, tmp_path / "c")


def test_too_small_a_vocabulary_says_what_the_text_needs(tmp_path):
    with pytest.raises(TextError, match="vocab_size is 8; this text's characters alone") as raised:
        train_bpe(TEXTS, 8, tmp_path / "a")
    least = int(re.search(r"need (\d+) tokens", str(raised.value))[1])
    letters = set("".join(TEXTS).replace(" ", "▁"))
    assert least == 3 + len(letters)
    assert train_bpe(TEXTS, least, tmp_path / "b").vocab_size == least
    with pytest.raises(TextError, match=f"need {least} tokens"):
        train_bpe(TEXTS, least - 1, tmp_path / "c")


@pytest.mark.parametrize("vocab_size", [-1, 0, 3])
def test_a_vocabulary_of_special_tokens_only_is_refused(tmp_path, vocab_size):
    with pytest.raises(TextError, match=f"vocab_size is {vocab_size}; expected more than 3"):
        train_bpe(TEXTS, vocab_size, tmp_path)


@pytest.mark.parametrize(
    "texts, message",
    [
        ([], "no text"),
        (["", " \n "], "no text"),
        (["one", "two <blk>"], "text 1: '<blk>' is reserved: 'two <blk>'"),
        (["<sos/eos>"], "text 0: '<sos/eos>' is reserved"),
        (["one\0two"], "text 0: .* is reserved"),
        (["one ▅"], "text 0: '▅' is reserved"),
        (["one", "\ud800"], "text 1: half a surrogate pair"),
    ],
)
def test_texts_that_are_refused(tmp_path, texts, message):
    with pytest.raises(TextError, match=message):
        train_bpe(texts, 20, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("reserved", ["\0", "▅"])
def test_what_is_refused_is_what_sentencepiece_leaves_out(reserved):
    """Else `train_bpe` should not refuse it."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, f"q {reserved} q"]),
        model_writer=model,
        model_type="bpe",
        vocab_size=30,
        character_coverage=1.0,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model.getvalue())
    assert processor.piece_to_id("one") != processor.unk_id()
    assert processor.piece_to_id(reserved) == processor.unk_id()


def test_long_sentences_are_not_left_out(tmp_path):
    long = "q" + " one two" * 1000  # sentencepiece's own default passes over more than 4192 bytes
    assert "q" in train_bpe([*TEXTS, long], 40, tmp_path).tokens


def test_empty_transcripts_are_passed_over(tmp_path):
    assert (
        train_bpe(["", *TEXTS, "  "], 40, tmp_path / "a").tokens
        == train_bpe(TEXTS, 40, tmp_path / "b").tokens
    )


def test_the_dummy_prefix_is_a_choice(tmp_path):
    texts = ["你好世界", "世界你好", "你好"] * 5
    with_prefix = train_bpe(texts, 11, tmp_path / "a")
    without = train_bpe(texts, 9, tmp_path / "b", add_dummy_prefix=False)
    assert any("▁" in token for token in with_prefix.tokens)
    assert not any("▁" in token for token in without.tokens)
    for tokenizer in (with_prefix, without):
        assert tokenizer.decode(tokenizer.encode("世界你好")) == "世界你好"
