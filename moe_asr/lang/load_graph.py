"""Decoding graphs as decoding takes them: not when what they were made from has changed since."""

from moe_asr.files import PathLike
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.lang.provenance import verify_unchanged


def load_graph(path: PathLike) -> DecodingGraph:
    """Reads a graph, and holds it against the record of the step that made it, if there is one beside it.

    Raises:
        StaleError: if the graph is not what the step wrote, or its language directory, G, lexicon, LM or
            their own inputs have changed since. That some of them are gone, as on another machine, is fine.
        GraphError: naming the file, if it is absent, damaged, or no graph.
        ConfigError: if the record is damaged.
    """
    verify_unchanged(path)
    return DecodingGraph.load(path)
