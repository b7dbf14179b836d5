"""Language models, phrases and Bayes risk in decoding methods; against n-best lists that have everything."""

import functools
import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import kaldialign
import pytest

from moe_asr.cli.main import main
from moe_asr.decode.first_pass import with_bonus
from moe_asr.decode.phrases import contexts_of, phrase_contexts, read_utterance_phrases
from moe_asr.decode.registry import DecodingResources, make_method
from moe_asr.errors import ConfigError, GraphError, MoeAsrError, TextError
from moe_asr.evaluate.ctm import read_ctm
from moe_asr.evaluate.wer import read_transcripts
from moe_asr.fsa.context import Phrase
from moe_asr.fsa.context_lattice import apply_context, remove_context
from moe_asr.fsa.lattice_file import LatticeArchive, write_lattices
from moe_asr.fsa.mbr import minimum_bayes_risk
from moe_asr.fsa.nbest import nbest
from moe_asr.fsa.time_correction import TimeCorrection
from moe_asr.lm.arpa import read_arpa
from moe_asr.lm.score import NgramScorer
from tests.decode.conftest import Workplace
from tests.decode.test_second_pass_methods import WIDE, batch, graph, model, resources

__all__ = ["batch", "graph", "model", "resources"]  # fixtures
ARPA = """\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-99 <s> -0.2
-1.2 </s>
-0.9 one -0.1
-0.4 two -0.3
-1.5 no
-2.0 wet

\\2-grams:
-0.1 <s> wet
-1.4 two two
-0.3 one </s>

\\end\\
"""


@pytest.fixture
def with_lm(resources: DecodingResources, tmp_path: Path) -> DecodingResources:
    (tmp_path / "lm.arpa").write_text(ARPA)
    return replace(resources, lm=read_arpa(tmp_path / "lm.arpa"))


@pytest.mark.parametrize("takes_out", [False, True])
def test_rescoring_with_a_language_model(with_lm, batch, takes_out: bool) -> None:
    """All word sequences that the lattice has, scored one by one."""
    scale, graph_scale = 1.7, 0.5
    given = replace(with_lm, graph_lm=with_lm.lm if takes_out else None)
    options = {"search_beam": 50.0, "output_beam": 30.0, "graph_scale": graph_scale}
    methods = [
        make_method(name, given, {**options, "lm_scale": scale, **more})
        for name, more in (
            ("nbest_lm_rescoring", {"n": 100_000}),
            ("lattice_lm_rescoring", {"lattice_beam": 60.0}),
        )
    ]
    scorer = NgramScorer(with_lm.lm, with_lm.graph.word_table)
    changed = 0
    for lattice, *found in zip(
        methods[0].first_pass.lattices(batch), *(m.decode(batch) for m in methods), strict=True
    ):
        paths = nbest(lattice, 100_000)
        assert 1 < len(paths) < 100_000
        lm = scorer.score([path.words for path in paths])
        factor = scale - graph_scale if takes_out else scale
        totals = [path.total + factor * one for path, one in zip(paths, lm, strict=True)]
        best = max(range(len(paths)), key=totals.__getitem__)
        words = tuple(with_lm.graph.word_symbols(paths[best].words))
        for hypothesis in found:
            assert hypothesis.words == words
            assert hypothesis.score == pytest.approx(totals[best], abs=1e-3)
        changed += best != 0
    assert changed


def test_a_lattice_that_grows_too_large_names_its_utterance(with_lm, batch) -> None:
    method = make_method("lattice_lm_rescoring", with_lm, WIDE)
    method._rescore = functools.partial(method._rescore, max_arcs=1)
    with pytest.raises(GraphError, match="utterance a: rescoring: .* more than 1 arcs"):
        method.decode(batch)


