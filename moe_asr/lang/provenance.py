"""Steps that write files and remember what the files came from: nothing stale is ever used.

A directory of built files holds ``provenance.json``: for each step its command, its settings, and the
SHA-256 of every input and output. `make` does a step again unless all of these are as recorded;
`verify` refuses outputs that are not what a step wrote, or whose inputs have changed since, and so on back
to what no step made; `make` refuses such outputs of other steps as its inputs.
"""

import difflib
import hashlib
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from moe_asr.errors import ConfigError, StaleError
from moe_asr.files import PathLike, read_json, write_json

PROVENANCE_FILE = "provenance.json"
_FORMAT = 1


def make(
    directory: PathLike,
    step: str,
    inputs: Mapping[str, PathLike],
    outputs: Sequence[str],
    settings: Mapping[str, Any],
    build: Callable[[Path], None],
    version: int = 1,
    command: str | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Makes the files ``outputs`` of ``directory``, unless they are there and up to date.

    Args:
        directory: made if it is not there.
        step: a name, unique in the directory.
        inputs: files, or whole folders, by role (``lexicon``); they are hashed, so a changed one means
            that the step is done again, and an unchanged one that was only touched does not. Those that
            other steps made must be up to date themselves (`verify_made`).
        outputs: names of files in ``directory``, folders in them allowed (``tokenizer/tokens.txt``).
            What the step wrote before under other names is removed; what another step wrote under these
            is no longer on record as that step's.
        settings: plain JSON values that decide what comes out, with the inputs.
        build: writes all of the outputs into the folder that it is given. They move to ``directory`` only
            when it has returned: an interrupted or failing step leaves the old files alone.
        version: of the code of the step; raise it when the same inputs would give other outputs.
        command: the command line that is recorded (default: that of this process).
        report: is told whether the step was done and, if so, why.

    Returns:
        Whether the step was done.

    Raises:
        ConfigError: if an input is not there or is one of the outputs, ``provenance.json`` is damaged, or
            ``directory`` cannot be written to.
        StaleError: if an input is stale itself, or changes while the step runs.
    """
    directory = Path(directory)
    seen: set[tuple[Path, str]] = set()
    for role, path in inputs.items():
        if Path(path).resolve() in {(directory / name).resolve() for name in outputs}:
            raise ConfigError(f"{path} ({role}): step '{step}' writes this file and cannot read it")
        _refuse(_stale_made(path, seen))
    identity: dict[str, Any] = {
        "version": version,
        "settings": json.loads(json.dumps(dict(settings), allow_nan=False)),
        "inputs": {
            role: {"path": _recorded_path(path, directory), "sha256": hash_path(path)}
            for role, path in inputs.items()
        },
    }
    steps = _read(directory)
    reason = _why_not(steps.get(step), identity, directory, outputs)
    if reason is None:
        report(f"{directory.resolve().name}/{step}: up to date")
        return False
    report(f"{directory.resolve().name}/{step}: made ({reason})")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{step}.", dir=directory))
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written to: {error.strerror}") from error
    try:
        build(temporary)
        missing = [name for name in outputs if not (temporary / name).is_file()]
        assert not missing, f"step {step} did not write {missing}"
        # an input that changed while the step ran: no telling what the outputs came from
        for role, path in inputs.items():
            if hash_path(path) != identity["inputs"][role]["sha256"]:
                raise StaleError(
                    f"{path}: changed while step '{step}' was reading it; run it again"
                )
        for name in outputs:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary / name, directory / name)
        for name in set(steps.get(step, {}).get("outputs", ())) - set(outputs):
            (directory / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    steps = _without(_read(directory), outputs)
    steps[step] = {
        "command": command
        if command is not None
        else shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **identity,
        "outputs": {name: hash_path(directory / name) for name in outputs},
    }
    write_json(directory / PROVENANCE_FILE, {"format": _FORMAT, "steps": steps})
    return True


def verify(directory: PathLike, step: str | None = None) -> None:
    """Raises `StaleError` unless a step's outputs are what it wrote, from its inputs as they are now.

    Inputs that other steps made are held to the same. ``step`` None means every step.
    """
    _refuse(_stale(Path(directory), step, set()))


def verify_made(path: PathLike) -> None:
    """Raises `StaleError` if a step made this file or folder, and `verify` objects to what it made.

    The record is looked for in the folder itself, in that of the file, and in the one above. What no step
    made is what it is.
    """
    _refuse(_stale_made(path, set()))


def verify_unchanged(path: PathLike) -> None:
    """As `verify_made`, but what is gone is no objection: a file may be used where it was not made."""
    _refuse(_stale_made(path, set(), gone_is_stale=False))


def makers(path: PathLike) -> list[tuple[Path, str]]:
    """The steps, with their directories, that made a file, or something in a folder.

    Their records are looked for in the folder that it lies in, and in the one above; of a link, also there
    where it leads.
    """
    absolute, resolved = Path(path).absolute(), Path(path).resolve()
    found: dict[tuple[Path, str], tuple[Path, str]] = {}
    for path in dict.fromkeys((absolute, resolved)):
        for directory in path.parents[:2]:
            name = path.relative_to(directory).as_posix()
            for step, record in _read(directory).items():
                if any(f"{output}/".startswith(f"{name}/") for output in record["outputs"]):
                    found.setdefault((directory.resolve(), step), (directory, step))
    return list(found.values())


def find_stale(directory: PathLike, step: str | None = None) -> list[str]:
    """Everything that `verify` would object to; `StaleError` if the step was never done."""
    return list(_stale(Path(directory), step, set()))


def recorded_inputs(directory: PathLike, step: str) -> dict[str, Path]:
    """Where the inputs of a step were, by role; `StaleError` if the step was never done."""
    directory = Path(directory)
    inputs = _record(directory, step)["inputs"]
    return {role: directory / source["path"] for role, source in inputs.items()}


def inputs_of(path: PathLike) -> dict[str, Path]:
    """Where the inputs of the step that made a file were, by role; {} if none is on record beside it."""
    path = Path(path)
    for step, record in _read(path.parent).items():
        if path.name in record["outputs"]:
            return recorded_inputs(path.parent, step)
    return {}


def recorded_step(directory: PathLike, step: str) -> dict[str, Any]:
    """All that is on record of a step: its command, version, settings, inputs and outputs.

    Raises:
        StaleError: if it was never done.
        ConfigError: if ``provenance.json`` is damaged.
    """
    return _record(Path(directory), step)


def recorded_settings(directory: PathLike, step: str) -> dict[str, Any]:
    """The settings that a step was last done with; `StaleError` if it was never done."""
    return dict(_record(Path(directory), step)["settings"])


def recorded_command(directory: PathLike, step: str) -> str:
    """The command line that a step was last done by; `StaleError` if it was never done."""
    return str(_record(Path(directory), step)["command"])


def hash_path(path: PathLike) -> str:
    """SHA-256 of a file's content, or of the names and contents of all files of a folder.

    Raises:
        ConfigError: if it is not there or cannot be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            digest = hashlib.sha256()
            for file in sorted(file for file in path.rglob("*") if file.is_file()):
                digest.update(f"{file.relative_to(path).as_posix()}\0{hash_path(file)}\n".encode())
            return digest.hexdigest()
        with open(path, "rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _recorded_path(path: PathLike, directory: Path) -> str:
    """Relative where the input lies in the directory itself, which can then be moved."""
    absolute = Path(path).resolve()
    try:
        return absolute.relative_to(directory.resolve()).as_posix()
    except ValueError:
        return str(absolute)


def _refuse(problems: Iterator[str]) -> None:
    for problem in problems:
        raise StaleError(problem)


def _stale(
    directory: Path, step: str | None, seen: set[tuple[Path, str]], gone_is_stale: bool = True
) -> Iterator[str]:
    """What is wrong with what a step made and then with what it was made from; not with steps ``seen``."""
    steps = _read(directory)
    if step is not None and step not in steps or not steps:
        near = difflib.get_close_matches(step or "", steps, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        what = f"step '{step}'" if step is not None else "any step"
        raise StaleError(f"{directory / PROVENANCE_FILE}: no record of {what}{hint}")
    unchanged = []
    for name, record in steps.items():
        if step not in (None, name) or (directory.resolve(), name) in seen:
            continue
        seen.add((directory.resolve(), name))
        for output, digest in record["outputs"].items():
            if not gone_is_stale and not (directory / output).exists():
                continue
            problem = _difference(directory / output, digest)
            if problem:
                yield f"{directory / output}: {problem} since step '{name}' wrote it"
        for role, source in record["inputs"].items():
            path = directory / source["path"]  # an absolute path stays what it is
            if not gone_is_stale and not path.exists():
                continue
            problem = _difference(path, source["sha256"])
            if problem:
                yield (
                    f"{path} ({role}): {problem} since step '{name}' of {directory} read it: "
                    f"run it again: {record['command']}"
                )
            else:
                unchanged.append(path)
    for path in unchanged:
        yield from _stale_made(path, seen, gone_is_stale)


def _stale_made(
    path: PathLike, seen: set[tuple[Path, str]], gone_is_stale: bool = True
) -> Iterator[str]:
    """What is wrong with a file or folder, if a step made it."""
    path = Path(path).absolute()
    if (path / PROVENANCE_FILE).is_file():
        yield from _stale(path, None, seen, gone_is_stale)
    for directory, step in makers(path):
        yield from _stale(directory, step, seen, gone_is_stale)


def _without(steps: dict[str, Any], outputs: Sequence[str]) -> dict[str, Any]:
    """The records of steps, as if they had not written these outputs."""
    kept = {}
    for step, record in steps.items():
        others = {name: sha for name, sha in record["outputs"].items() if name not in outputs}
        if others:
            kept[step] = {**record, "outputs": others}
    return kept


def _difference(path: Path, digest: str) -> str | None:
    if not path.exists():
        return "is gone"
    return None if hash_path(path) == digest else "has changed"


def _why_not(
    record: Any, identity: Mapping[str, Any], directory: Path, outputs: Sequence[str]
) -> str | None:
    """Why a step must be done; None if it need not."""
    if record is None:
        return "never made"
    if record["version"] != identity["version"]:
        return "the step's code is of another version"
    if record["settings"] != identity["settings"]:
        changed = [
            key
            for key in {**record["settings"], **identity["settings"]}
            if record["settings"].get(key) != identity["settings"].get(key)
        ]
        return f"another {', '.join(changed)}"
    before = {role: source["sha256"] for role, source in record["inputs"].items()}
    now = {role: source["sha256"] for role, source in identity["inputs"].items()}
    if before != now:
        changed = [role for role in {**before, **now} if before.get(role) != now.get(role)]
        return f"changed: {', '.join(changed)}"
    if set(record["outputs"]) != set(outputs):
        return "other outputs are wanted"
    for name, digest in record["outputs"].items():
        problem = _difference(directory / name, digest)
        if problem:
            return f"{name} {problem}"
    return None


def _read(directory: Path) -> dict[str, Any]:
    """The records of all steps; {} if there is no ``provenance.json``."""
    path = directory / PROVENANCE_FILE
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ConfigError(f"{path}: not a record of provenance of format {_FORMAT}")
    steps = content.get("steps")
    wanted = {"command", "version", "settings", "inputs", "outputs"}
    if not isinstance(steps, dict) or not all(
        isinstance(record, dict)
        and set(record) == wanted
        and isinstance(record["settings"], dict)
        and _all_hashes(record["outputs"])
        and all(_is_inside(name) for name in record["outputs"])
        and isinstance(record["inputs"], dict)
        and all(
            isinstance(source, dict) and set(source) == {"path", "sha256"} and _all_hashes(source)
            for source in record["inputs"].values()
        )
        for record in steps.values()
    ):
        raise ConfigError(f"{path}: damaged: expected the steps with {', '.join(sorted(wanted))}")
    return steps


def _record(directory: Path, step: str) -> dict[str, Any]:
    steps = _read(directory)
    if step not in steps:
        raise StaleError(f"{directory / PROVENANCE_FILE}: no record of step '{step}'")
    record: dict[str, Any] = steps[step]
    return record


def _all_hashes(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(value, str) for value in values.values())


def _is_inside(name: str) -> bool:
    """Whether a name is of a file in the directory: outputs that are no longer wanted are removed."""
    return not os.path.isabs(name) and ".." not in Path(name).parts
