"""Paths: the best one against dynamic programming by length in plain Python, random ones, tables."""

import itertools
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError
from moe_asr.fsa.accept import (
    best_score_of_words,
    score_sentence,
    spellings_of,
    token_sequences_of,
)
from moe_asr.fsa.best_path import GraphPath, best_path, frames_of_tokens, random_path
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.path_table import path_table, path_words
from moe_asr.fsa.view import GraphView, view_of
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_graphs import (
    TOKENS,
    WORDS,
    best_by_length,
    gains_for_ever,
    random_graph,
    random_view,
)
from tests.fsa.references import random_g, random_lexicon


def check_path(view: GraphView, path: GraphPath) -> tuple[list[int], list[int]]:
    """A connected path with the score it claims; its outputs, and its inputs without the free ones."""
    assert path.states[0] == 0 and len(path.states) == len(path.arcs) + 1
    assert view.src[path.arcs].tolist() == path.states[:-1].tolist()
    assert view.dst[path.arcs].tolist() == path.states[1:].tolist()
    total = sum(view.score[path.arcs].tolist()) + float(view.final_score[path.states[-1]])
    assert path.score == total > -np.inf
    free = 0 if view.epsilon_inputs else -1
    labels = [label for label in view.ilabel[path.arcs].tolist() if label != free]
    outputs = [word for arc in path.arcs.tolist() for word in view.outputs_of(arc)]
    return outputs, labels


@given(
    number=st.integers(0, 10**6),
    words=st.none() | st.lists(st.integers(1, 3), max_size=3),
    inputs=st.none() | st.lists(st.integers(0, 4), max_size=4),
)
def test_best_path_is_the_best_and_the_shortest_of_these(number, words, inputs):
    view = random_view(random.Random(number))
    longest = view.num_states * (len(words or ()) + 1) * (len(inputs or ()) + 1)
    scores = best_by_length(view, words, inputs, min(longest, 40))
    best = max(scores)
    if best == -np.inf:
        with pytest.raises(GraphError, match="no path|accepts nothing"):
            best_path(view, words, inputs)
        return
    path = best_path(view, words, inputs)
    outputs, labels = check_path(view, path)
    assert path.score == best and len(path.arcs) == scores.index(best)
    assert words is None or outputs == words
    assert inputs is None or labels == inputs


@given(number=st.integers(0, 10**6), words=st.none() | st.lists(st.integers(1, 3), max_size=2))
def test_arcs_that_gain_score(number, words):
    """Arcs above 0: still the best path, or none where a cycle can be gone round for ever."""
    view = random_view(random.Random(number), gains=True)
    if gains_for_ever(view, words):
        with pytest.raises(GraphError, match="a cycle gains score"):
            best_path(view, words)
        return
    scores = best_by_length(view, words, None, view.num_states * (len(words or ()) + 1))
    best = max(scores)
    if best == -np.inf:
        with pytest.raises(GraphError, match="no path|accepts nothing"):
            best_path(view, words)
        return
    path = best_path(view, words)
    check_path(view, path)
    assert path.score == best and len(path.arcs) == scores.index(best)


def test_repetitions_and_needless_blanks_are_avoided():
    """H o L of one word 'a a': a blank must be between, and no other is taken."""
    blank, a = 0, TOKENS["a"]
    arcs = [
        (0, 0, blank, 0, 0.0), (0, 1, a, 1, -1.0), (1, 1, a, 0, 0.0), (1, 2, blank, 0, 0.0),
        (2, 2, blank, 0, 0.0), (2, 3, a, 0, 0.0), (3, 3, a, 0, 0.0), (3, 4, blank, 0, 0.0),
        (4, 4, blank, 0, 0.0),
    ]  # fmt: skip
    fst = view_of(Fst.from_list(arcs, {3: 0.0, 4: 0.0}))
    view = replace(fst, epsilon_inputs=False, has_blank=True)
    path = best_path(view, [1])
    assert view.ilabel[path.arcs].tolist() == [a, blank, a] == frames_of_tokens([a, a])
    assert best_path(view, None, frames_of_tokens([a, a])).arcs.tolist() == path.arcs.tolist()


@given(number=st.integers(0, 10**6), topology=st.sampled_from(["standard", "modified"]))
@settings(max_examples=25)
def test_scores_are_those_that_the_validator_computes(number, topology):
    """Of built graphs: by words, and by tokens with the words that they are read as."""
    rng = random.Random(number)
    tokens = SymbolTable(["<blk>", "x", "y", "z"])
    lexicon = random_lexicon(rng, ["x", "y", "z"])
    words = lexicon.word_table()
    try:
        graphs = build_graphs(lexicon, random_g(rng, lexicon), tokens, topology, "openfst")
    except GraphError:
        return  # a G that accepts nothing
    spellings = spellings_of(lexicon, tokens, words)
    for graph in (graphs.lg, graphs.hlg):
        view = view_of(graph)
        for _ in range(4):
            sentence = [words[rng.choice(lexicon.words)] for _ in range(rng.randint(0, 3))]
            found = score_of(view, sentence)
            assert found == pytest.approx(best_score_of_words(graph, spellings, sentence), abs=1e-5)
            for labels in token_sequences_of(spellings, sentence):
                frames = labels if graph.topology_implied else frames_of_tokens(labels)
                found = score_of(view, sentence, frames)
                assert found == pytest.approx(score_sentence(graph, labels, sentence), abs=1e-5)


