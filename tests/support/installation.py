# SPDX-License-Identifier: Apache-2.0
"""An installation as docs/operator/deployment.md describes it, in a folder instead of the root of a machine."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT

PAGE = ROOT / "docs/operator/deployment.md"
START_S = 60.0
# Nothing of the test run reaches an installed program: neither a path to the checkout nor an option for pip. `python3`
# is the Python that runs the tests, because the wheelhouse is made for it.
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "FEDGE_", "VIRTUAL_ENV"))}
CLEAN["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def blocks(heading: str) -> list[str]:
    """The shell blocks of a section of docs/operator/deployment.md."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S)


class Service:
    """The process of a systemd unit, started as its ExecStart says."""

    def __init__(self, unit: str, socket_path: Path) -> None:
        [line] = re.findall(r"^ExecStart=(.*)$", unit, re.M)
        self.command, self._socket = shlex.split(line), socket_path
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def _kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def start(self) -> None:
        """Return when the service has sent READY=1."""
        self._socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.bind(str(self._socket))
            channel.settimeout(START_S)
            self._process = subprocess.Popen(self.command, env={**CLEAN, "NOTIFY_SOCKET": str(self._socket)}, cwd="/")
            try:
                assert channel.recv(100) == b"READY=1"
            except BaseException:
                self._kill()
                raise

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(START_S)


class Installation:
    """A machine in a folder: /opt, /etc and /var lie in `root`, next to the wheelhouse."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin = root, root / "opt/fedge/bin"
        for folder in ("opt", "etc/fedge", "var/lib/private"):
            (root / folder).mkdir(parents=True)

    def run(self, *command: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, outside of the checkout."""
        return subprocess.run(
            command, capture_output=True, text=True, env=CLEAN, cwd=self.root, timeout=timeout, check=False
        )

    def follow(self, script: str, service: Service | None = None) -> str:
        """Run a block of the page; its `systemctl` lines start and stop the service. Returns what it printed."""
        here = re.sub(r"(^|[ \"])/(opt|etc|var)/", rf"\1{self.root}/\2/", script, flags=re.M)
        printed, lines = "", []
        for line in [*here.splitlines(), "systemctl"]:
            if not line.startswith("systemctl"):
                lines.append(line)
                continue
            done = self.run("sh", "-euc", "\n".join(lines), timeout=600)
            assert done.returncode == 0, done.stderr
            printed, lines = printed + done.stdout, []
            if service and line.startswith("systemctl start"):
                service.start()
            elif service and line.startswith("systemctl stop"):
                assert service.stop() == 0
        return printed