def test_language_models_that_do_not_fit(resources, with_lm, workplace, graph, tmp_path) -> None:
    for name in ("nbest_lm_rescoring", "lattice_lm_rescoring"):
        with pytest.raises(ConfigError, match=f"{name} rescores with a language model: none"):
            make_method(name, resources)
    graph.save(tmp_path / "LG.safetensors")
    command = ["decode", "--model", str(workplace.model_dir), "--output", str(tmp_path / "out")]
    command += ["--manifest", str(workplace.manifest), "--graph", str(tmp_path / "LG.safetensors")]
    command += ["--method", "nbest_lm_rescoring", "--lm", str(tmp_path / "lm.arpa")]
    assert main(command) == 2  # the graph does not say what it was made of
    assert main([*command, "--graph-lm", str(tmp_path / "lm.arpa")]) == 2
    assert main([*command, "--graph-lm", "none"]) == 0


def test_bayes_risk(resources, batch) -> None:
    options = {"acoustic_scale": 0.3, "lm_scale": 0.6, "n": 20}
    method = make_method("mbr", resources, {**WIDE, **options})
    lattices = method.first_pass.lattices(batch)
    for hypothesis, lattice in zip(method.decode(batch), lattices, strict=True):
        found = minimum_bayes_risk(lattice, 20, acoustic_scale=0.3, graph_scale=0.6)
        assert hypothesis.words == tuple(resources.graph.word_symbols(found.words))
        assert hypothesis.score == pytest.approx(-found.risk, abs=1e-5) and found.risk > 0
        assert hypothesis.confidences == pytest.approx(found.word_confidences, abs=1e-5)
        assert len(hypothesis.confidences) == len(hypothesis.words)
    with pytest.raises(ConfigError, match="acoustic_scale must be finite"):
        make_method("mbr", resources, {"acoustic_scale": -1.0})


BOOSTS = {"a": [Phrase("wet", 25.0)], "b": [Phrase("one one", 6.0), Phrase("no", -30.0)]}


def boost_of(name: str, words: Sequence[str]) -> float:
    """What the phrases of an utterance bring, counted one by one."""
    boosts = {phrase.text: phrase.boost for phrase in BOOSTS.get(name, ())}
    said = [*words, *(" ".join(pair) for pair in zip(words, words[1:], strict=False))]
    return sum(boosts.get(phrase, 0.0) for phrase in said)


@pytest.fixture
def listening(resources: DecodingResources, workplace: Workplace) -> DecodingResources:
    contexts = phrase_contexts(resources.graph, workplace.loaded.tokenizer, [], BOOSTS)
    return replace(resources, context_of=contexts)


def test_phrases_of_each_utterance(resources, listening, batch, tmp_path) -> None:
    plain = make_method("one_best", resources, WIDE)
    method = make_method("one_best", listening, WIDE)
    found, before = method.decode(batch), plain.decode(batch)
    assert "wet" in found[0].words and "no" not in found[1].words
    assert found[2] == before[2]  # which has no phrases
    tables = resources.graph.token_table, resources.graph.word_table
    lattices = dict(zip("abc", plain.first_pass.lattices(batch), strict=True))
    write_lattices(tmp_path / "lattices.safetensors", lattices, *tables)
    with LatticeArchive(tmp_path / "lattices.safetensors") as archive:
        later = replace(listening, archive=archive)
        for one, other in zip(
            make_method("one_best", later, WIDE).decode(batch), found, strict=True
        ):
            assert one.words == other.words and one.score == pytest.approx(other.score, abs=1e-3)


@pytest.mark.parametrize("name", ["lattice_attention_rescoring", "nbest_lm_rescoring"])
def test_boosts_are_not_scaled_with_the_graph(listening, with_lm, batch, name) -> None:
    given = replace(listening, lm=with_lm.lm)
    method = make_method(name, given, {**WIDE, "lm_scale": 3.0})
    lattices = method.first_pass.lattices(batch)
    for candidates, lattice in zip(method.candidates(batch), lattices, strict=True):
        paths = nbest(lattice, method.options.n)
        for i, (words, path) in enumerate(zip(candidates.words, paths, strict=True)):
            boost = boost_of(candidates.utterance_id, words)
            assert candidates.parts["boost"][i] == pytest.approx(boost, abs=1e-4)
            assert candidates.parts["graph"][i] == pytest.approx(path.graph - boost, abs=1e-4)


