"""The n-gram model of a graph: found by what is on record, and no other is taken for it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from moe_asr.errors import GraphError, StaleError
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.lang.graph_lm import check_graph_lm, find_graph_lm
from moe_asr.lang.make_graph import make_token_graph
from moe_asr.lm.train import train_arpa
from tests.lang.test_make_graph import Workplace


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A graph of words, and one of characters."""
    folder = tmp_path_factory.mktemp("graph_lm")
    place = Workplace(folder)
    place.make_g()
    place.make()
    train_arpa(output=folder / "characters.arpa", text=place.text, order=3, tokenizer=place.units)
    make_token_graph(
        folder / "characters_graph",
        place.units,
        folder / "characters.arpa",
        builder="openfst",
        report=place.said.append,
    )
    return place


@pytest.mark.parametrize(
    ("graph", "arpa"),
    [
        ("graph/LG", "lm.arpa"),
        ("graph/HLG", "lm.arpa"),
        ("characters_graph/T", "characters.arpa"),
        ("characters_graph/HT", "characters.arpa"),
    ],
)
def test_found(built: Workplace, graph: str, arpa: str) -> None:
    folder = built.arpa.parent
    path = folder / f"{graph}.safetensors"
    loaded = DecodingGraph.load(path)
    assert find_graph_lm(loaded, path) == folder / arpa
    check_graph_lm(loaded, folder / arpa)
    other = ({"lm.arpa", "characters.arpa"} - {arpa}).pop()
    with pytest.raises(StaleError, match=rf"{other}: not the model that graph was .* {arpa} \(SHA"):
        check_graph_lm(loaded, folder / other)


def test_a_graph_that_was_moved_alone(built: Workplace, tmp_path: Path) -> None:
    """Its model must be given, and is known again."""
    path = tmp_path / "LG.safetensors"
    shutil.copy(built.graph / path.name, path)
    graph = DecodingGraph.load(path)
    with pytest.raises(GraphError, match=r"LG.safetensors: made of lm.arpa .* not on record"):
        find_graph_lm(graph, path)
    copy = tmp_path / "copy.arpa"
    shutil.copy(built.arpa, copy)
    check_graph_lm(graph, copy)


def test_a_model_that_is_gone_or_another(built: Workplace, tmp_path: Path) -> None:
    folder = tmp_path / "graph"
    shutil.copytree(built.graph, folder)
    record = json.loads((folder / "provenance.json").read_text())
    arpa = tmp_path / "lm.arpa"
    record["steps"]["G"]["inputs"]["arpa"]["path"] = str(arpa)
    (folder / "provenance.json").write_text(json.dumps(record))
    path = folder / "LG.safetensors"
    graph = DecodingGraph.load(path)
    with pytest.raises(GraphError, match=r"made of .*lm.arpa, which is gone"):
        find_graph_lm(graph, path)
    arpa.write_bytes(built.arpa.read_bytes() + b"\n")
    with pytest.raises(
        StaleError, match=r"lm.arpa: not the model that .*LG.safetensors was made of"
    ):
        find_graph_lm(graph, path)


def test_graphs_without_a_model(built: Workplace) -> None:
    path = built.graph / "LG.safetensors"
    graph = DecodingGraph.load(path)
    about = {**graph.metadata["g"], "source": "grammar", "file": "home.gram"}
    of_grammar = replace(graph, metadata={**graph.metadata, "g": about})
    silent = replace(graph, metadata={"kind": "LG"})
    for find in (find_graph_lm, check_graph_lm):
        with pytest.raises(
            GraphError, match=r"made of a grammar \(home.gram\): there is no n-gram"
        ):
            find(of_grammar, path)
        with pytest.raises(GraphError, match="metadata do not say which n-gram model"):
            find(silent, path)
