"""A vocabulary and a bigram of realistic size, made up deterministically: what the graph benchmarks share.

The words are syllables strung together, frequent ones shorter; a byte-pair encoding trained on them spells
them. The text is a Markov chain over the words: each has some forty favourite successors, the rest follow
Zipf's law.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_asr.fsa.fst import Fst
from moe_asr.text.bpe import train_bpe
from moe_asr.text.lexicon import Lexicon, lexicon_from_tokenizer
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


def make_text(num_words: int = 15_500, num_sentences: int = 150_000, seed: int = 0) -> BigText:
    """Sentences of 3 to 21 words over ``num_words`` words; the same at every call."""
    rng = np.random.RandomState(seed)  # its stream is the same in every version of numpy
    popularity = np.cumsum(1.0 / (np.arange(num_words) + 10.0))
    popularity /= popularity[-1]
    favourites = np.searchsorted(popularity, rng.random_sample((num_words, 40)))
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


def spell(words: list[str], directory: Path, vocab_size: int = 500) -> tuple[BpeTokenizer, Lexicon]:
    """A byte-pair encoding trained on the words, and the words spelled by it."""
    tokenizer = train_bpe(words, vocab_size, directory)
    return tokenizer, lexicon_from_tokenizer(words, tokenizer)


def bigram_fst(text: BigText, discount: float = 0.75) -> tuple[Fst, int]:
    """G of a bigram with absolute discounting, interpolated with the unigram; and its number of bigrams.

    Word i of the text has the label ``i + 1``, ``#0`` the one after the last word. State 0 is the start of
    a sentence, 1 has no history, 2 + i is the history of word i.
    """
    num_words = len(text.words)
    sentence = np.repeat(np.arange(len(text.splits) - 1), np.diff(text.splits))
    is_first = np.concatenate([[True], np.diff(sentence) > 0])
    start, end = num_words, num_words
    history = np.concatenate(
        [np.where(is_first, start, np.roll(text.ids, 1)), text.ids[text.splits[1:] - 1]]
    )
    word = np.concatenate([text.ids, np.full(len(text.splits) - 1, end)])
    pairs, counts = np.unique(history * (num_words + 1) + word, return_counts=True)
    h, w = np.divmod(pairs, num_words + 1)
    total = np.bincount(h, counts, minlength=num_words + 1)
    kinds = np.bincount(h, minlength=num_words + 1)
    unigram = np.bincount(word, minlength=num_words + 1) + 0.5
    unigram = unigram / unigram.sum()
    backoff = discount * kinds / np.maximum(total, 1)
    score = np.log((counts - discount) / total[h] + backoff[h] * unigram[w])
    state_of = np.where(np.arange(num_words + 1) == start, 0, np.arange(num_words + 1) + 2)
    final_score = np.full(num_words + 2, -np.inf)
    final_score[1] = math.log(unigram[end])
    final_score[state_of[h[w == end]]] = score[w == end]
    inner = w != end
    seen = np.flatnonzero(total > 0)
    unseen = np.flatnonzero(total == 0)
    vocabulary = np.arange(num_words)
    src = [state_of[h[inner]], np.ones(num_words, int), state_of[seen], state_of[unseen]]
    dst = [
        state_of[w[inner]],
        state_of[vocabulary],
        np.ones(len(seen), int),
        np.ones(len(unseen), int),
    ]
    ilabel = [
        w[inner] + 1,
        vocabulary + 1,
        np.full(len(seen), num_words + 1),
        np.full(len(unseen), num_words + 1),
    ]
    olabel = [w[inner] + 1, vocabulary + 1, np.zeros(len(seen), int), np.zeros(len(unseen), int)]
    scores = [
        score[inner],
        np.log(unigram[:num_words]),
        np.log(backoff[seen]),
        np.zeros(len(unseen)),
    ]
    return Fst.from_arcs(
        *map(np.concatenate, (src, dst, ilabel, olabel, scores)), final_score
    ), len(pairs)
