"""What is indexed."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jaspertc.errors import InputError

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Document:
    """A text with a name.

    Attributes:
        id: unique in the index, not empty.
        text: what is embedded and shown; may be empty.
        metadata: what searches can be filtered by: strings, finite numbers, booleans and None.
        source: the file or folder it is from, if the index is to follow that.
        picture: a file that is embedded instead of the text, which is then only shown.
        place: where it was read, such as ``notes.txt, line 3``, for messages; it is not stored.
    """

    id: str
    text: str
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    source: str | None = None
    picture: Path | None = None
    place: str | None = field(default=None, compare=False)


def check_document(document: Document) -> None:
    """Raise InputError, naming the id, unless every part of a document can be stored."""
    if not isinstance(document, Document):
        raise InputError(f"{document!r:.80} is a {type(document).__name__}, it must be a Document(id, text)")
    if not isinstance(document.id, str) or not document.id:
        raise InputError(f"document id is {document.id!r:.80}, it must be a string that is not empty")
    where = f"document {document.id!r:.80}"
    check_unicode(where, "id", document.id)
    if not isinstance(document.text, str):
        raise InputError(
            f"{where}: text is {document.text!r:.80} of type {type(document.text).__name__}, "
            "it must be a string"
        )
    check_unicode(where, "text", document.text)
    if not isinstance(document.metadata, Mapping):
        raise InputError(f"{where}: metadata is {document.metadata!r:.80}, it must be a mapping")
    check_metadata(where, document.metadata)
    if document.source is not None:
        if not isinstance(document.source, str):
            raise InputError(
                f"{where}: source is {document.source!r:.80} of type {type(document.source).__name__}, "
                "it must be a string or None"
            )
        check_unicode(where, "source", document.source)


def checked(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents, each checked as it comes.

    Raises:
        InputError: they are not several, or one cannot be stored.
    """
    if isinstance(documents, Document) or not isinstance(documents, Iterable):
        raise InputError(
            f"documents is of type {type(documents).__name__}, it must be several Documents, such as a list"
        )
    for document in documents:
        check_document(document)
        yield document


def check_metadata(where: str, metadata: Mapping[str, Scalar]) -> None:
    """Raise InputError, beginning with ``where``, unless keys are strings and values are scalars."""
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise InputError(f"{where}: metadata key {key!r:.80} is not a string")
        check_unicode(where, "metadata key", key)
        if isinstance(value, str):
            check_unicode(where, f"metadata {key!r}", value)
        elif not (value is None or isinstance(value, (bool, int, float))):
            raise InputError(
                f"{where}: metadata {key!r} is {value!r:.80} of type {type(value).__name__}, "
                "it must be a string, number, boolean or None"
            )
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where}: metadata {key!r} is {value}, it must be a finite number")


def check_unicode(where: str, what: str, text: str) -> None:
    """Raise InputError, beginning with ``where`` and ``what``, if a string cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: {what} has half a surrogate pair at character {error.start}, which is no valid text"
        ) from error
