"""The step that makes G over the words of a language directory, from an n-gram model or a grammar."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moe_asr.errors import ConfigError
from moe_asr.files import PathLike
from moe_asr.fsa.grammar_compiler import compile_grammar
from moe_asr.fsa.grammar_parser import read_grammar
from moe_asr.fsa.ngram_fst import g_from_arpa
from moe_asr.lang import provenance
from moe_asr.lang.directory import STEP as LANG_STEP
from moe_asr.lang.directory import WORDS
from moe_asr.text.symbol_table import SymbolTable

STEP = "G"
G_FILE = "G.safetensors"


def make_g(
    graph: PathLike,
    lang: PathLike,
    *,
    arpa: PathLike | None = None,
    grammar: PathLike | None = None,
    command: str | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Makes ``G.safetensors`` in a graph's directory, unless it is up to date (`provenance.make`).

    Args:
        graph: the directory.
        lang: a language directory; labels of G are ids of its ``words.txt``.
        arpa: an n-gram model; words that the directory lacks are left out (`g_from_arpa`).
        grammar: or a grammar (`compile_grammar`), all words of which the directory must have.
        command, report: see `provenance.make`; ``report`` is also told about the model or grammar.

    Returns:
        Whether it was made.

    Raises:
        ConfigError: unless there is either a model or a grammar.
        StaleError: if the language directory, the model or the grammar is stale itself.
        TextError: with file and line, if the model or the grammar is malformed.
    """
    if (arpa is None) == (grammar is None):
        found = "both" if arpa is not None else "neither"
        raise ConfigError(f"G is made of an ARPA file or a grammar, found {found}")
    lang = Path(lang)
    provenance.verify(lang, LANG_STEP)
    kind, source = ("arpa", Path(arpa)) if arpa is not None else ("grammar", Path(grammar or ""))
    inputs: dict[str, PathLike] = {"words": lang / WORDS, kind: source}
    if grammar is not None:
        for path in read_grammar(source).files[1:]:  # what it imports, and the lists it reads
            inputs[f"grammar: {os.path.relpath(path, source.parent)}"] = path

    def build(folder: Path) -> None:
        words = SymbolTable.read(lang / WORDS)
        metadata: dict[str, Any] = {
            "kind": "G",
            "source": kind,
            "file": source.name,
            "sha256": provenance.hash_path(source),
        }
        if kind == "arpa":
            fst = g_from_arpa(source, words, report)
        else:
            fst, compiled = compile_grammar(source, words)
            for warning in compiled.warnings:
                report(f"warning: {warning}")
            report(str(compiled))
        fst.save(folder / G_FILE, metadata)

    return provenance.make(
        graph,
        STEP,
        inputs=inputs,
        outputs=[G_FILE],
        settings={"source": kind},
        build=build,
        command=command,
        report=report,
    )
