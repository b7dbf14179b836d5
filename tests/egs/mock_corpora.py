"""A few utterances spoken by espeak-ng, laid out on disk exactly as LibriSpeech and AISHELL are.

    python tests/egs/mock_corpora.py librispeech|aishell DIR

espeak-ng keeps state of its own, hence a program: tests run it as one (`make`). ``pack`` makes the archives
that openslr.org serves.
"""

import gzip
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

RATE = 16000
ROOT = Path(__file__).parents[2]

# part: (speaker, chapter, sentences)
LIBRISPEECH = {
    "train-clean-100": [
        ("103", "1240", ["THE OLD HOUSE STOOD BY THE RIVER", "THE RIVER RAN PAST THE OLD MILL",
                         "SHE WENT DOWN TO THE RIVER IN THE MORNING", "NO"]),
        ("103", "1241", ["HE SAW THE HOUSE IN THE EVENING", "THE MILL STOOD BY THE ROAD"]),
        ("1034", "121119", ["THE ROAD RAN DOWN TO THE MILL", "IT WAS A COLD MORNING",
                            "THE HOUSE WAS COLD AND DARK"]),
    ],
    "train-clean-360": [
        ("14", "208", ["HE WENT PAST THE MILL IN THE MORNING", "THE EVENING WAS DARK AND COLD"]),
    ],
    "train-other-500": [
        ("20", "205", ["SHE SAW THE OLD ROAD", "IT'S A DARK HOUSE HE SAID"]),
    ],
    "dev-clean": [("84", "121123", ["THE OLD MILL WAS DARK", "SHE SAW THE RIVER"])],
    "dev-other": [("116", "288045", ["HE WENT DOWN THE ROAD IN THE EVENING"])],
    "test-clean": [("61", "70968", ["THE HOUSE BY THE ROAD WAS OLD", "HE SAW THE MILL"])],
    "test-other": [("367", "130732", ["SHE WENT PAST THE HOUSE", "THE MORNING WAS COLD"])],
}  # fmt: skip
LM_TEXT = [
    "THE OLD MILL STOOD BY THE RIVER", "HE WENT DOWN THE ROAD TO THE HOUSE", "THE MORNING WAS DARK",
    "SHE SAW THE OLD HOUSE BY THE MILL", "IT WAS A COLD EVENING", "NO ONE WENT PAST THE MILL",
]  # fmt: skip

# part: {speaker: sentences, divided into words}
AISHELL = {
    "train": {
        "S0002": ["今天 天气 很 好", "我们 去 公园", "明天 天气 不 好", "他 在 公司 上班", "好"],
        "S0003": ["公司 今天 很 忙", "我们 明天 上班", "他 去 北京 公司", "北京 天气 很 冷"],
        "S0004": ["明天 他 去 公园", "今天 不 上班", "我们 在 北京", "公园 很 大 很 好"],
    },
    "dev": {"S0724": ["今天 我们 去 公司", "北京 今天 很 冷"]},
    "test": {"S0764": ["他 今天 不 去 公园", "明天 北京 天气 很 好"]},
}
AISHELL_LEXICON = """SIL sil
<SPOKEN_NOISE> sil
一 ii i1
上班 sh ang4 b an1
不 b u4
今天 j in1 t ian1
他 t a1
公司 g ong1 s iy1
公园 g ong1 vv van2
冷 l eng3
北京 b ei3 j ing1
去 q v4
在 z ai4
大 d a4
天气 t ian1 q i4
好 h ao3
好 h ao4
很 h en3
忙 m ang2
我们 uu uo3 m en5
明天 m ing2 t ian1
鼹鼠 ii ian3 sh u3
"""


