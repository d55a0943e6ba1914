"""Listen, answer, and on SIGTERM finish what was accepted."""

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from jaspertc.errors import ConfigError
from jaspertc.server.settings import ServerSettings

logger = logging.getLogger("jaspertc.server")
HEAD_SECONDS = 30.0
WORKER_SECONDS = 120  # a worker of several that does not answer its supervisor for so long is replaced


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose first request's head does not arrive in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(HEAD_SECONDS, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Says where it listens once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for bound in sockets or []:
            host, port = bound.getsockname()[:2]
            logger.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)


def make_config(
    app: FastAPI | Callable[[], FastAPI], settings: ServerSettings, *, workers: int | None = None
) -> uvicorn.Config:
    """How uvicorn runs ``app``; with ``workers``, each of so many processes calls it to have one."""
    return uvicorn.Config(
        app,
        factory=workers is not None,
        workers=workers,
        host=settings.host,
        port=settings.port,
        http=PatientProtocol,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.request_timeout_s),
        timeout_worker_healthcheck=WORKER_SECONDS,
    )


def make_server(app: FastAPI, settings: ServerSettings) -> uvicorn.Server:
    """A uvicorn server for ``app``; ``run`` listens and blocks, SIGTERM and SIGINT end it."""
    return Server(make_config(app, settings))


def listen(settings: ServerSettings) -> socket.socket:
    """A bound socket.

    Raises:
        ConfigError: the address is taken or is not one of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); choose another "
            "with --port, or 0 for any free one"
        ) from error
    return listener


def serve(app: FastAPI, settings: ServerSettings) -> None:
    """Answer requests until SIGTERM or SIGINT; then finish what was accepted.

    Raises:
        ConfigError: the address cannot be used.
    """
    with listen(settings) as bound:
        make_server(app, settings).run(sockets=[bound])
