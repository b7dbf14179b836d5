"""The native search with contextual phrases: against composition, enumeration, and a plain search."""

import gc
import random
import weakref
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, DataError, GraphError, TextError
from moe_asr.fsa.context import ContextGraph, Phrase, compile_context
from moe_asr.fsa.context_lattice import apply_context, remove_context
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.lattice_join import join_lattices
from moe_asr.fsa.lattice_scores import best_path
from moe_asr.fsa.native import NativeEngine, NativeSearchOptions
from moe_asr.fsa.native import engine as engine_module
from moe_asr.fsa.native import stream as stream_module
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.native.reference import (
    RefArc,
    connected,
    explicit_arcs,
    fields,
    graph_of,
    paths,
    random_log_probs,
    search,
)
from tests.fsa.random_graphs import random_graph

WIDE = NativeSearchOptions(search_beam=1e4, output_beam=1e3, min_active=0, max_active=10**6)
TOPOLOGIES = st.sampled_from(["standard", "modified"])
LEVELS = st.sampled_from(["word", "token"])
PIECES = SymbolTable(["<blk>", "<sos/eos>", "<unk>", "▁a", "b"])
WORD_GRAPH = graph_of([(0, 1, -1, 1)])
NUMBERS = st.integers(0, 10**9)


def random_case(
    number: int, level: str, longest: int = 4, num_arcs: int = 10
) -> tuple[random.Random, DecodingGraph, ContextGraph, torch.Tensor]:
    """A graph, phrases that it can spell (all scores are sums of powers of two), and frames."""
    rng = random.Random(number)
    while True:
        kind = rng.choice(["LG", "HLG"] if level == "word" else ["T", "HT", "LG"])
        graph = random_graph(rng, kind, num_arcs=num_arcs)
        graph = replace(graph, token_table=PIECES)
        if kind == "HLG" or kind == "HT":
            try:
                NativeEngine(graph, WIDE)
            except GraphError:  # it is no composition with a topology
                continue
        phrases = []
        for _ in range(rng.randint(1, 4)):
            if level == "word":
                text = " ".join(rng.choice("ABC") for _ in range(rng.choice([1, 1, 2, 4])))
            else:
                text = rng.choice(["a", "ab", "abbb", "a a", "ab ab", "b"])
            phrase = Phrase(text, rng.choice([-2.0, -0.5, 1.0, 2.0, 4.0, 8.0]))
            try:
                compile_context([*phrases, phrase], graph, level)
            except TextError:
                continue
            phrases.append(phrase)
        if phrases:
            break
    context = compile_context(phrases, graph, level)
    log_probs = random_log_probs(rng, rng.randint(0, longest), len(PIECES))
    return rng, graph, context, log_probs


def run(
    graph: DecodingGraph,
    log_probs: torch.Tensor,
    options: NativeSearchOptions,
    context: ContextGraph | None,
    partial: bool = False,
) -> Lattice:
    engine = NativeEngine(graph, options)
    lengths = torch.tensor([len(log_probs)])
    return engine.search(log_probs[None], lengths, partial=partial, contexts=context)[0]


@settings(max_examples=80)
@given(NUMBERS, TOPOLOGIES, LEVELS)
def test_search_with_phrases_is_search_and_composition(
    number: int, topology: str, level: str
) -> None:
    rng, graph, context, log_probs = random_case(number, level)
    options = replace(WIDE, topology=topology, graph_scale=rng.choice([0.5, 1.0]))
    plain, found = (run(graph, log_probs, options, one, True) for one in (None, context))
    composed = apply_context(plain, context)
    assert Counter(paths(found)) == Counter(paths(composed))
    assert (found.num_frames, found.is_partial) == (composed.num_frames, composed.is_partial)
    # taken out again, it is what it was; and a lattice that has them keeps its states
    removed = remove_context(found, context)
    assert removed.num_states == found.num_states
    assert Counter(paths(removed)) == Counter(paths(plain))


