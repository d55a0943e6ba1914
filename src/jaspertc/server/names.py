"""Names under which a client reaches the model: ``mini``, ``mini:query``, ``mini@0.33``, ``mini:query@0.33``.

A client that cannot send extra fields sets the prompt and the ratio through the name.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jaspertc.errors import ConfigError, RequestError

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_SUFFIX = re.compile(r":(?P<prompt>[^:@]+)|@(?P<ratio>[0-9.]+)")


@dataclass(frozen=True, kw_only=True)
class Alias:
    """What a model name asks for beside the model."""

    prompt_name: str | None = None
    ratio: float | None = None


def served_name(model: str, name: str | None = None) -> str:
    """The name to serve ``model`` under: a folder's last part, anything else as it is.

    Raises:
        ConfigError: the name has other characters than letters, digits and ``. _ - /``.

    >>> served_name("org/model")
    'org/model'
    """
    chosen = name or (Path(model).expanduser().resolve().name if Path(model).is_dir() else model)
    if not _PLAIN.fullmatch(chosen):
        raise ConfigError(
            f"the model's name would be {chosen!r}; it must begin with a letter or digit and may hold "
            "letters, digits and . _ - /: choose one with --name"
        )
    return chosen


def parse_name(given: str, *, served: str, prompts: Iterable[str]) -> Alias:
    """Read the suffixes of ``given``.

    Raises:
        RequestError: another model (404), an unknown prompt, a suffix twice, or a ratio out of range.

    >>> parse_name("mini:query@0.33", served="mini", prompts=["query"])
    Alias(prompt_name='query', ratio=0.33)
    """
    known = list(prompts)
    rest = given[len(served) :] if given.startswith(served) else None
    parts: dict[str, str] = {}
    while rest:
        match = _SUFFIX.match(rest)
        kind = match.lastgroup if match else None
        if match is None or kind is None or kind in parts:
            rest = None
            break
        parts[kind] = match.group(kind)
        rest = rest[match.end() :]
    if rest is None or ("prompt" in parts and parts["prompt"] not in known):
        names = ", ".join([served, *(f"{served}:{prompt}" for prompt in known)])
        raise RequestError(
            f"no model {given[:100]!r} here; this server has {names}, each also with a compression ratio "
            f"at its end, such as {served}@0.33",
            status=404,
            param="model",
            code="model_not_found",
        )
    return Alias(
        prompt_name=parts.get("prompt"), ratio=_ratio(parts["ratio"], given) if "ratio" in parts else None
    )


def _ratio(text: str, given: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise RequestError(
            f"the ratio in the model name {given[:100]!r} is {text[:20]!r}, it must lie in (0, 1]",
            param="model",
        )
    return value
