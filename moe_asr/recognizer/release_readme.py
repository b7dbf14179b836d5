"""The README of a release folder, written from what its RELEASE.json says."""

import textwrap

from moe_asr.evaluate.wer import UNITS
from moe_asr.recognizer.release import GRAPH, INFO, OPTIONS, ReleaseInfo

_PARTS = {
    "config.yaml": "the model's configuration and its features",
    "model.safetensors": "the weights",
    GRAPH: "the decoding graph",
    OPTIONS: "options of the recogniser",
}


def release_readme(info: ReleaseInfo, folder: str) -> str:
    """Markdown: what it is, how to use it, its parts, its error rates.

    Args:
        folder: its name.
    """
    about, made_of = info.about, info.made_of
    sections = [f"# {about.title}", _wrapped(about.description)]
    example = about.examples[0] if about.examples else "..."
    sections.append(
        f'    moe-asr say "{example}" --output command.wav\n'
        f"    moe-asr transcribe --model {folder} command.wav"
    )
    if about.examples:
        quoted = "\n".join(f"- {one}" for one in about.examples)
        sections.append(f"Sentences that it knows:\n\n{quoted}")
    sizes = ", ".join(map(str, info.chunk_sizes))
    sections.append(
        _wrapped(
            f"Streams are decoded in chunks of {info.chunk_sizes[0]} encoder frames unless another size is "
            f"asked for; it was made for chunks of {sizes}, and for full context."
        )
    )
    if info.measured:
        sections.append("## Error rates\n\n" + _error_rates(info))
    total = sum(part.bytes for part in info.parts.values())
    rows = [
        f"| `{name}` | {_what(name)} | {part.bytes:,} | {part.sha256[:12]} |"
        for name, part in info.parts.items()
    ]
    head = ["| part | what | bytes | SHA-256 |", "|---|---|---:|---|"]
    sections.append("\n".join(["## Parts", "", *head, *rows]))
    graph = made_of[GRAPH]
    sections.append(
        _wrapped(
            f"{total / 1e6:.2f} MB in all. Weights of {made_of['model']['sha256'][:12]} "
            f"({made_of['model']['storage']}); the graph is {graph['file']} {graph['sha256'][:12]}, with "
            f"{graph['states']:,} states and {graph['arcs']:,} arcs. Made by moe_asr {made_of['moe_asr']}; "
            f"{INFO} has the hashes in full, and they are verified when it is loaded."
        )
    )
    sections.append("## Licence of the data\n\n" + _wrapped(about.data_licence))
    return "\n\n".join(sections) + "\n"


def _error_rates(info: ReleaseInfo) -> str:
    lines = [
        "| test set | context | method | error rate % | 95 % | errors |",
        "|---|---|---|---:|---:|---:|",
    ]
    for row in info.measured:
        interval = "" if row.interval is None else f"{row.interval[0]:.2f} .. {row.interval[1]:.2f}"
        mode = row.mode if row.precision is None else f"{row.mode}, {row.precision}"
        unit = UNITS.get(row.unit, row.unit)
        lines.append(
            f"| {row.test_set} | {mode} | {row.method} | {row.rate:.2f} ({unit}) | {interval} | "
            f"{row.errors} of {row.units:,} |"
        )
    return "\n".join(lines)


def _what(name: str) -> str:
    if name.startswith("graph_"):
        return "another decoding graph"
    return _PARTS.get(name, "of the tokenizer")


def _wrapped(text: str) -> str:
    return "\n\n".join(textwrap.fill(part, 110) for part in text.strip().split("\n\n"))
