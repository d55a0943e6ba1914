"""Hashes of texts and of files: ids that depend on a text alone, and what a folder holds."""

import hashlib
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path


def hash_of(text: str, size: int) -> bytes:
    """``size`` bytes of hash of a text, which may hold lone surrogates."""
    return blake2b(text.encode(errors="surrogatepass"), digest_size=size).digest()


def number_of(text: str) -> int:
    """A 64-bit number from a text: among a million texts two are the same with a chance of 3e-8."""
    return int.from_bytes(hash_of(text, 8))


def content_id(text: str) -> str:
    """The id of a text that has none: a hash of its content."""
    return f"sha:{hash_of(text, 16).hex()}"


def files_hash(folder: Path, paths: Iterable[Path]) -> str:
    """16 hexadecimal digits of a hash of files' names within ``folder`` and their contents, in any order."""
    digest = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file()):
        with path.open("rb") as file:
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """Checksum of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
