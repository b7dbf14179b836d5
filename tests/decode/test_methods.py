"""The registry, greedy decoding, and one-best on an HLG."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from moe_asr.config import from_dict
from moe_asr.decode.greedy import CtcGreedy, collapse
from moe_asr.decode.lattice_archive import keep_lattices
from moe_asr.decode.registry import (
    DecodingMethod,
    DecodingResources,
    EncodedBatch,
    available_methods,
    get_method,
    make_method,
    register,
)
from moe_asr.errors import ConfigError, DataError, GraphError
from moe_asr.fsa.build import BuiltGraphs, build_graphs, build_hlg
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.engines import make_engine
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.grammar import word_loop
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice_file import LatticeArchive
from moe_asr.fsa.lattice_scores import best_path
from moe_asr.fsa.native.options import NativeSearchOptions
from moe_asr.fsa.token_graph import token_graph
from moe_asr.text.lexicon import Lexicon, Pronunciation, lexicon_from_tokenizer
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import CharTokenizer

TOKENIZER = CharTokenizer.from_texts(["ab ba"])  # ids 3 a, 4 b, 5 the separator
RESOURCES = DecodingResources(TOKENIZER)
ENGINES = ["native", pytest.param("k2", marks=pytest.mark.k2)]


def built(words: list[str], topology: str = "standard") -> BuiltGraphs:
    lexicon = lexicon_from_tokenizer(words, TOKENIZER)
    g = word_loop(lexicon.words).to_fst(lexicon.word_table())
    return build_graphs(lexicon, g, TOKENIZER.tokens, topology)


def hlg(words: list[str]) -> DecodingGraph:
    return built(words).hlg


def one_best(graph: DecodingGraph, **options: Any) -> DecodingMethod:
    return make_method("one_best", DecodingResources(TOKENIZER, graph), options)


def peaky(*rows: list[int], confidence: float = 0.9) -> tuple[torch.Tensor, torch.Tensor]:
    """Posteriors that prefer the given labels; padded with rubbish."""
    lengths = torch.tensor([len(row) for row in rows])
    size = TOKENIZER.vocab_size
    log_probs = torch.full((len(rows), int(lengths.max()), size), float("nan"))
    for index, row in enumerate(rows):
        probabilities = torch.full((len(row), size), (1 - confidence) / (size - 1))
        probabilities[torch.arange(len(row)), row] = confidence
        log_probs[index, : len(row)] = probabilities.log()
    return log_probs, lengths


def test_registry() -> None:
    assert {"ctc_greedy", "one_best"} <= set(available_methods())
    assert available_methods() == sorted(available_methods())
    assert get_method("ctc_greedy") is CtcGreedy and CtcGreedy.name == "ctc_greedy"
    with pytest.raises(ConfigError, match="'ctc_greedi'; did you mean 'ctc_greedy'"):
        get_method("ctc_greedi")
    with pytest.raises(AssertionError, match="two decoding methods"):
        register("ctc_greedy")(CtcGreedy)
    for name in available_methods():
        options = get_method(name).options_type()
        for field in fields(options):
            with pytest.raises(FrozenInstanceError):
                setattr(options, field.name, 1)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="unknown key 'search_bean'.*did you mean 'search_beam'"):
        make_method("one_best", RESOURCES, {"search_bean": 3})
    with pytest.raises(ConfigError, match="beams must be positive"):
        make_method("one_best", RESOURCES, {"search_beam": -1})
    with pytest.raises(ConfigError, match="engine must be one of auto, k2, native, found 'kaldi'"):
        make_method("one_best", RESOURCES, {"engine": "kaldi"})
    with pytest.raises(ConfigError, match="topology must be one of standard, modified"):
        make_method("one_best", RESOURCES, {"topology": "hmm"})
    for wrong, message in (
        ({"search_beam": None}, "search_beam: expected float, found None"),
        ({"blank_skip": 0.2}, "blank_skip must be between 0.5 and 1, found 0.2"),
        ({"token_beam": "nan"}, "token_beam must be positive, found nan"),
        ({"num_threads": 0}, "num_threads must be at least 1, found 0"),
        ({"num_threads": 1.5}, "num_threads: expected int, found 1.5"),
        ({"strict_max_active": 1}, "strict_max_active: expected bool, found 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_method("one_best", RESOURCES, wrong)
    with pytest.raises(ConfigError, match="unknown key 'beam'"):
        make_method("ctc_greedy", RESOURCES, {"beam": 3})


@pytest.mark.parametrize(
    ("labels", "tokens"),
    [
        ([], ()),
        ([0, 0], ()),
        ([3, 3, 0, 3, 4, 4, 0], (3, 3, 4)),
        ([0, 3, 4, 3], (3, 4, 3)),
    ],
)
def test_collapse(labels: list[int], tokens: tuple[int, ...]) -> None:
    assert collapse(labels) == tokens


def test_greedy() -> None:
    method = make_method("ctc_greedy", RESOURCES)
    log_probs, lengths = peaky([3, 3, 0, 4, 5, 4, 0, 0, 3], [0, 0], [4, 4, 0, 4])
    found = method.decode(EncodedBatch(log_probs, lengths, ["u", "v", "w"]))
    assert [hypothesis.text for hypothesis in found] == ["ab ba", "", "bb"]
    assert [hypothesis.words for hypothesis in found] == [("ab", "ba"), (), ("bb",)]
    assert [hypothesis.tokens for hypothesis in found] == [(3, 4, 5, 4, 3), (), (4, 4)]
    assert [hypothesis.utterance_id for hypothesis in found] == ["u", "v", "w"]
    expected = [length * torch.tensor(0.9).log().item() for length in (9, 2, 4)]
    assert [hypothesis.score for hypothesis in found] == pytest.approx(expected, rel=1e-5)


def test_greedy_refuses_what_is_no_log_prob() -> None:
    method = make_method("ctc_greedy", RESOURCES)
    for value in (float("nan"), float("inf")):
        log_probs, lengths = peaky([3, 0], [4, 4])
        log_probs[1, 1, 2] = value
        with pytest.raises(DataError, match="utterance second: log_probs of frame 1"):
            method.decode(EncodedBatch(log_probs, lengths, ["first", "second"]))
    with pytest.raises(DataError, match="for this tokenizer"):
        method.decode(EncodedBatch(torch.zeros(1, 2, 5), torch.tensor([2]), ["u"]))
    with pytest.raises(DataError, match="1 ids"):
        EncodedBatch(*peaky([3], [4]), ["u"])


@pytest.mark.parametrize("engine", ENGINES)
def test_one_best_speaks_in_words_of_its_graph(engine: str) -> None:
    method = one_best(hlg(["ab", "ba"]), engine=engine)
    log_probs, lengths = peaky([3, 3, 0, 4, 5, 4, 0, 0, 3], [0], [3, 0, 3, 4])
    found = method.decode(EncodedBatch(log_probs, lengths, ["u", "v", "w"]))
    assert [hypothesis.text for hypothesis in found] == ["ab ba", "", "ab"]
    assert found[0].words == ("ab", "ba")
    assert found[0].tokens == (3, 4, 5, 4, 3)
    two_words = 9 * torch.tensor(0.9).log() - 2 * torch.tensor(2.0).log()
    assert found[0].score == pytest.approx(float(two_words), abs=1e-4)
    assert found[2].tokens[-2:] == (3, 4)  # "aab" is no word: a frame is heard otherwise


@pytest.mark.parametrize("engine", ENGINES)
def test_one_best_without_a_path(engine: str) -> None:
    method = one_best(hlg(["ab"]), engine=engine)
    log_probs, lengths = peaky([3, 3, 3], [3, 4, 0])
    log_probs[0, :, :3] = log_probs[0, :, 4:] = -float("inf")
    found = method.decode(EncodedBatch(log_probs, lengths, ["nothing", "something"]))
    assert (found[0].text, found[0].words, found[0].score, found[0].tokens) == ("", (), None, ())
    assert found[1].text == "ab"
    standing = one_best(hlg(["ab"]), engine=engine, partial=True)
    partial = standing.decode(EncodedBatch(log_probs, lengths, ["nothing", "something"]))
    assert partial[0].tokens == (3,) and partial[0].score is not None
    assert partial[1] == found[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_one_best_on_a_graph_of_tokens(engine: str) -> None:
    """A bigram of tokens that has no b after a: ``ab`` is not heard where the frames say it."""
    separator = 5
    arcs = [(0, 1, 3, 3, -0.5), (0, 2, 4, 4, -1.0), (1, 0, separator, separator, -0.25)]
    arcs += [(2, 1, 3, 3, -0.25), (2, 0, separator, separator, -2.0), (1, 1, 3, 3, -3.0)]
    graph = build_hlg(token_graph(Fst.from_list(arcs, {1: -0.1, 2: -0.1}), TOKENIZER.tokens))
    method = one_best(graph, engine=engine)
    log_probs, lengths = peaky([4, 4, 3, 5, 3], [3, 4, 0, 0], confidence=0.999)
    found = method.decode(EncodedBatch(log_probs, lengths, ["ba a", "ab"]))
    assert (found[0].text, found[0].words, found[0].tokens) == ("ba a", ("ba", "a"), (4, 3, 5, 3))
    assert found[1].text in ("a", "b")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_graph_of_phones_is_scored_by_phones(engine: str) -> None:
    lexicon = Lexicon([Pronunciation("ab", ("x", "y", "z"))])
    tokenizer = PhoneTokenizer.from_lexicon(lexicon)
    phones = Fst.from_list([(0, 0, 3, 3, -0.5), (0, 0, 4, 4, -1.0)], {0: -0.1})
    graph = build_hlg(token_graph(phones, tokenizer.tokens))
    method = make_method("one_best", DecodingResources(tokenizer, graph), {"engine": engine})
    log_probs, lengths = peaky([3, 4], [0, 0])
    assert method.unit == "phone"
    assert method.decode(EncodedBatch(log_probs, lengths, ["xy", "none"]))[0].text == "x y"
    words = word_loop(lexicon.words).to_fst(lexicon.word_table())
    of_words = build_graphs(lexicon, words, tokenizer.tokens).hlg
    assert make_method("one_best", DecodingResources(tokenizer, of_words)).unit == "word"
    assert make_method("one_best", DecodingResources(TOKENIZER, hlg(["ab"]))).unit == "word"


def test_one_best_needs_a_graph_that_fits() -> None:
    with pytest.raises(ConfigError, match="one_best searches a graph"):
        make_method("one_best", RESOURCES)
    other = CharTokenizer.from_texts(["abc"])
    graph = hlg(["ab"])
    assert len(SymbolTable(other.tokens)) == 6  # as many symbols as the graph's, but other ones
    with pytest.raises(GraphError, match="token 5 is .*in the graph"):
        make_method("one_best", DecodingResources(other, graph))
    with pytest.raises(GraphError, match="built for 6 tokens"):
        make_method("one_best", DecodingResources(CharTokenizer.from_texts(["abcd"]), graph))


@pytest.mark.parametrize("topology", ["standard", "modified"])
@pytest.mark.parametrize("engine", ENGINES)
def test_one_best_on_a_graph_whose_topology_is_implied(engine: str, topology: str) -> None:
    graphs = built(["ab", "ba", "aa"], topology)
    methods = [
        one_best(graph, engine=engine, topology=topology) for graph in (graphs.lg, graphs.hlg)
    ]
    log_probs, lengths = peaky([3, 3, 0, 4, 5, 4, 0, 0, 3], [0], [3, 3])
    found, expected = (
        method.decode(EncodedBatch(log_probs, lengths, ["u", "v", "w"])) for method in methods
    )
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        if one.utterance_id != "w" or topology == "modified":  # else "ab" is as good as "ba"
            assert replace(one, score=None) == replace(other, score=None)
    assert found[0].words == ("ab", "ba") and methods[0].unit == "word"
    assert (found[2].words == ("aa",)) == (topology == "modified")  # no blank is needed between


@pytest.mark.k2
def test_both_engines_find_the_same() -> None:
    torch.manual_seed(5)
    log_probs = torch.randn(4, 30, TOKENIZER.vocab_size).log_softmax(-1)
    lengths = torch.tensor([30, 12, 1, 25])
    k2, native = (
        one_best(hlg(["ab", "ba", "b"]), engine=engine).decode(
            EncodedBatch(log_probs, lengths, list("abcd"))
        )
        for engine in ("k2", "native")
    )
    for one, other in zip(k2, native, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert (one.words, one.tokens) == (other.words, other.tokens)


def test_engines_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """``auto`` is native on a CPU, and k2 on a GPU where it is installed."""
    graph = hlg(["ab"])
    assert type(make_engine("auto", graph)).__name__ == "NativeEngine"
    assert type(make_engine("native", graph, device="cpu:0")).__name__ == "NativeEngine"
    asked = []
    monkeypatch.setattr("moe_asr.fsa.search_k2.K2Engine", lambda *given: asked.append(given))
    beams = SearchOptions(search_beam=3.0)
    monkeypatch.setattr("moe_asr.fsa.engines.importlib.util.find_spec", lambda name: object())
    make_engine("auto", graph, beams, "cuda:1", "modified")
    modified = NativeSearchOptions(search_beam=3.0, topology="modified")
    assert asked == [(graph, modified, "cuda:1", "modified")]
    make_engine("k2", graph, modified)
    assert asked[1:] == [(graph, modified, "cpu", "modified")]
    assert type(make_engine("native", graph, device="cuda")).__name__ == "NativeEngine"
    monkeypatch.setattr("moe_asr.fsa.engines.importlib.util.find_spec", lambda name: None)
    assert type(make_engine("auto", graph, device="cuda")).__name__ == "NativeEngine"
    with pytest.raises(ConfigError, match="unknown search engine 'kaldi', expected one of auto"):
        make_engine("kaldi", graph)
    for native in (
        make_engine("native", graph, beams, topology="modified"),
        make_engine("native", graph, modified),
    ):
        assert native.options == modified


def test_what_only_the_native_engine_does_is_not_asked_of_k2() -> None:
    graph = hlg(["ab"])
    for options, message in (
        ({"blank_skip": 0.9, "num_threads": 2}, "k2 engine has no blank_skip, num_threads"),
        ({"token_beam": 5.0}, "k2 engine has no token_beam"),
        ({"strict_max_active": True}, "k2 engine has no strict_max_active"),
    ):
        with pytest.raises(ConfigError, match=message):
            one_best(graph, engine="k2", **options)


def test_options_of_the_native_engine_reach_it() -> None:
    """Each shows in the scores: frames that count for nothing, and a token that is impossible."""
    log_probs, lengths = peaky([3, 0, 0, 0, 4], [3, 3, 4, 0, 0], confidence=0.9)
    plain, skipping, strict = (
        one_best(hlg(["ab", "b"]), **options).decode(EncodedBatch(log_probs, lengths, ["u", "v"]))
        for options in (
            {"num_threads": 2},
            {"blank_skip": 0.85},
            {"token_beam": 1.0, "strict_max_active": True, "max_active": 1, "min_active": 0},
        )
    )
    blank = float(torch.tensor(0.9).log())
    assert plain == one_best(hlg(["ab", "b"])).decode(EncodedBatch(log_probs, lengths, ["u", "v"]))
    assert [one.text for one in plain] == [one.text for one in skipping] == ["ab", "ab"]
    assert plain[0].score == pytest.approx(skipping[0].score + 2 * blank, abs=1e-5)
    assert plain[1].score == pytest.approx(skipping[1].score + blank, abs=1e-5)
    assert strict[0].score == plain[0].score  # the best path is the best in every frame
    impossible = log_probs.clone()
    impossible[1, 2] = torch.tensor([-9.0, -9.0, -9.0, -9.0, -9.0, 0.0])  # the separator
    found = one_best(hlg(["ab"]), token_beam=1.0).decode(
        EncodedBatch(impossible, lengths, ["u", "v"])
    )
    assert (
        found[0].text == "ab"
        and found[1].tokens
        != one_best(hlg(["ab"])).decode(EncodedBatch(impossible, lengths, ["u", "v"]))[1].tokens
    )


def test_options_are_known_without_numba() -> None:
    code = (
        "import sys; from moe_asr.cli.main import main\n"
        "try: main(['decode', '--help'])\nexcept SystemExit: pass\n"
        "assert 'numba' not in sys.modules\n"
        "from moe_asr.decode.registry import get_method\n"
        "get_method('one_best').options_type(blank_skip=0.9, num_threads=3)\n"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_method_that_is_made_has_nothing_left_to_compile() -> None:
    """Compiling is not counted among the seconds of the search."""
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.decode.test_methods import *\n"
        "method = one_best(hlg(['ab', 'ba']))\n"
        "from moe_asr.fsa import lattice_kernels as of_lattices\n"
        "from moe_asr.fsa.native import lattice_kernels, search_kernels\n"
        "kernels = [value for module in (of_lattices, lattice_kernels, search_kernels)\n"
        "           for value in vars(module).values() if hasattr(value, 'signatures')]\n"
        "def made(): return [len(kernel.signatures) for kernel in kernels]\n"
        "before = made()\n"
        "method.decode(EncodedBatch(*peaky([3, 3, 0, 4, 5, 4, 0, 0, 3], [0]), ['u', 'v']))\n"
        "assert sum(before) and made() == before, (before, made())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("engine", ENGINES)
def test_lattices_are_kept(engine: str, tmp_path: Path) -> None:
    method = one_best(hlg(["ab", "ba"]), engine=engine, search_beam=9.0)
    greedy = make_method("ctc_greedy", RESOURCES)
    log_probs, lengths = peaky([3, 3, 0, 4, 5, 4, 0, 0, 3], [4, 4], [0])
    log_probs[1, :, :4] = log_probs[1, :, 5:] = -float("inf")
    with keep_lattices([greedy, method], tmp_path, {"mode": "full"}) as files:
        found = method.decode(EncodedBatch(log_probs, lengths, ["u", "none", "v"]))
    method.decode(EncodedBatch(log_probs, lengths, ["u", "none", "v"]))  # kept no more
    assert files == [tmp_path / "lattices_one_best.safetensors"]
    archive = LatticeArchive(files[0])
    assert archive.names == ("u", "none", "v")
    assert archive.token_table == TOKENIZER.tokens
    assert archive.metadata["mode"] == "full" and archive.metadata["method"] == "one_best"
    assert archive.metadata["options"]["search_beam"] == 9.0
    assert from_dict(type(method.options), archive.metadata["options"]) == method.options
    assert archive.read("none").is_empty
    path = best_path(archive.read("u"))
    assert path is not None and path.tokens == found[0].tokens and path.score == found[0].score
    with pytest.raises(RuntimeError, match="stop"), keep_lattices([method], tmp_path / "other"):
        raise RuntimeError("stop")
    assert not (tmp_path / "other").exists() or not list((tmp_path / "other").iterdir())
    with pytest.raises(ConfigError, match="cannot be kept: ctc_greedy makes none"):
        with keep_lattices([greedy], tmp_path):
            pass
    with keep_lattices([greedy], None) as files:
        assert files == []
