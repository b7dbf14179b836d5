"""Which arcs of a decoding graph begin a token, by the CTC topology that is in it."""

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.topology import check_topology


def starts_token(graph: DecodingGraph) -> np.ndarray:
    """(A,) bool: whether each arc begins a token; blank and final arcs never do.

    The other arcs read a further frame of the token before. Which rule holds, ``graph.metadata["topology"]``
    says (``standard`` where it is absent):

    - standard: a label begins a token unless the frame before had it too. So the arcs into the state that an
      arc leaves must agree on that; in H o LG they do, for they all have one label.
    - modified: a run of a label may be several tokens. Tokens begin in the states of blank, which have a
      self-loop of blank; the states of a token, which have none, read its further frames only.

    Where the topology is left to the search, every arc with a token begins it.

    Raises:
        GraphError: on an unknown topology, or one whose states do not tell; naming a state.
    """
    token = graph.token
    if graph.topology_implied:
        return token > 0
    topology = graph.metadata.get("topology", "standard")
    check_topology(topology)
    if topology == "modified":
        has_blank_loop = np.zeros(graph.num_states, np.bool_)
        has_blank_loop[graph.src[(token == 0) & (graph.src == graph.dst)]] = True
        return (token > 0) & has_blank_loop[graph.src]
    return (token > 0) & ~_repeats(graph)


def _repeats(graph: DecodingGraph) -> np.ndarray:
    """(A,) bool: whether the frame before an arc has its label."""
    reads = graph.token >= 0
    entered, label = graph.dst[reads], graph.token[reads]
    lowest = np.full(graph.num_states, np.iinfo(np.int32).max, np.int32)
    highest = np.full(graph.num_states, -1, np.int32)
    lowest[0] = highest[0] = 0  # before the first frame is as after blank
    np.minimum.at(lowest, entered, label)
    np.maximum.at(highest, entered, label)
    one_label = (lowest == highest)[graph.src]
    repeats = one_label & (graph.token == highest[graph.src])
    # of several labels that enter a state, none may leave it: it would be known on some paths only
    mixed = np.flatnonzero(~one_label & (highest[graph.src] >= 0) & (graph.token > 0))
    if len(mixed):
        width = int(graph.token.max()) + 1
        codes = np.unique(entered.astype(np.int64) * width + label)
        wanted = graph.src[mixed].astype(np.int64) * width + graph.token[mixed]
        unclear = mixed[np.isin(wanted, codes)]
        if len(unclear):
            arc = int(unclear[0])
            raise GraphError(
                f"arc {arc}: token {graph.token[arc]} leaves state {graph.src[arc]}, which it and "
                f"another label enter: whether it begins a token cannot be told. This is not the "
                "composition of a CTC topology with a graph of tokens (was it minimised?)"
            )
    return repeats
