"""A vocabulary and a bigram of realistic size, made up deterministically: what the graph benchmarks share.

The words are syllables strung together, frequent ones shorter; a byte-pair encoding trained on them spells
them. The text is a Markov chain over the words: each has some forty favourite successors, the rest follow
Zipf's law.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_asr.fsa.fst import Fst
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.fsa.ngram_fst import ngram_fst
from moe_asr.lm.arpa import read_arpa
from moe_asr.lm.train import train_arpa
from moe_asr.text.bpe import train_bpe
from moe_asr.text.lexicon import Lexicon, lexicon_from_tokenizer
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import BpeTokenizer

_ONSETS = (
    "b c d f g h j k l m n p r s t v w br ch cl cr dr fl gr pl pr qu sh sl sp st str th tr".split()
)
_VOWELS = "a e i o u a e i o ai au ea ee ie oa oo ou".split()
_CODAS = ["", "", "", *"b d g k l m n p r s t x ck ld lt nd ng nk nt rd rk rn rt sh ss st".split()]
_ENDINGS = ["", "", "", "", "s", "ed", "er", "ing", "ly", "ness", "tion"]


@dataclass(frozen=True)
class BigText:
    """Sentences over a vocabulary.

    Attributes:
        words: all words, the most frequent first.
        ids: (T,) int64 indices of ``words``, sentence after sentence.
        splits: (N + 1,) int64; sentence n is ``ids[splits[n]:splits[n + 1]]``.
    """

    words: list[str]
    ids: np.ndarray
    splits: np.ndarray

    def sentence(self, number: int) -> list[str]:
        """The words of one sentence."""
        return [self.words[i] for i in self.ids[self.splits[number] : self.splits[number + 1]]]

    def write(self, path: Path) -> None:
        """One sentence a line."""
        with open(path, "w", encoding="utf-8") as file:
            for number in range(len(self.splits) - 1):
                file.write(" ".join(self.sentence(number)) + "\n")


def make_words(count: int, seed: int = 0) -> list[str]:
    """Distinct made-up words, the shorter ones first."""
    rng = random.Random(seed)
    words: dict[str, None] = {}
    while len(words) < count:
        rank = len(words) / count
        num_syllables = 1 + (rng.random() < 0.3 + 0.5 * rank) + (rng.random() < 0.7 * rank)
        syllables = [
            rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
            for _ in range(num_syllables)
        ]
        words["".join(syllables) + rng.choice(_ENDINGS)] = None
    return list(words)


def make_text(
    num_words: int = 15_500,
    num_sentences: int = 150_000,
    seed: int = 0,
    walk_seed: int | None = None,
) -> BigText:
    """Sentences of 3 to 21 words over ``num_words`` words; the same at every call.

    With a ``walk_seed``, the words and the chances of their successors are those of ``seed``, the sentences
    are others: held-out text.
    """
    rng = np.random.RandomState(seed)  # its stream is the same in every version of numpy
    popularity = np.cumsum(1.0 / (np.arange(num_words) + 10.0))
    popularity /= popularity[-1]
    favourites = np.searchsorted(popularity, rng.random_sample((num_words, 40)))
    if walk_seed is not None:
        rng = np.random.RandomState(walk_seed)
    preference = np.cumsum(1.0 / (np.arange(40) + 2.0))
    preference /= preference[-1]
    lengths = rng.randint(3, 22, num_sentences)
    columns = np.empty((int(lengths.max()), num_sentences), np.int64)
    current = np.searchsorted(popularity, rng.random_sample(num_sentences))
    for position in range(len(columns)):
        columns[position] = current
        choice = np.searchsorted(preference, rng.random_sample(num_sentences))
        other = np.searchsorted(popularity, rng.random_sample(num_sentences))
        favoured = rng.random_sample(num_sentences) < 0.75
        current = np.where(favoured, favourites[current, choice], other)
    inside = np.arange(len(columns))[None, :] < lengths[:, None]
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return BigText(make_words(num_words, seed), columns.T[inside], splits)


@dataclass(frozen=True)
class BigInputs:
    """What graphs are built from, as files and as objects.

    Attributes:
        directory: has ``text.txt``, ``tokenizer/``, ``tokens.txt``, ``words.txt``, ``lexicon.txt``,
            ``LM.arpa``, ``L_disambig.safetensors`` and ``G.safetensors``.
        text: what the bigram was trained on.
        tokenizer, lexicon, words: of the made-up words.
        g: the bigram.
        num_bigrams: of the ARPA file.
    """

    directory: Path
    text: BigText
    tokenizer: BpeTokenizer
    lexicon: Lexicon
    words: SymbolTable
    g: Fst
    num_bigrams: int


def make_inputs(
    directory: Path, num_words: int = 15_500, num_sentences: int = 150_000, vocab_size: int = 500
) -> BigInputs:
    """Writes all of a directory's files: text, units, lexicon, a modified Kneser-Ney bigram, L and G."""
    directory.mkdir(parents=True, exist_ok=True)
    text = make_text(num_words, num_sentences)
    text.write(directory / "text.txt")
    tokenizer = train_bpe(text.words, vocab_size, directory / "tokenizer")
    lexicon = lexicon_from_tokenizer(text.words, tokenizer)
    words = lexicon.word_table()
    tokenizer.tokens.write(directory / "tokens.txt")
    words.write(directory / "words.txt")
    lexicon.write(directory / "lexicon.txt")
    train_arpa(directory / "text.txt", 2, directory / "LM.arpa", vocab=directory / "words.txt")
    l_disambig = lexicon_fst(lexicon, tokenizer.tokens, words)
    l_disambig.save(directory / "L_disambig.safetensors", {"kind": "L_disambig"})
    model = read_arpa(directory / "LM.arpa")
    g = ngram_fst(model, words)
    g.save(directory / "G.safetensors", {"kind": "G"})
    return BigInputs(directory, text, tokenizer, lexicon, words, g, model.counts[1])