def score_of(view, words, inputs=None):
    try:
        return best_path(view, words, inputs).score
    except GraphError:
        return None


@pytest.mark.parametrize(
    ("tokens", "frames"),
    [
        ([], []),
        ([3], [3]),
        ([3, 3, 3], [3, 0, 3, 0, 3]),
        ([3, 4, 4], [3, 4, 0, 4]),
        ([3, 0, 0], [3, 0, 0]),
    ],
)
def test_frames_of_tokens(tokens, frames):
    assert frames_of_tokens(tokens) == frames


def test_what_cannot_be_found_is_explained():
    words = SymbolTable(["<eps>", "set", "a", "timer", "alarm"])
    view = view_of(
        Fst.from_list([(0, 1, 1, 1, 0.0), (1, 2, 2, 2, 0.0), (2, 3, 3, 3, 0.0)], {3: 0.0}),
        {"kind": "G"}, words, words,
    )  # fmt: skip
    for sentence, message in (
        ("set a alarm", "no path: word 3, 'alarm', cannot follow after 'set a'"),
        ("a timer", "no path: word 1, 'a', cannot follow at the start"),
        ("set a", "no path: all 2 words are read, but no final state follows"),
    ):
        with pytest.raises(GraphError) as caught:
            best_path(view, view.output_ids(sentence.split()))
        assert str(caught.value) == message
    with pytest.raises(GraphError, match="input 2, 'timer', cannot follow after 'set'"):
        best_path(view, None, view.input_ids(["set", "timer"]))
    with pytest.raises(GraphError, match="'timr' is none of the 5 output symbols .* mean 'timer'"):
        view.output_ids(["set", "timr"])
    with pytest.raises(GraphError, match="no table of the FST's output symbols"):
        view_of(Fst.from_list([], {0: 0.0})).output_ids(["set"])


@given(number=st.integers(0, 10**6), max_arcs=st.integers(0, 5))
def test_random_paths_are_paths(number, max_arcs):
    view = random_view(random.Random(number))
    lengths = best_by_length(view, None, None, view.num_states)
    if max(lengths) == -np.inf:
        with pytest.raises(GraphError, match="accepts nothing"):
            random_path(view, np.random.default_rng(0))
        return
    path = random_path(view, np.random.default_rng(number), max_arcs)
    check_path(view, path)
    assert len(path.arcs) <= max_arcs + view.num_states
    if view.has_blank:
        silent = [arc for arc in path.arcs.tolist() if not view.outputs_of(arc)]
        assert not any(view.src[arc] == view.dst[arc] for arc in silent)


def test_random_paths_follow_the_probabilities():
    """A bigram: sentences come as often as it says."""
    probabilities = {"a": 0.25, "b": 0.5, "": 0.25}
    fst = Fst.from_list(
        [(0, 0, 1, 1, np.log(0.25)), (0, 1, 2, 2, np.log(0.5)), (1, 1, 2, 2, np.log(0.2))],
        {0: np.log(0.25), 1: np.log(0.8)},
    )
    view = view_of(fst)
    rng = np.random.default_rng(0)
    count = 1500
    seen = Counter(
        "".join("?ab"[view.ilabel[arc]] for arc in random_path(view, rng).arcs)
        for _ in range(count)
    )
    expected = {
        "a" * loops + "b" * some: 0.25**loops
        * (0.25 if some == 0 else 0.5 * 0.8 * 0.2 ** (some - 1))
        for loops, some in itertools.product(range(3), range(3))
    }
    assert sum(probabilities.values()) == 1
    for sentence, probability in expected.items():
        deviation = (probability * (1 - probability) / count) ** 0.5
        assert abs(seen[sentence] / count - probability) < 4 * deviation, sentence


def test_table_columns_line_up_with_wide_characters():
    words = SymbolTable(["<eps>", "电灯", "on"])
    view = view_of(
        Fst.from_list([(0, 1, 1, 1, -0.5), (1, 2, 2, 2, 0.25), (2, 3, 0, 0, 0.0)], {3: -1.0}),
        {"kind": "G"}, words, words,
    )  # fmt: skip
    path = best_path(view)
    assert path_words(view, path) == ["电灯", "on"]
    assert path_table(view, path).split("\n") == [
        "state  input  words    score    total",
        "    0  电灯   电灯   -0.5000  -0.5000",
        "    1  on     on      0.2500  -0.2500",
        "    2  \u03b5              0.0000  -0.2500",
        "    3                -1.0000  -1.2500",
    ]


def test_table_of_a_graph_adds_up():
    view = view_of(random_graph(random.Random(5), "LG"))
    path = best_path(view)
    last = path_table(view, path).split("\n")[-1].split()
    assert float(last[-1]) == pytest.approx(path.score, abs=1e-4)
    assert view.osymbols == WORDS
