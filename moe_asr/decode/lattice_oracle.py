"""Oracles: the best that could have been chosen, of a lattice or of its n-best list."""

from moe_asr.decode.first_pass import FirstPassOptions, LatticeMethod, smallest_lattice
from moe_asr.decode.one_best import NBestOptions
from moe_asr.decode.registry import DecodingResources, EncodedBatch, Hypothesis, register
from moe_asr.errors import ConfigError, DataError
from moe_asr.text.normalize import normalize_text


class _Oracle(LatticeMethod):
    """What both oracles share: they are told the references."""

    def __init__(self, resources: DecodingResources, options: FirstPassOptions) -> None:
        super().__init__(resources, options)
        if resources.references is None:
            raise ConfigError(f"{self.name} needs the references: none were given")
        from moe_asr.fsa.nbest import nbest  # these import numba
        from moe_asr.fsa.oracle import lattice_oracle, nbest_oracle

        lattice = smallest_lattice()
        lattice_oracle(lattice, [1])
        nbest_oracle([path.words for path in nbest(lattice, 1)], [1])

    def _reference(self, name: str) -> list[int]:
        """Word ids (of a graph of tokens: token ids); 0 for a word that the graph has not."""
        references = self.resources.references
        assert references is not None
        if name not in references:
            raise DataError(f"utterance {name} has no reference")
        text = normalize_text(references[name])
        if not self._has_words:
            return self.resources.tokenizer.encode(text)
        return [self.graph.word_table.get(word, 0) or 0 for word in text.split()]

    def _hypothesis(self, name: str, words: tuple[int, ...], errors: int) -> Hypothesis:
        spoken = self._words(words)
        return Hypothesis(name, " ".join(spoken), spoken, -float(errors), ())


@register("lattice_oracle")
class LatticeOracle(_Oracle):
    """Of all paths of the lattice, one with the fewest errors; its ``score`` is minus their number."""

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        """See `DecodingMethod.decode`.

        Raises:
            DataError: naming an utterance without a reference.
        """
        from moe_asr.fsa.oracle import lattice_oracle

        hypotheses = []
        for name, lattice in zip(batch.utterance_ids, self.first_pass.lattices(batch), strict=True):
            oracle = lattice_oracle(lattice, self._reference(name))
            hypotheses.append(self._hypothesis(name, oracle.words, oracle.errors))
        return hypotheses


@register("nbest_oracle")
class NBestOracle(_Oracle):
    """Of the n best word sequences, one with the fewest errors; its ``score`` is minus their number."""

    options_type = NBestOptions
    options: NBestOptions

    def decode(self, batch: EncodedBatch) -> list[Hypothesis]:
        """See `DecodingMethod.decode`.

        Raises:
            DataError: naming an utterance without a reference.
        """
        from moe_asr.fsa.nbest import nbest
        from moe_asr.fsa.oracle import nbest_oracle

        hypotheses = []
        for name, lattice, context in self._lattices(batch):
            weighted = self.options.weighted(lattice, context)
            found = [path.words for path in nbest(weighted, self.options.n)]
            _, oracle = nbest_oracle(found, self._reference(name))
            hypotheses.append(self._hypothesis(name, oracle.words, oracle.errors))
        return hypotheses
