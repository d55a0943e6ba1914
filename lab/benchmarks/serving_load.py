"""Many clients with mixed lengths against ``jaspertc serve``; every answer is compared with its own vector.

    python lab/benchmarks/serving_load.py [--clients 200] [--seconds 120] [--output FILE.json]

Three parts in one run:

1. throughput: the same texts through HTTP and through an Embedder in this process, in interleaved rounds; 32
   in a request, all requests at once, and one in a request, 64 connections that ask again once answered;
2. load: clients that pause between requests, so that together they ask for a share (--load) of what part 1
   found possible; latencies, and the server's memory over time;
3. overload: the same clients without pauses, for a sixth of the time; what is refused is refused with 429.

The last line is JSON.
"""

import argparse
import asyncio
import base64
import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from serving_process import Server, machine, percentile, running, texts_by_kind, write

from jaspertc import Embedder

# Share of the requests, and texts per request, of each kind.
MIX = {"short": (0.70, 1), "paragraph": (0.18, 1), "long": (0.04, 1), "batch": (0.08, 8)}
RATIOS = (None, 0.33)
# How often the throughput part sends each text, so that a round lasts many seconds.
PASSES = 8
CONNECTIONS = 64


@dataclass
class Outcome:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    wrong: int = 0


class Pool:
    """Texts and the vectors that the embedder gives for them."""

    def __init__(self, embedder: Embedder, kinds: list[str]) -> None:
        found = texts_by_kind()
        self.texts = {kind: found["short" if kind == "batch" else kind] for kind in kinds}
        everything = sorted({text for group in self.texts.values() for text in group})
        self.expected = {
            ratio: dict(zip(everything, embedder.encode(everything, ratio=ratio))) for ratio in RATIOS
        }

    def request(self, generator: random.Random) -> tuple[list[str], float | None]:
        """Texts of one request, and its ratio."""
        kind = generator.choices(list(self.texts), [MIX[kind][0] for kind in self.texts])[0]
        return generator.sample(self.texts[kind], MIX[kind][1]), generator.choice(RATIOS)

    def right(self, texts: list[str], ratio: float | None, body: dict[str, Any]) -> bool:
        """Whether each vector is its own text's; other texts' differ by far more than the tolerance."""
        found = np.stack(
            [np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in body["data"]]
        )
        expected = np.stack([self.expected[ratio][text] for text in texts])
        return found.shape == expected.shape and bool(np.abs(found - expected).max() < 1e-3)


async def client(
    http: httpx.AsyncClient, pool: Pool, outcome: Outcome, *, seed: int, pause: float, until: float
) -> None:
    """Ask until the time is up, with pauses of ``pause`` seconds on average."""
    generator = random.Random(seed)
    await asyncio.sleep(generator.random() * max(pause, 0.5))
    while time.perf_counter() < until:
        texts, ratio = pool.request(generator)
        body: dict[str, Any] = {"model": "model", "input": texts, "encoding_format": "base64"}
        body |= {} if ratio is None else {"compression_ratio": ratio}
        began = time.perf_counter()
        try:
            answer = await http.post("/v1/embeddings", json=body)
        except httpx.HTTPError as error:
            outcome.codes[type(error).__name__] += 1
            continue
        outcome.codes[str(answer.status_code)] += 1
        if answer.status_code == 200:
            outcome.seconds.append(time.perf_counter() - began)
            outcome.wrong += not pool.right(texts, ratio, answer.json())
        wait = generator.expovariate(1 / pause) if pause else 0.0
        if answer.status_code == 429:
            wait = max(wait, float(answer.headers["retry-after"]) * generator.random())
        await asyncio.sleep(wait)


async def load(
    server: Server, pool: Pool, *, clients: int, seconds: float, pause: float
) -> tuple[Outcome, list[float]]:
    """All clients at once; what they saw, and the server's memory in MiB each half second."""
    outcome, memory = Outcome(), []
    until = time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    process = psutil.Process(server.pid)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as http:
        tasks = [
            asyncio.create_task(client(http, pool, outcome, seed=seed, pause=pause, until=until))
            for seed in range(clients)
        ]
        while not all(task.done() for task in tasks):
            memory.append(process.memory_info().rss / 2**20)
            await asyncio.sleep(0.5)
        await asyncio.gather(*tasks)
    return outcome, memory


