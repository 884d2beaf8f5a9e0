# SPDX-License-Identifier: Apache-2.0
"""A real Tryton: made once for each version of its recipe, copied for each test, killed and started again at will."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from fedge_fleet.machines import tryton

from support.counterparts import others
from support.programs import free_port
from support.waiting import until

KEY, PASSWORD, USER = tryton.KEY, tryton.PASSWORD, tryton.USER


class Tryton:
    """`url` is what an output is given; `port` stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}/{tryton.DATABASE}"
        database = _database()
        folder.mkdir()
        shutil.copy(database, folder)
        self._command = tryton.command(others("tryton"), tryton.configure(folder, self.port))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listen; ready when this returns."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        process, log_text = self._process, (self.folder / "log").read_text
        until(lambda: tryton.answers(self.port) or process.poll() is not None, log_text)
        assert process.poll() is None, log_text()

    def kill(self) -> None:
        """As a power cut of the server would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def productions(self) -> list[tuple[int, str, str]]:
        """(id, reference, state) of every production, read from the file."""
        return tryton.productions(self.folder)

    def notes(self) -> list[tuple[str, str]]:
        """(resource, message) of every note."""
        return tryton.notes(self.folder)


def _database() -> Path:
    """A fresh database, copied from the folder of the counterparts: making one takes half a minute."""
    recipe = hashlib.sha256(Path(tryton.__file__).read_bytes()).hexdigest()[:12]
    done = others("tryton").parent / "databases" / recipe / f"{tryton.DATABASE}.sqlite"
    done.parents[1].mkdir(exist_ok=True)
    with (done.parents[1] / "lock").open("w") as lock:  # of tests that run side by side one makes it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            making = done.parents[1] / f"making-{os.getpid()}"
            tryton.make_database(others("tryton"), making)
            shutil.rmtree(done.parent, ignore_errors=True)
            making.rename(done.parent)
    return done
