# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy in threads that ends connections at random moments."""

from __future__ import annotations

import random
import socket
import struct
import threading
from contextlib import suppress

from support.waiting import LONGEST_S


class CutLink:
    """Forwards a port of its own to `port`, and cuts the share `cut` (0 to 1) of all connections.

    A cut connection ends after a random share of its bytes: before the request arrived, or before its answer did.
    """

    def __init__(self, port: int, cut: float = 0.0, seed: int = 0) -> None:
        self._target, self.cut, self._rng = port, cut, random.Random(seed)
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LONGEST_S)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            doomed = self._rng.random() < self.cut
            # A request has some 600 bytes, an answer some 300: where in both together the link breaks.
            left = self._rng.randrange(1, 900) if doomed else None
            threading.Thread(target=self._carry, args=(near, left), daemon=True).start()

    def _carry(self, near: socket.socket, left: int | None) -> None:
        budget = _Budget(left)
        try:
            far = socket.create_connection(("127.0.0.1", self._target), timeout=30)
        except OSError:
            _reset(near)
            return
        back = threading.Thread(target=self._pump, args=(far, near, budget), daemon=True)
        back.start()
        self._pump(near, far, budget)
        back.join(LONGEST_S)
        self.cuts += budget.spent
        for end in (near, far):
            _reset(end) if budget.spent else end.close()

    def _pump(self, source: socket.socket, sink: socket.socket, budget: _Budget) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                data = budget.take(data)
                sink.sendall(data)
                if budget.spent:
                    source.shutdown(socket.SHUT_RDWR)
                    break
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR if budget.spent else socket.SHUT_WR)


class _Budget:
    """The number of bytes that may still pass; None: any number."""

    def __init__(self, left: int | None) -> None:
        self._left, self._lock, self.spent = left, threading.Lock(), False

    def take(self, data: bytes) -> bytes:
        with self._lock:
            if self._left is None:
                return data
            data = data[: self._left]
            self._left -= len(data)
            self.spent = self._left == 0
            return data


def _reset(end: socket.socket) -> None:
    """Close a connection with RST instead of FIN."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()