def throughput(server: Server, embedder: Embedder, pool: Pool, rounds: int) -> dict[str, Any]:
    """Texts a second through HTTP and through the embedder, and their ratio in each round."""
    texts = list(pool.expected[None]) * PASSES
    random.Random(0).shuffle(texts)
    groups = [texts[begin : begin + 32] for begin in range(0, len(texts), 32)]

    async def many_each() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=600) as http:
            bodies = [{"model": "model", "input": group, "encoding_format": "base64"} for group in groups]
            answers = await asyncio.gather(*(http.post("/v1/embeddings", json=body) for body in bodies))
            assert all(answer.status_code == 200 for answer in answers), answers

    async def one_each() -> None:
        left = iter([_request(text) for text in texts])
        await asyncio.gather(*(_connection(server, left) for _ in range(CONNECTIONS)))

    times = []
    for _ in range(rounds):
        marks = [time.perf_counter()]
        for step in (
            lambda: embedder.encode(texts),
            lambda: asyncio.run(many_each()),
            lambda: asyncio.run(one_each()),
        ):
            step()
            marks.append(time.perf_counter())
        times.append(np.diff(marks))
    own, *through_http = np.transpose(times)
    report: dict[str, Any] = {"texts": len(texts), "embedder_texts_per_s": _per_second(len(texts), own)}
    for name, seconds in zip(("http", "http_one_each"), through_http):
        shares = own / seconds
        report[f"{name}_texts_per_s"] = _per_second(len(texts), seconds)
        report[f"{name}_share"] = [round(float(f(shares)), 3) for f in (np.median, np.min, np.max)]
    return report


def _per_second(count: int, seconds: Any) -> float:
    return round(count / float(np.median(seconds)), 2)


def _request(text: str) -> bytes:
    """As it goes over the wire: a client that costs little, on the cores that the server computes with."""
    body = json.dumps({"model": "model", "input": text, "encoding_format": "base64"}).encode()
    head = [
        "POST /v1/embeddings HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


async def _connection(server: Server, requests: Iterator[bytes]) -> None:
    """One request after another over one connection."""
    reader, writer = await asyncio.open_connection(*server.url.removeprefix("http://").split(":"))
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0], head
        (length,) = re.findall(rb"(?i)content-length: *(\d+)", head)
        await reader.readexactly(int(length))
    writer.close()


def requests_per_second(embedder: Embedder, pool: Pool) -> float:
    """How many requests of the mix the model can compute in a second."""
    generator = random.Random(1)
    requests = [pool.request(generator) for _ in range(60)]
    began = time.perf_counter()
    for ratio in RATIOS:
        embedder.encode(
            [text for texts, wanted in requests if wanted == ratio for text in texts], ratio=ratio
        )
    return len(requests) / (time.perf_counter() - began)


def summary(outcome: Outcome, seconds: float) -> dict[str, Any]:
    """The numbers of one part."""
    lasted = outcome.seconds
    return {
        "answers": dict(outcome.codes),
        "wrong": outcome.wrong,
        "answered_per_s": round(len(lasted) / seconds, 2),
        "ms": {
            name: round(1000 * percentile(lasted, share), 1)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120, help="0: part 1 only")
    parser.add_argument("--load", type=float, default=0.7, help="share of what the model can compute")
    parser.add_argument("--max-wait", type=float, default=3, help="the server's --max-wait")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=list(MIX), choices=list(MIX), help="leave some out")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()

    embedder = Embedder.load(arguments.model)
    pool = Pool(embedder, arguments.kinds)
    options = ("--name", "model", "--quiet", "--max-wait")
    report: dict[str, Any] = {**machine(), "model": arguments.model}
    with running(arguments.model, *options, "600") as server:  # this part sends everything at once
        report["throughput"] = throughput(server, embedder, pool, arguments.rounds)
        print(report["throughput"], flush=True)
    if not arguments.seconds:
        write(report, arguments.output, "serving_load")
        return
    with running(arguments.model, *options, str(arguments.max_wait)) as server:
        possible = requests_per_second(embedder, pool)
        pause = arguments.clients / (arguments.load * possible)
        outcome, memory = asyncio.run(
            load(server, pool, clients=arguments.clients, seconds=arguments.seconds, pause=pause)
        )
        quarter = max(1, len(memory) // 4)
        first, last = statistics.median(memory[quarter : 2 * quarter]), statistics.median(memory[-quarter:])
        report["load"] = {
            "clients": arguments.clients,
            "seconds": arguments.seconds,
            "offered_per_s": round(arguments.load * possible, 2),
            **summary(outcome, arguments.seconds),
            "memory_mib": {"second_quarter": round(first, 1), "last_quarter": round(last, 1)},
            "memory_growth": round(last / first - 1, 4),
        }
        print(report["load"], flush=True)
        brief = max(5.0, arguments.seconds / 6)
        outcome, _ = asyncio.run(load(server, pool, clients=arguments.clients, seconds=brief, pause=0.0))
        report["overload"] = summary(outcome, brief)
    print(f"{'part':>10} {'answers':>34} {'wrong':>6} {'per s':>7} {'p50 ms':>8} {'p95 ms':>8} {'max ms':>8}")
    for name in ("load", "overload"):
        part = report[name]
        cells = " ".join(f"{part['ms'][key]:>8}" for key in ("p50", "p95", "max"))
        answers = ", ".join(f"{code}: {count}" for code, count in part["answers"].items())
        print(f"{name:>10} {answers:>34} {part['wrong']:>6} {part['answered_per_s']:>7} {cells}")
    write(report, arguments.output, "serving_load")


if __name__ == "__main__":
    main()
