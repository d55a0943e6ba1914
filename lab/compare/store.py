"""The results of a benchmark as one JSON file, rewritten whole after each round."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaspertc.errors import DataFileError, InputError
from jaspertc.files.aside import written_aside
from jaspertc.reports.origin import machine, versions
from lab.compare.protocols import Unit

FORMAT = 1
FILE = "results.json"
PACKAGES = ("jaspertc", "torch", "numpy", "transformers", "sentence-transformers", "openvino", "onnxruntime")
MORE_ROUNDS = "rounds"  # the one setting that may grow


class Results:
    """What was measured, in a folder; the same command goes on where it was.

    Args:
        facts: settings, machine, versions, model: what measurements must share to be compared.

    Raises:
        InputError: the folder holds results of other settings, another model, machine or version.
        DataFileError: its file cannot be read.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], *, command: str = "") -> None:
        self.path = folder / FILE
        self.content: dict[str, Any] = {
            "format": FORMAT,
            "command": command,
            "date": datetime.now(UTC).date().isoformat(),
            **json.loads(json.dumps(facts)),
            "contenders": {},
            "skipped": {},
            "units": {},
        }
        if self.path.is_file():
            before = read_results(folder)
            _check_same(before, self.content, list(facts), folder)
            settings = self.content["settings"]
            self.content = before | {"command": command or before["command"], "settings": settings}
        elif folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"--output {folder} has other files in it; give a new folder")
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def units(self) -> dict[str, Any]:
        """Unit key -> its facts, cells and rounds."""
        found: dict[str, Any] = self.content["units"]
        return found

    def rounds(self, unit: Unit) -> int:
        """Rounds of a unit that are done."""
        return len(self.units.get(unit.key, {}).get("rounds", []))

    def begin(self, unit: Unit) -> int:
        """Make room for a unit; how many of its rounds are done."""
        self.units.setdefault(
            unit.key,
            {
                "protocol": unit.protocol,
                "texts": len(unit.lengths),
                "median tokens": int(sorted(unit.lengths)[len(unit.lengths) // 2]),
                "cells": {cell.label: {"contender": cell.contender} for cell in unit.cells},
                "rounds": [],
            },
        )
        return self.rounds(unit)

    def describe(self, unit: Unit, cells: Mapping[str, Any]) -> None:
        """Keep what is known of each cell beside its times."""
        self.units[unit.key]["cells"] = dict(cells)

    def add_round(
        self, unit: Unit, times: Mapping[str, Any], rates: Mapping[str, float | None], outside: float
    ) -> None:
        """Keep a whole round, on disk too.

        Args:
            times: cell -> seconds.
            rates: precision -> FLOP/s of matrix products.
            outside: share of the machine that other processes used meanwhile.
        """
        self.units[unit.key]["rounds"].append(
            {"cells": dict(times), "gemm": dict(rates), "outside": round(outside, 4)}
        )
        self.save()

    def save(self) -> None:
        """Write the file: the old one or the new one is there at any time."""
        with written_aside(self.path) as file:
            file.write(json.dumps(self.content, ensure_ascii=False, indent=1).encode())


def read_results(folder: Path) -> dict[str, Any]:
    """The content of a folder's ``results.json``.

    Raises:
        DataFileError: it cannot be read, or is of another format.
    """
    path = folder / FILE
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format is {content['format']}, this version reads {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFileError(f"{path} cannot be read: {error}; give another folder") from error
    return content


def surroundings() -> dict[str, Any]:
    """The machine and the versions of what is installed."""
    import psutil

    return {
        "machine": {
            "name": machine(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        },
        "versions": versions(*PACKAGES),
    }


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any], parts: list[str], folder: Path) -> None:
    for part in parts:
        old, new = _named(part, before.get(part)), _named(part, now[part])
        for key in {**old, **new}:
            if key != f"{part} {MORE_ROUNDS}" and old.get(key) != new.get(key):
                raise InputError(
                    f"--output {folder} holds results of another run: {key} was {_short(old.get(key))}, "
                    f"is {_short(new.get(key))}; give another folder"
                )


def _named(part: str, value: Any) -> dict[str, Any]:
    return (
        {f"{part} {key}": item for key, item in value.items()} if isinstance(value, dict) else {part: value}
    )


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = [item.get("name") for item in value]
    return json.dumps(value, ensure_ascii=False)
