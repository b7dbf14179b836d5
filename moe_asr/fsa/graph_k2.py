"""L, G and HLG built by k2: lexicon and grammar in, decoding graph out.

The steps are those of icefall's ``compile_hlg``: HLG = H o rmeps(rmdisambig(det(L_disambig o G))).
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.epsilon import remove_epsilons
from moe_asr.fsa.grammar import WordLoop
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.k2_module import arrays_of_k2, drop_words, import_k2, k2_of_arrays
from moe_asr.text.lexicon import BACKOFF, Lexicon, add_disambig_symbols
from moe_asr.text.symbol_table import SymbolTable

Arc = tuple[int, int, int, int, float]  # source, destination, input label, output label, score


@dataclass(frozen=True)
class BuildStep:
    """What one step of the building made."""

    name: str
    num_states: int
    num_arcs: int
    seconds: float


@dataclass(frozen=True)
class BuiltGraphs:
    """Everything `build_hlg` made: k2.Fsa for L_disambig and G, and the decoding graphs."""

    l_disambig: Any
    g: Any
    lg: DecodingGraph
    hlg: DecodingGraph
    report: list[BuildStep]


class _Recorder:
    """Times the steps and counts their states and arcs."""

    def __init__(self) -> None:
        self.steps: list[BuildStep] = []
        self._since = time.perf_counter()

    def add(self, name: str, fsa: Any) -> Any:
        now = time.perf_counter()
        self.steps.append(BuildStep(name, fsa.shape[0], fsa.num_arcs, now - self._since))
        self._since = now
        return fsa


def lexicon_fst(
    lexicon: Lexicon, tokens: SymbolTable, words: SymbolTable, disambig: bool = True
) -> Any:
    """L as a ``k2.Fsa``: tokens in, words out, any number of words, no silence between them.

    Args:
        lexicon: its pronunciations; each carries its word on the first arc.
        tokens: the model's outputs; ``#i`` gets the label ``len(tokens) + i``.
        words: the lexicon's words and ``#0``.
        disambig: with the symbols of `add_disambig_symbols`, and a loop that passes ``#0``.

    Raises:
        TextError: if a token is not in ``tokens``.
    """
    lexicon.check_tokens(tokens)
    spelled = [entry.tokens for entry in lexicon.pronunciations]
    if disambig:
        spelled, _ = add_disambig_symbols(lexicon)
    arcs: list[Arc] = []
    next_state = 1
    for entry, symbols in zip(lexicon.pronunciations, spelled, strict=True):
        state, word, score = 0, words[entry.word], entry.log_prob
        for position, symbol in enumerate(symbols):
            is_last = position == len(symbols) - 1
            following = 0 if is_last else next_state
            next_state += not is_last
            is_disambig = position == len(entry.tokens)
            label = len(tokens) + int(symbol[1:]) if is_disambig else tokens[symbol]
            arcs.append((state, following, label, word, score))
            state, word, score = following, 0, 0.0
    if disambig:
        arcs.append((0, 0, len(tokens), words[BACKOFF], 0.0))
    arcs.append((0, next_state, -1, -1, 0.0))
    return _fsa(arcs, transducer=True)


def word_loop_fsa(grammar: WordLoop, words: SymbolTable) -> Any:
    """G as an epsilon-free ``k2.Fsa`` acceptor: one state with a loop for every word.

    Raises:
        GraphError: if a word is not in ``words``.
    """
    missing = [word for word in grammar.scores if word not in words]
    if missing:
        raise GraphError(f"word '{missing[0]}' of the grammar is not in the lexicon")
    arcs = [(0, 0, words[word], 0, score) for word, score in grammar.scores.items()]
    return _fsa([*arcs, (0, 1, -1, 0, 0.0)], transducer=False)


def build_hlg(
    lexicon: Lexicon,
    grammar: WordLoop,
    tokens: SymbolTable,
    modified_topology: bool = False,
    metadata: dict[str, Any] | None = None,
) -> BuiltGraphs:
    """Composes CTC topology, lexicon and grammar into one decoding graph.

    Args:
        lexicon: every word of the grammar must be in it.
        grammar: G.
        tokens: all outputs of the model, blank (0) included.
        modified_topology: k2's modified CTC topology, in which equal neighbours need no blank
            between them (and a token's repetition may be the next token); else the standard one.
        metadata: kept in the graphs beside what is known here.

    Raises:
        TextError: if a pronunciation has a token that is not in ``tokens``.
        GraphError: if the grammar has a word that the lexicon lacks, or the graph is empty.
        MissingDependencyError: if there is no k2.
    """
    k2 = import_k2()
    words = lexicon.word_table()
    record = _Recorder()
    l_disambig = record.add("L_disambig", lexicon_fst(lexicon, tokens, words))
    g = record.add("G", k2.arc_sort(word_loop_fsa(grammar, words)))
    lg = record.add("L o G", k2.connect(k2.compose(k2.arc_sort(l_disambig), g)))
    if lg.num_arcs == 0:
        raise GraphError("L composed with G is empty")
    lg = record.add("det(LG)", k2.connect(k2.determinize(lg)))
    lg = _remove_symbols(lg, first_token=len(tokens), first_word=words[BACKOFF])
    lg = record.add("rmeps(LG)", k2.arc_sort(k2.connect(lg)))
    h = record.add("H", k2.ctc_topo(len(tokens) - 1, modified=modified_topology))
    hlg = record.add("HLG", k2.arc_sort(k2.connect(k2.compose(h, lg))))
    about = {
        "builder": "k2",
        "grammar": "word loop",
        "num_pronunciations": len(lexicon),
        **(metadata or {}),
    }
    topology = "modified" if modified_topology else "standard"
    return BuiltGraphs(
        l_disambig=l_disambig,
        g=g,
        lg=DecodingGraph.from_k2(lg, tokens, words, {"kind": "LG", **about}),
        hlg=DecodingGraph.from_k2(
            hlg, tokens, words, {"kind": "HLG", "topology": topology, **about}
        ),
        report=record.steps,
    )


def _remove_symbols(lg: Any, first_token: int, first_word: int) -> Any:
    """LG without disambiguation symbols, which become epsilons, and without epsilons."""
    src, dst, label, score, row_splits, words = arrays_of_k2(lg)
    row_splits, words = drop_words(row_splits, words, words >= first_word)
    label = np.where(label >= first_token, 0, label).astype(np.int32)
    arcs = remove_epsilons(Arcs(src, dst, label, score, row_splits, words))
    return k2_of_arrays(arcs.src, arcs.dst, arcs.label, arcs.score, arcs.row_splits, arcs.words)


def _fsa(arcs: list[Arc], transducer: bool) -> Any:
    """A ``k2.Fsa`` of arcs in any order; the final state is the highest."""
    import torch

    k2 = import_k2()
    arcs = sorted(arcs, key=lambda arc: arc[0])
    scores = np.array([arc[4] for arc in arcs], dtype=np.float32).view(np.int32)
    rows = np.array([arc[:3] for arc in arcs], dtype=np.int32)
    fsa = k2.Fsa(torch.from_numpy(np.concatenate([rows, scores[:, None]], axis=1)))
    if transducer:
        fsa.aux_labels = torch.tensor([arc[3] for arc in arcs], dtype=torch.int32)
    return fsa
