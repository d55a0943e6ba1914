"""Pictures in requests: data URLs within limits. No address is ever fetched."""

import base64
import binascii
import re
from typing import Any

from jaspertc.errors import RequestError

DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)


def read_images(value: Any, *, most: int) -> list[bytes] | None:
    """The files in one or several ``{"image": "data:image/png;base64,..."}``, or ``None`` for other inputs.

    Raises:
        RequestError: too many, mixed with texts, no data URL, or not base64; the index is named.
    """
    items = value if isinstance(value, list) else [value]
    if not any(isinstance(item, dict) for item in items):
        return None
    if len(items) > most:
        raise RequestError(
            f"input has {len(items):,} pictures, it must have 1 ... {most:,}; send the rest in more requests",
            param="input",
        )
    return [_content(index, item) for index, item in enumerate(items)]


def _content(index: int, item: Any) -> bytes:
    if not isinstance(item, dict) or set(item) != {"image"} or not isinstance(item["image"], str):
        raise RequestError(
            f'input {index} must be {{"image": "data:image/png;base64,..."}} like the others; '
            "send texts in a request of their own",
            param="input",
        )
    head = DATA_URL.match(item["image"])
    if head is None:
        raise RequestError(
            f"input {index} is no data URL of a picture; this server fetches no addresses: send the file as "
            "data:image/png;base64,...",
            param="input",
            code="image_not_data_url",
        )
    try:
        return base64.b64decode(item["image"][head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"input {index} is not base64 after its comma", param="input") from None
