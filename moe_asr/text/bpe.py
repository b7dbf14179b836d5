"""Training of sentencepiece byte-pair encodings."""

import io
import re
from collections.abc import Iterable

from moe_asr.errors import TextError
from moe_asr.files import PathLike
from moe_asr.text.normalize import normalize_text
from moe_asr.text.tokenizer import BLANK, SOS_EOS, SPECIAL_TOKENS, UNK_ID, BpeTokenizer

# sentencepiece silently leaves out NUL, and whole sentences with ▅, its mark for the unknown.
_REFUSED = ("\0", "\N{LOWER FIVE EIGHTHS BLOCK}", BLANK, SOS_EOS)


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    directory: PathLike,
    add_dummy_prefix: bool = True,
    source: str | None = None,
) -> BpeTokenizer:
    """Trains a byte-pair encoding on all of the text and saves it. Deterministic; prints nothing.

    Args:
        texts: transcripts; empty ones are passed over.
        vocab_size: number of tokens, the three special ones included.
        directory: where the tokenizer's files go.
        add_dummy_prefix: start every text with ``▁``: a word is spelt alike wherever it stands.
        source: the file whose lines the texts are, for messages.

    Raises:
        TextError: if there is no text, a text has a token or character that cannot be trained on,
            or the text supports fewer tokens or needs more (the message says how many).
    """
    model = train_bpe_model(texts, vocab_size, add_dummy_prefix, source)
    tokenizer = BpeTokenizer(model, "trained BPE")
    tokenizer.save(directory)
    return tokenizer


def train_bpe_model(
    texts: Iterable[str],
    vocab_size: int,
    add_dummy_prefix: bool = True,
    source: str | None = None,
    num_other: int = 0,
) -> bytes:
    """The sentencepiece model that `train_bpe` saves, as bytes.

    ``num_other`` tokens of ``vocab_size`` are not the model's, which has that many fewer.
    """
    sentences = []
    for index, text in enumerate(texts):
        sentence = normalize_text(text)
        where = f"text {index}" if source is None else f"{source}:{index + 1}"
        refused = next((token for token in _REFUSED if token in sentence), None)
        if refused is not None:
            raise TextError(f"{where}: {refused!r} is reserved: {sentence!r}")
        if any("\ud800" <= char <= "\udfff" for char in sentence):
            raise TextError(f"{where}: half a surrogate pair: {sentence!r}")
        if sentence:
            sentences.append(sentence)
    if not sentences:
        raise TextError("no text to train a byte-pair encoding on")
    return _train(sentences, vocab_size, add_dummy_prefix, num_other)


def _train(sentences: list[str], vocab_size: int, add_dummy_prefix: bool, num_other: int) -> bytes:
    import sentencepiece

    least = len(SPECIAL_TOKENS) + num_other
    if vocab_size <= least:
        raise TextError(f"vocab_size is {vocab_size}; expected more than {least}")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size - num_other,
            character_coverage=1.0,
            byte_fallback=False,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            unk_id=UNK_ID,
            user_defined_symbols=[BLANK, SOS_EOS],  # ids 0 and 1, as in icefall
            normalization_rule_name="identity",  # normalize_text did it
            add_dummy_prefix=add_dummy_prefix,
            # longer ones would be left out
            max_sentence_length=max(len(text.encode()) for text in sentences) + 1,
            input_sentence_size=0,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise TextError(_explain(vocab_size, num_other, str(error))) from error
    return model.getvalue()


def _explain(vocab_size: int, num_other: int, message: str) -> str:
    found = re.search(r"Vocabulary size too high .*value <= (\d+)", message)
    if found:
        most = int(found[1]) + num_other
        return f"vocab_size is {vocab_size}; this text supports at most {most} tokens"
    found = re.search(r"smaller than required_chars\. \d+ vs (\d+)", message)
    if found:
        least = int(found[1]) + num_other
        return f"vocab_size is {vocab_size}; this text's characters alone need {least} tokens"
    return f"sentencepiece cannot train on this text: {message}"
