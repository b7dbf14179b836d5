"""Memory and time of loading the int8 moe_1b: a model directory is made once, and loaded in new processes.

    python -m benchmarks.int8_loading --work-dir DIR [--preset moe_1b]

The model has random weights and as many tokens as the preset. It is loaded twice; the second time the files
are in the disk cache, and counts. The peak is all memory that the process ever had resident, its libraries
included, after one chunk of audio was encoded. Last line: ``{"peak_gb", "load_seconds"}``.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SECTION = {"make": "_make", "load": "_load"}


def loading_costs(work_dir: Path, preset: str = "moe_1b") -> dict[str, float]:
    """Peak memory in GB and seconds of loading; ``work_dir`` keeps the model for the next time."""
    directory = work_dir / f"{preset}_int8"
    if not (directory / "config.yaml").exists():
        _python("make", directory, preset)
    _python("load", directory)
    return json.loads(_python("load", directory).splitlines()[-1])


def _python(what: str, directory: Path, *arguments: str) -> str:
    """A new process, whose memory is its own."""
    code = f"from benchmarks.int8_loading import {SECTION[what]} as f; import sys; f(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(directory), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _make(directory: str, preset: str) -> None:
    import torch

    from moe_asr.audio.fbank import FbankOptions
    from moe_asr.model.config import PRESETS
    from moe_asr.model.directory import save_model_dir
    from moe_asr.model.u2 import U2MoeModel
    from moe_asr.text.symbol_table import SymbolTable
    from moe_asr.text.tokenizer import SPECIAL_TOKENS, CharTokenizer

    config = PRESETS[preset]()
    names = [*SPECIAL_TOKENS]
    names += [chr(0x4E00 + n) for n in range(config.vocab_size - len(names))]  # Chinese characters
    torch.manual_seed(0)
    model = U2MoeModel(config).eval()
    tokenizer = CharTokenizer(SymbolTable(names))
    save_model_dir(directory, model, tokenizer, FbankOptions(), storage="int8")


def _load(directory: str) -> None:
    import time

    import torch

    from moe_asr.model.directory import load_model_dir

    torch.set_num_threads(1)
    since = time.perf_counter()
    model = load_model_dir(directory, precision="int8").model
    seconds = time.perf_counter() - since
    with torch.inference_mode():
        features = torch.zeros(1, 67, model.config.num_features)
        model.encoder(model.cmvn(features), torch.tensor([67]))
    print(json.dumps({"peak_gb": round(_peak_bytes() / 1e9, 4), "load_seconds": round(seconds, 3)}))


def _peak_bytes() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["VmHWM"].split()[0]) << 10


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work-dir", type=Path, required=True, help="where the model is kept")
    parser.add_argument("--preset", default="moe_1b")
    args = parser.parse_args(arguments)
    print(json.dumps(loading_costs(args.work_dir, args.preset)))


if __name__ == "__main__":
    main()
