"""Checks of what directories were made from, and of the model that they are to be used with."""

import re
from collections.abc import Iterable
from pathlib import Path

from moe_asr.config import from_dict
from moe_asr.errors import ConfigError, MoeAsrError
from moe_asr.files import PathLike, read_yaml
from moe_asr.lang import provenance
from moe_asr.lang.directory import FILES, L_DISAMBIG_FILE, STEP, TOKENIZER_DIR, TOKENS, WORDS
from moe_asr.lang.make_g import G_FILE
from moe_asr.lang.make_g import STEP as G_STEP
from moe_asr.lang.make_graph import STEP as GRAPH_STEP
from moe_asr.lang.make_graph import TOKEN_STEP
from moe_asr.lang.validate_files import same_table
from moe_asr.lang.validate_report import Findings
from moe_asr.text.tokenizer import SETTINGS_FILE, TOKENS_FILE, Tokenizer, load_tokenizer

LG_FILE, HLG_FILE = "LG.safetensors", "HLG.safetensors"
T_FILE, HT_FILE = "T.safetensors", "HT.safetensors"
_MISSING_INPUT = re.compile(r"\): is gone since step '.*' of .* read it: ")
# by role: which files of a language directory the graphs were made from
_GRAPH_INPUTS = {"L_disambig": L_DISAMBIG_FILE, "tokens": TOKENS, "words": WORDS}


def check_lang_provenance(found: Findings, lang: Path, allow_missing: bool) -> bool | None:
    """Files are as the step wrote them, and what it read is as it was then.

    Returns:
        Whether the lexicon has probabilities, which is on record only.
    """
    record = provenance.recorded_step(lang, STEP)
    _check_stale(found, lang, allow_missing)
    wanted = [*FILES, f"{TOKENIZER_DIR}/{SETTINGS_FILE}", f"{TOKENIZER_DIR}/{TOKENS_FILE}"]
    _check_names(found, lang, STEP, "output", wanted, record["outputs"])
    _check_names(found, lang, STEP, "input", wanted[-2:], record["inputs"])
    _check_one_of(found, lang, STEP, ["words", "lexicon"], record["inputs"])
    for name, digest in record["outputs"].items():
        if name in record["inputs"] and record["inputs"][name]["sha256"] != digest:
            found.error(f"{lang / name}: is not the same file as {record['inputs'][name]['path']}")
    found.note(f"{len(record['inputs'])} inputs, {len(record['outputs'])} outputs")
    flag = record["settings"].get("probabilities")
    if isinstance(flag, bool):
        return flag
    path = lang / provenance.PROVENANCE_FILE
    found.error(f"{path}: step '{STEP}': probabilities is {flag!r}; expected true or false")
    return None


def check_graph_provenance(found: Findings, graph: Path, lang: Path, allow_missing: bool) -> bool:
    """As `check_lang_provenance`, of G and the graphs; and what they were made from is this directory."""
    record = provenance.recorded_step(graph, G_STEP)
    _check_names(found, graph, G_STEP, "output", [G_FILE], record["outputs"])
    _check_one_of(found, graph, G_STEP, ["arpa", "grammar"], record["inputs"])
    _check_lang_inputs(found, graph, G_STEP, lang, {"words": WORDS})
    record = provenance.recorded_step(graph, GRAPH_STEP)
    _check_names(found, graph, GRAPH_STEP, "output", [LG_FILE, HLG_FILE], record["outputs"])
    _check_names(found, graph, GRAPH_STEP, "input", ["G"], record["inputs"])
    _check_lang_inputs(found, graph, GRAPH_STEP, lang, _GRAPH_INPUTS)
    _check_stale(found, graph, allow_missing)
    found.note(f"made from {lang}")
    return True


def check_token_graph_provenance(
    found: Findings, graph: Path, lang: Path, allow_missing: bool
) -> bool:
    """As `check_graph_provenance`, of an n-gram of tokens and its graphs."""
    record = provenance.recorded_step(graph, TOKEN_STEP)
    _check_names(found, graph, TOKEN_STEP, "output", [G_FILE, T_FILE, HT_FILE], record["outputs"])
    _check_names(found, graph, TOKEN_STEP, "input", ["arpa"], record["inputs"])
    tokens = {"tokens": f"{TOKENIZER_DIR}/{TOKENS_FILE}"}
    _check_lang_inputs(found, graph, TOKEN_STEP, lang, tokens)
    _check_stale(found, graph, allow_missing)
    found.note(f"made from the tokens of {lang}")
    return True


