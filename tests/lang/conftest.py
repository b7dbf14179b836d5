"""Language directories with graphs: built once for all tests that only read or copy them."""

from pathlib import Path

import pytest

from tests.lang import damage
from tests.lang.validated import BUILDERS, Workplace


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workplace]:
    """A workplace of each kind; that of byte pairs has graphs of other words, tokens and topology too."""
    folder = tmp_path_factory.mktemp("built")
    places = {}
    for name, build in BUILDERS.items():
        (folder / name).mkdir()
        places[name] = build(folder / name)
    for name in ("other", "other_tokens", "modified"):
        other = places["bpe"].copy(folder / name)
        if name == "other":
            damage.delete_line(3)(other / "words")
            other.make_lang(words=_unrecorded(other / "words"))
        elif name == "other_tokens":
            other.make_units(kind="bpe", text=other / "text", vocab_size=35)
            other.make_lang()
        other.make_g("ngram")
        other.make_graph("ngram", topology="modified" if name == "modified" else "standard")
        (places["bpe"] / name).symlink_to(other / "ngram")
    return places


@pytest.fixture
def place(built: dict[str, Workplace], tmp_path: Path) -> Workplace:
    """A copy of the workplace of byte pairs."""
    return built["bpe"].copy(tmp_path / "place")


def _unrecorded(path: Path) -> Path:
    """A copy of a file that no step made."""
    copy = path.with_name("own_words")
    copy.write_bytes(path.read_bytes())
    return copy
