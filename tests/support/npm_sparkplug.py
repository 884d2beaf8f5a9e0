# SPDX-License-Identifier: Apache-2.0
"""A Sparkplug client that nobody here wrote: npm sparkplug-client, driven by tests/support/sparkplug.js."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any

from support.counterparts import others, program
from support.mosquitto import PASSWORD, Mosquitto
from support.paths import SUPPORT
from support.waiting import LONGEST_S

SCRIPT = SUPPORT / "sparkplug.js"


class NpmSparkplug:
    """A node or host in a process of its own. Orders and events are JSON objects, one a line."""

    def __init__(self, broker: Mosquitto, mode: str, *rest: str, more_env: Mapping[str, str] | None = None) -> None:
        env = {**os.environ, **(more_env or {}), "NODE_PATH": str(others("node", "node_modules"))}
        command = [program("node"), str(SCRIPT), mode, f"mqtt://127.0.0.1:{broker.port}", "gw", PASSWORD, *rest]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.next_event(lambda e: e["event"] == "connected")

    def __enter__(self) -> NpmSparkplug:
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

    def do(self, **order: Any) -> None:
        """Send an order and return when it is done."""
        self.send(**order)
        self.next_event(lambda e: e["event"] == "done")

    def send(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def next_event(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the next event that is wanted."""
        while True:
            event = self._events.get(timeout=LONGEST_S)
            if wanted(event):
                return event

    def message(self, kind: str) -> dict[str, Any]:
        """As a host: the next message of this kind."""
        return self.next_event(lambda e: e["event"] == "message" and f"/{kind}/" in e["topic"])

    def _read(self) -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                self._events.put(json.loads(line))
        except ValueError:
            return  # closed while reading
