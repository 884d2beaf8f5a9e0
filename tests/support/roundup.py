# SPDX-License-Identifier: Apache-2.0
"""A real Roundup tracker (the classic template) with a user for us and one for a person."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from support.counterparts import others
from support.programs import free_port
from support.waiting import LONGEST_S, until

# Roundup refuses to serve as root, which tests are in a container.
_SERVER = "import os; os.getuid = lambda: 1; from roundup.scripts.roundup_server import run; run()"
USER, PASSWORD = "admin", "gateway-pass-9"


class Roundup:
    """The server; `url` is the one that an output is configured with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}/t"
        home = folder / "tracker"
        folder.mkdir()
        admin: list[str | Path] = [others("roundup", "bin", "roundup-admin"), "-i", home]
        subprocess.run([*admin, "install", "classic", "sqlite"], check=True, capture_output=True)
        config = home / "config.ini"
        text = re.sub(r"(?m)^#?web = .*", f"web = {self.url}/", config.read_text())
        text = re.sub(r"(?m)^#?domain = .*", "domain = example.com", text)
        text = re.sub(r"(?m)^password_pbkdf2_default_rounds = .*", "password_pbkdf2_default_rounds = 1000", text)
        text = re.sub(r"(?m)^debug = $", f"debug = {folder / 'mail'}", text)  # instead of sending it
        config.write_text(re.sub(r"(?m)^secret_key = .*", "secret_key = " + "s" * 40, text))
        subprocess.run([*admin, "initialise", PASSWORD], check=True, capture_output=True)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it answers."""
        command: list[str | Path] = [
            others("roundup", "bin", "python"),
            "-c",
            _SERVER,
            "-p",
            str(self.port),
            "-n",
            "127.0.0.1",
            "-L",
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, f"t={self.folder / 'tracker'}"], stdout=log, stderr=log)
        process, log_text = self._process, (self.folder / "log").read_text
        until(lambda: self._answers() or process.poll() is not None, log_text)
        assert process.poll() is None, log_text()

    def _answers(self) -> bool:
        try:
            self.call("GET", "/rest/data/issue")
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """What a person does at the server, without us."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=LONGEST_S)
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {pair}", "X-Requested-With": "person", "Accept": "application/json"}
        headers |= {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{self.port}"}
        try:
            connection.request(method, f"/t{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, data
        return json.loads(data)["data"]
