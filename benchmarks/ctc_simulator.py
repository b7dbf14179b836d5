"""Posteriors such as a CTC model puts out, made up for given token sequences.

A trained CTC model is sure of blank in most frames and gives each token a spike of a frame or two, with a
weak shoulder beside it; where it errs, it does so in favour of tokens that are spelled alike, and in words or
recordings that it finds hard. So do these: in the logits of a blank frame spikes rise, with confusable tokens
behind them by a margin that varies with the utterance, the word and the token. Where that margin is negative
the token is wrong, and where the one over blank is, it is lost.

The defaults are fitted to the posteriors of a small model, that of egs/voice_commands' demo, on 100
utterances of its test set: 60 units, 9 tokens a second, WER 44 % by greedy search and 5.5 % with a 3-gram.
Margins are of the tokens of the reference in its best alignment, on 60 utterances.

                                                       that model    here
    units                                                      60     500
    spikes of 1, 2, 3 or more frames                  67, 30, 3 %   72, 25, 3 %
    correlation of a label's log-probability with
      that in the frame before                               0.67    0.6
    blank above 0.99, of the frames where it is best         44 %     68 %
    entropy of a frame, in the mean                     0.43 nats    0.38 nats
    labels within 10 nats of the best: blank frames            16      20
      others                                                   25     166
    margins over other tokens: 1 % of the tokens are
      below                                            -5.3 nats    -4.9 nats
      5 % below, half below                            -2.3, 4.0    -2.0, 2.5
      negative                                               13 %     14 %
    margins over blank: 5 %, half of the tokens below  -1.6, 4.7    -1.6, 4.6
      negative                                               11 %     11 %
    what a word's true frames lose against the best
      ones: 90, 95, 99 % of the words lose less     4.9, 8.2, 15.6   6.5, 8.8, 12.6 nats

That model is weak and its units are few; a large one is surer of blank, and has more units to choose from. On
the benchmark's bigram, WER is 11.5 % and that of the oracle 2.4 % (k2's beams). A lower ``peakiness`` gives a
weaker model still: at 0.8 no blank has 0.99 any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import kaldialign
import numpy as np

FRAMES_PER_SECOND = 25  # 40 ms: four times subsampled


@dataclass(frozen=True)
class SimulatorOptions:
    """What the posteriors are like. Logits are natural logs, before the softmax.

    Attributes:
        peakiness: multiplies the logits (an inverse temperature).
        noise: multiplies everything random about the logits; 0: every token is right.
        tokens_per_second: mean rate, between the silences.
        margin: by how much a token leads those it may be confused with, in the mean.
        utterance_spread, word_spread, token_spread: standard deviations of the margin.
        blank_margin, blank_spread: mean and standard deviation of the lead over blank, in a spike.
        background, background_spread: of the logits of all other tokens, where that of blank is 0.
        spike_lift: by how much more those tokens come near in a spike.
        shoulder: the logit of a token in the frames beside its spike, for one that leads blank by nothing.
        num_confusable: tokens that each token may be confused with.
        inserted_per_second: spikes where nothing was said.
    """

    peakiness: float = 1.0
    noise: float = 1.0
    tokens_per_second: float = 4.2
    margin: float = 2.5
    utterance_spread: float = 1.2
    word_spread: float = 2.2
    token_spread: float = 3.0
    blank_margin: float = 4.5
    blank_spread: float = 3.5
    background: float = -14.8
    background_spread: float = 2.3
    spike_lift: float = 4.0
    shoulder: float = -6.0
    num_confusable: int = 8
    inserted_per_second: float = 0.05

    def __post_init__(self) -> None:
        if not (self.peakiness > 0 and self.noise >= 0 and 0 < self.tokens_per_second <= 10):
            raise ValueError(
                "expected peakiness > 0, noise >= 0 and 0 < tokens_per_second <= 10, found "
                f"{self.peakiness}, {self.noise} and {self.tokens_per_second}"
            )


def confusable_tokens(symbols: Sequence[str], count: int, seed: int = 0) -> np.ndarray:
    """For each of C tokens, those of the most similar spelling, nearest first.

    Args:
        symbols: all tokens; the first is blank, which is confused with none.
        count: K, at most C - 2.
        seed: decides between equally similar ones.

    Returns:
        (C, K) int64; the row of blank means nothing.
    """
    rng = np.random.RandomState(seed)
    distance = np.zeros((len(symbols), len(symbols)))
    for row, left in enumerate(symbols):
        for column, right in enumerate(symbols[:row]):
            edits = kaldialign.edit_distance(list(left), list(right))["total"]
            distance[row, column] = edits / max(len(left), len(right))
    distance += distance.T
    distance += rng.uniform(0.0, 0.05, distance.shape)
    np.fill_diagonal(distance, np.inf)
    distance[:, 0] = np.inf
    return np.argsort(distance, axis=1, kind="stable")[:, :count]


class CtcSimulator:
    """Posteriors of utterances, from one random stream: the same calls give the same ones.

    Args:
        symbols: all tokens of the model, blank first.
        options: see there.
        seed: of everything random, the confusable sets too.
    """

    def __init__(
        self, symbols: Sequence[str], options: SimulatorOptions | None = None, seed: int = 0
    ) -> None:
        self.options = options or SimulatorOptions()
        self.num_tokens = len(symbols)
        count = min(self.options.num_confusable, max(self.num_tokens - 2, 0))
        self.confusable = confusable_tokens(symbols, count, seed)
        self._rng = np.random.RandomState(seed)
        # a model likes some tokens better than others, whatever it hears
        self._bias = 0.5 * self._rng.standard_normal(self.num_tokens)

    def utterance(self, words: Sequence[Sequence[int]]) -> np.ndarray:
        """The posteriors of words spelled in tokens.

        Args:
            words: the token ids of each word, none of them 0.

        Returns:
            (T, C) float32, natural log, rows sum to 1.
        """
        tokens = [token for word in words for token in word]
        word_of = np.repeat(np.arange(len(words)), [len(word) for word in words])
        starts, widths, num_frames = self._layout(tokens, word_of)
        logits = self._background(num_frames)
        self._insert(logits)
        margins, blank_margins = self._margins(word_of, len(words))
        for index, token in enumerate(tokens):
            self._add_spike(
                logits, token, starts[index], widths[index], margins[index], blank_margins[index]
            )
        logits *= self.options.peakiness
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits.astype(np.float32)

    def _layout(
        self, tokens: Sequence[int], word_of: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """The first frame and the number of frames of each spike, and the number of all frames."""
        rng, num = self._rng, len(tokens)
        widths = rng.choice([1, 2, 3], num, p=[0.72, 0.25, 0.03])
        # the distance from one spike to the next is gamma distributed: speech is neither even nor random
        mean = FRAMES_PER_SECOND / self.options.tokens_per_second
        distance = np.rint(rng.gamma(4.0, mean / 4.0, num)).astype(np.int64)
        previous = np.array([0, *tokens[:-1]][:num])
        same = previous == np.asarray(tokens)
        behind = np.concatenate([[0], widths[:-1]])[:num]
        distance = np.maximum(distance, behind + same)  # a blank between equal tokens
        new_word = np.concatenate([[False], np.diff(word_of) > 0])[:num]
        pause = rng.randint(5, 13, num)
        distance += np.where(new_word & (rng.random_sample(num) < 0.06), pause, 0)
        if num:
            distance[0] = rng.randint(4, 11)
        starts = np.cumsum(distance)
        end = starts[-1] + widths[-1] if num else 0
        return starts, widths, int(end + rng.randint(4, 11))

    def _margins(self, word_of: np.ndarray, num_words: int) -> tuple[np.ndarray, np.ndarray]:
        """The lead of each token over confusable ones, and over blank."""
        rng, options = self._rng, self.options
        spread = options.utterance_spread * rng.standard_normal()
        spread = spread + options.word_spread * rng.standard_normal(num_words)[word_of]
        spread = spread + options.token_spread * rng.standard_normal(len(word_of))
        blank_spread = options.blank_spread * rng.standard_normal(len(word_of))
        return (
            options.margin + options.noise * spread,
            options.blank_margin + options.noise * (blank_spread + 0.3 * spread),
        )

    def _background(self, num_frames: int) -> np.ndarray:
        """(T, C) float64: the logits of frames of blank. Those of a token vary slowly."""
        options = self.options
        noise = self._rng.standard_normal((num_frames, self.num_tokens))
        keep = 0.6
        for frame in range(1, num_frames):
            noise[frame] = keep * noise[frame - 1] + np.sqrt(1 - keep**2) * noise[frame]
        spread = options.noise * options.background_spread
        logits = options.background + spread * (noise + self._bias)
        logits[:, 0] = 0.0
        return logits

    def _insert(self, logits: np.ndarray) -> None:
        """Spurious spikes, most of them too weak to win."""
        rng, options = self._rng, self.options
        chance = options.inserted_per_second / FRAMES_PER_SECOND
        frames = np.flatnonzero(rng.random_sample(len(logits)) < chance)
        tokens = rng.randint(1, self.num_tokens, len(frames))
        height = rng.normal(-1.0, 2.0, len(frames))
        if options.noise > 0:
            logits[frames, tokens] = height

    def _add_spike(
        self,
        logits: np.ndarray,
        token: int,
        start: int,
        width: int,
        margin: float,
        blank_margin: float,
    ) -> None:
        """One token: its frames, and a weak shoulder on either side."""
        rng, options = self._rng, self.options
        rivals = self.confusable[token]
        # the nearest is behind by the margin, the others by more
        behind = margin + 1.2 * options.noise * rng.exponential(1.0, len(rivals)).cumsum()
        rng.shuffle(behind)
        for offset in range(-1, width + 1):
            frame = start + offset
            if not 0 <= frame < len(logits):
                continue
            inside = 0 <= offset < width
            height = blank_margin if inside else options.shoulder + 0.3 * blank_margin
            height += options.noise * (0.3 if inside else 1.0) * rng.standard_normal()
            row = logits[frame]
            if inside:  # a model that hears a token is less sure that it is none of the others
                row[1:] += max(height + options.spike_lift, 0.0)
            row[token] = max(row[token], height)
            level = height - behind + 0.3 * options.noise * rng.standard_normal(len(rivals))
            row[rivals] = np.maximum(row[rivals], level)


@dataclass(frozen=True)
class PosteriorStatistics:
    """What log-probabilities look like, over all frames.

    Attributes:
        num_frames: that were looked at.
        sure_blank: the part of the frames whose blank has more than 0.99.
        best_is_token: the part whose best label is not blank.
        mean_best: the mean probability of the best label.
        entropy: mean, in nats.
        near_blank, near_token: labels within ten nats of the best, in the mean of the frames where the best
            is blank, and of the others.
    """

    num_frames: int
    sure_blank: float
    best_is_token: float
    mean_best: float
    entropy: float
    near_blank: float
    near_token: float

    def __str__(self) -> str:
        return (
            f"{self.num_frames} frames: blank above 0.99 in {100 * self.sure_blank:.1f} %, a token best in "
            f"{100 * self.best_is_token:.1f} %, best label {self.mean_best:.3f}, entropy "
            f"{self.entropy:.3f} nats, labels within 10 nats of the best: {self.near_blank:.1f} where it is "
            f"blank, {self.near_token:.1f} elsewhere"
        )


def posterior_statistics(utterances: Sequence[np.ndarray]) -> PosteriorStatistics:
    """Statistics of (T, C) log-probabilities, all frames counting the same."""
    rows = np.concatenate(utterances).astype(np.float64)
    best = rows.max(axis=1)
    is_token = rows.argmax(axis=1) != 0
    near = (rows > best[:, None] - 10.0).sum(axis=1)
    probabilities = np.exp(rows)
    entropy = -(probabilities * np.where(probabilities > 0, rows, 0.0)).sum(axis=1)
    return PosteriorStatistics(
        num_frames=len(rows),
        sure_blank=float((probabilities[:, 0] > 0.99).mean()),
        best_is_token=float(is_token.mean()),
        mean_best=float(np.exp(best).mean()),
        entropy=float(entropy.mean()),
        near_blank=float(near[~is_token].mean()) if (~is_token).any() else 0.0,
        near_token=float(near[is_token].mean()) if is_token.any() else 0.0,
    )
