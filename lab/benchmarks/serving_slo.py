"""What ``--slo-ms`` does under load: p95, ratio and agreement against the offered load, with and without it.

    python lab/benchmarks/serving_slo.py [--seconds 30] [--slo-ms MS] [--output FILE.json] [--picture F.svg]

Requests arrive at random (Poisson) at several rates, given as shares of what the model can compute at its own
ratio, whether earlier ones were answered or not. Each request is one text that fixes no ratio. For each rate
the server without the promise and the one with it run one after the other on the same arrivals. Agreement is
the cosine between the vector that came and the model's vector at its own ratio; the promise is 20 mean
computing times unless given. The last line is JSON.
"""

import argparse
import asyncio
import base64
import random
import statistics
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from serving_process import Server, machine, percentile, running, texts_by_kind, write

from jaspertc import Embedder

MIX = {"long": 0.6, "paragraph": 0.25, "short": 0.15}
LOADS = (0.4, 0.7, 0.9, 1.1, 1.3, 1.6)
TIMES = 20


async def arrivals(server: Server, texts: list[str], *, rate: float, seconds: float, seed: int) -> list[Any]:
    """Send requests at ``rate`` a second; (text, seconds, answer or None) of each."""
    generator = random.Random(seed)
    limits = httpx.Limits(max_connections=2000)

    async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as http:

        async def one(text: str) -> tuple[str, float, dict[str, Any] | None]:
            began = time.perf_counter()
            body = {"model": "model", "input": text, "encoding_format": "base64"}
            answer = await http.post("/v1/embeddings", json=body)
            assert answer.status_code in (200, 429), answer.text
            return text, time.perf_counter() - began, answer.json() if answer.status_code == 200 else None

        tasks = []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            tasks.append(asyncio.create_task(one(generator.choice(texts))))
            await asyncio.sleep(generator.expovariate(rate))
        return await asyncio.gather(*tasks)


def summary(found: list[Any], expected: dict[str, np.ndarray]) -> dict[str, Any]:
    """The numbers of one rate on one server."""
    answered = [(text, seconds, body) for text, seconds, body in found if body is not None]
    vectors = [np.frombuffer(base64.b64decode(body["data"][0]["embedding"]), "<f4") for *_, body in answered]
    cosines = [float(vector @ expected[text]) for vector, (text, *_) in zip(vectors, answered)]
    lasted = [seconds for _, seconds, _ in answered]
    return {
        "requests": len(found),
        "refused": len(found) - len(answered),
        "p50_ms": round(1000 * percentile(lasted, 0.5), 1),
        "p95_ms": round(1000 * percentile(lasted, 0.95), 1),
        "ratio": round(statistics.mean(body["compression"]["ratio"] for *_, body in answered), 3),
        "adapted": round(statistics.mean(body["compression"]["adapted"] for *_, body in answered), 3),
        "cosine": round(statistics.mean(cosines), 4),
    }


def mean_seconds(embedder: Embedder, texts: list[str]) -> float:
    """Computing time of one request of the mix on a busy model; the median of three rounds."""
    chosen = random.Random(2).choices(texts, k=40)
    rounds = []
    for _ in range(4):  # the first warms up
        began = time.perf_counter()
        embedder.encode(chosen)
        rounds.append((time.perf_counter() - began) / len(chosen))
    return statistics.median(rounds[1:])


def draw(report: dict[str, Any], path: Path) -> None:
    """Three panels over the offered load."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    loads = [row["load"] for row in report["results"]]
    for panel, key, title in (
        (panels[0], "p95_ms", "p95 latency, ms"),
        (panels[1], "ratio", "mean ratio used"),
        (panels[2], "cosine", "agreement with the own ratio"),
    ):
        for side, colour, label in (
            ("without", "#c2541b", "without --slo-ms"),
            ("with", "#0b6e99", f"with --slo-ms {report['slo_ms']:g}"),
        ):
            panel.plot(loads, [row[side][key] for row in report["results"]], "o-", color=colour, label=label)
        panel.set(title=title, xlabel="offered load / capacity at the model's ratio")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].axhline(report["slo_ms"], color="gray", linestyle="--", linewidth=1)
    panels[0].set_yscale("log")
    panels[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--seconds", type=float, default=30, help="for each rate and server")
    parser.add_argument("--slo-ms", type=float)
    parser.add_argument("--slo-floor", type=float, default=0.1)
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--picture", type=Path, help=".svg or .png")
    arguments = parser.parse_args()

    embedder = Embedder.load(arguments.model)
    groups = texts_by_kind()
    # the kinds in their shares, each text of a kind equally often
    texts = [
        text
        for kind, share in MIX.items()
        for text in random.Random(3).choices(groups[kind], k=int(100 * share))
    ]
    distinct = sorted(set(texts))
    expected = dict(zip(distinct, embedder.encode(distinct, normalize=True)))
    alone = mean_seconds(embedder, texts)
    slo_ms = arguments.slo_ms or round(1000 * TIMES * alone)
    options = ("--name", "model", "--quiet")
    promise = ("--slo-ms", str(slo_ms), "--slo-floor", str(arguments.slo_floor))
    results = []
    print(f"one request takes {1000 * alone:.0f} ms, the promise is {slo_ms:g} ms")
    print(
        f"{'load':>5} {'promise':>8} {'requests':>8} {'refused':>8} {'p50 ms':>8} {'p95 ms':>8} "
        f"{'ratio':>6} {'cosine':>7}"
    )
    with running(arguments.model, *options) as plain, running(arguments.model, *options, *promise) as keeping:
        for number, share in enumerate(arguments.loads):
            row: dict[str, Any] = {"load": share, "per_s": round(share / alone, 2)}
            for name, server in (("without", plain), ("with", keeping)):
                found = asyncio.run(
                    arrivals(server, texts, rate=share / alone, seconds=arguments.seconds, seed=number)
                )
                row[name] = cells = summary(found, expected)
                print(
                    f"{share:>5} {name:>8} {cells['requests']:>8} {cells['refused']:>8} {cells['p50_ms']:>8} "
                    f"{cells['p95_ms']:>8} {cells['ratio']:>6} {cells['cosine']:>7}",
                    flush=True,
                )
            results.append(row)
    report = {**machine(), "model": arguments.model, "slo_ms": slo_ms, "slo_floor": arguments.slo_floor}
    report |= {"seconds": arguments.seconds, "alone_ms": round(1000 * alone, 1), "results": results}
    if arguments.picture:
        draw(report, arguments.picture)
    write(report, arguments.output, "serving_slo")


if __name__ == "__main__":
    main()
