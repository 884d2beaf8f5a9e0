"""A real Tryton: made once for each version of this file, copied for each test, killed and started again at will."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

from counterparts import others
from programs import free_port

USER, PASSWORD, KEY = "fedge", "gateway-pass-9", "k" * 64

_CONFIG = "[database]\nuri=sqlite://\npath={folder}\n[web]\nlisten=127.0.0.1:{port}\n"

# Run by Tryton's own Python: a company, and a user with an application key for REST.
_SETUP = f"""
import sys
from trytond import config
config.update_etc(sys.argv[1])
from trytond.pool import Pool
from trytond.transaction import Transaction
Pool.start()
pool = Pool("mes")
pool.init()
with Transaction().start("mes", 1):
    currency, = pool.get("currency.currency").create([{{"name": "Euro", "code": "EUR", "symbol": "E"}}])
    party, = pool.get("party.party").create([{{"name": "Plant"}}])
    company, = pool.get("company.company").create([{{"party": party.id, "currency": currency.id}}])
    groups = [g.id for g in pool.get("res.group").search([])]
    user, = pool.get("res.user").create([{{
        "name": "{USER}", "login": "{USER}", "password": "{PASSWORD}", "company": company.id,
        "companies": [("add", [company.id])], "groups": [("add", groups)]}}])
    pool.get("res.user.application").create([{{"user": user.id, "application": "rest", "key": "{KEY}"}}])
"""


class Tryton:
    """`url` is what an output is given; `port` stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}/mes"
        folder.mkdir()
        shutil.copy(_database(), folder / "mes.sqlite")
        (folder / "trytond.conf").write_text(_CONFIG.format(folder=folder, port=self.port))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listen; ready when this returns."""
        command = [others("tryton", "bin", "trytond"), "-c", self.folder / "trytond.conf", "-d", "mes"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut of the server would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def productions(self) -> list[tuple[int, str, str]]:
        """(id, reference, state) of every production, read from the file."""
        return self._rows("SELECT id, reference, state FROM production ORDER BY id")

    def notes(self) -> list[tuple[str, str]]:
        """(resource, message) of every note."""
        return self._rows("SELECT resource, message FROM ir_note ORDER BY id")

    def _rows(self, sql: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.folder / "mes.sqlite", timeout=30)) as db:
            return db.execute(sql).fetchall()

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/mes/rest/model/production?s=1", headers={"Authorization": f"Bearer {KEY}"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def _database() -> Path:
    """A database with productions in it, kept beside the counterparts: to make it takes half a minute."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    done = Path(others("tryton")).parent / "databases" / f"tryton-{recipe}.sqlite"
    if done.exists():
        return done
    folder = done.parent / f"making-{os.getpid()}"
    folder.mkdir(parents=True)
    (folder / "mes.sqlite").touch()
    (folder / "password").write_text("an-administrator-9")
    config = folder / "trytond.conf"
    config.write_text(_CONFIG.format(folder=folder, port=free_port()))
    admin = [others("tryton", "bin", "trytond-admin"), "-c", config, "-d", "mes"]
    asked = ["-u", "ir", "res", "production", "--activate-dependencies", "--email", "admin@example.com"]
    environment = {**os.environ, "TRYTONPASSFILE": str(folder / "password")}
    subprocess.run([*admin, *asked], check=True, env=environment, capture_output=True)
    subprocess.run([others("tryton", "bin", "python"), "-c", _SETUP, config], check=True, capture_output=True)
    with closing(sqlite3.connect(folder / "mes.sqlite")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (folder / "mes.sqlite").replace(done)
    shutil.rmtree(folder)
    return done
