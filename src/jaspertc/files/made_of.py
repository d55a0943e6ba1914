"""What a result that can be taken up again was made of, and what differs when it is not."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jaspertc.errors import DataFileError, JasperError

MADE_OF = "made of"  # its key in the files of results


def made_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from JSON; a file by its name alone: a result may move to another folder."""
    content: dict[str, Any] = json.loads(json.dumps(settings, default=_file_name))
    return content


def differences(before: Mapping[str, Any], now: Mapping[str, Any], *, but: Collection[str] = ()) -> str:
    """What two records do not have in common, in words; empty if they are the same.

    Args:
        but: names that do not count.

    >>> differences({"ratio": 0.5, "loss": {"cosine": 1}}, {"ratio": 0.25, "loss": {"cosine": 2}})
    'ratio was 0.5, is 0.25, loss.cosine was 1, is 2'
    """
    old, new = _flat(before), _flat(now)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name) and name not in but]
    return ", ".join(f"{name} was {old.get(name)!r:.80}, is {new.get(name)!r:.80}" for name in names)


def require_same(
    holds: str,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    fix: str,
    *,
    error: type[JasperError] = DataFileError,
    but: Collection[str] = (),
) -> None:
    """Refuse a result that was made of something else.

    Args:
        holds: where it is and what it is, the beginning of the message.
        before: what it was made of.
        now: what it would be made of now.
        fix: what to do, the end of the message.
        but: names that do not count.

    Raises:
        error: they differ; each value is named, as it was and as it is.
    """
    different = differences(before, now, but=but)
    if different:
        raise error(f"{holds}: {different}; {fix}")


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _file_name(path: Path) -> str:
    return path.name
