"""Who may use the server: keys, host names, and where it may listen."""

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from jaspertc.errors import ConfigError, RequestError
from jaspertc.server.page import FILES
from jaspertc.server.problems import answer

KEYS_VARIABLE = "JASPERTC_API_KEYS"
LEAST_KEY_LENGTH = 16
# The page and its files hold nothing secret and ask for the key themselves.
OPEN_PATHS = frozenset({"/", "/health", "/ready", "/docs", *(f"/static/{name}" for name in FILES)})


def read_keys(file: Path | None, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """API keys from a file (one a line; ``#`` begins a comment) and from ``JASPERTC_API_KEYS`` (commas).

    Raises:
        ConfigError: the file cannot be read or has no key, or a key is shorter than 16 characters or holds
            something else than printable ASCII. The message never shows a key.
    """
    keys: list[str] = []
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the file of API keys {file} cannot be read: {error}") from error
        keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not keys:
            raise ConfigError(f"the file of API keys {file} has no key; write one a line")
    keys += [key.strip() for key in environment.get(KEYS_VARIABLE, "").split(",") if key.strip()]
    for number, key in enumerate(keys, 1):
        if len(key) < LEAST_KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"API key {number} has {len(key)} characters; a key needs at least {LEAST_KEY_LENGTH} "
                "printable ASCII characters without spaces, such as python's secrets.token_urlsafe()"
            )
    return tuple(dict.fromkeys(keys))


def is_loopback(host: str) -> bool:
    """Whether ``host`` can be reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_listening(host: str, *, keys: Iterable[str], allow_without_key: bool) -> None:
    """Refuse to listen beyond this machine without a key.

    Raises:
        ConfigError: it would.
    """
    if not is_loopback(host) and not any(keys) and not allow_without_key:
        raise ConfigError(
            f"host is {host!r}, which other machines can reach, and there is no API key; give "
            f"--api-keys FILE or set {KEYS_VARIABLE}, listen on 127.0.0.1, or say --allow-without-key"
        )


class Gate:
    """ASGI middleware that lets a request in by its key, or without keys by the name it was called by.

    Without keys only a loopback name is answered: a web page whose host name was made to point at this
    machine (DNS rebinding) gets nothing.
    """

    def __init__(self, app: ASGIApp, *, keys: Iterable[str] = (), allow_any_host: bool = False) -> None:
        self.app = app
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]
        self._allow_any_host = allow_any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope["path"], Headers(scope=scope))
            except RequestError as error:
                await answer(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, path: str, headers: Headers) -> None:
        if not self._digests:
            name = _host_name(headers.get("host", "localhost"))
            if not (self._allow_any_host or is_loopback(name)):
                raise RequestError(
                    "without an API key this server answers only under the names localhost and 127.0.0.1; "
                    "start it with --api-keys",
                    status=403,
                    code="host_not_allowed",
                )
            return
        if path in OPEN_PATHS:
            return
        kind, _, key = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not self._known(key.strip()):
            raise RequestError(
                "no or wrong API key; send the header 'Authorization: Bearer KEY' with one of this "
                "server's keys",
                status=401,
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )

    def _known(self, key: str) -> bool:
        """Compare with every key, in a time that tells nothing about them."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        return (
            sum(hmac.compare_digest(digest, known) for known in self._digests) > 0
        )  # any() would stop early


def _host_name(header: str) -> str:
    if header.startswith("["):  # [::1]:8000
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if ":" in header else header
