"""Forced alignment against the enumeration of all alignments, torch's CTC loss, and the search engines."""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import DataError, GraphError
from moe_asr.fsa.align import Alignment, TextAligner
from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.engines import make_engine
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice_scores import best_path, total_score
from moe_asr.fsa.text_graph import TextGraph, text_graph
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.spelling import LexiconSpeller
from moe_asr.text.symbol_table import SymbolTable

TOKENS = SymbolTable(["<blk>", "▁", "x", "y"])
SEEDS = st.integers(0, 2**32)
TOPOLOGIES = ["standard", "modified"]


@dataclass
class Path:
    """One alignment: the place of the token that each frame belongs to, None for blank."""

    score: float
    frames: tuple[int | None, ...]
    tokens: tuple[int, ...]
    word_tokens: list[list[int]]  # places of each word's own tokens


def spelled_texts(
    lexicon: Lexicon, words: list[str]
) -> Iterator[tuple[tuple[int, ...], float, list[list[int]]]]:
    """Every choice of pronunciations: tokens, score, the places of each word's own tokens."""
    for choice in itertools.product(*(lexicon[word] for word in words)):
        tokens: list[int] = []
        places = []
        for entry in choice:
            skipped = len(entry.tokens) > 1 and entry.tokens[0] == "▁"
            begin = len(tokens)
            tokens += [TOKENS[token] for token in entry.tokens]
            places.append(list(range(begin + skipped, len(tokens))))
        yield tuple(tokens), sum(entry.log_prob for entry in choice), places


def frame_sequences(
    tokens: tuple[int, ...],
    num_frames: int,
    modified: bool,
    begun: tuple[int | None, ...] = (),
) -> Iterator[tuple[int | None, ...]]:
    """Every way to give frames to tokens in order, each at least one, and to blanks between."""
    last = begun[-1] if begun else None
    count = 1 + max((owner for owner in begun if owner is not None), default=-1)
    if len(begun) == num_frames:
        if count == len(tokens):
            yield begun
        return
    choices = {None, last}
    touching = last is not None and count < len(tokens) and tokens[last] == tokens[count]
    if count < len(tokens) and (modified or not touching):
        choices.add(count)
    for choice in choices:
        yield from frame_sequences(tokens, num_frames, modified, (*begun, choice))


def all_paths(lexicon: Lexicon, words: list[str], rows: np.ndarray, modified: bool) -> list[Path]:
    paths = []
    for tokens, score, places in spelled_texts(lexicon, words):
        for owners in frame_sequences(tokens, len(rows), modified):
            labels = [0 if owner is None else tokens[owner] for owner in owners]
            acoustic = sum(float(row[label]) for row, label in zip(rows, labels, strict=True))
            if acoustic > -math.inf:
                paths.append(Path(score + acoustic, owners, tokens, places))
    return paths


def random_case(rng: random.Random, most_frames: int = 5) -> tuple[Lexicon, list[str], np.ndarray]:
    entries = {}
    for word in ("A", "B"):
        for _ in range(rng.randint(1, 3)):
            spelling = tuple(rng.choice("xy") for _ in range(rng.choice([1, 1, 2])))
            if rng.random() < 0.2:
                spelling = ("▁", *spelling)
            entries[word, spelling] = Pronunciation(word, spelling, rng.choice([0.0, -0.5, -1.5]))
    words = [rng.choice("AB") for _ in range(rng.choice([0, 1, 2, 2, 2, 3]))]
    generator = np.random.default_rng(rng.getrandbits(32))
    rows = generator.normal(0.0, 2.0, (rng.randint(1, most_frames), len(TOKENS)))
    rows[:, 0] -= rng.choice([0.0, 3.0])  # few blanks: tokens stand close
    rows = rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)
    rows[generator.random(rows.shape) < rng.choice([0.0, 0.0, 0.15])] = -np.inf
    return Lexicon(entries.values()), words, rows.astype(np.float32)


