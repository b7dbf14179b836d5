"""Tokenizers: transcripts to token ids and back, and their files in a model directory.

Ids 0, 1 and 2 are ``<blk>``, ``<sos/eos>`` and ``<unk>`` in every tokenizer. A directory holds
``tokenizer.yaml`` (the kind and its settings), ``tokens.txt``, and whatever else the kind needs.
"""

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from moe_asr.errors import ConfigError, TextError
from moe_asr.files import PathLike, atomic_path, read_yaml, write_yaml
from moe_asr.text.normalize import SPACE, normalize_text
from moe_asr.text.symbol_table import SymbolTable

BLANK, SOS_EOS, UNK = "<blk>", "<sos/eos>", "<unk>"
SPECIAL_TOKENS = (BLANK, SOS_EOS, UNK)
BLANK_ID, SOS_EOS_ID, UNK_ID = 0, 1, 2

SETTINGS_FILE, TOKENS_FILE, BPE_FILE = "tokenizer.yaml", "tokens.txt", "bpe.model"

# Modules that register further kinds; imported when kinds are first asked for.
_MODULES = ("moe_asr.text.mixed", "moe_asr.text.phone")
_REGISTRY: dict[str, type["Tokenizer"]] = {}
_T = TypeVar("_T", bound=type["Tokenizer"])


def register_tokenizer(kind: str) -> Callable[[_T], _T]:
    """Class decorator: makes a tokenizer known to `load_tokenizer` as ``kind``."""

    def register(cls: _T) -> _T:
        assert kind not in _REGISTRY, f"two tokenizers of kind {kind}"
        cls.kind = kind
        _REGISTRY[kind] = cls
        return cls

    return register


def tokenizer_kinds() -> list[str]:
    """The registered kinds."""
    for module in _MODULES:
        importlib.import_module(module)
    return list(_REGISTRY)


def tokenizer_class(kind: str) -> type["Tokenizer"]:
    """The class of a kind; `ConfigError` if there is none."""
    kinds = tokenizer_kinds()
    if kind not in kinds:
        raise ConfigError(f"kind is {kind!r}; expected one of {', '.join(kinds)}")
    return _REGISTRY[kind]


