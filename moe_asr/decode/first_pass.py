"""The first pass of lattice methods: one search, whose lattices all methods with its options share."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from moe_asr.decode.registry import DecodingMethod, DecodingResources, EncodedBatch, Hypothesis
from moe_asr.errors import ConfigError, DataError, GraphError
from moe_asr.fsa.context_lattice import apply_context
from moe_asr.fsa.engine import SearchEngine
from moe_asr.fsa.engines import AUTO, ENGINES, make_engine
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.native.options import NativeSearchOptions
from moe_asr.fsa.nbest import NBestPath
from moe_asr.fsa.topology import TOPOLOGIES

if TYPE_CHECKING:
    from moe_asr.fsa.context import ContextGraph
    from moe_asr.fsa.lattice_file import LatticeArchive
    from moe_asr.fsa.lattice_scores import LatticePath
    from moe_asr.fsa.nbest import NBestPath


@dataclass(frozen=True)
class FirstPassOptions(NativeSearchOptions):
    """How the graph is searched: the beams, the topology of an LG or T, what native adds, and this.

    Attributes:
        engine: one of `ENGINES`; ``auto`` is k2 on a GPU if it is installed, and native everywhere else.
        partial: where no path ends as the graph wants it, take the best one that stands anywhere, instead
            of giving no words.
        num_threads: utterances of a batch that the native engine searches at a time.
    """

    engine: str = AUTO
    partial: bool = False
    num_threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (("engine", ENGINES), ("topology", TOPOLOGIES)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, found {getattr(self, name)!r}"
                )
        if self.num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, found {self.num_threads}")

    @property
    def first_pass(self) -> "FirstPassOptions":
        """These options alone, without those that a method adds."""
        names = [field.name for field in fields(FirstPassOptions)]
        return FirstPassOptions(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class LmScaleOptions(FirstPassOptions):
    """`FirstPassOptions`, and this.

    Attributes:
        lm_scale: weight of the graph's score (language model, lexicon) when the lattice is read; the search's
            ``graph_scale`` is in the lattice already. Boosts of phrases are not scaled.
        length_bonus: nats for each token of a path: CTC likes few tokens, and leaves out short words.
    """

    lm_scale: float = 1.0
    length_bonus: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.lm_scale < float("inf"):
            raise ValueError(f"lm_scale must be finite, 0 or more, found {self.lm_scale}")
        if not abs(self.length_bonus) < float("inf"):
            raise ValueError(f"length_bonus must be finite, found {self.length_bonus}")

    def weighted(self, lattice: Lattice, context: "ContextGraph | None" = None) -> Lattice:
        """The lattice whose graph scores are lm_scale times its own, and the bonus where a token begins.

        Args:
            context: of the phrases whose boosts are in the graph scores. These stay as they are; the lattice
                is composed with the phrases for that, and has the states and arcs of `remove_context`.
        """
        scaled = with_bonus(lattice, self.length_bonus, self.lm_scale)
        if context is None:
            return scaled
        return apply_context(scaled, context, self._boost_scale - self.lm_scale)

    @property
    def _boost_scale(self) -> float:
        return 1.0


def with_bonus(lattice: Lattice, length_bonus: float, graph_scale: float = 1.0) -> Lattice:
    """The lattice with graph scores scaled, and a bonus added to every arc that begins a token."""
    if graph_scale == 1.0 and length_bonus == 0.0:
        return lattice
    graph = graph_scale * lattice.graph.astype(np.float64) + length_bonus * lattice.starts_token
    return replace(lattice, graph=graph.astype(np.float32))


LENGTH_BONUSES = (0.0, 0.3, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0)  # what tuning tries
LM_SCALES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0)  # what tuning tries


class FirstPass:
    """Log-probabilities in, lattices out; the lattices of the last batch are kept for the next method.

    Phrases are listened for by the native engine while it searches; on the lattices of another, and of an
    archive, their boosts are put afterwards.

    Attributes:
        seconds: wall time of all searches.
        lattice_sink: is called with the name and the lattice of every utterance, if it is set.

    Raises:
        ConfigError: if there is no graph, or the engine cannot do what the options ask for; if lattices of an
            archive were searched with another ``graph_scale``, or with phrases.
        GraphError: if the graph is not over the tokenizer's tokens, or the engine cannot search it; if
            lattices of an archive are over other tokens or words than the graph.
        MissingDependencyError: if the engine needs k2, and there is none.
    """

    def __init__(self, resources: DecodingResources, options: FirstPassOptions, user: str) -> None:
        if resources.graph is None:
            raise ConfigError(f"{user} searches a graph: none was given")
        resources.graph.check_tokens(resources.tokenizer.tokens)
        self.options = options
        self.seconds = 0.0
        self.lattice_sink: Callable[[str, Lattice], None] | None = None
        self._resources = resources
        self._last: tuple[EncodedBatch, list[Lattice]] | None = None
        self._archive = resources.archive
        self.graph: DecodingGraph = resources.graph
        if self._archive is not None:
            if (self._archive.token_table, self._archive.word_table) != (
                self.graph.token_table, self.graph.word_table,
            ):  # fmt: skip
                raise GraphError(f"{self._archive.path}: the lattices are not of this graph")
            self._check_metadata(self._archive)
            return
        self._engine = make_engine(
            options.engine,
            resources.graph,
            options,
            resources.device,
            num_threads=options.num_threads,
        )
        from moe_asr.fsa.native import NativeEngine

        self.graph = self._engine.graph
        self._listens = isinstance(self._engine, NativeEngine)
        # what only a first search does (compile, hand k2 the graph) is done while no time is taken
        frame = torch.zeros(1, 1, len(self.graph.token_table))
        self._engine.search(frame, torch.tensor([1]))
        self._engine.search(frame, torch.tensor([0]), partial=True)

    def lattices(self, batch: EncodedBatch) -> list[Lattice]:
        """The lattices of a batch, searched when they are first asked for.

        Raises:
            DataError: naming the utterance that has NaN or +inf in its frames.
            GraphError: if an archive has no lattice of an utterance.
            DataError: if that lattice is of another number of frames.
        """
        if self._last is None or self._last[0] is not batch:
            since = time.perf_counter()
            found = self._find(batch)
            self.seconds += time.perf_counter() - since
            self._keep(batch, found)
        assert self._last is not None
        return self._last[1]

    def put(self, batch: EncodedBatch, lattices: Sequence[Lattice]) -> None:
        """Gives the lattices of a batch that was searched elsewhere: as streams, say.

        Methods then decode the batch without a search, and do not look at its ``log_probs``. Lattices are
        taken as they are: boosts of phrases are in them already.

        Args:
            batch: the very object that methods are going to be given.
            lattices: of its utterances, searched by an engine with these options over `graph`.

        Raises:
            DataError: if there are not as many as utterances, or, naming the utterance, one has another
                number of frames.
        """
        if len(lattices) != len(batch.utterance_ids):
            raise DataError(f"{len(lattices)} lattices of {len(batch.utterance_ids)} utterances")
        for name, lattice, length in zip(
            batch.utterance_ids, lattices, batch.lengths.tolist(), strict=True
        ):
            if lattice.num_frames != length:
                raise DataError(
                    f"the lattice of {name} has {lattice.num_frames} frames, the utterance {length}"
                )
        self._keep(batch, list(lattices))

    @property
    def engine(self) -> SearchEngine:
        """What searches; also a stream's engine, where it has streams.

        Raises:
            ConfigError: if lattices come from an archive, and nothing is searched.
        """
        if self._archive is not None:
            raise ConfigError(f"lattices come from {self._archive.path}: there is no search engine")
        return self._engine

    def _keep(self, batch: EncodedBatch, lattices: list[Lattice]) -> None:
        self._last = batch, lattices
        if self.lattice_sink is not None:
            for name, lattice in zip(batch.utterance_ids, lattices, strict=True):
                self.lattice_sink(name, lattice)

    def _find(self, batch: EncodedBatch) -> list[Lattice]:
        contexts = self.contexts(batch.utterance_ids)
        if self._archive is not None:
            found = [self._archive.read(name) for name in batch.utterance_ids]
            for name, lattice, length in zip(
                batch.utterance_ids, found, batch.lengths.tolist(), strict=True
            ):
                if lattice.num_frames != length:
                    raise DataError(
                        f"{self._archive.path}: the lattice of {name} has {lattice.num_frames} frames, the "
                        f"utterance {length}: they are not of the same audio and model"
                    )
        else:
            search = self._engine.search
            arguments = batch.log_probs, batch.lengths, batch.utterance_ids, self.options.partial
            if not any(contexts):
                return search(*arguments)
            if self._listens:
                return search(*arguments, contexts=contexts)
            found = search(*arguments)
        return [
            lattice if context is None else apply_context(lattice, context)
            for lattice, context in zip(found, contexts, strict=True)
        ]

    def _check_metadata(self, archive: "LatticeArchive") -> None:
        searched = archive.metadata.get("options", {})
        graph_scale = searched.get("graph_scale", self.options.graph_scale)
        if graph_scale != self.options.graph_scale:
            raise ConfigError(
                f"{archive.path}: searched with graph_scale {graph_scale}, the options say "
                f"{self.options.graph_scale}"
            )
        if archive.metadata.get("has_phrases"):
            raise ConfigError(
                f"{archive.path}: searched with phrases, whose boosts are in its scores: keep lattices of a "
                "search without phrases, and give the phrases with them"
            )

    def boosts(
        self, utterance_ids: Sequence[str], lists: "Sequence[Sequence[NBestPath]]"
    ) -> list[np.ndarray]:
        """[utt] (n,) float64: what phrases have added to the graph scores of an n-best list."""
        found = []
        for paths, context in zip(lists, self.contexts(utterance_ids), strict=True):
            if context is None:
                found.append(np.zeros(len(paths)))
                continue
            units = [path.words if context.level == "word" else path.tokens for path in paths]
            found.append(np.array([context.score(one) for one in units], np.float64))
        return found

    def contexts(self, utterance_ids: Sequence[str]) -> "list[ContextGraph | None]":
        """The phrases of each utterance, if it has any."""
        context_of = self._resources.context_of
        return [context_of(name) if context_of else None for name in utterance_ids]


def smallest_lattice(words: Sequence[int] = (1,)) -> Lattice:
    """One path of one frame: what methods try themselves on, so that compiling is not counted as decoding."""
    return Lattice(
        src=np.array([0, 1], np.int32),
        dst=np.array([1, 2], np.int32),
        token=np.array([3, FINAL], np.int32),
        starts_token=np.array([True, False]),
        acoustic=np.array([-1.0, 0.0], np.float32),
        graph=np.array([-1.0, 0.0], np.float32),
        word_row_splits=np.array([0, len(words), len(words)], np.int32),
        words=np.array(words, np.int32),
        frame=np.array([0, 1, 1], np.int32),
        num_frames=1,
    )


class LatticeMethod(DecodingMethod):
    """A method that takes the lattices of a first pass.

    Raises:
        ConfigError, GraphError, MissingDependencyError: as `FirstPass` does.
    """

    options_type = FirstPassOptions
    first_pass: FirstPass

    def __init__(self, resources: DecodingResources, options: FirstPassOptions) -> None:
        super().__init__(resources, options)
        key = options.first_pass
        if key not in resources.first_passes:
            resources.first_passes[key] = FirstPass(resources, key, self.name)
        self.first_pass = resources.first_passes[key]

    @property
    def graph(self) -> DecodingGraph:
        """What is searched; lattices are over its tokens and words."""
        return self.first_pass.graph

    def _lattices(
        self, batch: EncodedBatch
    ) -> "Iterator[tuple[str, Lattice, ContextGraph | None]]":
        """Name, lattice and phrases of each utterance of a batch."""
        lattices, names = self.first_pass.lattices(batch), batch.utterance_ids
        return zip(names, lattices, self.first_pass.contexts(names), strict=True)

    @property
    def unit(self) -> str:
        """Words; on a graph of tokens, what those spell."""
        return "word" if self._has_words else self.token_unit

    @property
    def _has_words(self) -> bool:
        return self.graph.kind in ("HLG", "LG")

    def _words(self, ids: "tuple[int, ...]") -> tuple[str, ...]:
        """The words of word ids; of a graph of tokens, the words that they spell."""
        if self._has_words:
            return tuple(self.graph.word_symbols(ids))
        return tuple(self.resources.tokenizer.decode(list(ids)).split())

    def _of_path(
        self, name: str, path: "LatticePath | NBestPath | None", lattice: Lattice
    ) -> Hypothesis:
        """The words of a path as the result; nothing found if there is none."""
        if path is None:
            return Hypothesis(name, "", (), None, ())
        words = self._words(path.words)
        kept = path if self.resources.keep_paths and isinstance(path, NBestPath) else None
        return Hypothesis(
            name, " ".join(words), words, path.score, path.tokens, path=kept,
            is_partial=lattice.is_partial,
        )  # fmt: skip