def batch_of(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """One utterance, padded with what must not be looked at."""
    padded = torch.full((1, len(rows) + 2, rows.shape[1]), math.nan)
    padded[0, : len(rows)] = torch.from_numpy(rows)
    return padded, torch.tensor([len(rows)])


def frames_of(alignment: Alignment) -> tuple[int | None, ...]:
    frames: list[int | None] = [None] * alignment.num_frames
    for place, token in enumerate(alignment.tokens):
        for frame in range(token.first_frame, token.last_frame + 1):
            assert frames[frame] is None
            frames[frame] = place
    return tuple(frames)


def word_frames(path: Path, word: int) -> list[int]:
    return [frame for frame, owner in enumerate(path.frames) if owner in path.word_tokens[word]]


@settings(max_examples=200)
@given(SEEDS, st.sampled_from(TOPOLOGIES), st.sampled_from([1, 2, 3, 1024]))
def test_against_all_alignments(seed: int, topology: str, interval: int) -> None:
    lexicon, words, rows = random_case(random.Random(seed))
    aligner = TextAligner(LexiconSpeller(lexicon, TOKENS), topology, interval)
    paths = all_paths(lexicon, words, rows, topology == "modified")
    inputs = (*batch_of(rows), [" ".join(words)], ["utt"])
    if not paths:
        for method in (aligner.align, aligner.expected_times):
            with pytest.raises(DataError, match="utterance utt: (too few frames|every alignment)"):
                method(*inputs)
        return
    (found,) = aligner.align(*inputs)
    best = max(path.score for path in paths)
    assert found.score == pytest.approx(best, abs=1e-5)
    # it is one of those that were enumerated, with this score
    own = [
        path
        for path in paths
        if path.frames == frames_of(found)
        and path.tokens == tuple(token.token for token in found.tokens)
    ]
    assert max(path.score for path in own) == pytest.approx(best, abs=1e-5)
    path = max(own, key=lambda path: path.score)
    for place, token in enumerate(found.tokens):
        frames = [frame for frame, owner in enumerate(path.frames) if owner == place]
        assert (token.first_frame, token.last_frame) == (frames[0], frames[-1])
        expected = sum(float(rows[frame, token.token]) for frame in frames)
        assert token.log_prob == pytest.approx(expected, abs=1e-5)
    assert [word.word for word in found.words] == words
    for number, word in enumerate(found.words):
        frames = word_frames(path, number)
        assert (word.first_frame, word.last_frame) == (frames[0], frames[-1])
        assert list(range(*word.tokens)) == path.word_tokens[number]
        labels = [path.tokens[path.frames[frame]] for frame in frames]  # type: ignore[index]
        posteriors = np.exp(rows[frames, labels].astype(float))
        assert word.confidence == pytest.approx(posteriors.mean(), abs=1e-6)

    (times,) = aligner.expected_times(*inputs)
    scores = np.array([path.score for path in paths])
    assert times.log_prob == pytest.approx(np.logaddexp.reduce(scores), abs=1e-5)
    weights = np.exp(scores - times.log_prob)
    for number in range(len(words)):
        frames = [word_frames(path, number) for path in paths]
        assert times.starts[number] == pytest.approx(
            sum(w * f[0] for w, f in zip(weights, frames, strict=True)), abs=1e-4
        )
        assert times.ends[number] == pytest.approx(
            sum(w * (f[-1] + 1) for w, f in zip(weights, frames, strict=True)), abs=1e-4
        )


def test_the_best_arc_before_may_be_of_the_same_token() -> None:
    """After the first frame x is better than y, but x cannot follow it without a blank."""
    lexicon = Lexicon([Pronunciation("A", ("x",)), Pronunciation("A", ("y",))])
    log_probs = torch.tensor([[[1e-6, 1e-6, 0.6, 0.4], [1e-6, 1e-6, 0.9, 0.1]]]).log()
    for topology, expected in (("standard", 0.4 * 0.9), ("modified", 0.6 * 0.9)):
        aligner = TextAligner(LexiconSpeller(lexicon, TOKENS), topology)
        (found,) = aligner.align(log_probs, torch.tensor([2]), ["A A"])
        assert found.score == pytest.approx(math.log(expected), abs=1e-5)


def trellis(rows: np.ndarray, tokens: list[int]) -> float:
    """The textbook's Viterbi over blank, token, blank, token, ..., blank."""
    labels = [0]
    for token in tokens:
        labels += [token, 0]
    best = np.full(len(labels), -np.inf)
    best[:2] = rows[0, labels[:2]]
    for row in rows[1:]:
        before = best.copy()
        for place, label in enumerate(labels):
            sources = before[max(place - 1, 0) : place + 1].max()
            if place > 1 and label not in (0, labels[place - 2]):
                sources = max(sources, before[place - 2])
            best[place] = sources + row[label]
    return float(best[-2:].max())


@pytest.mark.parametrize("interval", [7, 64, 1024])
def test_one_spelling_against_trellis_and_ctc_loss(interval: int) -> None:
    """Long enough that the second pass sees windows of the text only."""
    rng = random.Random(5)
    spellings = {name: [rng.choice("xy") for _ in range(3)] for name in "ABCD"}
    lexicon = Lexicon([Pronunciation(word, tuple(tokens)) for word, tokens in spellings.items()])
    aligner = TextAligner(LexiconSpeller(lexicon, TOKENS), interval=interval)
    texts = [[rng.choice("ABCD") for _ in range(num_words)] for num_words in (1, 20, 40)]
    log_probs = (3 * torch.randn(3, 300, len(TOKENS))).log_softmax(-1)
    lengths = torch.tensor([17, 200, 300])
    inputs = log_probs, lengths, [" ".join(words) for words in texts]
    ids = [[TOKENS[token] for word in words for token in spellings[word]] for words in texts]
    losses = torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1).double(),
        torch.tensor([token for row in ids for token in row]),
        lengths,
        torch.tensor([len(row) for row in ids]),
        reduction="none",
    )
    for number, (found, times) in enumerate(
        zip(aligner.align(*inputs), aligner.expected_times(*inputs), strict=True)
    ):
        rows = log_probs[number, : lengths[number]].double().numpy()
        assert found.score == pytest.approx(trellis(rows, ids[number]), abs=1e-4)
        assert [token.token for token in found.tokens] == ids[number]
        assert times.log_prob == pytest.approx(-float(losses[number]), abs=1e-3)
        assert found.utterance_id == f"{number} of the batch"


