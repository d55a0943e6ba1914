"""Where the numbers of a page are from."""

import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jaspertc.machine import thread_count


def processor() -> str:
    """The processor's name."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def machine() -> str:
    """The processor, the threads used and the system, in words."""
    threads = thread_count()
    return f"{processor()}, {threads} thread{'s' * (threads > 1)}, {platform.system()}"


def versions(*packages: str) -> dict[str, str]:
    """Of Python, and of those packages that are installed."""
    by_name = {"python": platform.python_version()}
    for package in packages:
        with suppress(PackageNotFoundError):
            by_name[package] = version(package)
    return by_name


def command_line(arguments: Sequence[str] | None = None, *, program: str = "jaspertc") -> str:
    """The command being run, without the folders of this machine: of absolute paths the last part is kept."""
    words = []
    for item in sys.argv[1:] if arguments is None else arguments:
        key, equals, value = item.partition("=")
        if equals and os.path.isabs(value):
            item = f"{key}={Path(value).name}"
        elif os.path.isabs(item):
            item = Path(item).name
        words.append(f'"{item}"' if " " in item else item)
    return " ".join([program, *words])