@settings(max_examples=80)
@given(NUMBERS, TOPOLOGIES, LEVELS)
def test_paths_gain_the_boosts_of_what_they_say(number: int, topology: str, level: str) -> None:
    """Against phrases counted in the text of a path; the paths without phrases are tested elsewhere."""
    _, graph, context, log_probs = random_case(number, level)
    plain: dict[object, list[float]] = defaultdict(list)
    with_phrases: dict[object, list[float]] = defaultdict(list)
    for found, one in ((plain, None), (with_phrases, context)):
        for labels, acoustic, score in paths(
            run(graph, log_probs, replace(WIDE, topology=topology), one)
        ):
            found[labels, acoustic].append(score)
    assert plain.keys() == with_phrases.keys()
    for labels, acoustic in plain:
        if level == "word":
            said = graph.word_symbols([word for _, _, words in labels for word in words])
        else:
            begun = [token if token > 2 else 2 for token, begins, _ in labels if begins]
            said = "".join(PIECES.symbol(token) for token in begun).replace("▁", " ").split()
        boost = 0.0
        for phrase in context.phrases:
            wanted = phrase.text.split()
            places = range(len(said))
            boost += phrase.boost * sum(said[i : i + len(wanted)] == wanted for i in places)
        expected = sorted(score + boost for score in plain[labels, acoustic])
        assert sorted(with_phrases[labels, acoustic]) == pytest.approx(expected, abs=1e-5)


def composed_arcs(graph: DecodingGraph, topology: str, context: ContextGraph) -> list[RefArc]:
    """The explicit graph composed with the phrases, in plain Python."""
    arcs = explicit_arcs(graph, topology)
    final = max(arc.dst for arc in arcs)
    tables, number, composed = context.tables, {(0, context.start): 0}, []
    waiting = [(0, context.start)]
    while waiting:
        state = waiting.pop()
        for arc in arcs:
            if arc.src != state[0]:
                continue
            following, gain = state[1], np.float32(0.0)
            for word in arc.words:
                column = tables.class_of[word]
                gain += tables.gain[following, column]
                following = int(tables.next[following, column])
            if arc.token == FINAL:
                gain += context.end_gain[following]
                following = 0
            target = (arc.dst, following)
            if target not in number:
                number[target] = len(number)
                waiting.append(target)
            score = float(np.float32(arc.score) + gain)
            composed.append(RefArc(number[state], number[target], arc.token, arc.words, score))
    last = len(number)  # the final state is to be the highest
    swap = {number[final, 0]: last} if (final, 0) in number else {}
    return [replace(arc, dst=swap.get(arc.dst, arc.dst)) for arc in composed]


def arcs_by_frame(lattice: Lattice) -> list[Counter]:
    frames = [Counter() for _ in range(lattice.num_frames + 1)]
    for arc in range(lattice.num_arcs):
        words = tuple(lattice.words_of(arc).tolist())
        key = (
            int(lattice.token[arc]),
            words,
            float(lattice.acoustic[arc]),
            float(lattice.graph[arc]),
        )
        frames[int(lattice.frame[lattice.src[arc]])][key] += 1
    return frames


@pytest.mark.parametrize("interval", [3, 64])
@settings(max_examples=60)
@given(number=NUMBERS, topology=TOPOLOGIES)
def test_beams_against_a_plain_search_of_the_composition(
    interval: int, number: int, topology: str
) -> None:
    """What the bounds of pruning leave out would not have been kept."""
    rng, graph, context, _ = random_case(number, "word", num_arcs=16)
    graph = connected(graph)
    if graph is None:
        return
    log_probs = random_log_probs(rng, rng.choice([6, 12, 80]), len(PIECES)).clamp(min=-9)
    options = NativeSearchOptions(
        search_beam=rng.choice([0.7, 2.1, 5.3, 9.1]),
        output_beam=rng.choice([0.3, 1.1, 3.3, 20.1]),
        min_active=rng.choice([0, 2, 4]),
        max_active=rng.choice([4, 5, 100]),
        topology=topology,
    )
    arcs = composed_arcs(graph, topology, context)
    expected, reached = search(arcs, log_probs.numpy(), options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "INTERVAL", interval)
        patch.setattr(stream_module, "_PIECE", interval)
        lattice = run(graph, log_probs, options, context)
    assert lattice.is_empty == (not reached)
    if reached:
        assert arcs_by_frame(lattice) == [
            Counter((arc.token, arc.words, acoustic, arc.score) for arc, acoustic in frame)
            for frame in expected
        ]


