"""Validation of graphs: builders, bounds, and sentences that tell."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_asr.fsa.accept import spellings_of
from moe_asr.fsa.arcs import Arcs, concatenate
from moe_asr.fsa.build import build_hlg, build_lg
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.lang import validate_graph, validate_sentences
from moe_asr.lang.directory import LangDir
from moe_asr.lang.validate import ValidationOptions, validate
from moe_asr.lang.validate_g import LoadedG, mean_deficit, words_of
from moe_asr.lang.validate_report import Findings
from moe_asr.lang.validate_text import TextSentence
from tests.lang import damage as d
from tests.lang.validated import Workplace, by_name


@pytest.mark.parametrize("topology", ["standard", "modified"])
@pytest.mark.parametrize("builder", [pytest.param("k2", marks=pytest.mark.k2), "openfst"])
def test_graphs_of_every_builder_and_topology_pass(
    built: dict[str, Workplace], tmp_path: Path, builder: str, topology: str
) -> None:
    place = built["phone"].copy(tmp_path / "place")
    place.make_graph("ngram", builder=builder, topology=topology)
    report = place.validate("ngram", num_sentences=60)
    assert report.ok, report.text()
    assert report.counts["skipped"] == 0
    (rebuilt,) = by_name(report, "LG rebuilt")
    assert rebuilt.note == f"det(L_disambig o G) by {builder}"


def test_a_graph_built_by_what_is_not_installed_is_not_built_again(
    built: dict[str, Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate_graph, "_LIBRARIES", {"openfst": "no_such_library"})
    report = built["bpe"].validate("ngram", rebuild=True)
    (rebuilt,) = by_name(report, "LG rebuilt")
    assert report.ok and rebuilt.status == "skipped" and "not installed" in rebuilt.note


@pytest.mark.parametrize(
    ("wanted", "status"), [(None, "skipped"), (False, "skipped"), (True, "ok")]
)
def test_large_graphs_are_built_again_if_that_is_asked_for(
    built: dict[str, Workplace], monkeypatch: pytest.MonkeyPatch, wanted: bool | None, status: str
) -> None:
    monkeypatch.setattr(validate_graph, "REBUILD_ARCS", 10)
    (rebuilt,) = by_name(built["bpe"].validate("ngram", rebuild=wanted), "LG rebuilt")
    assert rebuilt.status == status
    monkeypatch.setattr(validate_graph, "REBUILD_ARCS", 1000)
    (rebuilt,) = by_name(built["bpe"].validate("ngram", rebuild=wanted), "LG rebuilt")
    assert rebuilt.status == ("skipped" if wanted is False else "ok")


def test_graphs_of_another_directory_are_refused(built: dict[str, Workplace]) -> None:
    place = built["bpe"]
    report = validate(place.lang, [place / "other"], ValidationOptions(num_sentences=5))
    errors = report.errors("provenance")
    assert any("step 'G' was done with another words.txt" in error for error in errors)
    assert any("step 'graph' was done with another L_disambig" in error for error in errors)
    report = validate(place.lang, [place / "ngram", place / "other"], ValidationOptions())
    failed = {result.directory for result in report.results if result.status == "failed"}
    assert failed == {str(place / "other")}


def test_graph_tokens_stay_inside_the_outputs(built: dict[str, Workplace]) -> None:
    lang = LangDir.load(built["bpe"].lang)
    g = LoadedG(*Fst.load(built["bpe"] / "ngram/G.safetensors"))
    symbols = validate_graph.symbols_of(
        lang.tokens, lang.words, lang.L_disambig, words_of(g, lang.words)
    )
    graph = DecodingGraph.load(built["bpe"] / "ngram/LG.safetensors")
    for num_outputs, expected in ((36, 0), (30, int((graph.token >= 30).sum()))):
        found = Findings(100)
        validate_graph.check_graph(found, built["bpe"] / "ngram", "LG", symbols, g, num_outputs)
        assert found.num_errors == expected
    assert expected > 0 and "the model has 30 outputs" in found.kept[0].message


@pytest.mark.parametrize("topology", ["standard", "modified"])
@pytest.mark.parametrize("backoff", ["epsilon", "exact"])
def test_token_graphs_pass(place: Workplace, backoff: str, topology: str) -> None:
    place.make_tokens(backoff=backoff, topology=topology)
    report = place.validate("tokens")
    assert report.ok, report.text()
    (sampled,) = by_name(report, "sampled sentences")
    assert sampled.status == ("ok" if backoff == "epsilon" else "skipped")
    assert not by_name(report, "text sentences")
    assert by_name(report, "topology")[0].note == f"H o T, {topology} topology"


def test_token_graphs_of_another_tokenizer_are_refused(built: dict[str, Workplace]) -> None:
    report = validate(built["phone"].lang, [built["bpe"] / "tokens"])
    errors = report.errors("provenance")
    assert any("was done with another tokenizer/tokens.txt" in error for error in errors)
    assert not report.ok


def test_bounds_of_probabilities(place: Workplace) -> None:
    """The words outside the lexicon have a share, which the bound must allow for."""
    note = by_name(place.validate("ngram"), "G probabilities")[0].note
    deficit = float(note.split()[-4]) / 100
    assert 0.005 < deficit < 0.03
    assert place.validate("ngram", max_deficit=deficit + 1e-4).ok
    report = place.validate("ngram", max_deficit=deficit - 1e-4)
    assert report.failed == ["G probabilities"]
    assert (
        "% of the probability is for words that are not in G, expected at most"
        in report.errors()[0]
    )
    d.fst(d.score(0, 0.001))(place / "ngram/G.safetensors")
    place.forge()
    assert "G probabilities" not in place.validate("ngram", max_excess=0.0).failed
    d.fst(d.score(0, 1.0))(place / "ngram/G.safetensors")
    place.forge()
    assert "G probabilities" in place.validate("ngram", max_excess=0.0).failed
    assert "G probabilities" not in place.validate("ngram", max_excess=1.0).failed


def test_mean_deficit() -> None:
    """Of a word every other of whose successors is missing, and a state that is seldom reached."""
    arcs = [(0, 1, 1, 1, np.log(0.9)), (0, 2, 2, 2, np.log(0.1)), (1, 0, 1, 1, np.log(0.25))]
    fst = Fst.from_list(arcs, {1: float(np.log(0.25)), 2: float(np.log(0.2))})
    total = np.array([1.0, 0.5, 0.2])
    # a turn is 0, then 1 (of which one in two goes back) or 2: 1 + r turns with r = 0.45 (1 + r)
    turns = 1 / (1 - 0.45)
    expected = turns * (0.9 * 0.5 + 0.1 * 0.8) / (turns * 2)
    assert mean_deficit(fst, total) == pytest.approx(expected, abs=1e-4)
    # a backoff is passed: the state that it leads to is not one that a word led to
    backing = Fst.from_list([(0, 1, 9, 0, 0.0), (1, 1, 1, 1, np.log(0.5))], {1: float(np.log(0.5))})
    assert mean_deficit(backing, np.array([0.8, 1.0])) == pytest.approx(0.2 / 2, abs=1e-4)


def test_words_that_a_model_has_and_the_lexicon_has_not(place: Workplace) -> None:
    d.substitute(r"\tdown\b", "\tdawn")(place / "lm.arpa")
    d.substitute(r" down\b", " dawn")(place / "lm.arpa")
    assert place.make_g("ngram") and place.make_graph("ngram")
    report = place.validate("ngram", max_deficit=0.5)
    assert "% of the probability" in place.validate("ngram", max_deficit=0.03).errors()[0]
    (source,) = by_name(report, "G source")
    assert source.status == "warning" and "not in the lexicon" in source.findings[0].message
    assert "out of G: dawn" in source.findings[0].message
    (words,) = by_name(report, "G words")
    assert "1 of the lexicon's words are not in it: down" in words.findings[0].message
    (text,) = by_name(report, "text sentences")
    assert text.status == "ok" and text.note.endswith("lacks words of 1")
    assert report.ok, report.text()


def test_sentences_outside_the_grammar_may_not_be_accepted(place: Workplace) -> None:
    """LG and HLG of the n-gram in the place of the grammar's: they accept too much."""
    for name in ("LG", "HLG"):
        path = place / f"grammar/{name}.safetensors"
        about = DecodingGraph.load(path).metadata
        wide = DecodingGraph.load(place / f"ngram/{name}.safetensors")
        replace(wide, metadata=about).save(path)
    place.forge()
    report = place.validate("grammar", rebuild=False)
    said = report.errors("text sentences")
    assert any("LG accepts" in error and "L and G do not" in error for error in said)
    assert any("HLG accepts" in error for error in said)


