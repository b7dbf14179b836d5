"""Exceptions for input that comes from outside: files, configs, audio, text.

Every message names the culprit (file, line or utterance), what was found and what was expected.
Broken internal invariants are ``assert`` statements, never these.
"""


class MoeAsrError(Exception):
    """Base of every error the package raises about its input."""


class ConfigError(MoeAsrError, ValueError):
    """An unknown key, a wrong type or a value out of range in a configuration."""


class AudioError(MoeAsrError, ValueError):
    """Audio that cannot be read or does not fit what was asked of it."""


class TextError(MoeAsrError, ValueError):
    """Transcripts, lexicons, symbol tables or tokenizer files that do not hold together."""


class DataError(MoeAsrError, ValueError):
    """A manifest, cut or batch that cannot be trained or decoded on."""


class GraphError(MoeAsrError, ValueError):
    """A decoding graph or lattice that is malformed or does not fit the model."""


class StaleError(MoeAsrError, ValueError):
    """A built file that is not what its step wrote, or whose inputs have changed since."""


class CheckpointError(MoeAsrError, ValueError):
    """A model directory or checkpoint that is damaged or of another architecture."""


class TrainingError(MoeAsrError, RuntimeError):
    """Training cannot go on (a loss or gradient that is not finite, say)."""


class MissingDependencyError(MoeAsrError, ImportError):
    """An optional dependency is needed and absent; the message says how to install it."""
