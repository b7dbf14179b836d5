"""Collects the decoding results of a recipe into summary.json, and prints them as a table.

Expected: RUNS/<system>/decode/<test set>/results.json, as `moe-asr decode` writes it.
"""

import argparse
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.files import read_json, write_json
from moe_asr.train.average import last_checkpoints

COLUMNS = {"ctc_greedy": "greedy", "one_best": "HLG"}


def collect(directory: Path, test_sets: list[str]) -> dict:
    """{test set: {mode: {method: figures}}} of one system."""
    return {name: read_json(directory / "decode" / name / "results.json") for name in test_sets}


def training(directory: Path) -> dict:
    """Updates and minutes of one system, over all its runs, validation included."""
    (newest,) = last_checkpoints(directory / "checkpoints", 1)
    state = read_json(newest / "state.json")["state"]
    return {"updates": state["step"], "minutes": round(state["minutes"], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trained systems")
    parser.add_argument("--systems", nargs="+", required=True)
    parser.add_argument("--test-sets", nargs="+", required=True)
    parser.add_argument("--note", default="", help="printed above the table")
    parser.add_argument("--output", type=Path, required=True, help="summary.json to write")
    args = parser.parse_args()

    systems = {name: collect(args.runs / name, args.test_sets) for name in args.systems}
    trained = {name: training(args.runs / name) for name in args.systems}
    write_json(args.output, {"note": args.note, "training": trained, "results": systems})

    first = next(iter(systems.values()))[args.test_sets[0]]
    unit = next(iter(next(iter(first.values())).values()))["unit"]
    rate = "CER" if unit == "char" else "WER"
    if args.note:
        print(args.note)
    print(f"{rate} in percent; RTF of features, encoder and search, without reading the audio")
    heads = "".join(f"{title:>9}" for title in COLUMNS.values())
    print(f"{'system':<14}{'test set':<14}{'mode':<10}{heads}{'RTF':>9}{'updates':>10}")
    for system, sets in systems.items():
        for test_set, modes in sets.items():
            for mode, methods in modes.items():
                cells = [
                    f"{methods[method]['wer']:>9.2f}" if method in methods else f"{'-':>9}"
                    for method in COLUMNS
                ]
                rtf = max(row["rtf"] for row in methods.values())
                print(
                    f"{system:<14}{test_set:<14}{mode:<10}{''.join(cells)}{rtf:>9.4f}"
                    f"{trained[system]['updates']:>10}"
                )
    print(f"written: {args.output}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
