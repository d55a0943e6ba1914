"""Schemathesis against our own OpenAPI document: no 5xx, no hang, every answer as documented.

    python lab/benchmarks/serving_fuzz.py [--cases 100000] [--minutes 25] [--output FILE.json]

It makes valid and invalid requests for each operation, many of them mutations of the document's own schema,
in rounds with new seeds until ``--cases`` requests were sent or ``--minutes`` are over, and checks each
answer's status, type, headers and schema. Where FILE.json has rounds already, it goes on after them. The exit
status is 1 if anything was found. The last line is JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from serving_process import RESULTS, machine, running, write

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)
SECONDS_PER_REQUEST = 20
COUNTED = ("requests", "answered_5xx", "rounds", "rounds_with_findings", "seconds")


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
    parser.add_argument("--cases", type=int, default=100_000, help="in all, those of earlier runs included")
    parser.add_argument("--minutes", type=float, default=25, help="after which no new round begins")
    parser.add_argument("--examples", type=int, default=100, help="for each operation and round")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()

    log = Path(tempfile.mkdtemp(prefix="jaspertc-fuzz-")) / "schemathesis.log"
    output = arguments.output or RESULTS / f"serving_fuzz-{datetime.now(UTC).date()}.json"
    report: dict[str, Any] = {**machine(), "model": arguments.model, **dict.fromkeys(COUNTED, 0)}
    if output.exists():
        report |= {name: json.loads(output.read_text())[name] for name in COUNTED}
    began, earlier = time.monotonic(), dict(report)
    with running(arguments.model, "--quiet", "--name", "model") as server:
        while report["requests"] < arguments.cases and time.monotonic() - began < 60 * arguments.minutes:
            report["rounds"] += 1
            found = one_round(server.url, seed=report["rounds"], examples=arguments.examples, log=log) != 0
            before, (sent, broken) = report["requests"], requests_answered(server.url)
            report |= {
                "requests": earlier["requests"] + sent,
                "answered_5xx": earlier["answered_5xx"] + broken,
                "rounds_with_findings": report["rounds_with_findings"] + found,
                "seconds": round(earlier["seconds"] + time.monotonic() - began, 1),
            }
            write(report, output, "serving_fuzz")
            if report["requests"] - before < 10:
                raise SystemExit(f"the round sent nothing; see {log}")
    failed, broken = report["rounds_with_findings"], report["answered_5xx"]
    if failed or broken:
        print(f"see {log}", file=sys.stderr)
        print(json.dumps(log.read_text()[-3000:]), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
