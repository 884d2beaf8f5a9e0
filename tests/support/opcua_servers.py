"""For tests of OPC UA: a server that is not ours in a process of its own, a source that runs, a link that fails."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from fedge_agent.sources.opcua import OpcuaConfig, OpcuaSource

from support.counterparts import others, program
from support.paths import SUPPORT
from support.recording_host import RecordingHost

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


class Run:
    """A source running in a thread; `error` is what ended it. Ends with the `with` block."""

    def __init__(self, url: str, tags: Sequence[str], state: Path | None = None, **config: Any) -> None:
        self.error: Exception | None = None
        self.host = RecordingHost(state or Path())
        config.setdefault("publishing_interval", 0.05)
        self.source = OpcuaSource("plc", OpcuaConfig(url=url, **config), state)
        self.thread = threading.Thread(target=self._run, args=(tags,))
        self.thread.start()

    def _run(self, tags: Sequence[str]) -> None:
        try:
            self.source.run(tags, self.host)
        except Exception as e:
            self.error = e

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.host.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


class Proxy:
    """A TCP link to a port that can turn into a black hole: what is sent is taken, and nothing arrives."""

    def __init__(self, target: int) -> None:
        self._target, self._open, self._stop = target, threading.Event(), threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """From now on nothing arrives any more, in either direction, and nothing is closed."""
        self._open.clear()

    def heal(self) -> None:
        """New connections work; the old ones stay dead."""
        self._open.set()

    def close(self) -> None:
        self._stop.set()
        for one in [self._listener, *(s for pair in self._pairs for s in pair)]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((near, far))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        dead = not self._open.is_set()
        with suppress(OSError):
            while data := source.recv(65536):
                dead = dead or not self._open.is_set()
                if not dead:
                    target.sendall(data)
            if not dead:
                target.shutdown(socket.SHUT_WR)
