import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from moe_asr.errors import TextError
from moe_asr.text.sentences import read_sentences, split_sentences

ROOT = Path(__file__).parents[2]
SENTENCES = [f"{a} the {b}" for a in ("open", "close", "paint") for b in ("door", "box", "lid")]
SENTENCES += ["sing", "open the door", "sing a song"]  # "song" and "a" are in one sentence only


def test_dev_and_test_have_no_word_of_their_own():
    for seed in range(20):
        parts = split_sentences(SENTENCES, num_dev=1, num_test=2, seed=seed)
        together = parts["train"] + parts["dev"] + parts["test"]
        assert sorted(together) == sorted(set(SENTENCES))  # each once, and all of them
        assert (len(parts["dev"]), len(parts["test"])) == (1, 2)
        counts = Counter(word for sentence in parts["train"] for word in sentence.split())
        held_out = parts["dev"] + parts["test"]
        assert all(counts[word] >= 2 for sentence in held_out for word in sentence.split())
        assert not {"sing", "song"} & {w for sentence in held_out for w in sentence.split()}
        order = [SENTENCES.index(sentence) for sentence in parts["train"]]
        assert order == sorted(order)


def test_the_seed_decides():
    parts = [split_sentences(SENTENCES, 1, 2, seed) for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]


def test_every_sentence_has_the_same_chance():
    """But for those whose words are too rare."""
    sentences = [f"{a} {b}" for a in "abcd" for b in "efgh"]
    counts = Counter(
        sentence
        for seed in range(400)
        for sentence in split_sentences(sentences, 0, 1, seed)["test"]
    )
    assert len(counts) == 16 and max(counts.values()) < 50  # 25 each expected


def test_too_few_sentences_are_an_error():
    with pytest.raises(TextError, match="11 distinct sentences: found . of 9 for test whose words"):
        split_sentences(SENTENCES, 1, 9)


def test_reading(tmp_path):
    path = tmp_path / "text"
    path.write_text("one  two\r\n\n three\n")
    assert read_sentences(path) == ["one two", "three"]
    path.write_text(" \n")
    with pytest.raises(TextError, match="no sentences in it"):
        read_sentences(path)
    path.write_bytes(b"one\n\xff\n")
    with pytest.raises(TextError, match=":2: not UTF-8"):
        read_sentences(path)


def test_script(tmp_path):
    (tmp_path / "all.txt").write_text("\n".join(SENTENCES))
    command = [sys.executable, "lang/split_sentences.py", "--text", str(tmp_path / "all.txt")]
    command += ["--num-dev=1", "--num-test=2", "--seed=3", "--output", str(tmp_path / "out")]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    parts = split_sentences(SENTENCES, 1, 2, 3)
    for name, sentences in parts.items():
        assert (tmp_path / "out" / f"{name}.txt").read_text().split("\n")[:-1] == sentences
    assert (
        f"test.txt: 2 sentences, {sum(len(s.split()) for s in parts['test'])} words" in done.stdout
    )
    done = subprocess.run(
        [*command, "--num-test=99"], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert "split_sentences.py: error: 11 distinct sentences" in done.stderr