def decoding_graph(graph: TextGraph) -> DecodingGraph:
    """The same as an LG, every word on each arc of its first node."""
    words = SymbolTable(["<eps>", *dict.fromkeys(graph.words), "#0"])
    last = graph.num_nodes - 1
    own = [
        [words[graph.words[word]]] if src == graph.word_nodes[word] else []
        for src, word in zip(graph.src, graph.word, strict=True)
    ]
    arcs = Arcs(
        np.append(graph.src, last).astype(np.int32),
        np.append(graph.dst, last + 1).astype(np.int32),
        np.append(graph.token, -1).astype(np.int32),
        np.append(graph.score, 0.0).astype(np.float32),
        np.cumsum([0, *map(len, own), 0]),
        np.array([word for row in own for word in row], np.int32),
    )
    return DecodingGraph.from_arcs(arcs, TOKENS, words, {"kind": "LG"})


@pytest.mark.parametrize("name", ["native", pytest.param("k2", marks=pytest.mark.k2)])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_against_the_search_engines(name: str, topology: str) -> None:
    """The same linear graph searched: best path, and all paths together."""
    wide = SearchOptions(search_beam=300.0, output_beam=200.0, min_active=1000, max_active=100_000)
    for seed in range(40):
        rng = random.Random(seed)
        lexicon, _, _ = random_case(rng)
        words = [rng.choice("AB") for _ in range(4)]
        speller = LexiconSpeller(lexicon, TOKENS)
        log_probs = (
            2 * torch.randn(1, 11, len(TOKENS)) - torch.tensor([2.0, 0, 0, 0])
        ).log_softmax(-1)
        lengths = torch.tensor([11])
        aligner = TextAligner(speller, topology, interval=4)
        (found,) = aligner.align(log_probs, lengths, [" ".join(words)])
        (times,) = aligner.expected_times(log_probs, lengths, [" ".join(words)])
        graph = decoding_graph(text_graph(speller.spell(" ".join(words)), TOKENS))
        (lattice,) = make_engine(name, graph, wide, topology=topology).search(log_probs, lengths)
        path = best_path(lattice)
        assert path is not None
        assert path.score == pytest.approx(found.score, abs=1e-3)
        assert total_score(lattice) == pytest.approx(times.log_prob, abs=1e-3)
        # where a run of a label is several tokens, the border between them is nobody's
        if topology == "standard":
            assert path.tokens == tuple(token.token for token in found.tokens)
            assert path.token_frames == tuple(token.first_frame for token in found.tokens)


