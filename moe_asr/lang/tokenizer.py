"""The step that makes a tokenizer's directory: trained on text, or taken from a lexicon."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from moe_asr.errors import ConfigError, DataError, TextError
from moe_asr.files import PathLike
from moe_asr.lang import provenance
from moe_asr.text.bpe import train_bpe
from moe_asr.text.lexicon import Lexicon
from moe_asr.text.lines import read_lines
from moe_asr.text.mixed import MixedTokenizer
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.tokenizer import CharTokenizer, tokenizer_class

STEP = "tokenizer"
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", re.IGNORECASE)


def make_tokenizer(
    output: PathLike,
    kind: str,
    *,
    text: PathLike | None = None,
    manifest: PathLike | None = None,
    lexicon: PathLike | None = None,
    lexicon_probabilities: bool = False,
    vocab_size: int | None = None,
    add_dummy_prefix: bool = True,
    command: str | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Makes the directory of a tokenizer, unless it is there and up to date (`provenance.make`).

    Args:
        output: the directory.
        kind: one of `tokenizer_kinds`.
        text: what it is trained on, one transcript a line; not for ``phone``.
        manifest: the same as lhotse cuts, instead of ``text``.
        lexicon: for ``phone``: its words and phones.
        lexicon_probabilities: whether the lexicon's lines are ``word probability phone ...``.
        vocab_size: number of tokens, the special ones included; for ``bpe`` and ``mixed`` only.
        add_dummy_prefix: for ``bpe``, see `train_bpe`.
        command, report: see `provenance.make`.

    Returns:
        Whether it was made.

    Raises:
        ConfigError: if these do not fit together.
        TextError, DataError: if the text, lexicon or manifest does not do; nothing is written then.
    """
    files = tokenizer_class(kind).files
    sources = {"text": text, "manifest": manifest, "lexicon": lexicon}
    inputs = {role: path for role, path in sources.items() if path is not None}
    allowed = ["lexicon"] if kind == "phone" else ["text", "manifest"]
    if len(inputs) != 1 or set(inputs) - set(allowed):
        found = " and ".join(inputs) or "nothing"
        raise ConfigError(
            f"a {kind} tokenizer is made from a {' or '.join(allowed)}, found {found}"
        )
    if (vocab_size is not None) != (kind in ("bpe", "mixed")):
        verb = "does not need" if vocab_size is not None else "needs"
        raise ConfigError(f"a {kind} tokenizer {verb} a vocabulary size")
    settings: dict[str, Any] = {"kind": kind}
    if kind == "phone":
        settings["lexicon_probabilities"] = lexicon_probabilities
    if vocab_size is not None:
        settings["vocab_size"] = vocab_size
    if kind == "bpe":
        settings["add_dummy_prefix"] = add_dummy_prefix

    def build(folder: Path) -> None:
        if lexicon is not None:
            entries = Lexicon.read(lexicon, lexicon_probabilities)
            if not lexicon_probabilities:
                _check_phones(entries, lexicon)
            PhoneTokenizer.from_lexicon(entries).save(folder)
            return
        texts = read_lines(text) if text is not None else cut_texts(inputs["manifest"])
        source = str(text) if text is not None else None
        if kind == "char":
            CharTokenizer.from_texts(texts).save(folder)
            return
        assert vocab_size is not None, kind
        if kind == "mixed":
            MixedTokenizer.train(texts, vocab_size, source).save(folder)
        else:
            assert kind == "bpe", kind
            train_bpe(texts, vocab_size, folder, add_dummy_prefix, source)

    return provenance.make(
        output,
        STEP,
        inputs=inputs,
        outputs=files,
        settings=settings,
        build=build,
        command=command,
        report=report,
    )


def _check_phones(lexicon: Lexicon, path: PathLike) -> None:
    """Raises `TextError` if the first phone of every pronunciation is a number: they are no phones then."""
    entries = lexicon.pronunciations
    if all(len(entry.tokens) > 1 and _NUMBER.fullmatch(entry.tokens[0]) for entry in entries):
        raise TextError(
            f"{path}: every pronunciation begins with a number, as '{entries[0].word} "
            f"{' '.join(entries[0].tokens)}': such a lexicon is read with --lexicon-probabilities"
        )


def cut_texts(manifest: PathLike) -> Iterator[str]:
    """The texts of all supervisions of a manifest; DataError naming a cut that has none."""
    from tqdm import tqdm

    from moe_asr.data.manifests import read_cuts

    for cut in tqdm(read_cuts(manifest), unit="cut", disable=None):
        for supervision in cut.supervisions:
            if not isinstance(supervision.text, str):
                raise DataError(f"{manifest}: cut {cut.id}: a supervision without text")
            yield supervision.text
