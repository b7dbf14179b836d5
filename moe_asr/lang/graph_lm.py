"""Which n-gram model is in a decoding graph: what rescoring has to take out again."""

from pathlib import Path
from typing import Any

from moe_asr.errors import GraphError, StaleError
from moe_asr.files import PathLike
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.lang import provenance


def find_graph_lm(graph: DecodingGraph, path: PathLike) -> Path:
    """The ARPA file that a graph was made of, found by the record beside the graph, unchanged since.

    Args:
        graph: its metadata have the hash of the model.
        path: where it was read from.

    Raises:
        GraphError: if it was made of a grammar, or does not say of what; or the record does not tell where
            the model is, or it is gone: then it has to be given, see `check_graph_lm`.
        StaleError: if the file is another now.
        ConfigError: if the record is damaged.
    """
    about = _about_g(graph, str(path))
    arpa = _recorded_arpa(Path(path))
    if arpa is None:
        raise GraphError(
            f"{path}: made of {_name(about)}, but where that is, is not on record beside it; "
            "give the file"
        )
    if not arpa.is_file():
        raise GraphError(f"{path}: made of {arpa}, which is gone; give a copy of it")
    check_graph_lm(graph, arpa, str(path))
    return arpa


def check_graph_lm(graph: DecodingGraph, arpa: PathLike, source: str = "graph") -> None:
    """Whether an ARPA file is the one that a graph was made of.

    Args:
        source: the graph's name, for messages.

    Raises:
        GraphError: if the graph was made of a grammar, or does not say of what.
        StaleError: if it is another one.
        ConfigError: if it cannot be read.
    """
    about = _about_g(graph, source)
    if provenance.hash_path(arpa) != about["sha256"]:
        raise StaleError(
            f"{arpa}: not the model that {source} was made of, which is {_name(about)}: its scores "
            "cannot be taken out by another"
        )


def _about_g(graph: DecodingGraph, source: str) -> dict[str, Any]:
    """The metadata of G, see `moe_asr.lang.make_g`."""
    about = graph.metadata.get("g")
    if not isinstance(about, dict) or not isinstance(about.get("sha256"), str):
        raise GraphError(f"{source}: its metadata do not say which n-gram model it was made of")
    if about.get("source") != "arpa":
        raise GraphError(
            f"{source}: made of a {about.get('source')} ({about.get('file')}): there is no n-gram "
            "model in its scores to be taken out"
        )
    return about


def _name(about: dict[str, Any]) -> str:
    return f"{about.get('file', 'an ARPA file')} (SHA-256 {about['sha256'][:12]}...)"


def _recorded_arpa(path: Path) -> Path | None:
    """Of a token graph the input itself, of a graph of words that of its G."""
    inputs = provenance.inputs_of(path)
    if "arpa" not in inputs and "G" in inputs:
        inputs = provenance.inputs_of(inputs["G"])
    return inputs.get("arpa")
