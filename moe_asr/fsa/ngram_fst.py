"""n-gram models as acceptors (G): by kaldilm, and by a conversion of our own that is held against it."""

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from moe_asr.errors import GraphError, MissingDependencyError, TextError
from moe_asr.files import PathLike
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.openfst import read_openfst
from moe_asr.lm.arpa import read_arpa, write_arpa
from moe_asr.lm.model import BOS, EOS, NgramModel
from moe_asr.text.lexicon import BACKOFF, EPSILON
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import SPECIAL_TOKENS

# kaldilm aborts the whole process on an error, and writes to its stderr: it gets a process of its own
_KALDILM = """
import sys, kaldilm
arpa, symbols, fst, backoff = sys.argv[1:]
kaldilm.arpa2fst(arpa, fst, disambig_symbol=backoff, read_symbol_table=symbols, max_arpa_warnings=0)
"""


def g_from_arpa(
    path: PathLike, words: SymbolTable, report: Callable[[str], None] | None = None
) -> Fst:
    """G of an ARPA file, made by kaldilm, Kaldi's ``arpa2fst`` with the disambiguation symbol ``#0``.

    ``<s>`` and ``</s>`` are the start state and final scores; taking a backoff reads ``#0`` and writes
    nothing; all else has the same label on both sides.

    Args:
        path: read by `NgramModel.read_arpa` first, which is what refuses a malformed one.
        words: ``words.txt``, ``<eps>`` as 0, with ``#0``. Words of the model that are not in it, and the
            n-grams they are in, are left out: `uncovered_words` lists them.
        report: is told, in a line, about words that were left out.

    Returns:
        Arcs sorted by label; every state on a path from the start to a final one.

    Raises:
        TextError: with file and line, if the file is malformed; naming it, if kaldilm cannot convert it, or
            if none of its words is in the table.
        MissingDependencyError: if kaldilm is not installed.
    """
    if importlib.util.find_spec("kaldilm") is None:
        raise MissingDependencyError("G needs kaldilm, which is absent: pip install kaldilm")
    model = read_arpa(path)
    _check_word_table(words)
    missing = uncovered_words(model, words)
    _check_conversion(model, missing, words, str(path))
    if missing and report is not None:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        report(
            f"{path}: {len(missing)} of {len(model.words)} words are not in {words.source} "
            f"and left out of G: {shown}"
        )
    with tempfile.TemporaryDirectory(prefix="moe_asr.") as folder:
        arpa, symbols, result = (Path(folder) / name for name in ("arpa", "words.txt", "G.fst"))
        write_arpa(model, arpa)
        SymbolTable([*words, *(x for x in (BOS, EOS) if x not in words)]).write(symbols)
        command = [sys.executable, "-c", _KALDILM, str(arpa), str(symbols), str(result), BACKOFF]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode != 0 or not result.is_file():
            said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
            raise TextError(f"{path}: kaldilm cannot convert it: {said[0]}")
        try:
            fst = read_openfst(result)
        except GraphError as error:
            raise TextError(f"{path}: kaldilm's FST of it is damaged: {error}") from error
    fst = fst.connect().arc_sort()
    _check_labels(fst, len(words), words[BACKOFF], str(path))
    return fst


def uncovered_words(model: NgramModel, words: SymbolTable) -> list[str]:
    """The words of a model that a word table does not have; ``<s>`` and ``</s>`` need not be in it."""
    return [word for word in model.words if word not in words and word not in (BOS, EOS)]


def ngram_fst(model: NgramModel, symbols: SymbolTable) -> Fst:
    """G of a model, without kaldilm: the same weighted language as that of `g_from_arpa`.

    A state is a history that n-grams follow; an arc leads to the longest such history that it ends in.

    Args:
        model: words that are not among the symbols are left out, with the n-grams they are in.
        symbols: ``<eps>`` as 0, with ``#0``, as in ``words.txt``.

    Raises:
        TextError: if none of the words is in the table, or the model has no ``<s>`` or ``</s>``.
    """
    _check_word_table(symbols)
    source = model.words.source
    _check_conversion(model, uncovered_words(model, symbols), symbols, source)
    labels = np.array([symbols.get(word, -1) for word in model.words], np.int64)
    return _convert(model, labels, symbols[BACKOFF])


