"""Checks of G: its form, its probabilities, the words it has, and whether it is what its source says."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moe_asr.fsa.check import check_grammar, words_missing
from moe_asr.fsa.compare import acceptor_differences
from moe_asr.fsa.epsilon import has_cycle
from moe_asr.fsa.fst import Fst, reachable
from moe_asr.lang import provenance
from moe_asr.lang.make_g import G_FILE
from moe_asr.lang.validate_report import Findings, Skipped
from moe_asr.text.lexicon import BACKOFF
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import UNK

GRAMMAR_DEVIATION = 1e-3  # of a grammar's state, whose probabilities sum to 1 but for float32
_SHOWN = 5
_MAX_STEPS, _NEGLIGIBLE = 1000, 1e-6  # of the sums over random sentences


@dataclass(frozen=True)
class LoadedG:
    """G and the metadata of its file."""

    fst: Fst
    metadata: dict[str, Any]

    @property
    def is_grammar(self) -> bool:
        """Whether it says that it was made from a grammar."""
        return bool(self.metadata.get("source") == "grammar")


def check_g(found: Findings, graph: Path, words: SymbolTable) -> LoadedG | None:
    """An acceptor over ``words``, but for ``#0:<eps>``; deterministic, sorted, connected, not empty."""
    path = graph / G_FILE
    fst, metadata = Fst.load(path)
    if metadata.get("kind") != "G":
        found.error(f"{path}: expected a G, found {metadata.get('kind')!r}")
        return None
    backoff = words[BACKOFF]

    def arcs(wrong: np.ndarray, problem: str) -> None:
        found.errors(
            np.flatnonzero(wrong),
            lambda arc: (
                f"{path}: arc {arc} of state {fst.src[arc]} ({_symbol(words, fst.ilabel[arc])}:"
                f"{_symbol(words, fst.olabel[arc])}): {problem}"
            ),
        )

    passes = fst.ilabel == backoff
    for name in ("ilabel", "olabel"):
        arcs(
            getattr(fst, name) >= len(words), f"expected ids of {words.source}, below {len(words)}"
        )
    arcs(fst.ilabel == 0, "no epsilon may be read")
    arcs(fst.olabel == backoff, f"{BACKOFF} may not be written")
    arcs(passes & (fst.olabel != 0), f"expected {BACKOFF}:<eps>")
    arcs(~passes & (fst.ilabel != fst.olabel), "expected the same word on both sides")
    same_src = np.diff(fst.src) == 0
    order = np.diff(fst.ilabel)
    arcs(np.append(False, same_src & (order < 0)), "the arcs of a state must be sorted by label")
    keys = (fst.src.astype(np.int64) << 32) + fst.ilabel
    again = np.ones(fst.num_arcs, bool)
    again[np.unique(keys, return_index=True)[1]] = False
    arcs(again, "another arc of the state has the same label")
    if has_cycle(fst.src[passes], fst.dst[passes], fst.num_states):
        found.error(f"{path}: backoff arcs ({BACKOFF}) lead in a circle")
    useful = _on_a_path(fst)
    if not useful[0] or not fst.num_arcs:
        found.error(f"{path}: empty: it accepts no word")
    else:
        found.errors(
            np.flatnonzero(~useful),
            lambda state: f"{path}: state {state} is on no path from the start to a final state",
        )
    if not found.num_errors:
        check_grammar(fst, words)  # what build_graph.py asks of it
    found.note(f"{fst.num_states:,} states, {fst.num_arcs:,} arcs, {int(passes.sum()):,} backoffs")
    return None if found.num_errors else LoadedG(fst, metadata)


def check_g_words(
    found: Findings, graph: Path, g: LoadedG, l_disambig: Fst, words: SymbolTable
) -> np.ndarray:
    """Which words G has (`words_of`). Words of the lexicon that it lacks are a warning."""
    missing = words_missing(l_disambig, g.fst, words)
    if missing:
        found.warn(
            f"{graph / G_FILE}: {len(missing):,} of the lexicon's words are not in it: "
            f"{_first(missing)}; they cannot be recognised"
        )
    mask = words_of(g, words)
    found.note(f"{int(mask.sum()):,} words")
    return mask


def words_of(g: LoadedG, words: SymbolTable) -> np.ndarray:
    """(len(words),) bool: which words (or tokens) are on arcs of G."""
    mask = np.zeros(len(words), bool)
    mask[g.fst.olabel] = True
    mask[0] = False
    return mask


def check_g_probabilities(
    found: Findings, graph: Path, g: LoadedG, max_excess: float, max_deficit: float
) -> bool:
    """What leaves each state sums to 1, within bounds; see `backoff_stochasticity` for what is summed.

    Args:
        g: of a grammar, each state's sum may be off by `GRAMMAR_DEVIATION`; else the bounds are:
        max_excess: how far above 1 the sum of any state may be: such a model is none.
        max_deficit: how far below 1 sums may be on average, see `mean_deficit`.
    """
    from moe_asr.fsa.ngram_fst import backoff_stochasticity

    path = graph / G_FILE
    with np.errstate(over="ignore"):
        total = np.exp(backoff_stochasticity(g.fst))
    low = 1.0 - GRAMMAR_DEVIATION if g.is_grammar else 0.0
    high = 1.0 + (GRAMMAR_DEVIATION if g.is_grammar else max_excess)
    found.errors(
        np.flatnonzero((total < low) | (total > high)),
        lambda state: (
            f"{path}: state {state}: the probabilities of what follows sum to {total[state]:.5f}, expected "
            f"{low:g} to {high:g}"
        ),
    )
    deficit = mean_deficit(g.fst, total)
    if deficit > max_deficit:
        found.error(
            f"{path}: {100 * deficit:.2f} % of the probability is for words that are not in G, expected at "
            f"most {100 * max_deficit:g} %"
        )
    found.note(
        f"sums from {total.min():.5f} to {total.max():.5f}, on average {100 * deficit:.2f} % below 1"
    )
    return True


