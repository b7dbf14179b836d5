"""Where the documents of transcripts go."""

from collections.abc import Sequence
from pathlib import Path

from moe_asr.errors import ConfigError
from moe_asr.files import PathLike, writable_directory
from moe_asr.recognizer.formats import TranscriptFormat, file_id
from moe_asr.recognizer.results import Transcript


def document_paths(
    files: Sequence[PathLike], form: TranscriptFormat, directory: PathLike | None
) -> dict[str, Path]:
    """The document of each file, by the file's name; without a directory, they are all printed.

    A document is called like its file, with the format's extension in place of its own.

    Raises:
        ConfigError: naming the files, if one is given twice, or two would have the same document; if
            documents of several cannot be printed; if the directory cannot be written to.
    """
    if directory is None and len(files) > 1 and form.write_one_of_many is None:
        raise ConfigError(
            f"{form.name} is of one file: for several, choose a folder for the documents"
        )
    folder = Path() if directory is None else writable_directory(directory)
    found: dict[str, Path] = {}
    owners: dict[str, str] = {}
    for file in map(str, files):
        if file in found:
            raise ConfigError(f"{file}: given twice")
        name = Path(file).stem
        key = file_id(file) if form.name == "ctm" else name
        if (directory is not None or form.name == "ctm") and key in owners:
            raise ConfigError(
                f"{owners[key]} and {file}: both would be '{key}' in what is written; transcribe them apart"
            )
        owners[key] = file
        found[file] = folder / f"{name}.{form.extension}"
    return found


def print_document(transcript: Transcript, form: TranscriptFormat, number: int) -> str:
    """What is printed of one of ``number`` files."""
    if number == 1 or form.write_one_of_many is None:
        return form.write(transcript)
    return form.write_one_of_many(transcript)