def token_ngram_fst(model: NgramModel, tokens: SymbolTable) -> Fst:
    """G of a token n-gram model: labels are token ids, and the backoff reads ``#0``, V of V tokens.

    The blank, sos/eos and ``<unk>`` have no arcs.

    Args:
        model: of a text in tokens; tokens that are not in the table are left out, with their n-grams.
        tokens: the tokenizer's (``tokens.txt``).

    Raises:
        TextError: if none of the model's words is a token, or it has no ``<s>`` or ``</s>``.
    """
    labels = np.array(
        [-1 if word in SPECIAL_TOKENS else tokens.get(word, -1) for word in model.words],
        np.int64,
    )
    missing = [word for word, label in zip(model.words, labels, strict=True) if label < 0]
    missing = [word for word in missing if word not in (BOS, EOS)]
    _check_conversion(model, missing, tokens, model.words.source)
    return _convert(model, labels, len(tokens))


def _convert(model: NgramModel, labels: np.ndarray, backoff_label: int) -> Fst:
    """``labels`` (V,): of the words, -1 for those left out."""
    bos, eos = model.words[BOS], model.words[EOS]
    start = bos + 1
    is_state = model.has_children.copy()
    is_state[[0, start]] = True
    # where a node leads: itself if it is a state, else down its suffixes at the cost of their backoffs
    target, cost = np.arange(model.num_nodes), np.zeros(model.num_nodes)
    for order in range(1, model.order + 1):
        nodes = np.arange(model.num_nodes)[model.order_nodes(order)]
        nodes = nodes[~is_state[nodes]]
        below = model.suffix[nodes]
        target[nodes], cost[nodes] = target[below], model.backoff[nodes] + cost[below]
    states = np.flatnonzero(is_state)
    states = np.concatenate([[start], states[states != start]])
    number = np.full(model.num_nodes, -1)
    number[states] = np.arange(len(states))
    label = labels[np.maximum(model.word, 0)]
    is_final = (model.word == eos) & (model.parent >= 0)
    is_arc = (label >= 0) & (model.parent >= 0) & ~is_final & (model.word != bos)
    arcs = np.flatnonzero(is_arc)
    finals = np.flatnonzero(is_final)
    final_score = np.full(len(states), -np.inf, np.float32)
    final_score[number[model.parent[finals]]] = model.log_prob[finals]
    backing = states[states != 0]
    below = model.suffix[backing]
    fst = Fst.from_arcs(
        np.concatenate([number[model.parent[arcs]], number[backing]]),
        np.concatenate([number[target[arcs]], number[target[below]]]),
        np.concatenate([label[arcs], np.full(len(backing), backoff_label)]),
        np.concatenate([label[arcs], np.zeros(len(backing), np.int64)]),
        np.concatenate([model.log_prob[arcs] + cost[arcs], model.backoff[backing] + cost[below]]),
        final_score,
    )
    return fst.connect().arc_sort()


def _check_word_table(words: SymbolTable) -> None:
    if words.symbol(0) != EPSILON or BACKOFF not in words:
        raise TextError(
            f"{words.source}: a grammar needs {EPSILON} as symbol 0, and {BACKOFF}; "
            f"found {words.symbol(0)!r} as 0"
        )


def _check_conversion(
    model: NgramModel, missing: list[str], symbols: SymbolTable, source: str
) -> None:
    for word in (EPSILON, BACKOFF):
        if word in model.words:
            raise TextError(
                f"{source}: '{word}' is a word of the model, but means something else in G"
            )
    for word, what in ((BOS, "start"), (EOS, "end")):
        if word not in model.words:
            raise TextError(f"{source}: no {word} among the unigrams: no sentence would {what}")
    if len(missing) == len(model.words) - 2:
        raise TextError(f"{source}: none of its words is in {symbols.source}")


def _check_labels(fst: Fst, num_symbols: int, backoff_label: int, source: str) -> None:
    """What Kaldi promises of such a G, and the builders of graphs rely on."""
    is_backoff = fst.ilabel == backoff_label
    wrong = np.where(is_backoff, fst.olabel != 0, fst.olabel != fst.ilabel)
    wrong |= (fst.ilabel <= 0) | (fst.ilabel >= num_symbols)
    if wrong.any():
        arc = int(np.flatnonzero(wrong)[0])
        raise GraphError(
            f"{source}: kaldilm's arc {arc} is {fst.ilabel[arc]}:{fst.olabel[arc]}; expected a word "
            f"(1 to {num_symbols - 1}) on both sides, or {backoff_label}:0"
        )


