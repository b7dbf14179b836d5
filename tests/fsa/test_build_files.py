"""Graphs built in a process of their own: memory limit, errors, what is left when it is stopped."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_asr.errors import GraphError, MissingDependencyError, TextError
from moe_asr.fsa import build_files
from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.build_files import GraphJob, build_graph_files, default_memory_limit
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.fsa.memory import available_memory
from moe_asr.fsa.steps import BuildStep
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.references import BUILDERS, random_g, random_lexicon

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MB = 1 << 20
TOKENS = SymbolTable(["<blk>", *"abcdefgh"])


def write_job(
    folder: Path, lexicon: Lexicon, g: Fst, tokens: SymbolTable, **options: Any
) -> GraphJob:
    words = lexicon.word_table()
    tokens.write(folder / "tokens.txt")
    words.write(folder / "words.txt")
    lexicon_fst(lexicon, tokens, words).save(folder / "L.safetensors")
    g.save(folder / "G.safetensors")
    return GraphJob(
        g=folder / "G.safetensors",
        tokens=folder / "tokens.txt",
        l_disambig=folder / "L.safetensors",
        words=folder / "words.txt",
        **options,
    )


def small_job(folder: Path, **options: Any) -> tuple[GraphJob, Lexicon, Fst]:
    rng = random.Random(0)
    lexicon = random_lexicon(rng, list(TOKENS)[1:], 9, "ABCDEF")
    g = random_g(rng, lexicon)
    return write_job(folder, lexicon, g, TOKENS, **options), lexicon, g


def large_job(folder: Path, **options: Any) -> GraphJob:
    """A G of 4000 arcs that becomes an LG of 4 million: 2000 states back off to one of 2000 words."""
    count = 2000
    label, zeros = np.arange(1, count + 1), np.zeros(count, np.int64)
    g = Fst.from_arcs(
        np.concatenate([zeros, label]),
        np.concatenate([label, zeros]),
        np.concatenate([label, zeros + count + 1]),
        np.concatenate([label, zeros]),
        np.full(2 * count, -5.0),
        np.zeros(count + 1),
    )
    tokens = SymbolTable(["<blk>", *(f"t{number}" for number in range(count))])
    lexicon = Lexicon(Pronunciation(f"w{number}", (f"t{number}",)) for number in range(count))
    return write_job(folder, lexicon, g, tokens, **options)


def same(a: Arcs, b: Arcs) -> None:
    for name in ("src", "dst", "label", "score", "row_splits", "words"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("builder", BUILDERS)
def test_graphs_are_those_built_here(tmp_path: Path, builder: str) -> None:
    options = {"builder": builder, "topology": "modified", "metadata": {"order": 3}}
    job, lexicon, g = small_job(tmp_path, **options)
    output = tmp_path / "out"
    output.mkdir()
    told: list[BuildStep] = []
    steps = build_graph_files(job, output, report=told.append)
    assert steps == told
    assert [step.name for step in steps] == ["L_disambig", "G", "L o G", "det(L o G)", "LG", "HLG"]
    here = build_graphs(lexicon, g, TOKENS, "modified", builder, {"order": 3})
    for name, graph in (("LG", here.lg), ("HLG", here.hlg)):
        loaded = DecodingGraph.load(output / f"{name}.safetensors")
        same(loaded.arcs(), graph.arcs())
        assert loaded.metadata == graph.metadata
        assert steps[-2 if name == "LG" else -1].num_arcs == graph.num_arcs
    assert sorted(path.name for path in output.iterdir()) == ["HLG.safetensors", "LG.safetensors"]
    if sys.platform == "linux":
        assert all(step.peak_bytes and step.peak_bytes > 20 * MB for step in steps)


def test_token_graphs(tmp_path: Path) -> None:
    TOKENS.write(tmp_path / "tokens.txt")
    g = Fst.from_list([(0, 0, 1, 1, -1.0), (0, 1, 2, 2, -0.5), (1, 0, 9, 0, -0.25)], {0: 0.0})
    g.save(tmp_path / "G.safetensors")
    job = GraphJob(
        tmp_path / "G.safetensors", tmp_path / "tokens.txt", None, None, "exact", "openfst"
    )
    steps = build_graph_files(job, tmp_path)
    assert [step.name for step in steps] == ["G", "T", "HT"]
    graph = DecodingGraph.load(tmp_path / "T.safetensors")
    assert graph.kind == "T" and graph.metadata["backoff"] == "exact"
    assert DecodingGraph.load(tmp_path / "HT.safetensors").metadata["topology"] == "standard"
    with pytest.raises(ValueError, match="belong together"):
        GraphJob(tmp_path / "G.safetensors", tmp_path / "tokens.txt", words=tmp_path / "words.txt")


@LINUX
@pytest.mark.parametrize("builder", BUILDERS)
def test_a_graph_above_the_memory_limit_is_given_up(tmp_path: Path, builder: str) -> None:
    job = large_job(tmp_path, builder=builder)
    output = tmp_path / "out"
    output.mkdir()
    limit = 400 * MB
    told: list[BuildStep] = []
    before = children_of(os.getpid())  # of other tests in this process
    with pytest.raises(GraphError) as caught:
        build_graph_files(job, output, limit, told.append)
    message = str(caught.value)
    assert message.startswith(f"step '{STEP_AFTER[told[-1].name]}' needs more memory")
    assert "limit of 400 MB" in message and "so far" in message
    last = told[-1]
    assert f"'{last.name}' of {last.num_states:,} states and {last.num_arcs:,} arcs" in message
    for advice in (
        "prune the LM",
        "count cut-offs",
        "smaller vocabulary",
        "raise the memory limit",
    ):
        assert advice in message
    assert list(output.iterdir()) == []
    assert set(children_of(os.getpid())) <= set(before)


STEP_AFTER = {"L o G": "det(L o G)", "det(L o G)": "LG", "LG": "HLG", "G": "L o G"}


@LINUX
def test_default_limit_is_a_share_of_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    available, limit = available_memory(), default_memory_limit()
    assert available is not None and limit is not None
    assert limit == pytest.approx(0.8 * available, rel=0.2)
    monkeypatch.setattr(build_files, "available_memory", lambda: None)
    assert default_memory_limit() is None


def test_errors_are_those_of_building_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, lexicon, _ = small_job(tmp_path, builder="openfst")
    output = tmp_path / "out"
    output.mkdir()
    words = lexicon.word_table()
    Fst.from_list([(0, 0, 1, 1, 0.0), (0, 0, 1, 1, 0.0)], {0: 0.0}).save(tmp_path / "G.safetensors")
    with pytest.raises(GraphError, match="determinise G first"):
        build_graph_files(job, output)
    (tmp_path / "G.safetensors").write_bytes(b"no FST")
    with pytest.raises(GraphError, match=r"G\.safetensors: cannot be read"):
        build_graph_files(job, output)
    (tmp_path / "words.txt").write_text("<eps> 0\nA\n")
    Fst.from_list([(0, 0, 1, 1, 0.0)], {0: 0.0}).save(tmp_path / "G.safetensors")
    with pytest.raises(TextError, match=r"words\.txt:2: expected 'symbol id'"):
        build_graph_files(job, output)
    words.write(tmp_path / "words.txt")
    monkeypatch.setattr(sys, "path", [str(without_kaldifst(tmp_path)), *sys.path])
    with pytest.raises(MissingDependencyError, match="pip install kaldifst"):
        build_graph_files(job, output)
    assert list(output.iterdir()) == []


def without_kaldifst(folder: Path) -> Path:
    (folder / "shadow").mkdir()
    (folder / "shadow" / "kaldifst.py").write_text("raise ImportError('not here')\n")
    return folder / "shadow"


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (
            "raise MemoryError",
            GraphError,
            "could not get more memory from the system.*prune the LM",
        ),
        ("import os; os.kill(os.getpid(), 9)", GraphError, "ended by the system.*prune the LM"),
        ("raise SystemError('odd')", RuntimeError, "exit status 1(.|\n)*SystemError: odd"),
        ("import os; print('chatter'); os._exit(7)", RuntimeError, "exit status 7"),
    ],
)
def test_a_process_that_ends_without_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, error: type, message: str
) -> None:
    job, _, _ = small_job(tmp_path, builder="openfst")
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "kaldifst.py").write_text(code + "\n")  # imported after two steps
    monkeypatch.setattr(sys, "path", [str(tmp_path / "shadow"), *sys.path])
    with pytest.raises(error, match=message):
        build_graph_files(job, tmp_path)
    assert not list(tmp_path.glob(".graph.*"))


@LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_parent_that_is_stopped_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    job, _, _ = small_job(tmp_path, builder="openfst")
    (tmp_path / "shadow").mkdir()  # a builder that hangs, in C as it were: no Python thread runs
    hang = "import ctypes; ctypes.PyDLL(None).sleep(60)\n"
    (tmp_path / "shadow" / "kaldifst.py").write_text(hang)
    script = tmp_path / "build.py"
    script.write_text(
        f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs behind it
sys.path.insert(0, {str(tmp_path / "shadow")!r})
from moe_asr.fsa.build_files import GraphJob, build_graph_files
folder = {str(tmp_path)!r}
job = GraphJob(folder + "/G.safetensors", folder + "/tokens.txt", folder + "/L.safetensors",
               folder + "/words.txt", builder="openfst")
build_graph_files(job, folder, report=lambda step: print(step.name, flush=True))
"""
    )
    path = os.pathsep.join(path for path in sys.path if path)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )
    assert parent.stdout is not None
    assert [parent.stdout.readline().strip() for _ in range(2)] == ["L_disambig", "G"]
    children = children_of(parent.pid)
    assert len(children) == 1
    assert list(tmp_path.glob(".graph.*"))
    parent.send_signal(number)
    parent.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while is_running(children[0]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(children[0])
    if number != signal.SIGKILL:  # after which nobody can clean up
        assert not list(tmp_path.glob(".graph.*"))


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
