"""Validation of a language directory and its graphs: every check, in order (docs/validation.md)."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_asr.errors import ConfigError
from moe_asr.files import PathLike
from moe_asr.fsa.accept import Spelling, spellings_of
from moe_asr.fsa.fst import Fst
from moe_asr.lang import validate_files as files
from moe_asr.lang import validate_g as grammar
from moe_asr.lang import validate_graph as graphs
from moe_asr.lang import validate_provenance as sources
from moe_asr.lang import validate_sentences as sentences
from moe_asr.lang import validate_text as text
from moe_asr.lang.directory import L_DISAMBIG_FILE, L_FILE, disambig_table
from moe_asr.lang.make_graph import STEP as GRAPH_STEP
from moe_asr.lang.make_graph import TOKEN_STEP
from moe_asr.lang.validate_report import CheckResult, Outcome, Report, Runner
from moe_asr.lang.validate_text import TextSentence
from moe_asr.text.lexicon import Lexicon
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class ValidationOptions:
    """What is checked beside the files themselves, and the bounds.

    Attributes:
        text: a text of the kind that the LM was trained on, one sentence a line; None: no such checks.
        model, tokenizer, num_outputs: at most one: a model's directory, a tokenizer's, or a number, that the
            tokens must fit.
        num_sentences: how many are sampled from each G, and from the text.
        seed: of the sampling.
        max_oov_rate: highest share of the text's words that are not in the lexicon, 0 to 1.
        max_excess: how far above 1 the probabilities after a history of an n-gram G may sum.
        max_deficit: how far below 1 on average, for the words that the LM has and the lexicon has not.
        rebuild: whether LG is built again and compared; None: where G is small (`graphs.REBUILD_ARCS`).
        allow_missing_inputs: only warn of inputs that are not there any more, as on another machine.
        max_findings: how many errors of a check are kept.

    Raises:
        ConfigError: if a value is out of range.
    """

    text: PathLike | None = None
    model: PathLike | None = None
    tokenizer: PathLike | None = None
    num_outputs: int | None = None
    num_sentences: int = 1000
    seed: int = 0
    max_oov_rate: float = 0.05
    max_excess: float = 1e-3
    max_deficit: float = 0.1
    rebuild: bool | None = None
    allow_missing_inputs: bool = False
    max_findings: int = 10

    def __post_init__(self) -> None:
        given = [name for name in ("model", "tokenizer", "num_outputs") if getattr(self, name)]
        if len(given) > 1:
            raise ConfigError(f"{given[0]} and {given[1]} cannot be given together")
        for name in ("max_oov_rate", "max_deficit"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} must be 0 to 1, found {getattr(self, name)}")
        if not self.max_excess >= 0.0:
            raise ConfigError(f"max_excess must not be negative, found {self.max_excess}")
        for name in ("num_sentences", "max_findings"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, found {getattr(self, name)}")


@dataclass(frozen=True)
class _Lang:
    """What the checks of a language directory leave for others."""

    path: Path
    tokenizer: Outcome[Tokenizer]
    tokens: Outcome[SymbolTable]
    num_outputs: Outcome[int]
    lexicon: Outcome[Lexicon]
    words: Outcome[SymbolTable]
    l_disambig: Outcome[Fst]
    spellings: Outcome[dict[int, list[Spelling]]]


def validate(
    lang: PathLike,
    graph_dirs: Sequence[PathLike] = (),
    options: ValidationOptions | None = None,
    on_result: Callable[[CheckResult], None] | None = None,
) -> Report:
    """Makes all checks of a language directory, and of graph directories made from it.

    What is wrong with them is in the report, never an exception. A check that needs what an earlier one found
    unusable is skipped, and said to be.

    Args:
        lang: a directory of `moe_asr.lang.prepare.prepare_lang`.
        graph_dirs: directories of G, LG and HLG, or of G, T and HT (of the same tokens).
        options: None: the defaults.
        on_result: is told each result when it is there.

    Raises:
        ConfigError: if a directory, or a file that the options name, is not there.
    """
    options = options or ValidationOptions()
    lang = Path(lang)
    for path in (lang, *graph_dirs, options.model, options.tokenizer):
        if path is not None and not Path(path).is_dir():
            raise ConfigError(f"{path}: no such directory")
    if options.text is not None and not Path(options.text).is_file():
        raise ConfigError(f"{options.text}: no such file")
    report = Report()
    run = Runner(report, options.max_findings, on_result)
    checked = _validate_lang(run, lang, options)
    spelled = _validate_text(run, checked, options)
    for graph in map(Path, graph_dirs):
        run.directory = str(graph)
        if sources.is_token_graph(graph):
            _validate_token_graph(run, graph, checked, options)
        else:
            _validate_graph(run, graph, checked, spelled, options)
    return report


def _validate_lang(run: Runner, path: Path, options: ValidationOptions) -> _Lang:
    run.directory = str(path)
    run("files", files.check_files, path)
    probabilities = run(
        "provenance", sources.check_lang_provenance, path, options.allow_missing_inputs
    )
    tokenizer = run("tokenizer", files.check_tokenizer, path)
    tokens = run("tokens", files.check_tokens, path, tokenizer)
    other = options.model if options.model is not None else options.tokenizer
    is_model = options.model is not None
    num_outputs = run(
        "outputs", sources.check_units, path, tokenizer, other, is_model, options.num_outputs
    )
    lexicon = run("lexicon", files.check_lexicon_file, path, probabilities, tokens)
    run("lexicon source", files.check_lexicon_source, path, lexicon, probabilities, tokenizer)
    words = run("words", files.check_words, path, lexicon)
    highest = run("lexicon_disambig", files.check_lexicon_disambig, path, lexicon, probabilities)
    run("tokens_disambig", files.check_tokens_disambig, path, tokens, highest)
    run("L", files.check_l, path, lexicon, tokens, words, L_FILE)
    l_disambig = run("L_disambig", files.check_l, path, lexicon, tokens, words, L_DISAMBIG_FILE)
    run("determinizable", files.check_determinizable, l_disambig, tokens, words)
    run("load", files.check_loads, path)
    spellings = run.derive(spellings_of, lexicon, tokens, words)
    return _Lang(path, tokenizer, tokens, num_outputs, lexicon, words, l_disambig, spellings)


def _validate_text(
    run: Runner, lang: _Lang, options: ValidationOptions
) -> Outcome[list[tuple[TextSentence, tuple[int, ...]]]] | None:
    """The text's sentences, spelled; None if there is no text."""
    if options.text is None:
        run("text", text.skip_text)
        return None
    path = Path(options.text)
    run.directory = str(path)
    rng = random.Random(options.seed)
    statistics = run(
        "text", text.read_text, path, lang.lexicon, lang.words, options.num_sentences, rng
    )
    run("OOV rate", text.check_oov, path, statistics, lang.lexicon, options.max_oov_rate)
    return run(
        "spelling", text.check_spelling, lang.path, statistics, lang.tokenizer, lang.spellings
    )


