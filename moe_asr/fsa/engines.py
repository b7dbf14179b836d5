"""The search engines by name."""

from moe_asr.errors import ConfigError
from moe_asr.fsa.engine import SearchEngine, SearchOptions
from moe_asr.fsa.graph import DecodingGraph

AUTO = "auto"
ENGINES = (AUTO, "k2", "native")


def make_engine(
    name: str,
    graph: DecodingGraph,
    options: SearchOptions | None = None,
    device: str = "cpu",
    topology: str = "standard",
) -> SearchEngine:
    """The engine of that name, ready to search.

    Args:
        name: one of `ENGINES`; ``auto`` is native on a CPU, and k2 elsewhere.
        graph: HLG, HT, LG or T.
        options: the beams, which mean the same to all engines.
        device: where the search runs, as torch names it; the native engine runs on CPUs.
        topology: of an LG or T, whose topology is left to the search: ``standard`` or ``modified``.

    Raises:
        ConfigError: if there is no such engine, or none on this device.
        GraphError: if the engine cannot search the graph.
        MissingDependencyError: if it needs k2, and there is none.
    """
    on_cpu = device.partition(":")[0] == "cpu"
    if name == AUTO:
        name = "native" if on_cpu else "k2"
    if name == "k2":
        from moe_asr.fsa.search_k2 import K2Engine

        return K2Engine(graph, options, device, topology)
    if name == "native":
        from moe_asr.fsa.native import NativeEngine, NativeSearchOptions

        if not on_cpu:
            raise ConfigError(f"the native engine searches on a CPU, not on {device}; k2 does")
        plain = vars(options or SearchOptions())
        return NativeEngine(graph, NativeSearchOptions(**{"topology": topology, **plain}))
    raise ConfigError(f"unknown search engine '{name}', expected one of {', '.join(ENGINES)}")
