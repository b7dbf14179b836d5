"""From a text to an ARPA file, with a report of what was done."""

from collections.abc import Sequence
from dataclasses import dataclass

from moe_asr.files import PathLike
from moe_asr.lm.arpa import write_arpa
from moe_asr.lm.corpus import read_corpus, read_vocabulary
from moe_asr.lm.kneser_ney import OrderStatistics, train_kneser_ney
from moe_asr.lm.prune import prune as prune_model
from moe_asr.text.tokenizer import load_tokenizer


@dataclass(frozen=True)
class TrainingReport:
    """What `train_arpa` read and wrote.

    Attributes:
        num_sentences, num_words, num_unknown: of the text; words and, among them, those that are ``<unk>``.
        num_types: words of the model, ``<unk>``, ``<s>`` and ``</s>`` among them.
        statistics: of each order, before pruning.
        num_ngrams: in the ARPA file, by order.
        largest_deviation: from 1, of the sum of the probabilities after any history.
    """

    num_sentences: int
    num_words: int
    num_unknown: int
    num_types: int
    statistics: list[OrderStatistics]
    num_ngrams: list[int]
    largest_deviation: float

    @property
    def notices(self) -> list[str]:
        """What a user should know of, in sentences."""
        notices = []
        for row in self.statistics:
            if row.is_fallback:
                shown = ", ".join(f"n{i}={n}" for i, n in enumerate(row.counts_of_counts, 1))
                notices.append(
                    f"order {row.order}: the counts of counts ({shown}) give no discounts (too little text, "
                    f"or not natural); used {row.discounts} instead"
                )
        if self.num_unknown:
            notices.append(
                f"{self.num_unknown} of {self.num_words} words "
                f"({100 * self.num_unknown / self.num_words:.2f} %) are <unk>"
            )
        if len(self.num_ngrams) < len(self.statistics):
            notices.append(f"no n-grams of more than {len(self.num_ngrams)} words are left")
        return notices

    def table(self) -> str:
        """The figures, a line an order."""
        lines = [
            f"{self.num_sentences} sentences, {self.num_words} words, vocabulary {self.num_types}",
            f"{'order':>5}{'seen':>12}{'kept':>12}{'written':>12}   D1, D2, D3+",
        ]
        written = self.num_ngrams + [0] * len(self.statistics)
        for row, count in zip(self.statistics, written, strict=False):
            discounts = ", ".join(f"{value:.4f}" for value in row.discounts)
            lines.append(
                f"{row.order:>5}{row.num_seen:>12}{row.num_kept:>12}{count:>12}   {discounts}"
            )
        lines.append(f"sums of probabilities are off 1 by at most {self.largest_deviation:.1e}")
        return "\n".join(lines)


def train_arpa(
    text: PathLike,
    order: int,
    output: PathLike,
    vocab: PathLike | None = None,
    tokenizer: PathLike | None = None,
    min_counts: Sequence[int] = (1,),
    prune: float | None = None,
    progress: bool = False,
) -> TrainingReport:
    """Trains an n-gram model (`train_kneser_ney`) on a text file and writes it.

    Args:
        text: see `read_corpus`.
        order: of the model.
        output: the ARPA file; ``.gz`` is packed.
        vocab: a list of words (`read_vocabulary`): it is the vocabulary; None: all words of the text.
        tokenizer: a tokenizer directory instead: the model is of its tokens.
        min_counts: by order, see `train_kneser_ney`.
        prune: the threshold of `prune`, histories weighed by their counts in the text; None: no pruning.
        progress: show a bar.

    Raises:
        TextError, ConfigError: of the text, the list of words, the tokenizer, or the settings.
    """
    corpus = read_corpus(
        text,
        read_vocabulary(vocab) if vocab is not None else None,
        load_tokenizer(tokenizer) if tokenizer is not None else None,
        progress,
    )
    trained = train_kneser_ney(corpus, order, min_counts)
    model = trained.model
    if prune is not None:
        model = prune_model(model, prune, trained.history_log_prob)
    write_arpa(model, output)
    num_unknown = int(trained.counts[1])  # of <unk>, word 0
    return TrainingReport(
        corpus.num_sentences,
        corpus.num_words,
        num_unknown,
        len(model.words),
        trained.statistics,
        model.counts,
        float(abs(model.probability_sums() - 1.0).max()),
    )
