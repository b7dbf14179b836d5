"""A case of damage: to which file, and which check must say what of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.lang import damage as d
from tests.lang.validated import Workplace


@dataclass(frozen=True)
class Case:
    """One damage.

    Attributes:
        base: a key of `tests.lang.validated.BUILDERS`.
        file: in the workplace.
        name: of the damage.
        damage: changes the file.
        check: that must fail when the hashes are forged.
        says: what one of the errors must say then.
        step: what reads the file next: must raise a `MoeAsrError`, or make something again (return True).
        graph: that is validated with the language directory; None: that alone.
        options: of the validation.
    """

    base: str
    file: str
    name: str
    damage: d.Damage
    check: str
    says: str
    step: Callable[[Workplace], bool] | None = None
    graph: str | None = "ngram"
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.base}/{self.file}: {self.name}"


Row = tuple[str, d.Damage, str, str]


def cases_of(base: str, file: str, *rows: Row, **common: Any) -> list[Case]:
    return [Case(base, file, *row, **common) for row in rows]


def lang_files(base: str, file: str, *rows: Row) -> list[Case]:
    """G is not made over a directory that is not as it was written."""
    step = lambda place: place.make_g("ngram")  # noqa: E731
    return cases_of(base, f"lang/{file}", *rows, step=step, graph=None)


def graph_file(base: str, graph: str, file: str, *rows: Row) -> list[Case]:
    """Graphs are not made of a G that is not as it was written."""
    step = (lambda place: place.make_graph(graph)) if file.startswith("G.") else None
    return cases_of(base, f"{graph}/{file}", *rows, step=step, graph=graph)
