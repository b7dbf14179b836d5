"""Keeping the lattices of a decoding run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from moe_asr.config import to_dict
from moe_asr.decode.first_pass import FirstPass
from moe_asr.decode.registry import DecodingMethod
from moe_asr.errors import ConfigError
from moe_asr.files import PathLike
from moe_asr.fsa.lattice_file import LatticeWriter


@contextmanager
def keep_lattices(
    methods: Sequence[DecodingMethod],
    directory: PathLike | None,
    metadata: Mapping[str, Any] | None = None,
) -> Iterator[list[Path]]:
    """While the block runs, what is searched goes to ``directory/lattices_METHOD.safetensors``.

    The files appear when the block ends without an exception; `LatticeArchive` reads them.

    Args:
        methods: those that search are taken; the others are passed over. Of methods that share a first pass
            the file bears the name of the first.
        directory: where the files go; None keeps nothing.
        metadata: plain JSON values for the files, beside the method's name and the search's options.

    Yields:
        The files.

    Raises:
        ConfigError: if none of the methods makes lattices.
    """
    with ExitStack() as stack:
        files = []
        taken: list[FirstPass] = []
        for method in methods if directory is not None else ():
            first_pass = method.first_pass
            if first_pass is None or any(first_pass is other for other in taken):
                continue
            taken.append(first_pass)
            path = Path(directory) / f"lattices_{method.name}.safetensors"  # type: ignore[arg-type]
            options = _options(first_pass)
            about = {**(metadata or {}), "method": method.name, "options": options}
            about["has_phrases"] = method.resources.context_of is not None
            graph = first_pass.graph
            writer = LatticeWriter(path, graph.token_table, graph.word_table, about)
            first_pass.lattice_sink = stack.enter_context(writer).write
            stack.callback(setattr, first_pass, "lattice_sink", None)
            files.append(path)
        if directory is not None and not files:
            names = ", ".join(method.name for method in methods)
            raise ConfigError(f"lattices cannot be kept: {names} makes none")
        yield files


def _options(first_pass: FirstPass) -> dict[str, Any]:
    """As `from_dict` takes them; JSON has no infinity, which becomes ``"inf"``."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in to_dict(first_pass.options).items()
    }
