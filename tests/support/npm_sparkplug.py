"""Sparkplug as somebody else wrote it: tests/support/sparkplug.js (npm sparkplug-client) in a process of its own."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from support.counterparts import others, program
from support.mosquitto import PASSWORD, Mosquitto
from support.paths import SUPPORT

SCRIPT = SUPPORT / "sparkplug.js"


class Npm:
    """What it says, a JSON object a line; what it is told to do likewise."""

    def __init__(self, broker: Mosquitto, mode: str, *rest: str) -> None:
        env = {**os.environ, "NODE_PATH": str(others("node", "node_modules"))}
        command = [program("node"), str(SCRIPT), mode, f"mqtt://127.0.0.1:{broker.port}", "gw", PASSWORD, *rest]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.hear(lambda e: e["event"] == "connected")

    def __enter__(self) -> Npm:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL; the broker publishes its will."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def tell(self, **order: Any) -> None:
        """Have it do something; returns when it is done."""
        self.order(**order)
        self.hear(lambda e: e["event"] == "done")

    def order(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def hear(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next thing it says that is wanted."""
        while True:
            event = self._said.get(timeout=10)
            if wanted(event):
                return event

    def message(self, kind: str) -> dict[str, Any]:
        """As a host: the next message of this kind."""
        return self.hear(lambda e: e["event"] == "message" and f"/{kind}/" in e["topic"])

    def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                self._said.put(json.loads(line))
        except ValueError:
            return  # closed while reading
