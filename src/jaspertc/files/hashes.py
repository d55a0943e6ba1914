"""Ids that depend on a text alone."""

from hashlib import blake2b


def hash_of(text: str, size: int) -> bytes:
    """``size`` bytes of hash of a text, which may hold lone surrogates."""
    return blake2b(text.encode(errors="surrogatepass"), digest_size=size).digest()


def number_of(text: str) -> int:
    """A 64-bit number from a text: among a million texts two are the same with a chance of 3e-8."""
    return int.from_bytes(hash_of(text, 8))


def content_id(text: str) -> str:
    """The id of a text that has none: a hash of its content."""
    return f"sha:{hash_of(text, 16).hex()}"
