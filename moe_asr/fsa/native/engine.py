"""The native search engine: exact lattices on the CPU, offline and streaming, compiled by numba."""

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from moe_asr.errors import DataError
from moe_asr.fsa.context import ContextGraph
from moe_asr.fsa.engine import Contexts, SearchEngine, SearchOptions, contexts_of
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.log_probs import check_log_probs, name_of
from moe_asr.fsa.native import layout
from moe_asr.fsa.native.compiling import warm_up, warm_up_with_context
from moe_asr.fsa.native.context import (
    GraphSymbols,
    SearchContext,
    graph_symbols,
    search_context,
)
from moe_asr.fsa.native.options import NativeSearchOptions
from moe_asr.fsa.native.partial import PartialResult, partial_result
from moe_asr.fsa.native.pieces import end_of_piece, final_arcs, join_pieces, tail_piece
from moe_asr.fsa.native.search_graph import compile_graph
from moe_asr.fsa.native.store import Workspace
from moe_asr.fsa.native.stream import NativeStream

T = TypeVar("T")
INTERVAL = 64  # steps from one pruning of the lattice to the next


class NativeEngine(SearchEngine):
    """Token passing over an HLG, or over an LG whose CTC topology is implied; both give the same lattices.

    The first engine of a process compiles the kernels, or loads them, see `warm_up`.

    Streams are independent of one another, and each thread advances its own: a stream must not be given to
    two calls at a time, the engine may be.

    Args:
        graph: HLG, HT, LG or T.
        num_threads: streams (or utterances) searched at a time.

    Raises:
        GraphError: if the topology is unknown.
    """

    options: NativeSearchOptions

    def __init__(
        self,
        graph: DecodingGraph,
        options: SearchOptions | None = None,
        num_threads: int = 1,
    ) -> None:
        if num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, found {num_threads}")
        self.graph = graph
        self.options = _native_options(options)
        self._graph = compile_graph(graph, self.options.topology, self.options.graph_scale)
        # of lattices: infinite costs are those of states that lead nowhere, and beyond any beam
        self._output_beam = min(self.options.output_beam, float(np.finfo(np.float32).max))
        self._limits = np.zeros(layout.NUM_LIMITS, np.float64)
        scores = self._graph.score
        for name, value in {
            layout.SEARCH_BEAM: self.options.search_beam,
            layout.OUTPUT_BEAM: self._output_beam,
            layout.MIN_ACTIVE: self.options.min_active,
            layout.MAX_ACTIVE: self.options.max_active,
            layout.TOKEN_BEAM: self.options.token_beam,
            layout.STRICT_MAX_ACTIVE: self.options.strict_max_active,
            layout.BEST_ARC: scores.max() if len(scores) else 0.0,
            layout.MAX_PENDING: self.options.max_pending_frames or math.inf,
            layout.INTERVAL: INTERVAL,
        }.items():
            self._limits[name] = value
        self._num_threads = num_threads
        warm_up()
        self._pool: ThreadPoolExecutor | None = None
        self._process = os.getpid()  # whose threads those are
        self._lock = threading.Lock()
        self._workspaces = threading.local()
        self._symbols: dict[str, GraphSymbols] = {}
        self._contexts: WeakKeyDictionary[ContextGraph, SearchContext] = WeakKeyDictionary()

    def search(
        self,
        log_probs: Tensor,
        lengths: Tensor,
        utterance_ids: Sequence[str] | None = None,
        partial: bool = False,
        contexts: Contexts = None,
    ) -> list[Lattice]:
        """See `SearchEngine.search`."""
        log_probs = _float32(log_probs)
        frames = check_log_probs(log_probs, lengths, self.graph, utterance_ids)
        rows = [log_probs[n, :length].contiguous().numpy() for n, length in enumerate(frames)]
        prepared = [self._prepare(one) for one in contexts_of(contexts, len(rows))]

        def whole(item: tuple[np.ndarray, SearchContext | None]) -> Lattice:
            state = NativeStream(self._graph, self.options.search_beam, item[1])
            self._read(state, item[0])
            return self.finish(state, partial)

        return self._map(whole, list(zip(rows, prepared, strict=True)))

    def start(self, context: ContextGraph | None = None) -> NativeStream:
        """The state of a new stream, which listens for the phrases of ``context``, if it has any.

        Raises:
            GraphError: if they were compiled for another graph.
        """
        return NativeStream(self._graph, self.options.search_beam, self._prepare(context))

    def advance(
        self,
        states: Sequence[NativeStream],
        log_probs: Sequence[Tensor],
        stream_ids: Sequence[str] | None = None,
    ) -> None:
        """Feeds each of ``states`` its next frames.

        Args:
            states: different streams, all started by this engine.
            log_probs: for each stream (T_i, C) float32, natural log, T_i >= 0.
            stream_ids: for messages.

        Raises:
            GraphError: if C is not the graph's number of tokens.
            DataError: naming the stream, on NaN or +inf; or a stream given twice, finished, or started by
                another engine. Nothing has been read then.
        """
        if len(states) != len(log_probs):
            raise DataError(f"{len(states)} streams, but log_probs of {len(log_probs)}")
        if stream_ids is not None and len(stream_ids) != len(states):
            raise DataError(f"found {len(stream_ids)} ids of {len(states)} streams")
        if len({id(state) for state in states}) != len(states):
            raise DataError("a stream was given twice in one call")
        work = []
        for index, (state, chunk) in enumerate(zip(states, log_probs, strict=True)):
            name = f"stream {name_of(index, stream_ids)}"
            self._check_origin(state, name)
            if state.is_finished:
                raise DataError(f"{name} has been finished")
            work.append((state, self._rows(chunk, name, state.num_frames)))
        self._map(lambda item: self._read(*item), work)

    def partial(self, state: NativeStream) -> PartialResult:
        """The best path so far, and whether it may end here; a few tens of microseconds, `PartialResult`."""
        self._check_origin(state)
        return partial_result(state, self._graph)

    def lattice(self, state: NativeStream, partial: bool = True) -> Lattice:
        """The lattice of what the stream has read and not released; the stream goes on.

        Where no path ends in a final state now, all end where they stand (``partial``), or it is empty.
        """
        self._check_origin(state)
        finals = final_arcs(
            state.store, self._graph, partial, can_end=not state.is_dead, context=state.context
        )
        if finals is None:
            return Lattice.empty(state.num_frames)
        piece, kept, final_src = tail_piece(state.store, finals, self._output_beam)
        return join_pieces(
            [*state.pieces, piece], finals, kept, final_src, self._graph, state.num_frames
        )  # fmt: skip

    def finish(self, state: NativeStream, partial: bool = False) -> Lattice:
        """Ends a stream: the lattice of all its frames but those released."""
        if state.is_finished:
            raise DataError("the stream has been finished already")
        lattice = self.lattice(state, partial)
        state.is_finished = True
        return lattice

    def release(self, state: NativeStream) -> Lattice | None:
        """Hands over the lattice of the frames that can no longer change, and forgets it.

        Joined one after the other with what `finish` returns, the pieces are the lattice of the whole
        stream, see `join_lattices`. None if nothing new is ready.

        Raises:
            DataError: if the stream is finished: all that was left is in its last lattice.
        """
        self._check_origin(state)
        if state.is_finished:
            raise DataError("the stream has been finished already")
        if not state.pieces:
            return None
        last = np.array([len(state.pieces[-1].frame) - 1], np.int32)
        lattice = join_pieces(
            state.pieces, end_of_piece(), np.zeros(1, np.int64), last, self._graph, state.num_frames
        )  # fmt: skip
        state.pieces = []
        return lattice

    def close(self) -> None:
        """Ends the threads; they come back when the engine is used again."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def _rows(self, log_probs: Tensor, name: str, first_frame: int) -> np.ndarray:
        """(T, C) float32, checked."""
        if log_probs.ndim != 2:
            raise DataError(f"{name}: expected log_probs (T, C), found {tuple(log_probs.shape)}")
        self.graph.check_vocabulary(log_probs.shape[1])
        rows = _float32(log_probs).contiguous().numpy()
        highest = rows.max(axis=1)  # NaN comes through
        bad = ~(highest < np.inf)
        if bad.any():
            frame = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{name}: log_probs of frame {first_frame + frame} hold {float(highest[frame])}"
            )
        return rows

    def _prepare(self, context: ContextGraph | None) -> SearchContext | None:
        """A context graph for the kernels, made once; None where there is nothing to listen for."""
        if context is None:
            return None
        context.check_graph(self.graph)
        if context.is_empty:
            return None
        with self._lock:
            prepared = self._contexts.get(context)
            if prepared is None:
                warm_up_with_context()
                if context.level not in self._symbols:
                    self._symbols[context.level] = graph_symbols(self._graph, context.level)
                prepared = search_context(context, self._symbols[context.level])
                self._contexts[context] = prepared
            return prepared

    def _check_origin(self, state: NativeStream, name: str = "the stream") -> None:
        # the kernels follow its states into the graph and do not look where that ends
        if state.graph is not self._graph:
            raise DataError(f"{name} was started by another engine")

    def _read(self, state: NativeStream, rows: np.ndarray) -> None:
        frames = np.arange(state.num_frames + 1, state.num_frames + len(rows) + 1)
        state.num_frames += len(rows)
        if self.options.blank_skip < 1.0 and len(rows):
            is_blank = rows[:, 0] >= np.float32(math.log(self.options.blank_skip))
            kept = ~(is_blank & np.concatenate([[state.after_blank], is_blank[:-1]]))
            state.after_blank = bool(is_blank[-1])
            rows, frames = np.ascontiguousarray(rows[kept]), frames[kept]
        if len(rows):
            state.read(rows, frames, self._limits, self._workspace())

    def _workspace(self) -> Workspace:
        """This thread's."""
        if not hasattr(self._workspaces, "workspace"):
            graph = self._graph
            self._workspaces.workspace = Workspace(
                graph.num_states, len(self.graph.token_table), graph.most_arcs
            )
        return self._workspaces.workspace

    def _map(self, function: Callable[[T], object], items: Sequence[T]) -> list:
        if self._num_threads == 1 or len(items) < 2:
            return [function(item) for item in items]
        with self._lock:  # or another thread's `close` might come between
            pool = self._threads()
            futures = [pool.submit(function, item) for item in items]
        wait(
            futures
        )  # all, even if one fails: none may still be at work on a stream of the caller's
        return [future.result() for future in futures]

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():  # a fork has no threads
            self._pool = ThreadPoolExecutor(self._num_threads, "moe_asr-search")
            self._process = os.getpid()
        return self._pool


def _native_options(options: SearchOptions | None) -> NativeSearchOptions:
    if options is None:
        return NativeSearchOptions()
    if isinstance(options, NativeSearchOptions):
        return options
    return NativeSearchOptions(**vars(options))


def _float32(log_probs: Tensor) -> Tensor:
    """On the CPU, whatever device and dtype they have."""
    return log_probs.detach().to("cpu", torch.float32)
