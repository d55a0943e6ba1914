"""The errors a user can meet, as one tree.

Each message names the value, what is allowed and what to do about it. ``assert`` is kept for our own bugs.
"""


class JasperError(Exception):
    """Any mistake or condition that a user can act on."""


class InputError(JasperError, ValueError):
    """A text, token id or argument of a call is not acceptable."""


class PictureError(InputError):
    """A picture cannot be read, or has too many pixels."""


class RatioError(InputError):
    """A compression ratio, threshold or maximum compressed length is out of range."""


class VectorError(JasperError):
    """A vector is not finite: the model's weights, or what they compute for a text, overflow."""


class ConfigError(JasperError, ValueError):
    """A configuration value is unknown, missing or out of range."""


class CheckpointError(JasperError):
    """A checkpoint is missing, incomplete, corrupt or of an unsupported kind."""


class TokenizerError(CheckpointError):
    """A tokenizer is missing or cannot be read."""


class IndexFileError(JasperError):
    """A search index cannot be opened, does not match the model, or could not be written."""


class DataFileError(JasperError):
    """A file of texts cannot be read or written, or has the wrong schema."""


class MissingExtraError(JasperError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}: pip install 'jaspertc[{extra}]'")


class TrainingError(JasperError):
    """Training cannot start, go on or be resumed."""


class TeacherError(JasperError):
    """A teacher cannot be loaded or reached, or gives something else than vectors."""
