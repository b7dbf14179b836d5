"""Collects the decoding results of the recipe into summary.json, and prints them as a table."""

import argparse
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.evaluate.method_table import format_method_table, method_rows
from moe_asr.files import read_json, write_json
from moe_asr.train.average import last_checkpoints

METHODS = {"ctc_greedy": "greedy_wer", "one_best": "hlg_wer"}


def collect(directory: Path) -> dict:
    """{mode: {"greedy_wer", "hlg_wer", "rtf"}} of one system; rtf is of its most complete search."""
    modes = {}
    for mode, methods in read_json(directory / "decode" / "results.json").items():
        row = {}
        for method, key in METHODS.items():
            if method in methods:
                row[key] = round(methods[method]["wer"], 3)
                row["rtf"] = round(methods[method]["rtf"], 5)
        modes[mode] = row
    return modes


def training_minutes(directory: Path) -> float:
    """Minutes that the training of one system took, over all its runs, validation included."""
    (newest,) = last_checkpoints(directory / "checkpoints", 1)
    return round(read_json(newest / "state.json")["state"]["minutes"], 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trained systems")
    parser.add_argument("--output", type=Path, required=True, help="summary.json to write")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus.json of the data stage")
    parser.add_argument("--leave-out", default="theo", help="speaker of the system 'leave_out'")
    parser.add_argument("--systems", nargs="+", required=True)
    args = parser.parse_args()

    corpus = read_json(args.corpus)["corpus"]
    results = {name: collect(args.runs / name) for name in args.systems}
    minutes = {name: training_minutes(args.runs / name) for name in args.systems}
    summary = {
        "corpus": corpus,
        "systems": {name: modes for name, modes in results.items() if name != "leave_out"},
        "train_minutes": minutes["moe"],
        "train_minutes_of": minutes,
    }
    if "leave_out" in results:
        left_out = results["leave_out"]
        summary["left_out_speaker"] = {"name": args.leave_out, **left_out["full"]}
        summary["left_out_speaker"]["chunk16"] = left_out["chunk16"]
    tables = {name: method_rows(args.runs / name / "decode") for name in args.systems}
    summary["methods"] = tables
    write_json(args.output, summary)

    print(f"corpus: {corpus}")
    print("WER in percent; RTF on one core, in batches of up to 60 s, without reading the audio")
    print(f"{'system':<22}{'mode':<9}{'greedy':>8}{'HLG':>8}{'RTF':>9}{'train min':>11}")
    for name, modes in results.items():
        label = f"moe without {args.leave_out}" if name == "leave_out" else name
        for mode, row in modes.items():
            cells = [f"{row[key]:.2f}" if key in row else "-" for key in METHODS.values()]
            print(
                f"{label:<22}{mode:<9}{cells[0]:>8}{cells[1]:>8}{row['rtf']:>9.4f}"
                f"{minutes[name]:>11.1f}"
            )
    for name, rows in tables.items():
        print(f"\n{name}: all methods; scales tuned on the dev set\n\n{format_method_table(rows)}")
    print(f"\nwritten: {args.output}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