@pytest.mark.parametrize("with_phrases", [False, True])
@settings(max_examples=15)
@given(number=NUMBERS)
def test_states_of_many_arcs_against_a_plain_search(number: int, with_phrases: bool) -> None:
    """Where tokens are listed by their scores before their arcs are looked up."""
    rng, _, context, _ = random_case(number, "word")
    if not with_phrases:
        context = compile_context([], WORD_GRAPH)
    graph = replace(random_graph(rng, "LG", 2, 400), token_table=PIECES)
    log_probs = random_log_probs(rng, 8, len(PIECES), rng.choice([2.0, 8.0])).clamp(min=-9)
    options = NativeSearchOptions(
        search_beam=rng.choice([0.7, 2.1, 5.3]), output_beam=1.1, min_active=0, max_active=1000
    )
    lattice = run(graph, log_probs, options, context)
    if not explicit_arcs(graph, "standard"):  # nothing leads from the start to the end
        assert lattice.is_empty
        return
    expected, reached = search(
        composed_arcs(graph, "standard", context), log_probs.numpy(), options
    )
    assert lattice.is_empty == (not reached)
    if reached:
        assert arcs_by_frame(lattice) == [
            Counter((arc.token, arc.words, acoustic, arc.score) for arc, acoustic in frame)
            for frame in expected
        ]


NARROW = NativeSearchOptions(search_beam=6.0, output_beam=3.0, min_active=2, max_active=20)


def long_cases(
    level: str, count: int
) -> list[tuple[NativeEngine, list[ContextGraph], torch.Tensor]]:
    """Graphs in which a path can go on for ever, each with several lists of phrases."""
    cases: list[tuple[NativeEngine, list[ContextGraph], torch.Tensor]] = []
    number = 0
    while len(cases) < count:
        number += 1
        rng, graph, context, _ = random_case(number, level, num_arcs=16)
        rows = random_log_probs(rng, 400, len(PIECES)).clamp(min=-20.0)
        for row in rows:
            row[1:] -= rng.choice([0.0, 0.0, 10.0])
        engine = NativeEngine(graph, NARROW, num_threads=2)
        if whole(engine, rows, None).is_empty or fields(whole(engine, rows, None)) == fields(
            whole(engine, rows, context)
        ):
            continue
        reverse = [replace(phrase, boost=-phrase.boost) for phrase in context.phrases]
        cases.append((engine, [context, compile_context(reverse, graph, level)], rows))
    return cases


def whole(engine: NativeEngine, rows: torch.Tensor, context: ContextGraph | None) -> Lattice:
    return engine.search(rows[None], torch.tensor([len(rows)]), contexts=context)[0]


