"""Schemathesis against our own OpenAPI document: no 5xx, no hang, every answer as documented.

    python lab/benchmarks/serving_fuzz.py [--cases 10000] [--output FILE.json]

It makes valid and invalid requests for each operation, many of them mutations of the document's own schema,
in rounds with new seeds until ``--cases`` requests were sent, and checks each answer's status, type, headers
and schema. The exit status is 1 if anything was found. The last line is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from serving_process import machine, running, write

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)
SECONDS_PER_REQUEST = 20


def requests_answered(url: str) -> tuple[int, int]:
    """All requests that the server counted, and those it answered with a 5xx."""
    lines = [
        line
        for line in httpx.get(f"{url}/metrics").text.splitlines()
        if line.startswith("jaspertc_requests_total")
    ]
    count = sum(float(line.split()[-1]) for line in lines)
    broken = sum(float(line.split()[-1]) for line in lines if 'status="5' in line)
    return int(count), int(broken)


def one_round(url: str, *, seed: int, examples: int, log: Path) -> int:
    """Schemathesis' exit status."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks", CHECKS),
        *(
            "--max-examples",
            str(examples),
            "--seed",
            str(seed),
            "--request-timeout",
            str(SECONDS_PER_REQUEST),
        ),
        # One worker: in threads, CPython 3.11's ast, which Hypothesis uses, fails by itself now and then.
        *("--phases", "examples,coverage,fuzzing", "--workers", "1", "--no-color"),
    ]
    with log.open("a") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--examples", type=int, default=100, help="for each operation and round")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()

    log = Path(tempfile.mkdtemp(prefix="jaspertc-fuzz-")) / "schemathesis.log"
    began = time.perf_counter()
    failed, seed, sent, broken = 0, 0, 0, 0
    with running(arguments.model, "--quiet", "--name", "model") as server:
        while sent < arguments.cases:
            seed += 1
            failed += one_round(server.url, seed=seed, examples=arguments.examples, log=log) != 0
            before, (sent, broken) = sent, requests_answered(server.url)
            print(
                f"round {seed}: {sent} requests, {broken} answered with 5xx, failed rounds {failed}",
                flush=True,
            )
            if sent - before < 10:
                raise SystemExit(f"the round sent nothing; see {log}")
    report: dict[str, Any] = {
        **machine(),
        "model": arguments.model,
        "requests": sent,
        "answered_5xx": broken,
        "rounds": seed,
        "rounds_with_findings": failed,
        "seconds": round(time.perf_counter() - began, 1),
    }
    write(report, arguments.output, "serving_fuzz")
    if failed or broken:
        print(f"see {log}", file=sys.stderr)
        print(json.dumps(log.read_text()[-3000:]), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
