"""Writes the words that are searched: of the training text, of AISHELL's lexicon, and single characters.

With every character of the training text a word of its own, no transcript of those characters is out of
vocabulary, however it is divided into words.
"""

import argparse
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.data.aishell import read_lexicon_words
from moe_asr.files import read_text, write_text
from moe_asr.lang.provenance import make


def main() -> None:
    """Writes one word a line, sorted, unless the list is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--text", type=Path, required=True, help="transcripts, spaces between words"
    )
    parser.add_argument("--lexicon", type=Path, required=True, help="resource_aishell/lexicon.txt")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    def build(folder: Path) -> None:
        text = read_text(args.text)
        words = {*text.split(), *read_lexicon_words(args.lexicon), *"".join(text.split())}
        write_text(folder / args.output.name, "".join(f"{word}\n" for word in sorted(words)))

    inputs = {"text": args.text, "lexicon": args.lexicon}
    make(args.output.parent, args.output.name, inputs, [args.output.name], {}, build)


if __name__ == "__main__":
    raise SystemExit(run_script(main))
