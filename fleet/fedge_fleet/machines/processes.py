# SPDX-License-Identifier: Apache-2.0
"""Real processes that never outlive their owner.

Promises that every process started here is gone when the `Processes` context ends, however it ends: SIGTERM to each
in reverse order of start, SIGKILL after a grace period and to whatever they left behind, which the owner inherits
(PR_SET_CHILD_SUBREAPER) and waits for; and that the kernel kills them should the owner itself be killed
(PR_SET_PDEATHSIG; both prctl(2), Linux).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from fedge_models.errors import StopError

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 8.0


class Processes:
    """A set of child processes with their log files in one folder."""

    def __init__(self, logs: Path, env: Mapping[str, str]) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._logs, self._env = logs, dict(env)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start a process of its own session (a Ctrl-C reaches only the owner), output to ``<name>.log``."""
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  # the owner has no threads that hold locks yet
            )
        self._running[name] = process
        return process

    def check(self) -> None:
        """Raise StopError naming the first process that ended by itself, with the end of its log."""
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                raise StopError(f"{name} ended with code {code}; the end of its log:\n{self.tail(name)}")

    def tail(self, name: str, lines: int = 12) -> str:
        """Return the last lines that a process wrote."""
        return "\n".join((self._logs / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])

    def wait_until(self, done: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until `done`. Raises StopError when a process ends, or when it takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while not done():
            self.check()
            if time.monotonic() > deadline:
                tails = "\n".join(f"--- {n}\n{self.tail(n, 4)}" for n in self.pids())
                raise StopError(f"waited {seconds:.0f} s, but this did not happen: {what}\n{tails}")
            time.sleep(0.05)

    def text_of(self, path: Path, seconds: float) -> str:
        """Return the text of a file once a process has written it. Raises StopError as `wait_until` does."""
        self.wait_until(lambda: path.exists() and bool(path.read_text()), path.name, seconds)
        return path.read_text()

    def pids(self) -> dict[str, int]:
        """Return the process id of each process that runs."""
        return {name: p.pid for name, p in self._running.items() if p.poll() is None}

    def end(self, name: str) -> int:
        """End one process, stop watching it, and return its exit code."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(GRACE_S)
        finally:
            _bury(process)

    def stop(self) -> dict[str, int]:
        """End all, last started first; returns exit codes by name. Negative: by that signal."""
        for process in reversed(self._running.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            _bury(process)
        return {name: p.returncode for name, p in self._running.items()}


def run(command: Sequence[str | Path], env: Mapping[str, str]) -> str:
    """Run a command to its end and return what it printed. Raises StopError with its error output."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=dict(env), check=False)
    if done.returncode:
        raise StopError(f"{' '.join(map(str, command))} ended with code {done.returncode}:\n{done.stderr.strip()}")
    return done.stdout


def _bury(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process and of all that it started, and wait until they are gone."""
    with suppress(ProcessLookupError):  # nothing is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(ChildProcessError):  # the last one
        while True:
            os.waitpid(-process.pid, 0)


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)
