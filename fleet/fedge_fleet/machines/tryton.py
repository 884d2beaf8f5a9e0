# SPDX-License-Identifier: Apache-2.0
"""A real Tryton 8.2 for the demo and the tests: a new database, the server's command, the work orders in it.

Tryton runs from a virtual environment of its own, given by its path (`make counterparts` makes one in
``.counterparts/tryton``). Nothing of it is imported here.
"""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from fedge_models.errors import StopError

from .processes import run

DATABASE, USER, PASSWORD, KEY = "mes", "fedge", "gateway-pass-9", "k" * 64  # on loopback, for as long as a demo runs

_CONFIG = "[database]\nuri=sqlite://\npath={folder}\n[web]\nlisten=127.0.0.1:{port}\n"

# Run by Tryton's own Python: a company, and a user with an application key for REST.
_SETUP = f"""
import sys
from trytond import config
config.update_etc(sys.argv[1])
from trytond.pool import Pool
from trytond.transaction import Transaction
Pool.start()
pool = Pool("{DATABASE}")
pool.init()
with Transaction().start("{DATABASE}", 1):
    currency, = pool.get("currency.currency").create([{{"name": "Euro", "code": "EUR", "symbol": "E"}}])
    party, = pool.get("party.party").create([{{"name": "Plant"}}])
    company, = pool.get("company.company").create([{{"party": party.id, "currency": currency.id}}])
    groups = [g.id for g in pool.get("res.group").search([])]
    user, = pool.get("res.user").create([{{
        "name": "{USER}", "login": "{USER}", "password": "{PASSWORD}", "company": company.id,
        "companies": [("add", [company.id])], "groups": [("add", groups)]}}])
    pool.get("res.user.application").create([{{"user": user.id, "application": "rest", "key": "{KEY}"}}])
"""


def make_database(venv: Path, folder: Path) -> Path:
    """Make a database with productions in a new `folder`; this takes 15 s and more. Raises StopError."""
    folder.mkdir(parents=True)
    database = folder / f"{DATABASE}.sqlite"
    database.touch()
    (folder / "password").write_text("an-administrator-9")
    config = configure(folder, 0)
    admin: list[str | Path] = [venv / "bin/trytond-admin", "-c", config, "-d", DATABASE]
    wanted = ["-u", "ir", "res", "production", "--activate-dependencies", "--email", "admin@example.com"]
    run([*admin, *wanted], {**os.environ, "TRYTONPASSFILE": str(folder / "password")})
    run([venv / "bin/python", "-c", _SETUP, config], os.environ)
    with closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database


def configure(folder: Path, port: int) -> Path:
    """Write the configuration: the database in `folder`, listening on `port` of loopback."""
    path = folder / "trytond.conf"
    path.write_text(_CONFIG.format(folder=folder, port=port))
    return path


def command(venv: Path, config: Path) -> list[str | Path]:
    """Return the server's command line."""
    return [venv / "bin/trytond", "-c", config, "-d", DATABASE]


def answers(port: int) -> bool:
    """Whether the server answers now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        path = f"/{DATABASE}/rest/model/production?s=1"
        connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def productions(folder: Path) -> list[tuple[int, str, str]]:
    """Read (id, reference, state) of every production from the file. Raises StopError."""
    return _rows(folder, "SELECT id, reference, state FROM production ORDER BY id")


def notes(folder: Path) -> list[tuple[str, str]]:
    """Read (resource, message) of every note. Raises StopError."""
    return _rows(folder, "SELECT resource, message FROM ir_note ORDER BY id")


def orders(folder: Path) -> list[dict[str, Any]]:
    """Return every work order in the form of the stand-in MES."""
    cleared = {resource for resource, text in notes(folder) if "the condition is over" in text}
    return [
        {"id": i, "key": key, "body": {"reference": key}, "cleared": f"production,{i}" in cleared, "deliveries": 1}
        for i, key, _ in productions(folder)
    ]


def output(folder: Path, port: int) -> str:
    """Return the agent's table for this server."""
    (folder / "key").write_text(KEY)
    url = f"http://127.0.0.1:{port}/{DATABASE}"
    table = {"type": "mes", "preset": "tryton", "url": url, "token_file": str(folder / "key"), "settle": "1s"}
    return "[output.mes]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())


def _rows(folder: Path, sql: str) -> list[Any]:
    try:
        with closing(sqlite3.connect(folder / f"{DATABASE}.sqlite", timeout=30)) as db:
            return db.execute(sql).fetchall()
    except sqlite3.Error as e:
        raise StopError(f"{folder}: Tryton's database cannot be read: {e}") from e