def backoff_stochasticity(fst: Fst) -> np.ndarray:
    """(S,) float64: the natural log of the total probability that leaves each state; 0 where it is 1.

    The total is over all labels, each with the score that it has when the backoff arc (input label not 0,
    output label 0) is taken only where there is no arc of that label, as often as need be; ending (the
    final score) counts as a label. Kaldi's ``fstisstochastic`` adds up arcs as they are, backoffs among them,
    so that it has to allow for what the words of a state take from the state below. Here that is taken out,
    and a state of an n-gram G is off 0 by rounding only, if no words were left out and the model itself is
    sound; words left out show as less than 0. -inf where nothing leaves,
    inf where scores are too large to be added up.

    Raises:
        GraphError: if a state has two backoff arcs, or they lead in a circle.
    """
    is_backoff = (fst.ilabel != 0) & (fst.olabel == 0)
    arcs = np.flatnonzero(is_backoff)
    src = fst.src[arcs]
    twice = np.flatnonzero(np.diff(src) == 0)
    if len(twice):
        raise GraphError(f"state {src[twice[0]]}: two backoff arcs")
    below = np.full(fst.num_states, -1, np.int64)
    below[src] = fst.dst[arcs]
    weight = np.zeros(fst.num_states)
    weight[src] = np.exp(fst.score[arcs].astype(np.float64))
    depth = _backoff_depths(below)
    # label -> probability of every state; the final score as one label more than all others
    end = int(fst.ilabel.max(initial=0)) + 1
    finals = np.flatnonzero(np.isfinite(fst.final_score))
    label = np.concatenate([fst.ilabel[~is_backoff], np.full(len(finals), end)])
    state = np.concatenate([fst.src[~is_backoff], finals])
    score = np.concatenate([fst.score[~is_backoff], fst.final_score[finals]]).astype(np.float64)
    keys, inverse = np.unique(state * np.int64(end + 1) + label, return_inverse=True)
    probability = np.bincount(inverse, np.exp(score), len(keys))
    state, label = np.divmod(keys, end + 1)
    total = np.bincount(state, probability, fst.num_states)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        hidden = _walk_backoffs(keys, probability, below, weight, state, label, end + 1)
        hidden = np.bincount(state, hidden, fst.num_states)
        for level in range(1, int(depth.max()) + 1):
            states = np.flatnonzero(depth == level)
            total[states] += weight[states] * total[below[states]] - hidden[states]
    total[np.isnan(total)] = np.inf
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(total, 0.0))


def _backoff_depths(below: np.ndarray) -> np.ndarray:
    """How many backoffs can be taken from each state."""
    ahead = np.append(below, -1)  # where 1, 2, 4, ... backoffs lead
    for _ in range(len(below).bit_length()):
        ahead = ahead[ahead]
    circling = np.flatnonzero(ahead >= 0)
    if len(circling):
        raise GraphError(f"state {circling[0]}: its backoff arcs lead in a circle")
    depth = np.zeros(len(below), np.int64)
    states = np.flatnonzero(below >= 0)
    at = below[states]
    while len(states):
        depth[states] += 1
        going = below[at] >= 0
        states, at = states[going], below[at[going]]
    return depth


def _walk_backoffs(
    keys: np.ndarray,
    probability: np.ndarray,
    below: np.ndarray,
    weight: np.ndarray,
    state: np.ndarray,
    label: np.ndarray,
    num_labels: int,
) -> np.ndarray:
    """The probability that each label would have at its state if it had no arc there; 0 for none."""
    result = np.zeros(len(state))
    index = np.flatnonzero(below[state] >= 0)
    at, factor = below[state[index]], weight[state[index]]
    while len(index):
        wanted = at * num_labels + label[index]
        position = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found = keys[position] == wanted
        result[index[found]] = factor[found] * probability[position[found]]
        going = ~found & (below[at] >= 0)
        factor = factor[going] * weight[at[going]]
        index, at = index[going], below[at[going]]
    return result