@pytest.mark.parametrize("lm_scale", [0.0, 0.3, 1.0, 3.0])
def test_boosts_are_not_scaled_where_the_lattice_is_read(listening, batch, lm_scale) -> None:
    options = {"search_beam": 50.0, "output_beam": 30.0, "lm_scale": lm_scale, "length_bonus": 0.5}
    listening = replace(listening, references={"a": "one wet", "b": "no one one", "c": "two"})
    one_best, listed, oracle = (
        make_method(name, listening, options) for name in ("one_best", "nbest", "nbest_oracle")
    )
    boosted = 0
    for best, found, told, lattice in zip(
        one_best.decode(batch), listed.decode(batch), oracle.decode(batch),
        one_best.first_pass.lattices(batch), strict=True,
    ):  # fmt: skip
        name = best.utterance_id
        context = listening.context_of(name)
        plain = remove_context(lattice, context) if context else lattice
        scores = {}
        for path in nbest(with_bonus(plain, 0.5, lm_scale), 100_000):
            words = tuple(listening.graph.word_symbols(path.words))
            scores[words] = path.score + boost_of(name, words)
        expected = sorted(scores.values(), reverse=True)
        assert best.words == max(scores, key=scores.__getitem__)
        assert best.score == pytest.approx(expected[0], abs=1e-3)
        assert [one.score for one in found.alternatives] == pytest.approx(expected[:10], abs=1e-3)
        for one in found.alternatives:
            parts = one.parts
            assert parts["boost"] == pytest.approx(boost_of(name, one.words))
            total = parts["acoustic"] + lm_scale * parts["graph"] + parts["boost"]
            assert one.score == pytest.approx(total + 0.5 * parts["length"], abs=1e-3)
        reference = listening.references[name].split()
        errors = [
            kaldialign.edit_distance(reference, list(one.words))["total"]
            for one in found.alternatives
        ]
        assert -told.score == min(errors)
        boosted += len({one.parts["boost"] for one in found.alternatives}) > 1
    assert boosted


def test_bayes_risk_scales_boosts_with_the_acoustic_score(listening, batch) -> None:
    """As if the lattice had been searched with another graph_scale, and all of it made flatter."""
    options = {"acoustic_scale": 0.3, "lm_scale": 0.6, "n": 20}
    method = make_method("mbr", listening, {**WIDE, **options})
    lattices = method.first_pass.lattices(batch)
    for hypothesis, lattice in zip(method.decode(batch), lattices, strict=True):
        context = listening.context_of(hypothesis.utterance_id)
        if context is not None:
            lattice = with_bonus(remove_context(lattice, context), 0.0, 0.6 / 0.3)
            lattice = with_bonus(apply_context(lattice, context), 0.0, 0.3 / 0.6)
        found = minimum_bayes_risk(lattice, 20, acoustic_scale=0.3, graph_scale=0.6)
        assert hypothesis.words == tuple(listening.graph.word_symbols(found.words))
        assert hypothesis.score == pytest.approx(-found.risk, abs=1e-4)