@pytest.mark.parametrize("level", ["word", "token"])
def test_streams_in_chunks_with_different_phrases_are_what_each_is_alone(level: str) -> None:
    for engine, contexts, rows in long_cases(level, 4):
        given: list[ContextGraph | None] = [*contexts, None]
        alone = [whole(engine, rows, context) for context in given]
        assert len({str(fields(lattice)) for lattice in alone}) == 3
        batch = engine.search(rows.expand(3, -1, -1), torch.tensor([len(rows)] * 3), contexts=given)
        assert [fields(one) for one in batch] == [fields(one) for one in alone]
        streams = [engine.start(context) for context in given]
        pieces: list[list[Lattice]] = [[] for _ in given]
        read, rng = [0] * 3, random.Random(len(rows))
        while min(read) < len(rows):
            sizes = [rng.choice([0, 1, 3, 17, 100]) for _ in given]
            engine.advance(streams, [rows[b : b + s] for b, s in zip(read, sizes, strict=True)])
            read = [min(b + s, len(rows)) for b, s in zip(read, sizes, strict=True)]
            for stream, found in zip(streams, pieces, strict=True):
                piece = engine.release(stream) if rng.random() < 0.3 else None
                found += [] if piece is None else [piece]
        for stream, found, lattice in zip(streams, pieces, alone, strict=True):
            assert fields(join_lattices([*found, engine.finish(stream)])) == fields(lattice)
        engine.close()


@pytest.mark.parametrize("level", ["word", "token"])
def test_partial_words_are_those_of_the_best_path(level: str) -> None:
    for engine, (context, _), rows in long_cases(level, 3):
        stream, stable = engine.start(context), ()
        for begin in range(0, 120, 7):
            engine.advance([stream], [rows[begin : begin + 7]])
            partial = engine.partial(stream)
            assert partial.words[: len(stable)] == stable
            stable = partial.words[: partial.num_stable]
        # gains are part of what partial results are chosen by
        frontier = stream.store.frontier[4][: stream.store.num_active]
        assert frontier.max() == 0.0
        last = best_path(engine.lattice(stream))
        assert last is not None and last.words[: len(stable)] == stable


@pytest.mark.parametrize("number", range(6))
def test_phrases_of_paths_that_are_given_up(number: int) -> None:
    """Two loops that share nothing, with more frames waiting than may: scores are those of the words."""
    rng = random.Random(number)
    arcs = [(0, 1, 3, 1), (0, 2, 4, 2), (1, 1, 3, 1), (2, 2, 4, 2), (1, 3, -1, 0), (2, 3, -1, 0)]
    graph = graph_of(arcs)
    boosts = {"A A A": 0.5, "A": -0.25, "B B": 0.25, "B": -0.125}
    phrases = [Phrase(text, boost) for text, boost in boosts.items()]
    context = compile_context(phrases, graph)
    log_probs = torch.zeros(600, len(graph.token_table)) - 20.0
    log_probs[:, [0, 3, 4]] = -torch.tensor(
        [[rng.randint(0, 8) / 8 for _ in range(3)] for _ in range(600)]
    )
    options = NativeSearchOptions(search_beam=1e4, output_beam=20.0, max_pending_frames=100)
    engine = NativeEngine(graph, options)
    stream = engine.start(context)
    engine.advance([stream], [log_probs])
    assert stream.forced_merges > 0
    lattice = engine.finish(stream)
    path = best_path(lattice)
    assert path is not None and len(set(path.words)) == 1
    assert path.graph == pytest.approx(context.score(path.words), abs=1e-3)
    # and so those of all paths: the graph's own scores are 0
    assert np.abs(remove_context(lattice, context).graph).max() < 1e-4


def test_an_empty_list_of_phrases_is_none_and_compiles_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, graph, context, log_probs = random_case(3, "word", longest=8)

    def refuse() -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(engine_module, "warm_up_with_context", refuse)
    nothing = compile_context([], graph)
    expected = fields(run(graph, log_probs, WIDE, None, True))
    assert fields(run(graph, log_probs, WIDE, nothing, True)) == expected
    with pytest.raises(AssertionError, match="compiled"):
        NativeEngine(graph).start(context)


