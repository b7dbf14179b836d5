"""The figures of a graph as text."""

import json
from typing import Any


def format_info(info: dict[str, Any]) -> str:
    """Lines of a name and its figures.

    Args:
        info: of `moe_asr.fsa.graph_info.graph_info`, and of the file: ``file``, ``format``, ``file_bytes``,
            ``made_by`` (commands) and ``stale`` (what has changed since).
    """
    rows = _rows(info)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}".rstrip() for name, text in rows)


def _rows(info: dict[str, Any]) -> list[tuple[str, str]]:
    states, arcs, structure = info["states"], info["arcs"], info["structure"]
    inputs, outputs, scores, mass = (info[key] for key in ("input", "output", "scores", "mass"))
    zero = "epsilon" if "arcs_epsilon" in inputs else "blank"
    order = "deterministic"
    if not inputs["deterministic"]:
        states_twice = f"{inputs['nondeterministic_states']:,}"
        order = f"not deterministic (states that have a label twice: {states_twice})"
    if structure["acyclic"]:
        shape = "acyclic"
    elif structure["components"] == states["num"]:
        shape = "acyclic but for self-loops"
    else:
        shape = (
            f"cyclic (strongly connected components: {structure['components']:,}, the largest has "
            f"{structure['largest_component']:,} states)"
        )
    unconnected = f"{states['unreachable']:,} unreachable, {states['dead_ends']:,} dead ends"
    return [
        ("file", f"{info['file']} ({info['format']})"),
        ("size", f"{_size(info['file_bytes'])}, {_size(info['memory_bytes'])} in memory"),
        ("kind", info["kind"]),
        *(("made by", command) for command in info["made_by"]),
        *(("stale", problem) for problem in info["stale"]),
        *((f"  {key}", _plain(value)) for key, value in info["metadata"].items() if key != "kind"),
        ("states", f"{states['num']:,}, of these {states['final']:,} final; {unconnected}"),
        ("arcs", f"{arcs['num']:,}, of these {states['final_arcs']:,} of label -1, "
         f"{arcs['self_loops']:,} self-loops"),
        ("out-degree", _distribution(arcs["out_degree"])),
        ("in-degree", _distribution(arcs["in_degree"])),
        ("inputs", f"{_distinct(inputs)}; {inputs[f'arcs_{zero}']:,} arcs of {zero}"),
        ("", f"{'sorted' if inputs['sorted'] else 'not sorted'}, {order}"),
        ("outputs", f"{_distinct(outputs)}; {outputs['arcs_without']:,} arcs without, at most "
         f"{outputs['max_per_arc']} on an arc"),
        ("structure", f"{'connected' if structure['connected'] else 'not connected'}, {shape}"
         + ("; a cycle of epsilons" if structure["epsilon_cycle"] else "")),
        ("scores", f"{_range(scores['min'], scores['max'])}, mean {_number(scores['mean'])}; "
         f"{scores['positive_arcs']:,} arcs above 0"),
        ("final scores", _range(scores["final_min"], scores["final_max"])),
        ("log mass", f"{_range(mass['min'], mass['max'])} leaving a state; "
         f"{mass['states_above_one']:,} states above 0"),
    ]  # fmt: skip


def _distribution(values: dict[str, float]) -> str:
    ranks = ", ".join(f"{key[1:]} % {value:,}" for key, value in values.items() if key[0] == "p")
    return f"mean {values['mean']:.2f}, {ranks}, max {values['max']:,}"


def _distinct(labels: dict[str, Any]) -> str:
    of_table = f" of {labels['table_size']:,} in the table" if labels["table_size"] else ""
    return f"{labels['distinct']:,} labels{of_table}"


def _range(low: float | None, high: float | None) -> str:
    return f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes:,} bytes"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
