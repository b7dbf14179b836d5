"""Whether a decoding graph accepts a sentence, with what score, and what score L and G give it.

Everything here follows arcs one by one, in double precision, for a handful of active states: a sentence takes
milliseconds on a graph of millions of arcs, and nothing is shared with the code that builds graphs.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from moe_asr.errors import GraphError, TextError
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.text.lexicon import Lexicon
from moe_asr.text.symbol_table import SymbolTable

Spelling = tuple[
    tuple[int, ...], float
]  # tokens, and the natural log of the pronunciation's probability
_Active = dict[tuple[int, int], float]  # (state, number of words that are out) -> best score
_BLANK = 0


def spellings_of(
    lexicon: Lexicon, tokens: SymbolTable, words: SymbolTable
) -> dict[int, list[Spelling]]:
    """All pronunciations by word id, as token ids; `TextError` if a symbol is in no table."""
    spellings: dict[int, list[Spelling]] = {}
    for entry in lexicon.pronunciations:
        ids = tuple(tokens[token] for token in entry.tokens)
        spellings.setdefault(words[entry.word], []).append((ids, entry.log_prob))
    return spellings


def token_sequences_of(
    spellings: Mapping[int, Sequence[Spelling]], words: Sequence[int]
) -> Iterator[tuple[int, ...]]:
    """Every way to spell the words one after another: the product of their pronunciations.

    Raises:
        TextError: if a word has no spelling.
    """
    for choice in itertools.product(*(_spell(spellings, word) for word in words)):
        yield tuple(itertools.chain.from_iterable(tokens for tokens, _ in choice))


def score_labels(graph: DecodingGraph, labels: Iterable[int], words: Sequence[int]) -> float | None:
    """The best path of exactly these labels, one an arc, and exactly these words; None if there is none.

    Args:
        graph: of any kind; the labels are frames' where the topology is in the graph, else tokens.
        labels: without the final -1.
        words: ids of the graph's word table.
    """
    return _finish(graph, _advance(graph, {(0, 0): 0.0}, labels, words), words)


def score_sentence(
    graph: DecodingGraph, tokens: Sequence[int], words: Sequence[int]
) -> float | None:
    """The best path on which the tokens, in whatever frames, are read as the words; None if there is none.

    H has no scores, so that all frame sequences of the tokens have the same one; the one that is followed, a
    blank after each token, is among them in every topology.
    """
    return score_labels(graph, _frames(graph, tokens), words)


def best_score_of_words(
    graph: DecodingGraph, spellings: Mapping[int, Sequence[Spelling]], words: Sequence[int]
) -> float | None:
    """The best path with exactly these words, however they are spelled; None if there is none.

    Args:
        graph: any LG or HLG.
        spellings: see `spellings_of`; those that the graph was built from.
        words: ids.

    Raises:
        TextError: if a word has no spelling.
    """
    active: _Active = {(0, 0): 0.0}
    for word in words:
        following: _Active = {}
        for tokens, _ in _spell(spellings, word):
            for key, score in _advance(graph, active, _frames(graph, tokens), words).items():
                if score > following.get(key, -np.inf):
                    following[key] = score
        active = following
    return _finish(graph, active, words)


def score_g(g: Fst, words: Sequence[int]) -> float | None:
    """The best path of G with these words; None if there is none.

    Arcs without output (backoff) are passed for their score wherever they are, also where G has an arc for
    the word: backoff as an epsilon of the tropical semiring, which is what LG holds.
    """
    active = _closure(g, {0: 0.0})
    for word in words:
        following: dict[int, float] = {}
        for state, score in active.items():
            _follow(g, state, word, score, following)
        active = _closure(g, following)
    finals = [score + float(g.final_score[state]) for state, score in active.items()]
    best = max(finals, default=-np.inf)
    return best if best > -np.inf else None


def score_lg(
    spellings: Mapping[int, Sequence[Spelling]],
    g: Fst,
    words: Sequence[int],
    tokens: Sequence[int] | None = None,
) -> float | None:
    """What the composition of L and G must give a sentence; None if it must not accept it.

    Args:
        spellings: of L, see `spellings_of`.
        g: `score_g` is taken.
        words: ids.
        tokens: only spellings that make up these; None: the best spelling of every word.

    Raises:
        TextError: if a word has no spelling.
    """
    if tokens is None:
        lexicon_score = sum(max(score for _, score in _spell(spellings, word)) for word in words)
    else:
        ends = {0: 0.0}  # how many tokens are read -> best score
        for word in words:
            following: dict[int, float] = {}
            for start, before in ends.items():
                for spelling, score in _spell(spellings, word):
                    end = start + len(spelling)
                    if tuple(tokens[start:end]) == spelling:
                        following[end] = max(before + score, following.get(end, -np.inf))
            ends = following
        if len(tokens) not in ends:
            return None
        lexicon_score = ends[len(tokens)]
    grammar_score = score_g(g, words)
    return None if grammar_score is None else lexicon_score + grammar_score


def _spell(spellings: Mapping[int, Sequence[Spelling]], word: int) -> Sequence[Spelling]:
    if word not in spellings:
        raise TextError(f"word {word} has no spelling")
    return spellings[word]


def _frames(graph: DecodingGraph, tokens: Sequence[int]) -> Iterator[int]:
    for token in tokens:
        yield token
        if not graph.topology_implied:
            yield _BLANK


def _advance(
    graph: DecodingGraph, active: _Active, labels: Iterable[int], words: Sequence[int]
) -> _Active:
    for label in labels:
        following: _Active = {}
        for (state, done), score in active.items():
            first, end = graph.arc_splits[state : state + 2].tolist()
            for arc in (np.flatnonzero(graph.token[first:end] == label) + first).tolist():
                out = graph.words_of(arc).tolist()
                if list(words[done : done + len(out)]) != out:
                    continue
                key = int(graph.dst[arc]), done + len(out)
                total = score + float(graph.score[arc])
                if total > following.get(key, -np.inf):
                    following[key] = total
        active = following
    return active


def _finish(graph: DecodingGraph, active: _Active, words: Sequence[int]) -> float | None:
    final = graph.num_states - 1
    return _advance(graph, active, [-1], words).get((final, len(words)))


def _follow(g: Fst, state: int, label: int, score: float, into: dict[int, float]) -> list[int]:
    """Takes the arcs of a state with an output label; returns the states that became better."""
    first, end = g.arc_splits[state : state + 2].tolist()
    better = []
    for arc in (np.flatnonzero(g.olabel[first:end] == label) + first).tolist():
        target, total = int(g.dst[arc]), score + float(g.score[arc])
        if total > into.get(target, -np.inf):
            into[target] = total
            better.append(target)
    return better


def _closure(g: Fst, active: dict[int, float]) -> dict[int, float]:
    """With the states that arcs without output lead to."""
    active = dict(active)
    waiting = list(active)
    for _ in range(g.num_states):
        improved: list[int] = []
        for state in waiting:
            improved += _follow(g, state, 0, active[state], active)
        if not improved:
            return active
        waiting = list(dict.fromkeys(improved))
    raise GraphError("G: a cycle of arcs without output has a positive score")
