# SPDX-License-Identifier: Apache-2.0
"""An OPC UA server that nobody here wrote: node-opcua (npm) in a process of its own."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from support.counterparts import others, program
from support.paths import SUPPORT

TAGS = 40  # of the shared server: Plant/T0, Plant/T1, …
SCRIPT = SUPPORT / "opcua.js"


class NodeServer:
    """node-opcua (`opcua.js`); `folder` keeps its certificates, so a restart is the same server again."""

    def __init__(self, folder: Path, port: int = 0, **options: Any) -> None:
        modules = others("node", "node_modules")
        self._folder, self._options = folder, options
        command = [program("node"), str(SCRIPT), json.dumps({"pki": str(folder), "port": port, **options})]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "COUNTERPARTS": str(modules)},
            )  # fmt: skip
        self.port: int = self._answer()["port"]
        self.url = f"opc.tcp://127.0.0.1:{self.port}"

    def do(self, what: str, **more: Any) -> Any:
        """Have it do something (see the script)."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        assert "ok" in answer, answer
        return answer["ok"]

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.communicate()

    def again(self, **options: Any) -> NodeServer:
        """A new process on the same port, with the same certificates."""
        return NodeServer(self._folder, self.port, **{**self._options, **options})

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise AssertionError(f"node-opcua ended: {(self._folder / 'log').read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@cache
def shared_server() -> NodeServer:
    """One for all tests that do not harm it, with every limit of a call set low; it takes seconds to start."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    limits = {
        "maxMonitoredItemsPerCall": 7,
        "maxNodesPerRead": 6,
        "maxNodesPerBrowse": 3,
        "maxNodesPerWrite": 2,
        "maxNodesPerTranslateBrowsePathsToNodeIds": 2,
    }
    made = NodeServer(folder / "pki", tags=TAGS, limits=limits, users={"op": "secret"})
    atexit.register(made.stop)
    return made
