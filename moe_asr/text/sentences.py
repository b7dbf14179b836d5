"""Files of sentences, one a line, and how they are divided into train, dev and test."""

import random
from collections import Counter
from collections.abc import Sequence

from moe_asr.errors import TextError
from moe_asr.files import PathLike
from moe_asr.text.lines import read_lines


def read_sentences(path: PathLike) -> list[str]:
    """The sentences of a UTF-8 file, with single spaces; empty lines are skipped.

    Raises:
        TextError: if there is none, or the file is not UTF-8 or cannot be read.
    """
    sentences = [" ".join(line.split()) for line in read_lines(path) if line.strip()]
    if not sentences:
        raise TextError(f"{path}: no sentences in it; expected one a line")
    return sentences


def split_sentences(
    sentences: Sequence[str], num_dev: int, num_test: int, seed: int = 0, min_count: int = 2
) -> dict[str, list[str]]:
    """Divides distinct sentences at random so that dev and test have no word that train has not.

    Sentences are taken out for test, then dev, in random order; one is passed over if that would leave
    one of its words in fewer than ``min_count`` of the sentences for training.

    Returns:
        ``{"train": ..., "dev": ..., "test": ...}``: each in the order of ``sentences``.

    Raises:
        TextError: if the sentences are too few for that.
    """
    distinct = list(dict.fromkeys(sentences))
    counts = Counter(word for sentence in distinct for word in set(sentence.split()))
    order = list(range(len(distinct)))
    random.Random(f"{seed}/split").shuffle(order)
    part = ["train"] * len(distinct)
    wanted = {"test": num_test, "dev": num_dev}
    remaining = iter(order)
    for name, num in wanted.items():
        taken = 0
        while taken < num:
            index = next(remaining, None)
            if index is None:
                raise TextError(
                    f"{len(distinct)} distinct sentences: found {taken} of {num} for {name} whose "
                    f"words are all in {min_count} others or more; expected more sentences"
                )
            words = set(distinct[index].split())
            if all(counts[word] > min_count for word in words):
                counts.subtract(words)
                part[index] = name
                taken += 1
    return {
        name: [sentence for sentence, own in zip(distinct, part, strict=True) if own == name]
        for name in ("train", "dev", "test")
    }
