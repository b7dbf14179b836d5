"""The package as a whole: its layers, what importing it costs, its dependencies and its pins."""

import ast
import importlib.metadata
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "moe_asr"
# The rooms in the order of the pipeline: a room imports from itself and from those before it.
ROOMS = [
    "text",
    "audio",
    "data",
    "nn",
    "model",
    "lm",
    "fsa",
    "lang",
    "decode",
    "evaluate",
    "recognizer",
    "train",
    "cli",
]
COMMON = [
    "errors",
    "files",
    "config",
    "torch_versions",
    "growing",
]  # what every room may import, and which imports no room
OPTIONAL = ["k2", "kaldifeat", "espeakng_loader", "sounddevice"]
HEAVY = ["k2", "lhotse", "matplotlib", "tensorboard", "scipy"]
SUBPACKAGES = sorted(
    ".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(source: str, module: str, is_package: bool = False) -> set[str]:
    """Dotted names that `source` imports at any depth of its code, relative imports resolved.

    `from a import b` counts as a.b: whether b is a module or not, it lies in a.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")
                drop = node.level - is_package
                package = package[: len(package) - drop]
                base = ".".join(package + ([base] if base else []))
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def room_of(dotted: str) -> str:
    """`moe_asr.nn.moe.router` -> "nn"; "" for the package itself, and for `moe_asr.__version__`."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS + COMMON else ""


def layering_faults(module: str, source: str, is_package: bool = False) -> list[str]:
    """The imports of one module that run against the order of the pipeline."""
    room = room_of(module)
    position = ROOMS.index(room) if room in ROOMS else -1
    faults = []
    names = imported_names(source, module, is_package)
    for name in sorted(names):
        if name.split(".")[0] == "moe_asr":
            target = room_of(name)
            if target in ROOMS and ROOMS.index(target) > position:
                faults.append(f"{module} imports {name}")
            if room == "fsa" and target in ("nn", "model"):
                faults.append(f"{module} imports {name}: fsa knows nothing of networks")
    if room == "fsa":
        nodes = ast.walk(ast.parse(source))
        attributes = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
        if any(re.match(r"torch\.nn(\.|$)", use) for use in names | attributes):
            faults.append(f"{module} uses torch.nn")
    return faults


def run_python(code: str) -> str:
    """Runs `code` in a fresh interpreter at the root of the repository; returns what it prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def project_table() -> dict[str, list[str]]:
    """The requirements in pyproject.toml: {"": dependencies, extra: its requirements}.

    Python 3.10 has no TOML reader; the lists are made of quoted strings, one on each line.
    """
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = text[text.index("[project]") : text.index("[tool.")]
    table = {}
    for key, body in re.findall(r"^([\w-]+) = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE):
        table[key] = re.findall(r'^ +"([^"]+)"', body, re.MULTILINE)
    for key, only in re.findall(r'^([\w-]+) = \["([^"]+)"\]$', text, re.MULTILINE):
        table[key] = [only]
    table[""] = table.pop("dependencies")
    return table


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def test_every_room_is_known():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert folders == set(ROOMS)
    assert modules == set(COMMON)


def test_every_folder_with_code_is_a_package():
    """setuptools leaves out folders without an __init__.py."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_imports_run_along_the_pipeline():
    faults = [
        fault
        for path in sorted(PACKAGE.rglob("*.py"))
        for fault in layering_faults(
            module_name(path), path.read_text(encoding="utf-8"), path.name == "__init__.py"
        )
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("module", "source", "num_faults"),
    [
        ("moe_asr.decode.one_best", "from moe_asr.fsa.graph import DecodingGraph", 0),
        ("moe_asr.fsa.graph", "from moe_asr.decode import hlg", 1),
        ("moe_asr.fsa.graph", "from moe_asr import decode", 1),
        ("moe_asr.nn.layers", "def f():\n    import moe_asr.fsa.graph", 1),
        ("moe_asr.model.u2", "from ..fsa import graph", 1),
        ("moe_asr.nn.moe.router", "from ...fsa.graph import DecodingGraph", 1),
        ("moe_asr.nn.moe.router", "from .experts import Experts\nfrom ..cache import Cache", 0),
        ("moe_asr.fsa.graph", "from moe_asr.nn import layers", 1),
        ("moe_asr.fsa.graph", "from torch import nn", 1),
        ("moe_asr.fsa.graph", "import torch.nn.functional as F", 1),
        ("moe_asr.fsa.graph", "import torch\ntorch.nn.functional.pad", 1),
        ("moe_asr.fsa.graph", "import torch\nfrom moe_asr.errors import GraphError", 0),
        ("moe_asr.files", "from moe_asr.text import tokenizer", 1),
        ("moe_asr.errors", "from moe_asr import __version__", 0),
    ],
)
def test_layering_faults_are_found(module, source, num_faults):
    assert len(layering_faults(module, source)) == num_faults


def test_relative_imports_of_a_package_are_resolved():
    assert imported_names("from .graph import X", "moe_asr.fsa", True) == {"moe_asr.fsa.graph.X"}
    assert imported_names("from . import graph", "moe_asr.fsa.search") == {"moe_asr.fsa.graph"}


def test_importing_the_package_does_nothing_else():
    """No torch or numpy, no change to the environment, warnings, logging or random state."""
    report = run_python(
        "import json, logging, os, random, sys, warnings\n"
        "def state():\n"
        "    return [dict(os.environ), len(warnings.filters), logging.root.handlers[:],\n"
        "            logging.root.level, random.getstate(), sys.path[:]]\n"
        "modules, before = set(sys.modules), state()\n"
        "import moe_asr\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - modules}\n"
        "print(json.dumps([sorted(new), state() == before]))"
    )
    new, unchanged = json.loads(report)
    assert unchanged
    assert [name for name in new if name not in sys.stdlib_module_names] == ["moe_asr"]


@pytest.mark.parametrize("package", SUBPACKAGES)
def test_subpackages_import_without_heavy_dependencies(package):
    report = run_python(
        f"import sys, {package}\nprint([name for name in {HEAVY} if name in sys.modules])"
    )
    assert report.strip() == "[]"


def test_every_module_imports_without_the_optional_dependencies():
    modules = sorted(
        module_name(path) for path in PACKAGE.rglob("*.py") if path.name != "__main__.py"
    )
    run_python(
        f"import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({OPTIONAL}))\n"  # None: importing it raises ImportError
        f"for name in {modules}:\n"
        f"    importlib.import_module(name)"
    )


def test_every_import_is_declared():
    """Each third-party module that the package imports belongs to a declared requirement."""
    declared = {
        canonical(Requirement(line).name)
        for key, lines in project_table().items()
        if key != "dev"
        for line in lines
    }
    distributions = importlib.metadata.packages_distributions()
    undeclared = set()
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for name in imported_names(source, module_name(path), path.name == "__init__.py"):
            top = name.partition(".")[0]
            if top == "moe_asr" or top in sys.stdlib_module_names:
                continue
            owners = {canonical(owner) for owner in distributions.get(top, [top])}
            if not owners & declared:
                undeclared.add(f"{module_name(path)} imports {top}")
    assert undeclared == set()


def test_both_environments_pin_every_dependency_exactly():
    table = project_table()
    base = {canonical(Requirement(line).name): Requirement(line) for line in table[""]}
    for extra in ("k2", "current", "synthetic", "live", "dev", "kaldifeat"):
        for line in table[extra]:
            assert re.search(r"==[\w.]+($|;)", line), f"{extra}: {line} is not an exact pin"
    for extra in ("k2", "current"):
        pins = {canonical(Requirement(line).name): line for line in table[extra]}
        assert pins.keys() - {"k2"} == base.keys()
        for name, requirement in base.items():
            version = pins[name].partition("==")[2]
            assert requirement.specifier.contains(version), f"{pins[name]} is not {requirement}"


def test_setup_script_installs_the_pinned_k2():
    script = (ROOT / "scripts" / "setup_env.sh").read_text(encoding="utf-8")
    version = re.search(r"^k2_version=(\S+)$", script, re.MULTILINE)
    assert version and f"k2=={version[1]}" in project_table()["k2"]


def test_constraints_are_exact_and_leave_the_pins_to_pyproject():
    lines = (ROOT / "scripts" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    names = {canonical(Requirement(line).name) for line in lines}
    pinned = {canonical(Requirement(x).name) for xs in project_table().values() for x in xs}
    assert [line for line in lines if not re.search(r"==[\w.]+($|;)", line)] == []
    assert names & pinned == set()


def test_installed_versions_are_the_pinned_ones():
    """In an environment that scripts/setup_env.sh made; others may hold what they like."""
    stamp = Path(sys.prefix) / "moe-asr-environment"
    if not stamp.exists():
        pytest.skip("this environment was not made by scripts/setup_env.sh")
    name = stamp.read_text(encoding="utf-8").split()[0]
    table = project_table()
    lines = table[name] + table["synthetic"] + table["dev"]
    lines += [
        line
        for line in (ROOT / "scripts" / "constraints.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#") and installed_version(Requirement(line).name)
    ]
    wrong = []
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            version = installed_version(requirement.name)
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                wrong.append(f"{line}, found {version}")
    assert wrong == []
    assert installed_version("moe-asr"), "the package itself is not installed"
    assert (name == "k2") == (sys.version_info[:2] == (3, 10))


def test_the_command_is_installed_and_tells_its_version():
    scripts = importlib.metadata.entry_points(group="console_scripts", name="moe-asr")
    if not scripts:
        pytest.skip("moe-asr is not installed in this environment")
    command = Path(sys.executable).parent / "moe-asr"
    shown = subprocess.run([str(command), "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["moe-asr", importlib.metadata.version("moe-asr")]


@pytest.fixture(scope="module", autouse=True)
def generator_states_before_and_after():
    """The seed fixture gives back the generators' states: this one wraps the whole file."""
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    yield
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == before


@pytest.mark.parametrize("repetition", range(2))
def test_each_test_starts_from_the_same_seed(seed, repetition):
    expected = torch.rand(3, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(torch.rand(3), expected)
    assert np.random.rand() == np.random.RandomState(seed).rand()
    assert random.random() == random.Random(seed).random()


def test_tests_run_on_one_thread():
    assert torch.get_num_threads() == 1