def is_token_graph(graph: Path) -> bool:
    """Whether it is on record that a directory's graphs are of tokens."""
    try:
        provenance.recorded_step(graph, TOKEN_STEP)
    except MoeAsrError:  # no such record, or none that can be read: a check says so
        return False
    return True


def check_units(
    found: Findings,
    lang: Path,
    tokenizer: Tokenizer,
    directory: PathLike | None,
    is_model: bool,
    num_outputs: int | None,
) -> int | None:
    """Tokens are those of the model, its tokenizer or its number of outputs; returns that number.

    Args:
        directory: of the model or tokenizer, if one is given.
        is_model: which of the two.
        num_outputs: if that is given.
    """
    expected = tokenizer.vocab_size
    if directory is not None:
        _check_same_tokenizer(found, lang / TOKENIZER_DIR, Path(directory), tokenizer)
        if is_model:
            num_outputs = _model_outputs(Path(directory))
        found.note(f"the tokenizer of {directory}")
    if num_outputs is not None and num_outputs != expected:
        found.error(f"{lang / TOKENS}: {expected} tokens, but the model has {num_outputs} outputs")
    if directory is None and num_outputs is None:
        found.note(
            "no model was given: the model is taken to have as many outputs as there are tokens"
        )
    else:
        found.note(f"{expected} outputs")
    return None if found.num_errors else expected


def _model_outputs(model: Path) -> int:
    from moe_asr.model.config import ModelConfig

    path = model / "config.yaml"
    values = read_yaml(path)
    if not isinstance(values, dict) or "model" not in values:
        raise ConfigError(f"{path}: no section 'model'")
    return from_dict(ModelConfig, values["model"], str(path)).vocab_size


def _check_same_tokenizer(found: Findings, mine: Path, other: Path, tokenizer: Tokenizer) -> None:
    theirs = load_tokenizer(other)
    if theirs.kind != tokenizer.kind:
        found.error(f"{mine}: a {tokenizer.kind} tokenizer, expected {theirs.kind} by {other}")
        return
    if not same_table(found, tokenizer.tokens, theirs.tokens, str(other), str(mine)):
        return
    for name in tokenizer.files:
        if (mine / name).read_bytes() != (other / name).read_bytes():
            found.error(f"{mine / name}: is not the same file as {other / name}")


def _check_stale(found: Findings, directory: Path, allow_missing: bool) -> None:
    """Everything that `provenance.verify` would refuse, back to what no step made."""
    for problem in provenance.find_stale(directory):
        if allow_missing and _MISSING_INPUT.search(problem):
            found.warn(problem)
        else:
            found.error(problem)


def _check_lang_inputs(
    found: Findings, graph: Path, step: str, lang: Path, files: dict[str, str]
) -> None:
    """The step read files of the same contents as those of ``lang``."""
    inputs = provenance.recorded_step(graph, step)["inputs"]
    _check_names(found, graph, step, "input", list(files), inputs)
    for role, name in files.items():
        if role not in inputs or not (lang / name).is_file():
            continue
        digest = provenance.hash_path(lang / name)
        if inputs[role]["sha256"] != digest:
            found.error(
                f"{graph}: step '{step}' was done with another {name} than that of {lang} "
                f"(it read {inputs[role]['path']})"
            )


def _check_names(
    found: Findings, directory: Path, step: str, what: str, wanted: list[str], names: Iterable[str]
) -> None:
    for name in wanted:
        if name not in names:
            path = directory / provenance.PROVENANCE_FILE
            found.error(f"{path}: step '{step}' has no {what} '{name}' on record")


def _check_one_of(
    found: Findings, directory: Path, step: str, roles: list[str], names: Iterable[str]
) -> None:
    there = [role for role in roles if role in names]
    if len(there) != 1:
        path = directory / provenance.PROVENANCE_FILE
        found.error(f"{path}: step '{step}': expected {' or '.join(roles)} as input, found {there}")
