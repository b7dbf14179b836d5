"""The search engines by name."""

import importlib.util
from dataclasses import fields, replace

from moe_asr.errors import ConfigError
from moe_asr.fsa.engine import SearchEngine, SearchOptions
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.native.options import NativeSearchOptions

AUTO = "auto"
ENGINES = (AUTO, "k2", "native")


def make_engine(
    name: str,
    graph: DecodingGraph,
    options: SearchOptions | None = None,
    device: str = "cpu",
    topology: str | None = None,
    num_threads: int = 1,
) -> SearchEngine:
    """The engine of that name, ready to search.

    Args:
        name: one of `ENGINES`; ``auto`` is k2 on a GPU if it is installed, and native everywhere else.
        graph: HLG, HT, LG or T.
        options: the beams, which mean the same to all engines; `NativeSearchOptions` for more.
        device: where k2 searches, as torch names it. The native engine searches on the CPU, wherever the
            log-probabilities are.
        topology: of an LG or T, whose topology is left to the search: ``standard`` or ``modified``; by
            default that of the options.
        num_threads: utterances (or streams) that the native engine searches at a time.

    Raises:
        ConfigError: if there is no such engine, or the options ask k2 for what only native can do.
        GraphError: if the engine cannot search the graph.
        MissingDependencyError: if it needs k2, and there is none.
    """
    options = options or SearchOptions()
    if not isinstance(options, NativeSearchOptions):
        options = NativeSearchOptions(**vars(options))
    if topology is not None:
        options = replace(options, topology=topology)
    if name == AUTO:
        on_cpu = device.partition(":")[0] == "cpu"
        name = "native" if on_cpu or importlib.util.find_spec("k2") is None else "k2"
    if name == "k2":
        from moe_asr.fsa.search_k2 import K2Engine

        _check_for_k2(options, num_threads)
        return K2Engine(graph, options, device, options.topology)
    if name == "native":
        from moe_asr.fsa.native import NativeEngine

        return NativeEngine(graph, options, num_threads)
    raise ConfigError(f"unknown search engine '{name}', expected one of {', '.join(ENGINES)}")


def _check_for_k2(options: NativeSearchOptions, num_threads: int) -> None:
    common = {field.name for field in fields(SearchOptions)} | {"topology"}
    asked = [
        field.name
        for field in fields(NativeSearchOptions)
        if field.name not in common and getattr(options, field.name) != field.default
    ]
    asked += ["num_threads"] if num_threads != 1 else []
    if asked:
        raise ConfigError(
            f"the k2 engine has no {', '.join(asked)}; the native engine does (engine=native)"
        )
