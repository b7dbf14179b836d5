"""What the released model makes of commands in a row, of single words, and of noise, as streams.

    python -m benchmarks.streaming_words

Prints a table, and as the last line one JSON object.
"""

import json
from collections.abc import Sequence

import kaldialign
import numpy as np
import torch

from benchmarks.spoken_streams import Spoken, say_sentences
from moe_asr.data.noises import make_noise
from moe_asr.data.speaking import say_text
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.release import read_release
from moe_asr.recognizer.results import Result

RELEASE = "egs/voice_commands/release"
WORDS = (
    "stop pause next please cancel play thanks help louder quieter resume repeat hello yes no off on "
    "continue skip mute"
)
VOICES = ("en-us", "en-gb-x-rp")
RATE, NUM_STREAMS, NOISE_SECONDS = 16000, 8, 21


def recognize(recognizer: Recognizer, audio: Sequence[np.ndarray]) -> list[list[Result]]:
    """The final results of streams that are decoded together."""
    streams = [recognizer.create_stream() for _ in audio]
    for stream, samples in zip(streams, audio, strict=True):
        stream.accept_waveform(samples, RATE)
        stream.input_finished()
    found: list[list[Result]] = [[] for _ in streams]
    while not all(stream.is_finished for stream in streams):
        for finals, results in zip(found, recognizer.decode(streams), strict=True):
            finals += [result for result in results if result.is_final]
    return found


def in_a_row(
    sentences: Sequence[Spoken],
    rng: np.random.Generator,
    pause_seconds: tuple[float, float] = (0.7, 1.5),
) -> np.ndarray:
    """Sentences with a pause of hardly any noise behind each."""
    parts = []
    for sentence in sentences:
        pause = rng.standard_normal(round(rng.uniform(*pause_seconds) * RATE))
        parts += [sentence.samples, (0.001 * pause).astype(np.float32)]
    return np.concatenate(parts)


def noise(kind: str, dbfs: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of so many decibels, and of no speech."""
    samples = 10 ** (dbfs / 20) * make_noise(kind, NOISE_SECONDS * RATE, RATE, rng)
    return np.clip(samples, -1, 1).astype(np.float32)


def main() -> None:
    torch.set_num_threads(1)  # threads that wait for one another are slow beside other work
    rng = np.random.default_rng(0)
    loaded, graph, options = read_release(RELEASE)
    report: dict[str, object] = {}
    sentences = say_sentences(400, RATE)
    rows = [sentences[begin : begin + 10] for begin in range(0, len(sentences), 10)]
    audio = [in_a_row(row, rng) for row in rows]
    said = [word for row in rows for sentence in row for word in sentence.text.split()]
    for keep in (False, True):
        recognizer = Recognizer(loaded, graph, options.replace(keep_left_context=keep))
        errors = 0
        for row, finals in zip(rows, recognize(recognizer, audio), strict=True):
            heard = [word for final in finals for word in final.text.split()]
            spoken = [word for sentence in row for word in sentence.text.split()]
            errors += kaldialign.edit_distance(spoken, heard)["total"]
        wer = 100 * errors / len(said)
        report[f"row_wer_keep_{keep}"] = round(wer, 2)
        print(f"commands in a row, keep_left_context={keep}: WER {wer:.2f} % of {len(said)} words")
    recognizer = Recognizer(loaded, graph, options)
    pairs = [(word, say_text(word, voice, RATE)) for word in WORDS.split() for voice in VOICES]
    texts = [finals[-1].text for finals in recognize(recognizer, [audio for _, audio in pairs])]
    right = sum(word == text for (word, _), text in zip(pairs, texts, strict=True))
    report["single_right"], report["single_empty"] = right, texts.count("")
    print(f"single words: {right} of {len(pairs)} right, {texts.count('')} without a word")
    for kind in ("white", "pink"):
        for dbfs in (-60, -50, -40, -30, -20):
            found = recognize(recognizer, [noise(kind, dbfs, rng) for _ in range(NUM_STREAMS)])
            finals = [final for one in found for final in one]
            with_words = sum(bool(final.text) for final in finals)
            report[f"{kind}{dbfs}"] = [with_words, len(finals)]
            print(f"{kind} noise, {dbfs} dBFS: words in {with_words} of {len(finals)} segments")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
