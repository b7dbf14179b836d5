"""Checks by sentences: LG and HLG give each the score that L and G give it, and accept nothing else."""

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.fsa.accept import Spelling, score_labels, score_lg, score_sentence
from moe_asr.fsa.cover import sentences_through
from moe_asr.fsa.grammar_sampler import sample_paths
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.lang.validate_g import LoadedG
from moe_asr.lang.validate_report import Findings, Skipped
from moe_asr.lang.validate_text import TextSentence
from moe_asr.text.symbol_table import SymbolTable

TOLERANCE = 1e-4  # of a score, for each label of the path: what rounding can do
_ALTERED_EVERY = 5  # of the sentences, one is also tried with other tokens, and in other frames
_MAX_READINGS = 64  # token sequences that frames may stand for
_Spellings = Mapping[int, Sequence[Spelling]]


@dataclass(frozen=True)
class Spoken:
    """A sentence as token and word ids; ``place`` says where it is from."""

    place: str
    words: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Graphs:
    """What sentences are held against.

    Attributes:
        spellings: of L, see `spellings_of`.
        g: its fst is the grammar.
        lg, hlg: the graphs.
        topology: of ``hlg``.
    """

    spellings: _Spellings
    g: LoadedG
    lg: DecodingGraph
    hlg: DecodingGraph
    topology: str


def token_graphs(
    tokens: SymbolTable, g: LoadedG, t: DecodingGraph, ht: DecodingGraph, topology: str
) -> Graphs:
    """T and HT: every token is a word that is spelled by itself."""
    spellings = {token: [((token,), 0.0)] for token in range(len(tokens))}
    return Graphs(spellings, g, t, ht, topology)


def check_sampled(found: Findings, graphs: Graphs, number: int, seed: int) -> bool:
    """Sentences drawn from G by their probability, and sentences through as many arcs of it, drawn evenly.

    Each is spelled by pronunciations drawn evenly, so that the rare ones are tried too.

    Raises:
        Skipped: if the graphs are of tokens with exact backoff, which gives other scores than G as a graph.
    """
    if graphs.lg.metadata.get("backoff") == "exact":
        raise Skipped("exact backoff: scores are not those of the best path through G")
    rng = random.Random(seed)
    fst = graphs.g.fst
    sentences = [path.words for path in sample_paths(fst, number, rng)]
    arcs = np.array(rng.sample(range(fst.num_arcs), min(number, fst.num_arcs)), np.int64)
    sentences += sentences_through(fst, arcs)
    spoken = list(dict.fromkeys(_spoken("sampled", graphs, words, rng) for words in sentences))
    accepted, _ = _check(found, graphs, spoken, rng)
    assert accepted == len(spoken), "they come from G, and L spelled them"
    found.note(
        f"{len(sentences):,} sentences, {len(spoken):,} of them different, over "
        f"{len(arcs):,} of {fst.num_arcs:,} arcs of G at least"
    )
    return True


def check_text(
    found: Findings,
    graphs: Graphs,
    spelled: list[tuple[TextSentence, tuple[int, ...]]],
    g_words: np.ndarray,
    seed: int,
) -> bool:
    """Sentences of a text, as training spells them; what G does not accept must not be accepted at all.

    An n-gram G must accept every sentence of its words; a grammar need not.

    Args:
        g_words: (W,) bool, the words that G has.
    """
    spoken = [
        Spoken(sentence.place, sentence.words, tokens)
        for sentence, tokens in spelled
        if g_words[list(sentence.words)].all()
    ]
    accepted, refused = _check(found, graphs, spoken, random.Random(seed))
    if refused and not graphs.g.is_grammar:
        first = refused[0]
        found.error(
            f"{first.place}: G has all of its words, but does not accept {_says(graphs, first)}"
        )
    if not accepted:
        found.warn("G accepts none of the text's sentences")
    lacking = len(spelled) - len(spoken)
    found.note(
        f"{accepted:,} sentences; G does not accept {len(refused):,} others, and lacks words of {lacking:,}"
    )
    return True


def _spoken(place: str, graphs: Graphs, words: tuple[int, ...], rng: random.Random) -> Spoken:
    tokens = (rng.choice(graphs.spellings[word])[0] for word in words)
    return Spoken(place, words, tuple(itertools.chain.from_iterable(tokens)))