def test_what_cannot_be_aligned_is_named() -> None:
    lexicon = Lexicon([Pronunciation("A", ("x", "x", "y")), Pronunciation("A", ("x", "x"))])
    aligner = TextAligner(LexiconSpeller(lexicon, TOKENS))
    log_probs = torch.randn(2, 5, len(TOKENS)).log_softmax(-1)
    lengths, names = torch.tensor([5, 5]), ["one", "two"]
    graph = text_graph(aligner.speller.spell("A A"), TOKENS)
    # x x y x x in 5 tokens with two blanks between equal ones; as many with x x x x and 3 blanks
    assert (graph.min_frames(), graph.min_frames("modified")) == (7, 4)
    with pytest.raises(DataError, match="utterance two: too few frames for its text: 5.* least 7"):
        aligner.align(log_probs, lengths, ["A", "A A"], names)
    with pytest.raises(DataError, match="utterance one: word 'B' has no spelling in the lexicon"):
        aligner.align(log_probs, lengths, ["A B", "A"], names)
    with pytest.raises(DataError, match="found 1 texts of 2 utterances"):
        aligner.align(log_probs, lengths, ["A"], names)
    with pytest.raises(DataError, match="log_probs are of 3 tokens"):
        aligner.align(log_probs[..., :3], lengths, ["A", "A"], names)
    bad = log_probs.clone()
    bad[1, :, TOKENS["x"]] = -math.inf
    with pytest.raises(DataError, match="utterance two: every alignment .* -inf"):
        aligner.align(bad, lengths, ["A", "A"], names)
    bad[1, 3, 0] = math.nan
    with pytest.raises(DataError, match="utterance two: log_probs of frame 3 hold nan"):
        aligner.expected_times(bad, lengths, ["A", "A"], names)
    with pytest.raises(GraphError, match="topology must be one of"):
        TextAligner(aligner.speller, "ctc")
    with pytest.raises(ValueError, match="interval"):
        TextAligner(aligner.speller, interval=0)


def test_a_batch_is_its_utterances() -> None:
    """Whatever stands beside them, in whatever order; without frames or words too."""
    lexicon = Lexicon([Pronunciation("A", ("x", "y")), Pronunciation("B", ("y",))])
    aligner = TextAligner(LexiconSpeller(lexicon, TOKENS))
    log_probs = torch.randn(4, 9, len(TOKENS)).log_softmax(-1)
    lengths, texts = torch.tensor([9, 4, 0, 6]), ["A B A", "A", "", ""]
    names = ["p", "q", "r", "s"]
    together = aligner.align(log_probs, lengths, texts, names)
    for index in (3, 1, 0, 2):
        alone = aligner.align(
            log_probs[index : index + 1], lengths[index : index + 1], [texts[index]], [names[index]]
        )
        assert alone == [together[index]]
    assert together[2] == Alignment("r", 0, (), (), 0.0, 0.0)
    assert together[3].score == pytest.approx(float(log_probs[3, :6, 0].sum()), abs=1e-5)
    with pytest.raises(DataError, match="utterance 0 of the batch: too few frames"):
        aligner.align(log_probs[:1], torch.tensor([0]), ["A"])
