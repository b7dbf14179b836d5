"""What the search benchmark searches: graphs, built once and kept, and posteriors of held-out text."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import big_graph
from benchmarks.big_graph import make_inputs, make_text
from benchmarks.ctc_simulator import FRAMES_PER_SECOND, CtcSimulator, SimulatorOptions
from moe_asr.files import atomic_path
from moe_asr.fsa.build_files import GraphJob, build_graph_files
from moe_asr.fsa.builder import make_builder
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.steps import format_steps
from moe_asr.text.lexicon import Lexicon

_FORMAT = 1  # of the cache
_MEMORY_LIMIT = 4 << 30
_HELD_OUT_SEED = 1


@dataclass(frozen=True)
class GraphSize:
    """What the text and the graphs are made of, see `make_inputs`."""

    num_words: int = 15_500
    num_sentences: int = 150_000
    vocab_size: int = 500


@dataclass(frozen=True)
class BuiltGraph:
    """A folder with ``LG.safetensors``, ``HLG.safetensors`` and ``lexicon.txt``, and what made it."""

    folder: Path
    size: GraphSize

    def path(self, kind: str) -> Path:
        """The file of the graph of a kind, LG or HLG."""
        return self.folder / f"{kind}.safetensors"

    def load(self, kind: str) -> DecodingGraph:
        """The graph of a kind, LG or HLG."""
        return DecodingGraph.load(self.path(kind))


def default_cache() -> Path:
    """Where graphs are kept."""
    return Path(tempfile.gettempdir()) / "moe_asr.lattice_search"


def built_graph(size: GraphSize, cache: Path) -> BuiltGraph:
    """The graphs of a size, built if ``cache`` does not have them; prints the steps of building.

    The name of the folder is a hash of the settings, the builder and the code that makes the text. Two
    processes may build the same at once; a folder is complete, or not there.
    """
    settings = {
        **asdict(size),
        "builder": make_builder().name,
        "format": _FORMAT,
        "text": hashlib.sha256(Path(big_graph.__file__).read_bytes()).hexdigest(),
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"graph-{key}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as name:
            made = Path(name) / "graph"
            _build(size, made)
            try:
                made.rename(folder)
            except OSError:  # another process was quicker
                if not folder.exists():
                    raise
    return BuiltGraph(folder, size)


def _build(size: GraphSize, folder: Path) -> None:
    inputs = make_inputs(folder, size.num_words, size.num_sentences, size.vocab_size)
    job = GraphJob(
        folder / "G.safetensors",
        folder / "tokens.txt",
        folder / "L_disambig.safetensors",
        folder / "words.txt",
    )
    steps = build_graph_files(job, folder, _MEMORY_LIMIT)
    print(
        f"built a bigram of {size.num_words} words, {inputs.num_bigrams} bigrams, "
        f"{size.vocab_size} units, with {make_builder().name}:\n{format_steps(steps)}"
    )
    for name in ("text.txt", "LM.arpa", "G.safetensors", "L_disambig.safetensors"):
        (folder / name).unlink()
    shutil.rmtree(folder / "tokenizer")


@dataclass(frozen=True)
class TestSet:
    """Utterances with their posteriors.

    Attributes:
        log_probs: for each utterance (T, C) float32, natural log.
        references: for each, its word ids, those of the graph.
    """

    __test__ = False  # pytest takes it for a test

    log_probs: list[np.ndarray]
    references: list[list[int]]

    @property
    def num_frames(self) -> int:
        return sum(len(rows) for rows in self.log_probs)

    @property
    def seconds(self) -> float:
        """Of audio."""
        return self.num_frames / FRAMES_PER_SECOND

    @property
    def num_words(self) -> int:
        return sum(map(len, self.references))

    def first(self, count: int) -> "TestSet":
        """The first ``count`` utterances."""
        return TestSet(self.log_probs[:count], self.references[:count])

    def save(self, path: Path) -> None:
        """An ``npz`` without pickled objects.

        ``log_probs`` (N, T, C) float32 with 0 behind the ends, ``lengths`` (N,) int64, ``references`` (W,)
        int32 and ``reference_splits`` (N + 1,) int64, the words of utterance n being
        ``references[reference_splits[n]:reference_splits[n + 1]]``.
        """
        lengths = np.array([len(rows) for rows in self.log_probs], np.int64)
        shape = (len(lengths), lengths.max(initial=0), self.log_probs[0].shape[1])
        padded = np.zeros(shape, np.float32)
        for row, values in zip(padded, self.log_probs, strict=True):
            row[: len(values)] = values
        splits = np.cumsum([0, *map(len, self.references)]).astype(np.int64)
        words = np.array([word for words in self.references for word in words], np.int32)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file, log_probs=padded, lengths=lengths, references=words, reference_splits=splits
            )

    @classmethod
    def load(cls, path: Path) -> "TestSet":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            padded, lengths = file["log_probs"], file["lengths"]
            words, splits = file["references"], file["reference_splits"]
        return cls(
            [
                np.ascontiguousarray(row[:length])
                for row, length in zip(padded, lengths, strict=True)
            ],
            [words[a:b].tolist() for a, b in zip(splits[:-1], splits[1:], strict=True)],
        )


def simulate_test_set(
    graph: BuiltGraph, num_utterances: int, options: SimulatorOptions, seed: int = 0
) -> TestSet:
    """Posteriors of sentences that the bigram was not trained on."""
    lg = graph.load("LG")
    lexicon = Lexicon.read(graph.folder / "lexicon.txt")
    text = make_text(graph.size.num_words, num_utterances, walk_seed=_HELD_OUT_SEED + seed)
    simulator = CtcSimulator(list(lg.token_table), options, seed)
    log_probs, references = [], []
    for number in range(num_utterances):
        sentence = text.sentence(number)
        spelled = [
            [lg.token_table[token] for token in lexicon[word][0].tokens] for word in sentence
        ]
        log_probs.append(simulator.utterance(spelled))
        references.append([lg.word_table[word] for word in sentence])
    return TestSet(log_probs, references)
