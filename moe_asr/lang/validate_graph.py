"""Checks of LG and HLG: form, symbols, and whether they are what L, G and the topology make."""

import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.build import build_lg
from moe_asr.fsa.build_files import GraphJob, build_graph_files
from moe_asr.fsa.compare import graph_differences
from moe_asr.fsa.fst import Fst, reachable
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.token_graph import token_graph
from moe_asr.fsa.topology import TOPOLOGIES, compose_topology
from moe_asr.lang import provenance
from moe_asr.lang.directory import L_DISAMBIG_FILE, TOKENS, WORDS
from moe_asr.lang.make_g import G_FILE
from moe_asr.lang.make_graph import TOKEN_STEP
from moe_asr.lang.validate_files import same_table
from moe_asr.lang.validate_g import LoadedG
from moe_asr.lang.validate_report import Findings, Skipped
from moe_asr.text.lexicon import BACKOFF
from moe_asr.text.symbol_table import SymbolTable

REBUILD_ARCS = 50_000  # of G; more are built again only if that is asked for
_LIBRARIES = {"k2": "k2", "openfst": "kaldifst"}


@dataclass(frozen=True)
class Symbols:
    """What the arcs of a graph may have.

    Attributes:
        tokens, words: the tables.
        allowed: (V,) bool, the tokens that are spelled with; blank is not among them.
        spoken: (W,) bool, the words of G: each must be on an arc, and no other.
    """

    tokens: SymbolTable
    words: SymbolTable
    allowed: np.ndarray
    spoken: np.ndarray


def symbols_of(
    tokens: SymbolTable, words: SymbolTable, l_disambig: Fst, spoken: np.ndarray
) -> Symbols:
    """Those of L and G."""
    allowed = np.zeros(len(tokens), bool)
    allowed[l_disambig.ilabel[l_disambig.ilabel < len(tokens)]] = True
    return Symbols(tokens, words, allowed, spoken)


def check_graph(
    found: Findings, directory: Path, kind: str, symbols: Symbols, g: LoadedG, num_outputs: int
) -> DecodingGraph | None:
    """A graph with the tables of the language directory, made of the tokens of L and the words of G.

    Args:
        kind: of the graph, and the name of the file.
        symbols: see there.
        g: that it must say to be made with.
        num_outputs: of the model.
    """
    path = directory / f"{kind}.safetensors"
    graph = DecodingGraph.load(path)
    if graph.kind != kind:
        found.error(f"{path}: expected a graph of kind {kind}, found {graph.kind}")
        return None
    tokens = symbols.tokens
    same_table(found, graph.token_table, tokens, tokens.source, f"{path}: token table")
    words = symbols.words
    same_table(found, graph.word_table, words, words.source, f"{path}: word table")
    if found.num_errors:
        return None
    allowed = symbols.allowed.copy()
    allowed[0] = not graph.topology_implied
    real = graph.token >= 0
    found.errors(
        np.flatnonzero(real & ~allowed[graph.token]),
        lambda arc: (
            f"{path}: arc {arc}: token '{tokens.symbol(int(graph.token[arc]))}' is not in L"
        ),
    )
    found.errors(
        np.flatnonzero(real & (graph.token >= num_outputs)),
        lambda arc: (
            f"{path}: arc {arc}: token {graph.token[arc]}, the model has {num_outputs} outputs"
        ),
    )
    _check_words(found, path, graph, symbols)
    keys = (graph.src.astype(np.int64) << 32) + graph.token
    found.errors(
        np.flatnonzero(np.diff(keys) < 0) + 1,
        lambda arc: (
            f"{path}: arc {arc}: the arcs of state {graph.src[arc]} are not sorted by token"
        ),
    )
    useless = _useless(graph)
    found.errors(
        np.flatnonzero(useless),
        lambda state: f"{path}: state {state} is on no path from the start to the final state",
    )
    made_with = graph.metadata.get("g")
    if not isinstance(made_with, dict) or not g.metadata.items() <= made_with.items():
        found.error(f"{path}: was made with a G of {made_with}, {G_FILE} is one of {g.metadata}")
    found.note(f"{graph.num_states:,} states, {graph.num_arcs:,} arcs")
    return graph


def _check_words(found: Findings, path: Path, graph: DecodingGraph, symbols: Symbols) -> None:
    used = np.zeros(len(symbols.words), bool)
    used[graph.words] = True
    for word in np.flatnonzero(used & ~symbols.spoken).tolist():
        symbol = symbols.words.symbol(word)
        what = "and may not be in a graph" if symbol == BACKOFF else "which is not in G"
        found.error(f"{path}: has the word '{symbol}', {what}")
    for word in np.flatnonzero(symbols.spoken & ~used).tolist():
        symbol = symbols.words.symbol(word)
        found.error(f"{path}: no arc has the word '{symbol}', which is in G")