def make(corpus: str, folder: Path) -> Path:
    """Makes a corpus in a process of its own; returns the folder that holds it."""
    command = [sys.executable, __file__, corpus, str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder


def make_librispeech(folder: Path) -> None:
    """``folder/LibriSpeech/`` and ``folder/lm/``, the files of openslr.org/11."""
    root = folder / "LibriSpeech"
    speakers, chapters = [], []
    for part, parts in LIBRISPEECH.items():
        for speaker, chapter, sentences in parts:
            place = root / part / speaker / chapter
            place.mkdir(parents=True)
            lines = []
            for number, sentence in enumerate(sentences):
                name = f"{speaker}-{chapter}-{number:04d}"
                samples = speak(sentence.lower(), "en-us", int(speaker))
                write(place / f"{name}.flac", samples)
                lines.append(f"{name} {sentence}\n")
            (place / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
            chapters.append(
                f"{chapter:<7}| {speaker:<5}| 0.10  | {part:<17}| 1    | 1     | I | II\n"
            )
            if not any(line.startswith(f"{speaker} ") for line in speakers):
                speakers.append(f"{speaker:<5}| F | {part:<17}| 0.10  | A Reader\n")
    (root / "SPEAKERS.TXT").write_text(
        ";ID  |SEX| SUBSET           |MINUTES| NAME\n" + "".join(speakers)
    )
    header = ";ID    |READER|MINUTES| SUBSET           | PROJ.|BOOK ID| CH. TITLE | PROJECT TITLE\n"
    (root / "CHAPTERS.TXT").write_text(header + "".join(chapters))
    (root / "README.TXT").write_text("espeak-ng\n")
    lm = folder / "lm"
    lm.mkdir()
    sentences = [text for part in LIBRISPEECH.values() for _, _, texts in part for text in texts]
    words = sorted({word for text in (*sentences, *LM_TEXT) for word in text.split()} | {"MOLE"})
    (lm / "librispeech-vocab.txt").write_text("".join(f"{word}\n" for word in words))
    with open(lm / "librispeech-lexicon.txt", "w") as file:
        for word in words:
            file.write(f"{word}\t{' '.join(letter + '0' for letter in word if letter.isalpha())}\n")
    with gzip.open(lm / "librispeech-lm-norm.txt.gz", "wt") as file:
        file.writelines(f"{line}\n" for line in LM_TEXT)


def make_aishell(folder: Path) -> None:
    """``folder/data_aishell`` and ``folder/resource_aishell``."""
    transcripts = []
    number = 121
    for part, speakers in AISHELL.items():
        for speaker, sentences in speakers.items():
            place = folder / "data_aishell" / "wav" / part / speaker
            place.mkdir(parents=True)
            for sentence in sentences:
                number += 1
                name = f"BAC009{speaker}W{number:04d}"
                write(place / f"{name}.wav", speak(sentence.replace(" ", ""), "cmn", number))
                transcripts.append(f"{name} {sentence}\n")
    # as in the corpus: audio of which there is no transcript
    write(folder / "data_aishell/wav/train/S0002/BAC009S0002W0499.wav", speak("喂喂喂", "cmn", 1))
    (folder / "data_aishell" / "transcript").mkdir()
    path = folder / "data_aishell" / "transcript" / "aishell_transcript_v0.8.txt"
    path.write_text("".join(transcripts), encoding="utf-8")
    resource = folder / "resource_aishell"
    resource.mkdir()
    (resource / "lexicon.txt").write_text(AISHELL_LEXICON, encoding="utf-8")
    (resource / "speaker.info").write_text("0002 F\n0003 M\n0004 F\n0724 M\n0764 F\n")


def pack(corpus: str, source: Path, target: Path) -> Path:
    """The archives of ``source`` below ``target/resources``, as the server has them."""
    if corpus == "librispeech":
        there = target / "resources" / "12"
        there.mkdir(parents=True)
        for part in LIBRISPEECH:
            with tarfile.open(there / f"{part}.tar.gz", "w:gz", compresslevel=1) as tar:
                for name in ("SPEAKERS.TXT", "CHAPTERS.TXT", "README.TXT", part):
                    tar.add(source / "LibriSpeech" / name, f"LibriSpeech/{name}")
        (target / "resources" / "11").symlink_to(source / "lm")
        return target / "resources"
    there = target / "resources" / "33"
    waves = target / "packed" / "data_aishell" / "wav"
    there.mkdir(parents=True)
    waves.mkdir(parents=True)
    for part, speakers in AISHELL.items():
        for speaker in speakers:
            with tarfile.open(waves / f"{speaker}.tar.gz", "w:gz", compresslevel=1) as tar:
                tar.add(source / "data_aishell" / "wav" / part / speaker, f"{part}/{speaker}")
    with tarfile.open(there / "data_aishell.tgz", "w:gz", compresslevel=1) as tar:
        tar.add(source / "data_aishell" / "transcript", "data_aishell/transcript")
        tar.add(waves, "data_aishell/wav")
    with tarfile.open(there / "resource_aishell.tgz", "w:gz", compresslevel=1) as tar:
        tar.add(source / "resource_aishell", "resource_aishell")
    return target / "resources"


def speak(text: str, voice: str, seed: int) -> np.ndarray:
    """``text`` at 16 kHz: (num_samples,) float32."""
    global _synthesizer
    from moe_asr.audio.io import resample
    from moe_asr.data.espeak import EspeakSynthesizer

    if _synthesizer is None:
        _synthesizer = EspeakSynthesizer()
    samples = _synthesizer.synthesize(
        text, voice, rate=150 + seed % 7 * 5, pitch=30 + seed % 5 * 10
    )
    return resample(samples, _synthesizer.sample_rate, RATE)


def write(path: Path, samples: np.ndarray) -> None:
    import soundfile

    soundfile.write(str(path), np.clip(samples, -1, 1), RATE, subtype="PCM_16")


_synthesizer = None

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    {"librispeech": make_librispeech, "aishell": make_aishell}[sys.argv[1]](Path(sys.argv[2]))
