"""A running server around the small random model, and clients for it."""

import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the serve extra is not installed")

import httpx

from jaspertc import Embedder
from jaspertc.server.app import create_app
from jaspertc.server.run import make_server
from jaspertc.server.settings import ServerSettings


@dataclasses.dataclass
class Running:
    """A server in a thread: its address, application and a client for it."""

    url: str
    app: Any
    http: httpx.Client

    def embed(self, body: dict[str, Any], **options: Any) -> httpx.Response:
        return self.http.post("/v1/embeddings", json=body, **options)

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"jaspertc_{name}"))


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[..., Running]]:
    """Start a server: an embedder, an index if it shall have one, and settings by keyword."""
    stops: list[Callable[[], None]] = []

    def begin(embedder: Embedder, *, index: Any = None, **settings: Any) -> Running:
        settings.setdefault("name", "small")
        chosen = ServerSettings(port=0, **settings)
        app = create_app(embedder, chosen, index=index)
        server = make_server(app, chosen)
        bound = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        headers = {"authorization": f"Bearer {chosen.api_keys[0]}"} if chosen.api_keys else {}
        client = httpx.Client(base_url=url, timeout=30, headers=headers)

        def stop() -> None:
            client.close()
            server.should_exit = True
            thread.join(10)

        stops.append(stop)
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            thread.join(0.01)
        return Running(url=url, app=app, http=client)

    yield begin
    for stop in stops:
        stop()


@pytest.fixture(scope="session")
def server(start: Callable[..., Running], model: Embedder) -> Running:
    """The small model with default settings."""
    return start(model, max_text_tokens=2000)


class SlowRuntime:
    """A runtime that takes its time: seconds per compressed token, and per batch."""

    def __init__(self, runtime: Any, per_token: float, per_batch: float = 0.0) -> None:
        self._runtime, self.per_token, self.per_batch = runtime, per_token, per_batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def embed(self, batch: Any, targets: Any) -> Any:
        threading.Event().wait(self.per_batch + self.per_token * float(targets.sum()))
        return self._runtime.embed(batch, targets)


@pytest.fixture(scope="session")
def slowed(model: Embedder) -> Callable[..., Embedder]:
    """The small model, made slow."""

    def make(per_token: float, per_batch: float = 0.0) -> Embedder:
        return Embedder(model.checkpoint, SlowRuntime(model.runtime, per_token, per_batch))  # type: ignore[arg-type]

    return make