class Tokenizer(ABC):
    """Turns text into token ids and back.

    A new kind implements `encode`, `from_dir` and, where it has files or settings of its own,
    `files` and `_save_files`. If its tokens do not spell the text it says so by `spells_words`, and
    overrides `decode` and `spellings`.

    Attributes:
        kind: its name in ``tokenizer.yaml``.
        files: the names of the files that `save` writes.
        spells_words: whether `decode` gives back the words; where it does not (phones), error rates
            of decoded tokens are rates of tokens.
        tokens: the symbol table; its ids are the model's outputs.
    """

    kind: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = (SETTINGS_FILE, TOKENS_FILE)
    spells_words: ClassVar[bool] = True

    def __init__(self, tokens: SymbolTable) -> None:
        found = list(tokens)[: len(SPECIAL_TOKENS)]
        if found != list(SPECIAL_TOKENS):
            expected = " ".join(SPECIAL_TOKENS)
            raise TextError(f"{tokens.source}: expected {expected} as ids 0, 1, 2; found {found}")
        self.tokens = tokens

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the three special ones included."""
        return len(self.tokens)

    @abstractmethod
    def encode(self, text: str, strict: bool = False) -> list[int]:
        """Token ids of ``text`` after `normalize_text`; [] for empty text.

        Never 0 or 1, whatever the text says. What the tokens cannot spell becomes ``<unk>`` (2).

        Raises:
            TextError: with ``strict``, instead of any ``<unk>``.
        """

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids. Blank and sos/eos are left out, unknown tokens read ``<unk>``.

        Raises:
            TextError: on an id that is not in the table.
        """
        pieces = [self.tokens.symbol(i) for i in ids if i not in (BLANK_ID, SOS_EOS_ID)]
        return normalize_text("".join(pieces))

    def spellings(self, word: str) -> list[tuple[tuple[int, ...], float]]:
        """Every way in which texts spell a word, with its natural log probability, at most 0.

        A word that is spelt differently after another one (characters with a separator between words)
        has both spellings. A word that the tokens cannot spell has none.
        """
        if word == UNK:
            return []
        first = self.encode(word)
        if not first or UNK_ID in first:
            return []
        repeated = self.encode(f"{word} {word}")
        found = [tuple(first)]
        if repeated[: len(first)] == first:
            later = tuple(repeated[len(first) :])
            # without a separator among the tokens, texts have no spaces
            if later != found[0] and UNK_ID not in later:
                found.append(later)
        return [(ids, 0.0) for ids in found]

    def save(self, directory: PathLike) -> None:
        """Writes the tokenizer's files; ``tokenizer.yaml`` comes last."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        settings = self._save_files(directory)
        self.tokens.write(directory / TOKENS_FILE)
        write_yaml(directory / SETTINGS_FILE, {"kind": self.kind, **settings})

    def _save_files(self, directory: Path) -> dict[str, Any]:
        """Writes the files this kind has beside ``tokens.txt``; returns its settings values."""
        return {}

    @classmethod
    @abstractmethod
    def from_dir(cls, directory: Path, settings: Mapping[str, Any]) -> "Tokenizer":
        """Reads what `save` wrote.

        Args:
            directory: where the files are.
            settings: the contents of ``tokenizer.yaml`` without ``kind``.

        Raises:
            TextError: naming the file that is missing, damaged or does not fit the others.
        """


def load_tokenizer(directory: PathLike) -> Tokenizer:
    """Reads the tokenizer of a model directory; runs no code from it.

    Raises:
        TextError: naming the file that is missing, damaged or does not fit the others.
    """
    path = Path(directory) / SETTINGS_FILE
    try:
        settings = read_yaml(path)
    except ConfigError as error:
        raise TextError(str(error)) from error
    if not isinstance(settings, dict) or "kind" not in settings:
        raise TextError(f"{path}: expected a mapping with the key 'kind', found {settings!r}")
    kind = settings.pop("kind")
    try:
        cls = tokenizer_class(kind)
    except ConfigError as error:
        raise TextError(f"{path}: {error}") from error
    return cls.from_dir(Path(directory), settings)


@register_tokenizer("char")
class CharTokenizer(Tokenizer):
    """One token a character, ``▁`` for the space; for Chinese, English and mixtures.

    Raises:
        TextError: if a token after the special ones is not a single character.
    """

    def __init__(self, tokens: SymbolTable) -> None:
        super().__init__(tokens)
        for index, symbol in enumerate(tokens):
            if index > UNK_ID and len(symbol) != 1:
                raise TextError(
                    f"{tokens.source}: token {index} is {symbol!r}; expected one character"
                )

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> "CharTokenizer":
        """The tokenizer of all characters in ``texts``, sorted by code point.

        Raises:
            TextError: if there is no character in them.
        """
        characters: set[str] = set()
        for text in texts:
            characters.update(normalize_text(text).replace(" ", SPACE))
        if not characters:
            raise TextError("no text to take characters from")
        return cls(SymbolTable([*SPECIAL_TOKENS, *sorted(characters)], "characters of the text"))

    def encode(self, text: str, strict: bool = False) -> list[int]:
        ids = []
        for char in normalize_text(text).replace(" ", SPACE):
            index = self.tokens.get(char)
            if index is None and strict:
                raise TextError(f"character {char!r} is not in {self.tokens.source}: {text!r}")
            ids.append(UNK_ID if index is None else index)
        return ids

    @classmethod
    def from_dir(cls, directory: Path, settings: Mapping[str, Any]) -> "CharTokenizer":
        check_keys(settings, set(), directory / SETTINGS_FILE)
        return cls(SymbolTable.read(directory / TOKENS_FILE))


@register_tokenizer("bpe")
class BpeTokenizer(Tokenizer):
    """sentencepiece byte-pair encoding; `moe_asr.text.bpe.train_bpe` makes one.

    Args:
        model: the bytes of a sentencepiece model (``bpe.model``), icefall's for instance.
        source: where it comes from, for messages.

    Raises:
        TextError: if it is not such a model, or its pieces 0, 1, 2 are not the special tokens.
    """

    files = (*Tokenizer.files, BPE_FILE)

    def __init__(self, model: bytes, source: str = "sentencepiece model") -> None:
        import sentencepiece

        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise TextError(f"{source}: not a sentencepiece model: {error}") from error
        size = self._processor.get_piece_size()
        super().__init__(SymbolTable((self._processor.id_to_piece(i) for i in range(size)), source))

    def encode(self, text: str, strict: bool = False) -> list[int]:
        ids = self._processor.encode(normalize_text(text))
        # sentencepiece finds the special tokens where the text spells them; they are no speech.
        ids = [UNK_ID if i in (BLANK_ID, SOS_EOS_ID) else i for i in ids]
        if strict and UNK_ID in ids:
            raise TextError(
                f"{self.tokens.source} cannot spell {text!r}: <unk> at {ids.index(UNK_ID)}"
            )
        return ids

    def _save_files(self, directory: Path) -> dict[str, Any]:
        with atomic_path(directory / BPE_FILE) as temporary:
            temporary.write_bytes(self._model)
        return {"model_sha256": hashlib.sha256(self._model).hexdigest()}

    @classmethod
    def from_dir(cls, directory: Path, settings: Mapping[str, Any]) -> "BpeTokenizer":
        tokenizer = cls.model_from_dir(directory, settings)
        tokens = SymbolTable.read(directory / TOKENS_FILE)
        if tokens != tokenizer.tokens:
            raise TextError(f"{tokens.source}: not the pieces of {tokenizer.tokens.source}")
        return tokenizer

    @classmethod
    def model_from_dir(cls, directory: Path, settings: Mapping[str, Any]) -> "BpeTokenizer":
        """Reads ``bpe.model`` alone, against the hash in ``tokenizer.yaml``."""
        check_keys(settings, {"model_sha256"}, directory / SETTINGS_FILE)
        path = directory / BPE_FILE
        # sentencepiece loads many a truncated file as a smaller model, hence the hash
        return cls(read_hashed(path, settings["model_sha256"]), str(path))

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self._model, "source": self.tokens.source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def read_hashed(path: Path, sha256: Any) -> bytes:
    """The content of a file of a tokenizer; TextError unless its hash is that of ``tokenizer.yaml``."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TextError(f"{path}: cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise TextError(f"{path}: its SHA-256 is {digest}; {SETTINGS_FILE} says {sha256}")
    return content


def check_keys(settings: Mapping[str, Any], expected: set[str], path: Path) -> None:
    """TextError unless the settings of ``tokenizer.yaml`` are the ``expected`` ones."""
    if set(settings) != expected:
        found = ", ".join(sorted(map(str, settings))) or "none"
        wanted = ", ".join(sorted(expected)) or "none"
        raise TextError(f"{path}: settings beside 'kind': expected {wanted}; found {found}")