def test_files_of_phrases(tmp_path: Path, graph, workplace) -> None:
    tokenizer = workplace.loaded.tokenizer
    single, common = tmp_path / "single.tsv", tmp_path / "common.txt"
    single.write_text("a\tone two\t2.5\n\na\tno\nb\twet\t-1\n")
    common.write_text("two\n")
    found = read_utterance_phrases(single)
    assert [(p.text, p.boost) for p in found["a"]] == [("one two", 2.5), ("no", 3.0)]
    context_of = contexts_of(common, single, graph, tokenizer)
    assert context_of is not None and context_of("a") is context_of("a")
    assert {p.text for p in context_of("a").phrases} == {"one two", "no", "two"}
    assert [p.text for p in context_of("elsewhere").phrases] == ["two"]
    assert contexts_of(None, single, graph, tokenizer, ["a", "b", "c"]) is not None
    with pytest.raises(TextError, match=r"single.tsv: phrases of 1 utterance.* not decoded: b$"):
        contexts_of(None, single, graph, tokenizer, ["a", "c"])
    only_single = contexts_of(None, single, graph, tokenizer)
    assert only_single is not None and only_single("elsewhere") is None
    assert contexts_of(None, None, None, tokenizer) is None
    with pytest.raises(ConfigError, match="none was given"):
        contexts_of(common, None, None, tokenizer)
    for line, message in (
        ("a", "expected 'id<TAB>phrase'"),
        ("a\tb\tc\td", "expected 'id<TAB>phrase'"),
        ("a\tone\tmuch", "expected a number as boost, found 'much'"),
        ("a\t \t1", "a phrase without a word"),
        ("a\tone\tnan", "the boost is nan"),
        ("a\tpsittacosis", "psittacosis"),
    ):
        single.write_text(f"b\tone\n{line}\n")
        with pytest.raises((TextError, MoeAsrError), match=f"single.tsv:2.*{message}"):
            contexts_of(None, single, graph, tokenizer)


def test_words_with_times(workplace, graph, with_lm, tmp_path: Path) -> None:
    graph.save(tmp_path / "LG.safetensors")
    command = ["decode", "--model", str(workplace.model_dir), "--manifest", str(workplace.manifest)]
    command += ["--graph", str(tmp_path / "LG.safetensors"), "--output", str(tmp_path / "out")]
    command += ["--lm", str(tmp_path / "lm.arpa"), "--graph-lm", "none", "--ctm"]
    methods = ["one_best", "nbest", "lattice_attention_rescoring", "nbest_lm_rescoring"]
    methods += ["lattice_lm_rescoring"]
    for method in (*methods, "mbr", "ctc_greedy"):
        command += ["--method", method]
    TimeCorrection(start_offset_seconds=-0.01).save(tmp_path / "correction.json")
    assert main(command) == 0
    folder = tmp_path / "out" / "full"
    plain = read_ctm(folder / "hyp_one_best.ctm")
    for method in methods:
        timed = read_ctm(folder / f"hyp_{method}.ctm")
        for name, text in read_transcripts(folder / f"hyp_{method}.txt").items():
            words = timed.get(name, [])
            assert " ".join(word.word for word in words) == text
            starts = [word.start_seconds for word in words]
            assert starts == sorted(starts)
    assert sum(map(len, plain.values())) > 3
    assert not (folder / "hyp_mbr.ctm").exists() and not (folder / "hyp_ctc_greedy.ctm").exists()
    assert main([*command, "--time-correction", str(tmp_path / "correction.json")]) == 0
    assert read_ctm(folder / "hyp_one_best.ctm") != plain
    no_graph = ["decode", *command[1:5], "--output", str(tmp_path / "out"), "--ctm"]
    assert main(no_graph) == 2


def test_lists_of_many_utterances_do_not_pile_up(graph, workplace, monkeypatch) -> None:
    monkeypatch.setattr("moe_asr.decode.phrases.MAX_BYTES", 2000)
    single = {str(number): [Phrase("one two", 1.0 + number)] for number in range(40)}
    context_of = phrase_contexts(graph, workplace.loaded.tokenizer, [], single)
    first = context_of("0")
    assert first is not None and context_of("0") is first and 0 < first.num_bytes < 1000
    known = [weakref.ref(context_of(name)) for name in single]
    gc.collect()
    kept = [one for one in known if one() is not None]
    assert 2 <= len(kept) < 40 and known[-1] in kept
    again = context_of("3")
    assert again is not None and again.phrases == tuple(single["3"])
