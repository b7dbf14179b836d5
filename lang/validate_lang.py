#!/usr/bin/env python3
"""Validates a language directory, and graphs made from it (docs/validation.md).

Exit status: 0 if every check passed, 1 if one failed, 2 if the arguments cannot be used.
"""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.lang.validate import ValidationOptions, validate
from moe_asr.lang.validate_report import CheckResult


def main() -> int:
    """Makes the checks, prints a line for each, and a line of counts."""
    default = ValidationOptions()
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--lang", type=Path, required=True, help="language directory")
    parser.add_argument(
        "--graph",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="directories of G, LG and HLG",
    )
    parser.add_argument("--text", type=Path, help="the LM's text, one sentence a line; or .gz")
    outputs = parser.add_mutually_exclusive_group()
    outputs.add_argument("--model", type=Path, metavar="DIR", help="that the graphs are for")
    outputs.add_argument("--tokenizer", type=Path, metavar="DIR", help="of the model")
    outputs.add_argument("--num-outputs", type=int, metavar="N", help="of the model")
    add = parser.add_argument
    for name, kind, text in (
        ("num-sentences", int, "sampled from each G, and from the text"),
        ("seed", int, "of the sampling"),
        ("max-oov-rate", float, "of the text's words, 0 to 1"),
        ("max-excess", float, "how far above 1 probabilities after a history may sum"),
        ("max-deficit", float, "how far below 1 on average, for words outside the lexicon"),
        ("max-findings", int, "shown of each check"),
    ):
        value = getattr(default, name.replace("-", "_"))
        add(f"--{name}", type=kind, default=value, help=f"{text}; default: {value}")
    add(
        "--rebuild",
        action=argparse.BooleanOptionalAction,
        help="build LG again and compare; default: where G is small",
    )
    add(
        "--allow-missing-inputs",
        action="store_true",
        help="only warn if what the directories were made from is not there any more",
    )
    add("--json", type=Path, metavar="FILE", help="also write the report here")
    values = vars(parser.parse_args())

    lang, graphs, json = (values.pop(name) for name in ("lang", "graph", "json"))
    shown: list[str] = []

    def show(result: CheckResult) -> None:
        if shown[-1:] != [result.directory]:
            shown.append(result.directory)
            print(result.directory)
        for line in result.lines():
            print(f"  {line}", flush=True)

    report = validate(lang, graphs, ValidationOptions(**values), show)
    print(report.summary())
    if json is not None:
        report.write_json(json)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(run_script(main))