def test_an_engine_forgets_phrases_that_nobody_has() -> None:
    _, graph, context, log_probs = random_case(3, "word", longest=8)
    engine = NativeEngine(graph, WIDE)
    streams = [engine.start(context), engine.start(context)]
    assert streams[0].context is streams[1].context  # prepared once
    prepared, known = weakref.ref(streams[0].context), weakref.ref(context)
    del context
    gc.collect()
    assert known() is None and prepared() is not None
    engine.advance(streams, [log_probs, log_probs])
    del streams
    gc.collect()
    assert prepared() is None


def test_the_bits_do_not_depend_on_memory_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from moe_asr.fsa.native.store import Store, Workspace

    ((engine, (context, _), rows),) = long_cases("word", 1)
    expected = fields(whole(engine, rows, context))
    grown = Counter()
    for name, cls in (("store", Store), ("workspace", Workspace)):
        grow = cls.grow
        monkeypatch.setattr(
            cls, "grow", lambda self, name=name, grow=grow: (grown.update([name]), grow(self))[1]
        )
    make = Workspace._allocate
    monkeypatch.setattr(
        Workspace,
        "_allocate",
        lambda self, size: make(self, min(size, 4) if size == 16384 else size),
    )
    empty = Store.__init__

    def small(self: Store, start: tuple[float, ...], context: int | None = None) -> None:
        empty(self, start, context)
        self._resize_states(2)
        self._resize_links(2)
        self._resize_frontier(1)

    monkeypatch.setattr(Store, "__init__", small)
    other = NativeEngine(engine.graph, NARROW)
    assert fields(whole(other, rows, context)) == expected
    assert grown["workspace"] >= 1 and grown["store"] >= 1


def test_lattices_that_phrases_are_put_on() -> None:
    _, graph, context, log_probs = random_case(6, "word", longest=6)
    lattice = run(graph, log_probs, WIDE, None, True)
    assert apply_context(lattice, compile_context([], graph)) is lattice
    assert apply_context(Lattice.empty(3), context).is_empty
    unknown = replace(lattice, words=lattice.words + np.int32(90))
    assert len(unknown.words)
    with pytest.raises(
        GraphError, match=r"the lattice has word 9\d, the phrases were compiled for 5"
    ):
        apply_context(unknown, context)


def test_phrases_of_others() -> None:
    _, graph, context, log_probs = random_case(4, "word")
    engine = NativeEngine(replace(graph, word_table=SymbolTable([*graph.word_table, "more"])))
    with pytest.raises(GraphError, match="compiled for 5 words of another graph; this one has 6"):
        engine.start(context)
    batch, lengths = log_probs[None], torch.tensor([len(log_probs)])
    with pytest.raises(DataError, match="found 2 contexts of 1 utterances"):
        NativeEngine(graph).search(batch, lengths, contexts=[context, None])


@pytest.mark.k2
def test_k2_refuses_phrases_and_its_lattices_take_them() -> None:
    from moe_asr.fsa.search_k2 import K2Engine

    for number in range(60):
        _, graph, context, log_probs = random_case(number, "word", longest=5)
        graph = connected(graph)
        if graph is None or len(log_probs) == 0 or graph.kind != "LG":
            continue
        options = replace(WIDE, search_beam=100.0, output_beam=100.0)
        engine = K2Engine(graph, options)
        batch, lengths = log_probs[None], torch.tensor([len(log_probs)])
        with pytest.raises(ConfigError, match="engine=native"):
            engine.search(batch, lengths, contexts=[context])
        with pytest.raises(ConfigError, match="apply_context"):
            engine.start(context)
        (lattice,) = engine.search(batch, lengths, contexts=[None])
        assert best_scores(apply_context(lattice, context)) == pytest.approx(
            best_scores(run(graph, log_probs, options, context)), abs=1e-4
        )


def best_scores(lattice: Lattice) -> dict[Sequence[int], float]:
    best: dict[Sequence[int], float] = {}
    for labels, acoustic, score in paths(lattice):
        words = tuple(word for _, _, words in labels for word in words)
        best[words] = max(best.get(words, -np.inf), acoustic + score)
    return best
