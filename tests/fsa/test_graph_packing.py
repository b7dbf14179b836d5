"""Graphs in fewer bytes: nothing is lost, and what does not hold together is refused."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from moe_asr.errors import GraphError
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.graph_packing import PACKED, pack_arcs, unpack_arcs
from tests.fsa.random_graphs import random_graph
from tests.fsa.test_graph import ARRAYS, equal, parts


@given(st.integers(0, 1 << 30), st.sampled_from(["HLG", "LG"]))
@settings(max_examples=30, deadline=None)
def test_nothing_is_lost(tmp_path_factory, seed: int, kind: str) -> None:
    graph = random_graph(random.Random(seed), kind)
    path = tmp_path_factory.getbasetemp() / "packed.safetensors"
    graph.save(path, packed=True)
    assert equal(DecodingGraph.load(path), graph)
    assert set(load_file(path)) == set(PACKED)


@pytest.mark.parametrize("size", [100, 200, 30_000, 60_000, 70_000])
def test_types_are_large_enough(size: int) -> None:
    """A chain of ``size`` states whose tokens and words are as many."""
    count = np.arange(size, dtype=np.int32)
    arrays = {
        "src": count,
        "dst": count + 1,
        "token": np.where(count == size - 1, -1, count).astype(np.int32),
        "score": -count.astype(np.float32),
        "word_row_splits": np.append(2 * count, 2 * size).astype(np.int32),
        "words": np.repeat(count + 1, 2).astype(np.int32),
    }
    packed = pack_arcs(arrays)
    found = unpack_arcs(packed)
    assert set(found) == set(ARRAYS)
    for name in ARRAYS:
        assert found[name].dtype == arrays[name].dtype and (found[name] == arrays[name]).all(), name
    assert packed["num_words"].dtype == np.uint8
    width = 1 if size <= 255 else 2 if size <= 65535 else 4
    assert packed["dst"].itemsize == packed["words"].itemsize == width


@pytest.mark.parametrize(
    "name,value,message",
    [
        ("num_arcs", np.array([2, 2, 2], np.uint8), "num_arcs: counts of 6 in all, for 5 dst"),
        ("num_words", np.array([0, 0, 1, 2, 1], np.uint8), "num_words: counts of 4 in all, for 3 words"),
        ("num_words", np.array([0, 0, 1, 3, -1], np.int8), "num_words: counts of 3 in all"),
        ("dst", np.zeros(5), "dst: found float64"),
        ("score", np.zeros(5, np.float16), "score: found float16"),
        ("token", np.zeros((5, 1), np.int8), r"token: found int8 \(5, 1\)"),
        ("token", np.array([0, 1, 2, 2, -1], np.int8), "arc 3: token 2 into state 3"),
        ("score", np.zeros(4, np.float32), "score: 4 values for 5 arcs"),
    ],
)  # fmt: skip
def test_what_is_no_graph_is_refused(tmp_path, name, value, message) -> None:
    from safetensors import safe_open

    path = tmp_path / "graph.safetensors"
    DecodingGraph(**parts()).save(path, packed=True)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    save_file({**load_file(path), name: value}, path, metadata=metadata)
    with pytest.raises(GraphError, match=f"graph.safetensors: {message}"):
        DecodingGraph.load(path)
