"""One-best decoding on an HLG, searched by k2."""

from collections.abc import Sequence

from torch import Tensor

from moe_asr.decode.greedy import collapse
from moe_asr.decode.registry import DecodingMethod, DecodingResources, Hypothesis, register
from moe_asr.errors import ConfigError
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.search_k2 import BestPath, K2Search, one_best


@register("one_best")
class OneBest(DecodingMethod):
    """The words of the best path through the lattice; on a graph of tokens, the words that they spell.

    Raises:
        ConfigError: if there is no graph.
        GraphError: if the graph is not an HLG or HT over the tokenizer's tokens.
        MissingDependencyError: if there is no k2.
    """

    options_type = SearchOptions

    def __init__(self, resources: DecodingResources, options: SearchOptions) -> None:
        super().__init__(resources, options)
        if resources.graph is None:
            raise ConfigError("one_best searches a graph: none was given")
        resources.graph.check_tokens(resources.tokenizer.tokens)
        self._search = K2Search(resources.graph, options, resources.device)

    @property
    def unit(self) -> str:
        """Words; on a graph of tokens, what those spell."""
        return "word" if self._search.graph.kind == "HLG" else self.token_unit

    def decode(
        self, log_probs: Tensor, lengths: Tensor, utterance_ids: Sequence[str]
    ) -> list[Hypothesis]:
        """See `DecodingMethod.decode`; an utterance without a path has no words and no score.

        Raises:
            DataError: naming the utterance that has no frames, or NaN or +inf in them.
        """
        lattice = self._search.intersect(log_probs, lengths, utterance_ids)
        hypotheses = []
        for name, path in zip(utterance_ids, one_best(lattice), strict=True):
            if path is None:
                hypotheses.append(Hypothesis(name, "", (), None, ()))
                continue
            words = self._words(path)
            tokens = collapse(path.tokens)
            hypotheses.append(Hypothesis(name, " ".join(words), words, path.score, tokens))
        return hypotheses

    def _words(self, path: BestPath) -> tuple[str, ...]:
        graph = self._search.graph
        if graph.kind == "HLG":
            return tuple(graph.word_symbols(path.words))
        return tuple(self.resources.tokenizer.decode(path.words).split())
