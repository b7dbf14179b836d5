"""k2's text form of an FSA, read and written without k2.

One ``src dst label [word] score`` line an arc, and the final state alone on the last line, as
``k2.to_str_simple`` writes and ``k2.Fsa.from_str`` reads it. Words are left out if no arc has any, one number
if none has several (0: none, -1: none on a final arc), else ``[1 2]`` lists
(``ragged_label_names=["aux_labels"]``). Scores are not negated, and written so that they come back exactly.
"""

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import Arcs


def arcs_to_k2_text(arcs: Arcs) -> str:
    """The text of arcs sorted by src, whose final state is the highest.

    Raises:
        GraphError: if no arc enters a final state.
    """
    if not (arcs.label == -1).any():
        raise GraphError("k2's text needs a final state: nothing is accepted")
    counts = arcs.num_words
    most = int(counts.max(initial=0))
    labels = arcs.label.tolist()
    words, splits = arcs.words.tolist(), arcs.row_splits.tolist()
    lines = []
    rows = zip(arcs.src.tolist(), arcs.dst.tolist(), labels, arcs.score.tolist(), strict=True)
    for arc, (src, dst, label, score) in enumerate(rows):
        some = words[splits[arc] : splits[arc + 1]]
        if most == 0:
            column = ""
        elif most == 1:
            column = f" {some[0] if some else min(label, 0)}"
        else:
            column = f" [{' '.join(map(str, some))}]"
        lines.append(f"{src} {dst} {label}{column} {score:.9g}\n")
    return "".join(lines) + f"{int(arcs.dst.max())}\n"


def arcs_from_k2_text(text: str, source: str = "k2 text") -> Arcs:
    """Reads what `arcs_to_k2_text` or k2 wrote, ``str(fsa)`` too.

    Raises:
        GraphError: with file and line, if it is no such text, or not a valid FSA: arcs not sorted by source,
            a label -1 that does not enter the final state, or another that does.
    """
    text = text.removeprefix("k2.Fsa: ").partition("\nproperties_str")[0]
    lines = [
        (number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()
    ]
    if not lines:
        raise GraphError(f"{source}: no FSA in it")
    final = _integer(lines[-1][1].strip(), f"{source}:{lines[-1][0]}", "the final state alone")
    src: list[int] = []
    dst: list[int] = []
    label: list[int] = []
    score: list[float] = []
    words: list[int] = []
    splits = [0]
    for number, line in lines[:-1]:
        where = f"{source}:{number}"
        fields, some = _split_words(line, where)
        ends = [_integer(field, where, "a state, or a label") for field in fields[:3]]
        if min(ends[:2]) < 0 or max(ends[:2]) > final or ends[2] < -1:
            raise GraphError(f"{where}: state or label out of range, the final state is {final}")
        if src and ends[0] < src[-1]:
            raise GraphError(
                f"{where}: arcs must be sorted by source, found {ends[0]} after {src[-1]}"
            )
        if (ends[1] == final) != (ends[2] == -1) or ends[0] == final:
            raise GraphError(
                f"{where}: label {ends[2]} from {ends[0]} to {ends[1]}: label -1, and it only, enters "
                f"the final state {final}, which has no arcs"
            )
        src.append(ends[0])
        dst.append(ends[1])
        label.append(ends[2])
        score.append(_score(fields[3], where))
        words += [word for word in some if word > 0]  # 0 and -1 are k2's fillers
        splits.append(len(words))
    if not src:
        raise GraphError(f"{source}: an FSA without arcs")
    if label.count(-1) == 0:
        raise GraphError(f"{source}: no arc enters the final state {final}")
    return Arcs(
        np.array(src, np.int32),
        np.array(dst, np.int32),
        np.array(label, np.int32),
        np.array(score, np.float32),
        np.array(splits, np.int64),
        np.array(words, np.int32),
    )


def _split_words(line: str, where: str) -> tuple[list[str], list[int]]:
    """The four fields of an arc, and its words."""
    before, bracket, rest = line.partition("[")
    fields = before.split()
    some: list[str] = []
    if bracket:
        inside, bracket, rest = rest.partition("]")
        some = inside.split()
        fields += rest.split() if bracket else []
    elif len(fields) == 5:
        some = [fields.pop(3)]
    if len(fields) != 4:
        raise GraphError(f"{where}: expected 'src dst label [word] score', found {line.strip()!r}")
    return fields, [_integer(field, where, "a word") for field in some]


def _integer(field: str, where: str, wanted: str) -> int:
    try:
        value = int(field)
    except ValueError:
        raise GraphError(f"{where}: expected {wanted}, found {field!r}") from None
    if not -1 <= value < 1 << 31:
        raise GraphError(f"{where}: expected {wanted}, found {field}")
    return value


def _score(field: str, where: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise GraphError(f"{where}: expected a finite score, found {field!r}")
    return value
