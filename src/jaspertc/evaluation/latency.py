"""Time per text of each contender on the same texts, by length, in interleaved rounds."""

import hashlib
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaspertc.evaluation.contenders import Contender
from jaspertc.evaluation.store import LATENCY, LATENCY_TEXTS, read_object
from jaspertc.evaluation.subsets import SEED, stratum_of
from jaspertc.files.json_files import write_json
from jaspertc.files.json_lines import read_log
from jaspertc.files.lines import json_line, lines_aside

PER_TASK = 6
TEXTS = {"up to 80": 24, "81 to 256": 16, "257 to 512": 10, "over 512": 6}
LONGEST = 2048  # tokens; longer texts are not timed
ROUNDS = 3


class Sample:
    """Texts to be timed: a few of each task and length, kept in the folder for later runs."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / LATENCY_TEXTS
        self.rows: list[dict[str, Any]] = read_log(self.file)

    def has(self, task: str) -> bool:
        """Whether texts of this task are in."""
        return any(row["task"] == task for row in self.rows)

    def add(self, task: str, lengths: dict[str, int]) -> None:
        """Draw from a task's texts, given with their tokens."""
        texts = sorted(text for text, length in lengths.items() if 0 < length <= LONGEST)
        random.Random(SEED).shuffle(texts)
        counts = dict.fromkeys(TEXTS, 0)
        for text in texts:
            stratum = stratum_of(lengths[text])
            if counts[stratum] < PER_TASK:
                counts[stratum] += 1
                self.rows.append({"task": task, "stratum": stratum, "text": text})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with lines_aside(self.file) as file:
            file.writelines(map(json_line, self.rows))

    def texts(self) -> dict[str, list[str]]:
        """Length stratum -> texts, as many from each task as can be."""
        by_language: dict[str, list[str]] = {}
        for stratum, most in TEXTS.items():
            queues = [
                [row["text"] for row in self.rows if row["task"] == task and row["stratum"] == stratum]
                for task in dict.fromkeys(row["task"] for row in self.rows)
            ]
            mixed = [
                text for round_ in range(PER_TASK) for queue in queues for text in queue[round_ : round_ + 1]
            ]
            if mixed:
                by_language[stratum] = list(dict.fromkeys(mixed))[:most]
        return by_language


def measure(
    folder: Path,
    contenders: Sequence[Contender],
    sample: Sample,
    machine: str,
    *,
    started: Callable[[str], None] = lambda label: None,
) -> dict[str, Any]:
    """Milliseconds per text, written to ``latency.json``; nothing is done when it has all of them.

    All are measured anew, never some: times of different days are not comparable. Nothing is reused.

    Args:
        machine: what it is measured on.

    Returns:
        ``{"contenders": {label: {"strata": {name: {"median", "low", "high"}}, "texts_per_second"}}, ...}``,
        with the settings of each contender.
    """
    texts = sample.texts()
    settings = {contender.label: contender.settings for contender in contenders}
    key = hashlib.sha256(json.dumps([texts, settings, machine]).encode()).hexdigest()[:16]
    path = folder / LATENCY
    if path.is_file():
        known = read_object(path)
        if known.get("key") == key:
            return known
    times: dict[str, dict[str, list[float]]] = {label: {name: [] for name in texts} for label in settings}
    for round_ in range(ROUNDS + 1):
        for contender in contenders:
            started(contender.label)
            prompt = contender.prompts.get("query", "")
            for name, chosen in texts.items():
                before = time.perf_counter()
                contender.fresh(chosen, prompt)
                if round_:  # the first warms up
                    times[contender.label][name].append(1000 * (time.perf_counter() - before) / len(chosen))
    counts = {name: len(chosen) for name, chosen in texts.items()}
    result = {
        "key": key,
        "machine": machine,
        "rounds": ROUNDS,
        "texts": counts,
        "contenders": {
            label: settings[label] | _summary(seconds, counts) for label, seconds in times.items()
        },
    }
    write_json(path, result)
    return result


def _summary(times: dict[str, list[float]], counts: dict[str, int]) -> dict[str, Any]:
    strata = {
        name: {"median": statistics.median(seconds), "low": min(seconds), "high": max(seconds)}
        for name, seconds in times.items()
    }
    total = sum(strata[name]["median"] * count for name, count in counts.items())
    texts = sum(counts.values())
    return {"strata": strata, "ms_per_text": total / texts, "texts_per_second": 1000 * texts / total}