def test_a_model_must_accept_all_sentences_of_its_words(built: dict[str, Workplace]) -> None:
    lang = LangDir.load(built["bpe"].lang)
    fst, _ = Fst.load(built["bpe"] / "grammar/G.safetensors")
    lg = build_lg(lang.L_disambig, fst, lang.tokens, lang.words, "openfst")
    spellings = spellings_of(lang.lexicon, lang.tokens, lang.words)
    words = tuple(lang.words[word] for word in ("turn", "the", "light"))
    tokens = sum((spellings[word][0][0] for word in words), ())
    spelled = [(TextSentence("text:7", words, "turn the light"), tokens)]
    known = np.ones(len(lang.words), bool)
    for source, errors in (("grammar", 0), ("arpa", 1)):
        found = Findings(10)
        g = LoadedG(fst, {"source": source})
        graphs = validate_sentences.Graphs(
            spellings, g, lg, build_hlg(lg, builder="openfst"), "standard"
        )
        validate_sentences.check_text(found, graphs, spelled, known, 0)
        assert found.num_errors == errors and found.num_warnings == 1
    assert found.kept[0].message.startswith("text:7: G has all of its words, but does not accept")


def test_frames_are_read_as_ctc_reads_them() -> None:
    readings = validate_sentences._readings
    assert list(readings((0, 1, 1, 0, 2, 1), "standard")) == [(1, 2, 1)]
    assert list(readings((1, 0, 1), "standard")) == [(1, 1)]
    assert sorted(readings((1, 1, 0, 1), "modified")) == [(1, 1), (1, 1, 1)]
    assert list(readings((), "standard")) == [()] == list(readings((0,), "modified"))


