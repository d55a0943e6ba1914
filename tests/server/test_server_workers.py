"""Several processes behind one address: signals while a worker loads."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

# A worker that starts once another is ready never gets further than to be imported, or to load its model.
STUCK = """
import sys
import time
from pathlib import Path

FOLDER, MOMENT = Path(sys.argv[1]), sys.argv[2]


def stick(moment):
    if moment == MOMENT and (FOLDER / "ready").exists():
        (FOLDER / "stuck").touch()
        time.sleep(600)


if __name__ == "__mp_main__":
    stick("imported")

from fastapi import FastAPI

from jaspertc.server.settings import ServerSettings
from jaspertc.server.workers import Application, serve_in_workers


class Stuck(Application):
    def __call__(self):
        stick("loaded")
        (FOLDER / "ready").touch()
        return FastAPI()


if __name__ == "__main__":
    serve_in_workers(Stuck(model="mini", settings=ServerSettings(port=0)), 1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
@pytest.mark.parametrize(
    ("starts", "moment", "ends"),
    [
        ("SIGHUP", "loaded", "SIGTERM"),
        ("SIGTTIN", "imported", "SIGINT"),
        ("SIGTTIN", "loaded", "SIGTERM"),
    ],
)
def test_the_end_does_not_wait_for_a_worker_that_loads(
    tmp_path: Path, starts: str, moment: str, ends: str
) -> None:
    script = tmp_path / "stuck.py"
    script.write_text(STUCK, encoding="utf-8")
    process = subprocess.Popen([sys.executable, script, tmp_path, moment], start_new_session=True)

    def wait_for(name: str) -> None:
        while not (tmp_path / name).exists():
            assert process.poll() is None
            time.sleep(0.05)

    try:
        wait_for("ready")
        process.send_signal(getattr(signal, starts))
        wait_for("stuck")
        process.send_signal(getattr(signal, ends))
        assert process.wait(60) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
