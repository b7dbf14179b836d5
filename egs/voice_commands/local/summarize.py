"""Collects the decoding results of the recipe into summary.json, and prints them as a table."""

import argparse
from pathlib import Path
from typing import Any

from moe_asr.cli.script import run_script
from moe_asr.data.manifests import read_cuts
from moe_asr.evaluate.method_table import format_method_table, method_rows
from moe_asr.evaluate.wer import read_transcripts, score
from moe_asr.files import read_json, write_json
from moe_asr.train.average import last_checkpoints

FIRST = ("one_best", "ctc_greedy")  # what the first table shows of a decoding


def collect(directory: Path, subsets: dict[str, set[str]]) -> dict[str, Any]:
    """{mode: {"wer", "unit", "errors", "words", "rtf", and "wer" of each subset}} of the first pass."""
    modes = {}
    for mode, methods in read_json(directory / "results.json").items():
        method = next(name for name in FIRST if name in methods)
        row = methods[method]
        reference = "ref.txt" if row["unit"] == "word" else f"ref_{row['unit']}.txt"
        expected = read_transcripts(directory / mode / reference)
        found = read_transcripts(directory / mode / f"hyp_{method}.txt")
        modes[mode] = {
            "wer": round(row["wer"], 3),
            "unit": row["unit"],
            "errors": row["substitutions"] + row["deletions"] + row["insertions"],
            "words": row["reference_words"],
            "rtf": round(row["rtf"], 5),
        }
        for name, ids in subsets.items():
            part = score(
                {key: expected[key] for key in expected if key in ids},
                {key: found[key] for key in expected if key in ids},
            )
            modes[mode][f"wer_{name}"] = round(part.total.wer, 3)
    return modes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trained systems")
    parser.add_argument("--units", nargs="+", required=True)
    parser.add_argument("--grammars", nargs="+", required=True)
    parser.add_argument("--manifest", type=Path, required=True, help="of the test set")
    parser.add_argument("--output", type=Path, required=True, help="summary.json to write")
    args = parser.parse_args()

    unseen = {cut.id: bool(cut.custom["unseen_accent"]) for cut in read_cuts(args.manifest)}
    subsets = {
        "known_accents": {name for name, is_unseen in unseen.items() if not is_unseen},
        "unseen_accents": {name for name, is_unseen in unseen.items() if is_unseen},
    }
    subsets = {name: ids for name, ids in subsets.items() if ids}
    systems: dict[str, Any] = {}
    for unit in args.units:
        run = args.runs / f"moe_{unit}"
        (newest,) = last_checkpoints(run / "checkpoints", 1)
        minutes = read_json(newest / "state.json")["state"]["minutes"]
        systems[unit] = {
            "train_minutes": round(minutes, 2),
            "decoding": {
                name: collect(run / f"decode_{name}", subsets)
                for name in ("greedy", *args.grammars)
                if (run / f"decode_{name}").is_dir()
            },
            "methods": {
                name: method_rows(run / f"decode_{name}")
                for name in ("greedy", *args.grammars)
                if (run / f"decode_{name}").is_dir()
            },
        }
    write_json(args.output, {"corpus": "synthetic (espeak-ng)", "systems": systems})

    print("SYNTHETIC speech (espeak-ng), voices and sentences of the test set unseen in training.")
    print("Error rates in percent, of words (* of phones); RTF on one core, search included.")
    columns = "".join(f"{name.replace('_', ' '):>17}" for name in subsets)
    print(f"{'units':<8}{'search':<10}{'mode':<9}{'WER':>8}{columns}{'RTF':>9}{'train min':>11}")
    for unit, system in systems.items():
        for name, modes in system["decoding"].items():
            for mode, row in modes.items():
                star = "" if row["unit"] == "word" else "*"
                parts = "".join(f"{row[f'wer_{subset}']:>17.2f}" for subset in subsets)
                print(
                    f"{unit:<8}{name:<10}{mode:<9}{star + format(row['wer'], '.2f'):>8}{parts}"
                    f"{row['rtf']:>9.4f}{system['train_minutes']:>11.1f}"
                )
    for unit, system in systems.items():
        for name, rows in system["methods"].items():
            title = "without a graph" if name == "greedy" else f"graph: {name}"
            print(f"\n{unit}, {title}; scales tuned on the dev set\n\n{format_method_table(rows)}")
    print(f"\nwritten: {args.output}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