def test_a_topology_that_is_said_to_be_another_is_found_by_frames(place: Workplace) -> None:
    """That equal tokens need a blank between them shows in frames, however well both graphs fit."""
    about = DecodingGraph.load(place / "ngram/HLG.safetensors")
    graph = DecodingGraph.load(place / "modified/HLG.safetensors")
    said = replace(graph, metadata={**graph.metadata, "topology": "standard"})
    lg = DecodingGraph.load(place / "ngram/LG.safetensors")
    lang = LangDir.load(place.lang)
    g = LoadedG(*Fst.load(place / "ngram/G.safetensors"))
    spellings = spellings_of(lang.lexicon, lang.tokens, lang.words)
    for hlg, good in ((about, True), (said, False)):
        found = Findings(1000)
        graphs = validate_sentences.Graphs(spellings, g, lg, hlg, "standard")
        validate_sentences.check_sampled(found, graphs, 100, 0)
        assert (found.num_errors == 0) == good
        # "off" has two f in a row, other words meet with the same token
        wrong = [finding.message for finding in found.kept]
        assert all(" frames: " in message for message in wrong)
        assert good or any("off" in message for message in wrong)


def test_tokens_too_many_may_not_be_accepted(place: Workplace) -> None:
    """Every state of LG has loops of the tokens that lead to it: it takes what a sentence says, and more."""
    path = place / "ngram/LG.safetensors"
    lg = DecodingGraph.load(path)
    arcs = lg.arcs()
    inner = arcs.take(np.flatnonzero(arcs.label >= 0))
    empty = np.zeros(0, np.int32)
    loops = Arcs(inner.dst, inner.dst, inner.label, 0 * inner.score, 0 * inner.row_splits, empty)
    both = concatenate([arcs, loops.best_of_equals()]).sort()
    tables = lg.token_table, lg.word_table, lg.metadata
    DecodingGraph.from_arcs(both, *tables).save(path)
    place.forge()
    report = place.validate("ngram", rebuild=False, text=None)
    said = report.errors("sampled sentences")
    assert said and all("with other tokens: LG accepts" in error for error in said)


def test_rare_pronunciations_are_tried(built: dict[str, Workplace], tmp_path: Path) -> None:
    """One pronunciation of "a" has a wrong score in both graphs; the better one would hide it."""
    place = built["phone"].copy(tmp_path / "place")
    lang = LangDir.load(place.lang)
    other = replace(lang.L_disambig, score=lang.L_disambig.score.copy())
    (arc,) = np.flatnonzero(lang.L_disambig.ilabel == lang.tokens["ey"])
    other.score[arc] -= 0.5
    fst, _ = Fst.load(place / "ngram/G.safetensors")
    for name in ("LG", "HLG"):
        path = place / f"ngram/{name}.safetensors"
        graph = build_lg(other, fst, lang.tokens, lang.words, "openfst")
        graph = graph if name == "LG" else build_hlg(graph, builder="openfst")
        replace(graph, metadata=DecodingGraph.load(path).metadata).save(path)
    place.forge()
    report = place.validate("ngram", rebuild=False, text=None)
    assert report.failed == ["sampled sentences"]
    assert all(re.search(r"\bey\b", error) for error in report.errors())


def test_samples_depend_on_the_seed_only(built: dict[str, Workplace]) -> None:
    place = built["bpe"]
    notes = [
        by_name(place.validate("ngram", seed=seed), "sampled sentences")[0].note
        for seed in (0, 0, 1, 2, 3)
    ]
    assert notes[0] == notes[1] and len(set(notes)) > 1
