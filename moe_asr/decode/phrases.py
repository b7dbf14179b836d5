"""The phrases that each utterance is searched with."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from moe_asr.errors import ConfigError, TextError
from moe_asr.fsa.context import ContextGraph, Phrase, compile_context, read_phrases
from moe_asr.fsa.context_phrases import phrase_of_fields
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.text.lines import read_lines
from moe_asr.text.tokenizer import Tokenizer

ContextOf = Callable[[str], ContextGraph | None]
MAX_BYTES = (
    1 << 28
)  # of compiled lists that are kept; what was not used for longest is compiled again


def contexts_of(
    phrases: Path | None,
    utterance_phrases: Path | None,
    graph: DecodingGraph | None,
    tokenizer: Tokenizer,
    utterance_ids: Collection[str] | None = None,
) -> ContextOf | None:
    """What `DecodingResources.context_of` wants, of files of phrases; None without any.

    Args:
        phrases: of all utterances, see `read_phrases`.
        utterance_phrases: of single ones, see `read_utterance_phrases`.
        graph, tokenizer: what recognises them.
        utterance_ids: what is decoded: no other utterance may have phrases. None: any may.

    Raises:
        ConfigError: if there are phrases and no graph.
        TextError: with file and line: see `read_phrases`, `compile_context`; naming utterances that have
            phrases and are not decoded.
    """
    if phrases is None and utterance_phrases is None:
        return None
    if graph is None:
        raise ConfigError("phrases are boosted in the search of a graph: none was given")
    common = read_phrases(phrases) if phrases else []
    single = read_utterance_phrases(utterance_phrases) if utterance_phrases else {}
    if utterance_ids is not None:
        known = set(utterance_ids)
        unknown = [name for name in single if name not in known]
        if unknown:
            more = f" (and {len(unknown) - 3} more)" if len(unknown) > 3 else ""
            raise TextError(
                f"{utterance_phrases}: phrases of {len(unknown)} utterance(s) that are not decoded: "
                f"{', '.join(unknown[:3])}{more}"
            )
    return phrase_contexts(graph, tokenizer, common, single)


def phrase_contexts(
    graph: DecodingGraph,
    tokenizer: Tokenizer,
    common: Sequence[Phrase],
    single: Mapping[str, Sequence[Phrase]],
) -> ContextOf:
    """The contexts by utterance id, each list of phrases compiled once, as long as `MAX_BYTES` hold them all.

    Args:
        common: for every utterance.
        single: by utterance id, beside these.

    Raises:
        TextError: naming a phrase that the graph cannot recognise.
    """
    compiled: dict[tuple[Phrase, ...], ContextGraph] = {}  # the last one used at the end

    def compile_once(phrases: tuple[Phrase, ...]) -> ContextGraph:
        context = compiled.pop(phrases, None)
        if context is None:
            context = compile_context(phrases, graph, tokenizer=tokenizer)
            taken = context.num_bytes + sum(other.num_bytes for other in compiled.values())
            while compiled and taken > MAX_BYTES:
                taken -= compiled.pop(next(iter(compiled))).num_bytes
        compiled[phrases] = context
        return context

    lists = {name: (*common, *own) for name, own in single.items()}
    for phrases in (tuple(common), *lists.values()):
        compile_once(phrases)  # mistakes show before the first utterance

    def context_of(name: str) -> ContextGraph | None:
        phrases = lists.get(name, tuple(common))
        return compile_once(phrases) if phrases else None

    return context_of


def read_utterance_phrases(path: Path) -> dict[str, list[Phrase]]:
    """Reads ``id<TAB>phrase`` or ``id<TAB>phrase<TAB>boost`` lines; empty lines are skipped.

    Raises:
        TextError: with file and line on a line of another form.
    """
    found: dict[str, list[Phrase]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        name, *rest = line.split("\t")
        if not 1 <= len(rest) <= 2 or not name.strip():
            raise TextError(
                f"{where}: expected 'id<TAB>phrase' or 'id<TAB>phrase<TAB>boost', found {line!r}"
            )
        found.setdefault(name.strip(), []).append(phrase_of_fields(rest, where))
    return found
