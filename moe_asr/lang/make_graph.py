"""The steps that make decoding graphs: LG and HLG of a language directory and G, T and HT of tokens."""

from collections.abc import Callable
from pathlib import Path

from moe_asr.errors import GraphError, StaleError
from moe_asr.files import PathLike
from moe_asr.fsa.build_files import GraphJob, build_graph_files, default_memory_limit
from moe_asr.fsa.builder import AUTO
from moe_asr.fsa.check import check_grammar, words_missing
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.memory import format_memory
from moe_asr.fsa.steps import format_steps
from moe_asr.lang import provenance
from moe_asr.lang.directory import L_DISAMBIG_FILE, TOKENS, WORDS
from moe_asr.lang.directory import STEP as LANG_STEP
from moe_asr.lang.make_g import G_FILE
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import TOKENS_FILE, load_tokenizer

STEP, TOKEN_STEP = "graph", "token_graph"


def make_graph(
    graph: PathLike,
    lang: PathLike,
    *,
    topology: str = "standard",
    builder: str = AUTO,
    memory_limit: int | None = None,
    require_all_words: bool = False,
    command: str | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Makes ``LG.safetensors`` and ``HLG.safetensors`` beside ``G.safetensors``, unless up to date.

    Args:
        graph: the directory of G, where the graphs go.
        lang: the language directory whose words G has.
        topology: one of `TOPOLOGIES`.
        builder: one of `builder_names`.
        memory_limit: bytes; None: a share of what is available (`default_memory_limit`).
        require_all_words: refuse a G that lacks a word of the lexicon, which is else only reported.
        command, report: see `provenance.make`; ``report`` also gets the table of the steps.

    Returns:
        Whether they were made.

    Raises:
        StaleError: if the language directory or G is stale, or G was made with the words of another.
        GraphError: if the graphs cannot be built (`build_lg`), or not within the limit (naming the step).
    """
    graph, lang = Path(graph), Path(lang)
    provenance.verify(lang, LANG_STEP)
    _check_words(graph / G_FILE, lang / WORDS)
    if require_all_words:  # of graphs that are there already, too
        provenance.verify_made(graph / G_FILE)
        missing = _describe_missing(graph, lang)
        if missing:
            raise GraphError(missing)
    job = GraphJob(
        g=graph / G_FILE,
        tokens=lang / TOKENS,
        l_disambig=lang / L_DISAMBIG_FILE,
        words=lang / WORDS,
        builder=builder,
        topology=topology,
    )

    def build(folder: Path) -> None:
        missing = _describe_missing(graph, lang)
        if missing:
            report(f"note: {missing}")
        job.metadata["g"] = Fst.load(graph / G_FILE)[1]
        _build(job, folder, memory_limit, report)

    return provenance.make(
        graph,
        STEP,
        inputs={
            "L_disambig": lang / L_DISAMBIG_FILE,
            "tokens": lang / TOKENS,
            "words": lang / WORDS,
            "G": graph / G_FILE,
        },
        outputs=job.outputs,
        settings={"topology": topology, "builder": builder},
        build=build,
        command=command,
        report=report,
    )


def make_token_graph(
    graph: PathLike,
    tokenizer: PathLike,
    arpa: PathLike,
    *,
    backoff: str = "epsilon",
    topology: str = "standard",
    builder: str = AUTO,
    memory_limit: int | None = None,
    command: str | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Makes ``G``, ``T`` and ``HT.safetensors`` of an n-gram model of tokens, unless up to date.

    Args:
        graph: the directory where they go.
        tokenizer: a tokenizer's directory, or a model's.
        arpa: an n-gram model whose words are its tokens; others are left out.
        backoff: one of `BACKOFFS`, see `token_graph`.
        topology, builder, memory_limit, command, report: see `make_graph`.

    Returns:
        Whether they were made.

    Raises:
        StaleError: if the tokenizer or the model is stale.
        TextError: with file and line, if the model or the tokenizer is malformed, or they have no token in
            common.
        GraphError: if the graphs cannot be built within the memory limit.
    """
    tokens_file = Path(tokenizer) / TOKENS_FILE
    outputs = GraphJob(G_FILE, tokens_file).outputs

    def build(folder: Path) -> None:
        from moe_asr.fsa.ngram_fst import token_ngram_fst
        from moe_asr.lm.arpa import read_arpa

        model = read_arpa(arpa)
        g = token_ngram_fst(model, load_tokenizer(tokenizer).tokens)
        metadata = {"kind": "G", "source": "arpa", "sha256": provenance.hash_path(arpa)}
        g.save(folder / G_FILE, metadata)
        job = GraphJob(
            g=folder / G_FILE,
            tokens=tokens_file,
            backoff=backoff,
            builder=builder,
            topology=topology,
            metadata={"g": {**metadata, "file": Path(arpa).name, "order": model.order}},
        )
        _build(job, folder, memory_limit, report)

    return provenance.make(
        graph,
        TOKEN_STEP,
        inputs={"tokens": tokens_file, "arpa": arpa},
        outputs=[G_FILE, *outputs],
        settings={"backoff": backoff, "topology": topology, "builder": builder},
        build=build,
        command=command,
        report=report,
    )


def _build(
    job: GraphJob, folder: Path, memory_limit: int | None, report: Callable[[str], None]
) -> None:
    limit = memory_limit if memory_limit is not None else default_memory_limit()
    report(f"memory limit: {format_memory(limit)}")
    report(format_steps(build_graph_files(job, folder, limit)))


def _describe_missing(graph: Path, lang: Path) -> str:
    """Says which words of the lexicon G lacks, if any."""
    g, l_disambig = Fst.load(graph / G_FILE)[0], Fst.load(lang / L_DISAMBIG_FILE)[0]
    words = SymbolTable.read(lang / WORDS)
    try:
        check_grammar(g, words)
        missing = words_missing(l_disambig, g, words)
    except GraphError as error:
        raise GraphError(f"{graph / G_FILE}: {error}") from error
    if not missing:
        return ""
    more = ", ..." if len(missing) > 5 else ""
    return f"{len(missing)} words of {lang / WORDS} are not in G: {', '.join(missing[:5])}{more}"


def _check_words(g: Path, words: Path) -> None:
    """Raises `StaleError` if it is on record that G was made with another ``words.txt``."""
    made_with = provenance.inputs_of(g).get("words")
    if made_with is None or not made_with.exists():  # if it is gone, G is stale
        return
    if provenance.hash_path(made_with) != provenance.hash_path(words):
        raise StaleError(f"{g}: made with the words of {made_with}, which are not those of {words}")
