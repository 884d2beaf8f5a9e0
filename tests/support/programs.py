# SPDX-License-Identifier: Apache-2.0
"""The project's own programs as real processes, started through their command lines."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner
from fedge_agent.cli.main import main as agent
from fedge_aggregator.cli.main import main as aggregator

from support.waiting import LONGEST_S, until

BIN = Path(sys.executable).parent
ENV = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
MAINS: dict[str, click.Group] = {"fedge-agent": agent, "fedge-aggregator": aggregator}
NAMED = Path()  # the state folder has the program's name


class Programs:
    """Aggregators and agents in one folder: NAME.toml, the state in NAME/, their output in NAME.log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.env = dict(ENV)  # of what is started

    def run(self, *command: str | Path) -> str:
        """Run a command to its end in this process, which spares the start of a Python, and return what it printed."""
        done = CliRunner().invoke(MAINS[str(command[0])], [str(word) for word in command[1:]])
        assert done.exit_code == 0, done.output
        return done.stdout

    def typed(self, *command: str | Path) -> str:
        """The same in a process of its own, as somebody types it."""
        line = [str(BIN / command[0]), *map(str, command[1:])]
        done = subprocess.run(line, capture_output=True, text=True, env=ENV, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def told(self, name: str) -> str:
        """What `fedge-agent status` prints of an agent, which may have problems."""
        done = CliRunner().invoke(agent, ["status", "--config", str(self.folder / f"{name}.toml")])
        assert done.exit_code == (2 if "PROBLEM" in done.stdout else 0), done.output
        return done.stdout

    def start(self, name: str, program: str = "fedge-agent", state: Path | None = NAMED) -> None:
        """Start and wait until its status page is there. state: its folder; None: do not wait."""
        address = (self.folder / name if state is NAMED else state or self.folder / "no") / "status.addr"
        address.unlink(missing_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            command: list[str | Path] = [BIN / program, "start", "--config", self.folder / f"{name}.toml"]
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=self.env)
        if state is not None:
            self.wait(address.exists, f"{name} to start")

    def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def status(self, name: str) -> dict[str, Any]:
        """The status page of a program."""
        return self.page(name, "/status")

    def page(self, name: str, path: str) -> dict[str, Any]:
        """A page of a program, as JSON."""
        data: dict[str, Any] = json.loads(self.text(name, path))
        return data

    def text(self, name: str, path: str) -> str:
        """A page of a program."""
        host, _, port = (self.folder / name / "status.addr").read_text().rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=LONGEST_S)
        connection.request("GET", path)
        data = connection.getresponse().read().decode()
        connection.close()
        return data

    def wait(self, done: Callable[[], Any], what: str, timeout: float = LONGEST_S) -> None:
        """Return when done() holds. Every started process must still run."""
        until(lambda: self._all_run() and done(), what, timeout)

    def _all_run(self) -> bool:
        for name, process in self.running.items():
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()[-2000:]
        return True

    def end(self) -> list[int]:
        """Send SIGTERM to all and return their exit codes."""
        for process in self.running.values():
            process.terminate()
        return [process.wait(LONGEST_S) for process in self.running.values()]


def free_port() -> int:
    """A port that nobody listens on now, below those that the system hands to connections and to other tests."""
    while True:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", random.SystemRandom().randrange(15_000, 32_000)))
            return int(s.getsockname()[1])
