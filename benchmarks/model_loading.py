"""How long a model takes to load, and how much memory, by what is stored and the precision it is run in.

    python -m benchmarks.model_loading [--preset moe_1b] [--work DIR] [--rounds 3] [--precision int8 ...]

A model directory of seeded random weights is written as int8. Each measurement is a process of its own with
one thread: it loads the model, encodes a second of noise, and tells how long both took and the peak of its
resident memory (VmHWM, so Linux only), everything included. Medians over rounds; the file is in the disk's
cache. Last line: one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from moe_asr.audio.fbank import FbankOptions
from moe_asr.config import to_dict
from moe_asr.files import sort_safetensors_header, write_yaml
from moe_asr.model.config import preset
from moe_asr.model.directory import CONFIG, WEIGHTS, load_model_dir
from moe_asr.model.meta import build_on_meta
from moe_asr.model.storage import INT8, SCALE, describe, matrices_of
from moe_asr.text.tokenizer import CharTokenizer


def write_model(directory: Path, name: str) -> int:
    """Writes a model directory in int8, without a model in float32; returns its number of parameters."""
    fixed = CharTokenizer.from_texts(["a"]).vocab_size - 1
    letters = "".join(chr(0x4E00 + n) for n in range(preset(name).vocab_size - fixed))
    tokenizer = CharTokenizer.from_texts([letters])
    config = preset(name, vocab_size=tokenizer.vocab_size)
    model = build_on_meta(config)
    generator = torch.Generator().manual_seed(0)
    tensors, matrices = {}, set(matrices_of(model))
    for key, value in model.state_dict().items():
        if key in matrices:
            axis = 1 if value.ndim == 3 else -1
            tensors[key] = torch.randint(
                -127, 128, value.shape, generator=generator, dtype=torch.int8
            )
            step = 1.0 / 73.0 / value.shape[axis] ** 0.5  # 73: of what is uniform in -127..127
            tensors[key + SCALE] = torch.full(value.amax(axis).shape, step)
        elif key.endswith("inv_std") or ("norm" in key and key.endswith("weight")):
            tensors[key] = torch.ones(value.shape)
        else:
            tensors[key] = 0.02 * torch.randn(value.shape, generator=generator)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(directory)
    save_file(tensors, directory / WEIGHTS, metadata=describe(INT8))
    sort_safetensors_header(directory / WEIGHTS)
    features = to_dict(FbankOptions(num_bins=config.num_features))
    write_yaml(directory / CONFIG, {"model": to_dict(config), "features": features})
    return model.num_parameters()


def measure(directory: Path, precision: str) -> dict[str, float]:
    """Loads and runs the model in this process."""
    torch.set_num_threads(1)
    since, busy = time.perf_counter(), time.process_time()
    loaded = load_model_dir(directory, precision=None if precision == "torch" else precision)
    between, busy = time.perf_counter(), time.process_time() - busy
    with torch.no_grad():
        features = torch.randn(1, 100, loaded.fbank_options.num_bins)
        memory, _ = loaded.model.encode(features, torch.tensor([100]))
        loaded.model.ctc_log_probs(memory)
    after = time.perf_counter()
    peak = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return {
        "load_seconds": between - since,
        "load_cpu_seconds": busy,
        "first_second_of_audio": after - between,
        "peak_megabytes": int(peak.split()[1]) * 1024 / 1e6,
    }


def loading_costs(work: Path, name: str, rounds: int = 1) -> dict[str, float]:
    """Peak memory in GB and seconds of loading a model in int8; ``work`` keeps it for the next time."""
    directory = work / name
    if not (directory / CONFIG).exists():
        write_model(directory, name)
    found = _medians(directory, "int8", rounds)
    return {"peak_gb": found["peak_megabytes"] / 1e3, "load_seconds": found["load_seconds"]}


def _medians(directory: Path, precision: str, rounds: int) -> dict[str, float]:
    """Of `measure` in new processes."""
    command = [sys.executable, "-m", "benchmarks.model_loading", "--work", str(directory)]
    command += ["--only-measure", precision]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    rows = [
        json.loads(subprocess.check_output(command, env=environment).splitlines()[-1])
        for _ in range(rounds + 1)
    ][1:]  # the first compiles kernels, if they are not there yet
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="moe_1b")
    parser.add_argument("--work", type=Path, help="where the model goes (default: not kept)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--precision",
        action="append",
        choices=["torch", "float32", "int8"],
        help="repeatable (int8)",
    )
    parser.add_argument("--only-measure", choices=["torch", "float32", "int8"], help="one, here")
    args = parser.parse_args(arguments)
    if args.only_measure:
        print(json.dumps(measure(args.work, args.only_measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = (args.work or Path(folder)) / args.preset
        parameters = write_model(work, args.preset)
        size = (work / WEIGHTS).stat().st_size
        print(f"{args.preset}: {parameters:,} parameters, {size / 1e6:,.1f} MB in int8\n")
        print("precision  load s  of CPU  first s of audio  peak MB")
        results = {}
        for precision in args.precision or ["int8"]:
            found = _medians(work, precision, args.rounds)
            results[precision] = found
            print(
                f"{precision:<9}  {found['load_seconds']:6.2f}  {found['load_cpu_seconds']:6.2f}  "
                f"{found['first_second_of_audio']:16.2f}  "
                f"{found['peak_megabytes']:7,.0f}"
            )
    print(
        json.dumps(
            {
                "preset": args.preset,
                "parameters": parameters,
                "file_bytes": size,
                "results": results,
            }
        )
    )


if __name__ == "__main__":
    main()
