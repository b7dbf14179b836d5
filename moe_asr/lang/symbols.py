"""The symbol tables that belong to a file of L or G, found where the steps of ``lang/`` put them."""

from pathlib import Path

from moe_asr.files import PathLike
from moe_asr.lang import provenance
from moe_asr.lang.directory import TOKENS, TOKENS_DISAMBIG, WORDS, disambig_table
from moe_asr.text.symbol_table import SymbolTable


def find_tables(path: PathLike, kind: str) -> tuple[SymbolTable | None, SymbolTable | None]:
    """The tables of the input and output labels of an FST; None where there is none to be found.

    They are looked for in the folder of the file, then where the inputs of the step that made it were.

    Args:
        path: of the FST.
        kind: ``L`` and ``L_disambig`` are from tokens to words, ``G`` from words to words,
            or from tokens to tokens if that is what it was made of; of others nothing is known.

    Raises:
        TextError: if a table that is found cannot be read.
    """
    path = Path(path).absolute()
    if kind == "G":
        tokens = _tokens_of_g(path)
        if tokens is not None:
            return tokens, tokens
    folders = _folders(path)
    words = _first(folders, WORDS)
    if kind == "G":
        return words, words
    if kind in ("L", "L_disambig"):
        return _first(folders, TOKENS_DISAMBIG, TOKENS), words
    return None, None


def _tokens_of_g(path: Path) -> SymbolTable | None:
    """The tokens and ``#0``, if G was made of those and not of words."""
    for directory, step in provenance.makers(path):
        inputs = provenance.recorded_inputs(directory, step)
        if "words" not in inputs and "tokens" in inputs and inputs["tokens"].is_file():
            return disambig_table(SymbolTable.read(inputs["tokens"]), 0)
    return None


def _folders(path: Path) -> list[Path]:
    folders = [path.parent]
    for directory, step in provenance.makers(path):
        for source in provenance.recorded_inputs(directory, step).values():
            folders.append(source if source.is_dir() else source.parent)
    return list(dict.fromkeys(folders))


def _first(folders: list[Path], *names: str) -> SymbolTable | None:
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return SymbolTable.read(folder / name)
    return None
