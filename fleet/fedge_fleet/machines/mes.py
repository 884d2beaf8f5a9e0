# SPDX-License-Identifier: Apache-2.0
"""A stand-in MES: accepts work orders over REST and stores them, one per idempotency key.

``POST /work-orders`` (201 new, 200 known), ``POST /work-orders/<reference>/cleared``, ``GET /work-orders``. It can be
told to lose answers after storing, which is when a client without a key makes duplicates.
"""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fedge_models.system.database import open_database
from fedge_models.system.service import HttpServer

MAX_BODY = 64 * 1024
_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, body TEXT NOT NULL, created REAL NOT NULL, cleared TEXT,
    deliveries INTEGER NOT NULL DEFAULT 1);
"""


class Mes(HttpServer):
    """The server; `drop` is the chance that an answer is lost after the order was stored."""

    def __init__(self, store: Path, port: int = 0, drop: float = 0.0, token: str = "", seed: int = 0) -> None:
        self.database: sqlite3.Connection = open_database(store, _SCHEMA)
        self.lock = threading.Lock()
        self.drop, self.token, self.rng = drop, token, random.Random(seed)
        super().__init__(("127.0.0.1", port), _Handler)

    def create(self, key: str, body: str) -> tuple[int, int]:
        """Store an order, or find the one with this key; return (HTTP status, order number)."""
        with self.lock:
            row = self.database.execute("SELECT id FROM orders WHERE key = ?", (key,)).fetchone()
            if row is not None:
                self.database.execute("UPDATE orders SET deliveries = deliveries + 1 WHERE id = ?", row)
                return 200, int(row[0])
            sql = "INSERT INTO orders (key, body, created) VALUES (?, ?, ?)"
            return 201, int(self.database.execute(sql, (key, body, time.time())).lastrowid or 0)

    def clear(self, key: str, body: str) -> int:
        """Record that the condition is over; return the HTTP status."""
        with self.lock:
            sql = "UPDATE orders SET cleared = ? WHERE key = ?"
            return 200 if self.database.execute(sql, (body, key)).rowcount else 404

    def orders(self) -> list[dict[str, Any]]:
        """Return all orders."""
        with self.lock:
            rows = self.database.execute("SELECT id, key, body, created, cleared, deliveries FROM orders ORDER BY id")
            return [
                {"id": i, "key": k, "body": json.loads(b), "created": t, "cleared": c is not None, "deliveries": n}
                for i, k, b, t, c, n in rows
            ]


class _Handler(BaseHTTPRequestHandler):
    server: Mes
    timeout = 10
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/work-orders":
            self._answer(200, self.server.orders())
        else:
            self._answer(404, {"error": "no such path"})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length > MAX_BODY:
            self.close_connection = True
            self._answer(413, {"error": "too long"})
            return
        body = self.rfile.read(length).decode()
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._answer(401, {"error": "wrong token"})
        elif self.path == "/work-orders" and (key := self.headers.get("Idempotency-Key")):
            status, number = self.server.create(key, body)
            if status == 201 and self.server.rng.random() < self.server.drop:
                self.close_connection = True  # stored, but the client will never know
                return
            self._answer(status, {"id": number})
        elif self.path.startswith("/work-orders/") and self.path.endswith("/cleared"):
            self._answer(self.server.clear(unquote(self.path.split("/")[2]), body), {})
        else:
            self._answer(400, {"error": "expected POST /work-orders with an Idempotency-Key"})

    def _answer(self, status: int, data: Any) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the demo's output is for people."""