def _validate_graph(
    run: Runner,
    path: Path,
    lang: _Lang,
    spelled: Outcome[list[tuple[TextSentence, tuple[int, ...]]]] | None,
    options: ValidationOptions,
) -> None:
    allow, bounds = options.allow_missing_inputs, (options.max_excess, options.max_deficit)
    l_disambig, sampling = lang.l_disambig, (options.num_sentences, options.seed)
    run("provenance", sources.check_graph_provenance, path, lang.path, allow)
    g = run("G", grammar.check_g, path, lang.words)
    g_words = run("G words", grammar.check_g_words, path, g, l_disambig, lang.words)
    run("G probabilities", grammar.check_g_probabilities, path, g, *bounds)
    run("G source", grammar.check_g_source, path, g, lang.words)
    symbols = run.derive(graphs.symbols_of, lang.tokens, lang.words, l_disambig, g_words)
    lg, hlg = (
        run(kind, graphs.check_graph, path, kind, symbols, g, lang.num_outputs)
        for kind in ("LG", "HLG")
    )
    run("LG rebuilt", graphs.check_rebuilt, path, lang.path, l_disambig, g, lg, options.rebuild)
    topology = run("topology", graphs.check_topology, path, GRAPH_STEP, lg, hlg)
    built = run.derive(sentences.Graphs, lang.spellings, g, lg, hlg, topology)
    run("sampled sentences", sentences.check_sampled, built, *sampling)
    if spelled is not None:
        run("text sentences", sentences.check_text, built, spelled, g_words, options.seed)


def _validate_token_graph(run: Runner, path: Path, lang: _Lang, options: ValidationOptions) -> None:
    allow, bounds = options.allow_missing_inputs, (options.max_excess, options.max_deficit)
    run("provenance", sources.check_token_graph_provenance, path, lang.path, allow)
    labels = run.derive(disambig_table, lang.tokens, 0)  # with #0
    g = run("G", grammar.check_g, path, labels)
    run("G probabilities", grammar.check_g_probabilities, path, g, *bounds)
    run("G source", grammar.check_token_g_source, path, g, labels)
    spoken = run.derive(grammar.words_of, g, lang.tokens)
    symbols = run.derive(graphs.Symbols, lang.tokens, lang.tokens, spoken, spoken)
    t, ht = (
        run(kind, graphs.check_graph, path, kind, symbols, g, lang.num_outputs)
        for kind in ("T", "HT")
    )
    run("T rebuilt", graphs.check_token_graph_rebuilt, path, lang.tokens, g, t)
    topology = run("topology", graphs.check_topology, path, TOKEN_STEP, t, ht)
    built = run.derive(sentences.token_graphs, lang.tokens, g, t, ht, topology)
    run("sampled sentences", sentences.check_sampled, built, options.num_sentences, options.seed)
