"""Several processes behind one address: what each of them loads, and uvicorn's supervisor of them."""

import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.supervisors import Multiprocess

from jaspertc.checkpoint import resolve
from jaspertc.checkpoint.layouts import read_info
from jaspertc.errors import ConfigError, JasperError
from jaspertc.machine import set_threads
from jaspertc.server.names import served_name
from jaspertc.server.run import listen, make_config
from jaspertc.server.settings import ServerSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger("jaspertc.server")
WAITING = 2048  # connections that wait while workers load
ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, kw_only=True)
class Application:
    """What a process answers with, as ``jaspertc serve`` is told; called, it loads the model.

    Attributes:
        index: a file of ``jaspertc index``, or ``None``.
        quiet: log problems only.
    """

    model: str
    settings: ServerSettings
    device: str = "auto"
    dtype: str = "auto"
    runtime: str = "auto"
    index: Path | None = None
    quiet: bool = False

    def __call__(self) -> "FastAPI":
        """The application with its model.

        Raises:
            JasperError: model or index cannot be opened.
        """
        from jaspertc.engine.embedder import Embedder
        from jaspertc.search.index import SearchIndex
        from jaspertc.server.app import create_app

        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
        logging.getLogger("jaspertc.server").setLevel(logging.INFO)
        logging.getLogger("jaspertc.server.requests").setLevel(
            logging.WARNING if self.quiet else logging.INFO
        )
        if self.settings.threads is not None:
            set_threads(self.settings.threads)  # before layers are compiled
        embedder = Embedder.load(self.model, device=self.device, dtype=self.dtype, runtime=self.runtime)
        opened = None if self.index is None else SearchIndex.open(self.index, embedder)
        return create_app(embedder, self.settings, index=opened)

    def check(self) -> None:
        """What stands in its way as far as that is known before a model is loaded.

        Raises:
            JasperError: there is no such model or index, runtime, device or dtype, or the model's name cannot
                be served.
        """
        from jaspertc.engine.runtimes import check_names
        from jaspertc.search.schema import describe

        read_info(resolve(self.model))
        served_name(self.model, self.settings.name)
        if self.index is not None:
            describe(self.index)
        check_names(self.runtime, device=self.device, dtype=self.dtype)

    def log(self) -> None:
        """Log requests, unless ``quiet``, and problems to standard error."""
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
        logging.getLogger("jaspertc.server").setLevel(logging.INFO)
        logging.getLogger("jaspertc.server.requests").setLevel(
            logging.WARNING if self.quiet else logging.INFO
        )


class Ending(threading.Event):
    """Also set as soon as a signal to end is in the queue: a handler must not wait for an event's lock."""

    def __init__(self, queue: list[int]) -> None:
        super().__init__()
        self._queue = queue

    def is_set(self) -> bool:
        return super().is_set() or any(number in ENDING for number in tuple(self._queue))


class Supervisor(Multiprocess):
    """Notices at once when a worker dies, or SIGTERM or SIGINT comes, while it waits for a worker."""

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.should_exit = Ending(self.signal_queue)
        for number in ENDING:
            signal.signal(number, self._end)

    def _end(self, number: int, _: FrameType | None) -> None:
        self.signal_queue.append(number)
        if os.name == "posix":  # elsewhere this kills
            for process in self.processes:
                process.process.terminate()  # what is waited for is one of them

    def keep_subprocess_alive(self) -> None:
        for process in self.processes:
            process.child_conn.close()  # the worker's own end alone is open: without it, asking fails
        super().keep_subprocess_alive()


def serve_in_workers(application: Application, workers: int) -> None:
    """Answer in so many processes, each with the model and limits of its own, until SIGTERM or SIGINT.

    A worker that dies is replaced. SIGHUP replaces all, one after the other; SIGTTIN adds one, SIGTTOU ends
    one. Connections wait while the first workers load; where it ends before one has, they are reset.

    Raises:
        ConfigError: the address cannot be used, or no worker can start.
        JasperError: as ``Application.check``.
    """
    application.log()
    application.check()
    with listen(application.settings) as bound:
        bound.listen(WAITING)
        config = make_config(partial(_in_worker, application), application.settings, workers=workers)
        host, port = bound.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        logger.info("%d workers, listening on http://%s:%d", workers, name, port)
        supervisor = Supervisor(config, sockets=[bound])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise ConfigError("a worker could not start, for the reason above")


def _in_worker(application: Application) -> "FastAPI":
    """The application, in a worker: what stands in its way ends the supervisor, too.

    SIGTERM ends it at once while it loads, since nothing is accepted yet.
    """
    finish = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        return application()
    except JasperError as error:
        logger.error("%s", error)
        sys.exit(STARTUP_FAILURE)
    finally:
        signal.signal(signal.SIGTERM, finish)
