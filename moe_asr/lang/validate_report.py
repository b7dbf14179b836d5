"""What validation found: checks, their findings, and the report of all of them."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from moe_asr.errors import MoeAsrError
from moe_asr.files import PathLike, write_json

Severity = Literal["error", "warning"]
Status = Literal["ok", "warning", "failed", "skipped"]
_LABELS: dict[str, str] = {"ok": "ok", "warning": "WARN", "failed": "FAIL", "skipped": "skip"}
T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Attributes:
        severity: only errors make a validation fail.
        message: begins with the place (``file:line``, ``file: arc 5``), says what was found and expected.
    """

    severity: Severity
    message: str


class Skipped(Exception):
    """Raised by a check that cannot be made or was not asked for; the message says why."""


class Findings:
    """Collects what one check has to say; every error counts, the first ``limit`` are kept."""

    def __init__(self, limit: int) -> None:
        self.kept: list[Finding] = []
        self.num_errors = 0
        self.num_warnings = 0
        self.notes: list[str] = []
        self._limit = limit

    def error(self, message: str) -> None:
        """Something is wrong."""
        self.num_errors += 1
        if self.num_errors <= self._limit:
            self.kept.append(Finding("error", message))

    def errors(self, places: np.ndarray, describe: Callable[[int], str]) -> None:
        """Something is wrong at each of these places (arcs, states); few of them are described."""
        room = max(0, self._limit - self.num_errors)
        for place in places[:room].tolist():
            self.error(describe(place))
        self.num_errors += len(places[room:])

    def warn(self, message: str) -> None:
        """Something is unusual, and may be meant so."""
        self.num_warnings += 1
        if self.num_warnings <= self._limit:
            self.kept.append(Finding("warning", message))

    def note(self, text: str) -> None:
        """A figure for the line of the check."""
        self.notes.append(text)


@dataclass(frozen=True)
class CheckResult:
    """One check of one directory.

    Attributes:
        directory: that was checked, or the text.
        name: of the check, see docs/validation.md.
        status: ``failed`` if there is an error, ``skipped`` if it could not be made or was not asked for.
        note: figures; of a skipped one, why.
        findings: the first of each severity.
        num_errors, num_warnings: all of them.
        seconds: wall time.
    """

    directory: str
    name: str
    status: Status
    note: str
    findings: tuple[Finding, ...] = ()
    num_errors: int = 0
    num_warnings: int = 0
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """One line if all is well, else one for each finding."""
        if self.status in ("ok", "skipped"):
            return [_line(self.status, self.name, self.note or "as expected")]
        lines = []
        for severity, status in (("error", "failed"), ("warning", "warning")):
            shown = [item for item in self.findings if item.severity == severity]
            lines += [_line(status, self.name, item.message) for item in shown]
            number = self.num_errors if severity == "error" else self.num_warnings
            if number > len(shown):
                lines.append(_line(status, self.name, f"... and {number - len(shown):,} more"))
        return lines


def _line(status: str, name: str, text: str) -> str:
    return f"{_LABELS[status]:<5} {name}: {text}"


@dataclass
class Report:
    """All checks, in the order in which they were made."""

    results: list[CheckResult] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(result.status != "failed" for result in self.results)

    @property
    def counts(self) -> dict[str, int]:
        """The number of checks by status."""
        found = Counter(result.status for result in self.results)
        return {status: found[status] for status in ("ok", "warning", "failed", "skipped")}

    @property
    def failed(self) -> list[str]:
        """The names of the checks that failed."""
        return [result.name for result in self.results if result.status == "failed"]

    def errors(self, name: str | None = None) -> list[str]:
        """The messages of all errors that were kept; with ``name``, those of the checks of that name."""
        return [
            finding.message
            for result in self.results
            if name is None or result.name == name
            for finding in result.findings
            if finding.severity == "error"
        ]

    def text(self) -> str:
        """All lines, a line of counts last."""
        lines = [line for result in self.results for line in result.lines()]
        return "\n".join([*lines, self.summary()])

    def summary(self) -> str:
        """One line."""
        counts = self.counts
        seconds = sum(result.seconds for result in self.results)
        return (
            f"{len(self.results)} checks: {counts['ok']} ok, {counts['warning']} with warnings, "
            f"{counts['failed']} failed, {counts['skipped']} skipped; {seconds:.1f} s"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, see docs/validation.md."""
        return {
            "ok": self.ok,
            "counts": self.counts,
            "seconds": round(sum(result.seconds for result in self.results), 3),
            "checks": [
                {
                    "directory": result.directory,
                    "name": result.name,
                    "status": result.status,
                    "note": result.note,
                    "errors": result.num_errors,
                    "warnings": result.num_warnings,
                    "seconds": round(result.seconds, 3),
                    "findings": [
                        {"severity": finding.severity, "message": finding.message}
                        for finding in result.findings
                    ],
                }
                for result in self.results
            ],
        }

    def write_json(self, path: PathLike) -> None:
        """Writes `to_dict`, atomically."""
        write_json(path, self.to_dict())


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a check gives to later ones: the value it read and found usable, or None."""

    name: str
    value: T | None


class Runner:
    """Makes checks one after another; those that need what an earlier one could not give are skipped.

    Args:
        report: gets the results.
        max_findings: how many errors, and warnings, of a check are kept.
        on_result: is told each result when it is there.
    """

    def __init__(
        self,
        report: Report,
        max_findings: int = 10,
        on_result: Callable[[CheckResult], None] | None = None,
    ) -> None:
        self._report = report
        self._max_findings = max_findings
        self._on_result = on_result
        self.directory = ""

    def __call__(self, name: str, check: Callable[..., T | None], *args: Any) -> Outcome[T]:
        """Calls ``check(findings, *args)``, every `Outcome` among ``args`` replaced by its value.

        A `MoeAsrError` that it raises is an error that it found. What it returns is for later checks; None
        is nothing that they could use.
        """
        missing = _missing(args)
        if missing is not None:
            return self._skip(name, f"needs '{missing}', which could not be used")
        values = _values(args)
        found = Findings(self._max_findings)
        start = time.perf_counter()
        try:
            value = check(found, *values)
        except Skipped as reason:
            return self._skip(name, str(reason))
        except MoeAsrError as error:
            found.error(str(error))
            value = None
        status: Status = "failed" if found.num_errors else "warning" if found.num_warnings else "ok"
        result = CheckResult(
            self.directory,
            name,
            status,
            "; ".join(found.notes),
            tuple(found.kept),
            found.num_errors,
            found.num_warnings,
            time.perf_counter() - start,
        )
        self._add(result)
        return Outcome(name, value)

    def derive(self, function: Callable[..., T], *args: Any) -> Outcome[T]:
        """What a function makes of earlier outcomes; not a check, and so not in the report."""
        missing = _missing(args)
        if missing is not None:
            return Outcome(missing, None)
        return Outcome(function.__name__, function(*_values(args)))

    def _skip(self, name: str, why: str) -> Outcome[Any]:
        self._add(CheckResult(self.directory, name, "skipped", why))
        return Outcome(name, None)

    def _add(self, result: CheckResult) -> None:
        self._report.results.append(result)
        if self._on_result is not None:
            self._on_result(result)


def _missing(args: tuple[Any, ...]) -> str | None:
    """The name of the first outcome among ``args`` that has no value."""
    return next((a.name for a in args if isinstance(a, Outcome) and a.value is None), None)


def _values(args: tuple[Any, ...]) -> list[Any]:
    return [arg.value if isinstance(arg, Outcome) else arg for arg in args]
