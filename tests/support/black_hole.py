# SPDX-License-Identifier: Apache-2.0
"""A TCP link that can turn into a black hole: it takes what is sent, and nothing arrives."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class BlackHoleLink:
    """Forwards a port of its own to `target`, until it swallows all bytes."""

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