def mean_deficit(fst: Fst, total: np.ndarray) -> float:
    """How far below 1 sums of probabilities are where sentences come by: the share of words that G lacks.

    States are weighed by how often random sentences reach them by a word, `sample_paths` drawing those.

    Args:
        fst: a connected G.
        total: (S,) the sums.
    """
    from scipy.sparse import csr_matrix

    out = np.bincount(fst.src, np.exp(fst.score.astype(np.float64)), fst.num_states)
    share = np.exp(fst.score.astype(np.float64)) / (out + np.exp(fst.final_score))[fst.src]
    shape = (fst.num_states, fst.num_states)
    step = csr_matrix((share, (fst.dst, fst.src)), shape=shape)
    flow = np.zeros(fst.num_states)
    flow[0] = 1.0
    visits = flow.copy()
    for _ in range(_MAX_STEPS):
        flow = step @ flow
        visits += flow
        if flow.sum() < _NEGLIGIBLE * visits.sum():
            break
    spoken = fst.olabel != 0
    weight = np.bincount(fst.dst[spoken], (visits[fst.src] * share)[spoken], fst.num_states)
    weight[0] += 1.0
    return float(weight @ np.maximum(1.0 - total, 0.0) / weight.sum())


def check_g_source(found: Findings, graph: Path, g: LoadedG, words: SymbolTable) -> bool:
    """G is what its n-gram model or grammar gives: the same n-grams or words with the same scores.

    An ARPA file is converted by our own code, not by kaldilm, which made G.

    Raises:
        Skipped: if nothing tells what it was made from, or that is not there any more.
    """
    return _check_source(found, graph, g, words, {"arpa": _from_arpa, "grammar": _from_grammar})


def check_token_g_source(found: Findings, graph: Path, g: LoadedG, tokens: SymbolTable) -> bool:
    """As `check_g_source`, of an n-gram model of ``tokens``, whose last symbol is ``#0``."""
    return _check_source(found, graph, g, tokens, {"arpa": _from_token_arpa})


_Convert = Callable[[Findings, Path, SymbolTable], Fst]


def _check_source(
    found: Findings, graph: Path, g: LoadedG, words: SymbolTable, ways: dict[str, _Convert]
) -> bool:
    inputs = provenance.inputs_of(graph / G_FILE)
    role = next((role for role in ways if role in inputs), None)
    if role is None:
        raise Skipped("no n-gram model or grammar is on record")
    path = inputs[role]
    if not path.is_file():
        raise Skipped(f"{path} is not there")
    expected = {"source": role, "sha256": provenance.hash_path(path)}
    for key, value in expected.items():
        if g.metadata.get(key) != value:
            found.error(
                f"{graph / G_FILE}: its {key} is {g.metadata.get(key)!r}, expected {value!r}"
            )
    converted = ways[role](found, path, words)
    for difference in acceptor_differences(g.fst, converted, words[BACKOFF]):
        found.error(f"{graph / G_FILE}: {difference} by {path}")
    found.note(f"as {path} has it")
    return True


def _from_arpa(found: Findings, path: Path, words: SymbolTable) -> Fst:
    from moe_asr.fsa.ngram_fst import ngram_fst, uncovered_words
    from moe_asr.lm.arpa import read_arpa

    model = read_arpa(path)
    missing = [word for word in uncovered_words(model, words) if word != UNK]
    if missing:
        found.warn(
            f"{path}: {len(missing):,} of its {len(model.words):,} words are not in the lexicon, and left "
            f"out of G: {_first(missing)}"
        )
    return ngram_fst(model, words)


def _from_token_arpa(found: Findings, path: Path, tokens: SymbolTable) -> Fst:
    from moe_asr.fsa.ngram_fst import token_ngram_fst
    from moe_asr.lm.arpa import read_arpa

    return token_ngram_fst(read_arpa(path), SymbolTable(list(tokens)[:-1], tokens.source))


def _from_grammar(found: Findings, path: Path, words: SymbolTable) -> Fst:
    from moe_asr.fsa.grammar_compiler import compile_grammar

    fst, report = compile_grammar(path, words)
    for warning in report.warnings:
        found.warn(warning)
    return fst


def _on_a_path(fst: Fst) -> np.ndarray:
    finals = np.flatnonzero(np.isfinite(fst.final_score))
    forward = reachable(fst.src, fst.dst, np.array([0]), fst.num_states)
    return forward & reachable(fst.dst, fst.src, finals, fst.num_states)


def _symbol(words: SymbolTable, label: int) -> str:
    try:
        return words.symbol(int(label))
    except ValueError:  # TextError: an id that is not there
        return str(label)


def _first(items: list[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (", ..." if len(items) > _SHOWN else "")