def _useless(graph: DecodingGraph) -> np.ndarray:
    src, dst, size = graph.src, graph.dst, graph.num_states
    forward = reachable(src, dst, np.array([0]), size)
    return ~(forward & reachable(dst, src, np.array([size - 1]), size))


def check_topology(
    found: Findings, directory: Path, step: str, lg: DecodingGraph, hlg: DecodingGraph
) -> str | None:
    """HLG (or HT) is the topology composed with LG (or T), arc by arc; returns the topology.

    Args:
        step: that made them.
    """
    path = directory / f"{hlg.kind}.safetensors"
    topology = hlg.metadata.get("topology")
    recorded = provenance.recorded_settings(directory, step).get("topology")
    if topology not in TOPOLOGIES:
        found.error(f"{path}: topology is {topology!r}; expected {' or '.join(TOPOLOGIES)}")
        return None
    if topology != recorded:
        found.error(f"{path}: topology is '{topology}', on record is {recorded!r}")
    for key, value in lg.metadata.items():
        if key != "kind" and hlg.metadata.get(key) != value:
            found.error(
                f"{path}: metadata: {key} is {hlg.metadata.get(key)!r}, that of {lg.kind} {value!r}"
            )
    expected = compose_topology(lg.arcs(), topology)
    _same_graph(found, path, hlg.arcs(), expected, f"H o {lg.kind} ({topology})")
    found.note(f"H o {lg.kind}, {topology} topology")
    return str(topology)


def check_rebuilt(
    found: Findings,
    directory: Path,
    lang: Path,
    l_disambig: Fst,
    g: LoadedG,
    lg: DecodingGraph,
    wanted: bool | None,
) -> bool:
    """LG is det(L_disambig o G), arc by arc: it is built again, by the same library.

    Args:
        wanted: None means if that takes no more than a moment.

    Raises:
        Skipped: if it is not wanted, or the library is not installed.
    """
    builder = lg.metadata.get("builder")
    why_not = _why_not_rebuilt(g, builder, wanted)
    if why_not is not None:
        raise Skipped(why_not)
    job = GraphJob(
        g=directory / G_FILE,
        tokens=lang / TOKENS,
        l_disambig=lang / L_DISAMBIG_FILE,
        words=lang / WORDS,
        builder=str(builder),
    )
    if g.fst.num_arcs <= REBUILD_ARCS:
        rebuilt = build_lg(l_disambig, g.fst, lg.token_table, lg.word_table, str(builder))
    else:  # in a process whose memory is limited
        with tempfile.TemporaryDirectory(prefix="moe_asr.") as folder:
            build_graph_files(job, folder)
            rebuilt = DecodingGraph.load(Path(folder) / job.outputs[0])
    path = directory / "LG.safetensors"
    _same_graph(found, path, lg.arcs(), rebuilt.arcs(), f"det(L_disambig o G) by {builder}")
    found.note(f"det(L_disambig o G) by {builder}")
    return True


def check_token_graph_rebuilt(
    found: Findings, directory: Path, tokens: SymbolTable, g: LoadedG, t: DecodingGraph
) -> bool:
    """T is what G gives, arc by arc: it is built again."""
    backoff = t.metadata.get("backoff")
    recorded = provenance.recorded_settings(directory, TOKEN_STEP).get("backoff")
    path = directory / "T.safetensors"
    if backoff != recorded:
        found.error(f"{path}: backoff is {backoff!r}, on record is {recorded!r}")
    rebuilt = token_graph(g.fst, tokens, str(backoff))
    _same_graph(found, path, t.arcs(), rebuilt.arcs(), f"G, {backoff} backoff")
    found.note(f"{backoff} backoff")
    return True


def _why_not_rebuilt(g: LoadedG, builder: object, wanted: bool | None) -> str | None:
    if wanted is False:
        return "not asked for"
    if wanted is None and g.fst.num_arcs > REBUILD_ARCS:
        return f"G has more than {REBUILD_ARCS:,} arcs (ask for it by --rebuild)"
    library = _LIBRARIES.get(str(builder))
    if library is not None and importlib.util.find_spec(library) is None:
        return f"LG was built by {builder}, which is not installed here"
    return None


def _same_graph(found: Findings, path: Path, mine: Arcs, expected: Arcs, source: str) -> None:
    number, lines = graph_differences(mine, expected)
    if number:
        found.error(f"{path}: {number:,} of {len(mine):,} arcs differ from {source}")
        for line in lines:
            found.error(f"{path}: {line} by {source}")