def _check(
    found: Findings, graphs: Graphs, spoken: Sequence[Spoken], rng: random.Random
) -> tuple[int, list[Spoken]]:
    """Holds the graphs against L and G; how many sentences these accept, and those that they do not."""
    from tqdm import tqdm

    accepted, refused = 0, []
    for index, sentence in enumerate(tqdm(spoken, desc="sentences", disable=None)):
        expected = score_lg(graphs.spellings, graphs.g.fst, sentence.words, sentence.tokens)
        if expected is None:
            refused.append(sentence)
        else:
            accepted += 1
        for graph in (graphs.lg, graphs.hlg):
            score = score_sentence(graph, sentence.tokens, sentence.words)
            _compare(found, graphs, graph, sentence, score, expected)
        if index % _ALTERED_EVERY == 0:
            _check_altered(found, graphs, sentence, rng)
            _check_frames(found, graphs, sentence)
    return accepted, refused


def _check_altered(found: Findings, graphs: Graphs, sentence: Spoken, rng: random.Random) -> None:
    """With a token dropped, doubled or replaced the words are, as a rule, not accepted."""
    tokens = list(sentence.tokens)
    if not tokens:
        return
    place, kind = rng.randrange(len(tokens)), rng.randrange(3)
    others = [rng.randrange(1, len(graphs.lg.token_table))]
    tokens[place : place + 1] = [[], tokens[place : place + 1] * 2, others][kind]
    altered = Spoken(f"{sentence.place}, with other tokens", sentence.words, tuple(tokens))
    expected = score_lg(graphs.spellings, graphs.g.fst, altered.words, altered.tokens)
    for graph in (graphs.lg, graphs.hlg):
        score = score_sentence(graph, altered.tokens, altered.words)
        _compare(found, graphs, graph, altered, score, expected)


def _check_frames(found: Findings, graphs: Graphs, sentence: Spoken) -> None:
    """In other frames: a token in one without blanks, or in two after a blank; read as CTC reads them."""
    padded = itertools.chain.from_iterable((0, token, token) for token in sentence.tokens)
    for frames in (sentence.tokens, tuple(padded)):
        readings = list(itertools.islice(_readings(frames, graphs.topology), _MAX_READINGS + 1))
        if len(readings) > _MAX_READINGS:
            continue
        scores = (
            score_lg(graphs.spellings, graphs.g.fst, sentence.words, tokens) for tokens in readings
        )
        expected = max((score for score in scores if score is not None), default=None)
        score = score_labels(graphs.hlg, frames, sentence.words)
        place = f"{sentence.place}, in {len(frames)} frames"
        spoken = Spoken(place, sentence.words, frames)
        _compare(found, graphs, graphs.hlg, spoken, score, expected)


def _readings(frames: Sequence[int], topology: str) -> Iterator[tuple[int, ...]]:
    """The token sequences that frames may stand for: one in the standard topology, else several."""
    runs: list[Iterable[tuple[int, ...]]] = []
    for label, group in itertools.groupby(frames):
        length = len(list(group))
        if label:
            longest = length if topology == "modified" else 1
            runs.append([(label,) * count for count in range(1, longest + 1)])
    for choice in itertools.product(*runs):
        yield tuple(itertools.chain.from_iterable(choice))


def _compare(
    found: Findings,
    graphs: Graphs,
    graph: DecodingGraph,
    sentence: Spoken,
    score: float | None,
    expected: float | None,
) -> None:
    if score is None and expected is None:
        return
    says = _says(graphs, sentence)
    if score is None:
        found.error(
            f"{sentence.place}: {graph.kind} does not accept {says}, L and G do with score {expected:.4f}"
        )
    elif expected is None:
        found.error(
            f"{sentence.place}: {graph.kind} accepts {says} with score {score:.4f}, L and G do not"
        )
    elif abs(score - expected) > TOLERANCE * (len(sentence.tokens) + 1):
        found.error(
            f"{sentence.place}: {says} has score {score:.4f} in {graph.kind}, by L and G {expected:.4f}"
        )


def _says(graphs: Graphs, sentence: Spoken) -> str:
    words = " ".join(graphs.lg.word_symbols(sentence.words))
    tokens = " ".join(graphs.lg.token_table.symbol(token) for token in sentence.tokens)
    return f"'{words}' ({tokens})"
