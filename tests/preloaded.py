"""Commands in processes that find the libraries loaded, for tests that start and kill many."""

import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TextIO

LOADED = ["jaspertc.cli", "jaspertc.train.run", "jaspertc.teaching.fill"]


def start(*arguments: str) -> tuple[BaseProcess, TextIO]:
    """``jaspertc ARGUMENTS`` on one thread, and what it writes to standard error."""
    forks = multiprocessing.get_context("forkserver")  # which not every platform has
    forks.set_forkserver_preload(LOADED)
    reader, writer = forks.Pipe(duplex=False)
    process = forks.Process(target=_run, args=(arguments, writer))
    process.start()
    writer.close()
    with reader:
        return process, os.fdopen(os.dup(reader.fileno()), encoding="utf-8")


def _run(arguments: tuple[str, ...], stderr: Connection) -> None:
    import torch

    from jaspertc.cli import main

    torch.set_num_threads(1)
    os.dup2(stderr.fileno(), 2)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8")  # the old one takes it for a file
    sys.argv = ["jaspertc", *arguments]
    main()
