# SPDX-License-Identifier: Apache-2.0
"""What processes on this machine need of each other: programs, ports, an environment, and a page's JSON."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from fedge_models.errors import StopError

BIN = Path(sys.executable).parent  # where the commands of this installation are
SYSTEMD = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")  # what is for the service that started us


def environment() -> dict[str, str]:
    """Return the environment of a process: one thread each, and neither a proxy nor systemd to talk to."""
    own = {k: v for k, v in os.environ.items() if k not in SYSTEMD and not k.lower().endswith("_proxy")}
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return {**own, **threads, "ORT_DISABLE_TELEMETRY": "1"}


def free_port() -> int:
    """Return a port of loopback that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def broker_config(port: int) -> str:
    """Return mosquitto's configuration for loopback.

    As root it would become another user, and so lose that it ends with its parent (PR_SET_PDEATHSIG, prctl(2)).
    """
    user = "user root\n" if os.geteuid() == 0 else ""
    return f"listener {port} 127.0.0.1\nallow_anonymous true\n{user}"


def program(name: str) -> str | None:
    """Return the path of an installed program; Debian keeps servers in /usr/sbin."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def get(address: str, path: str) -> Any:
    """Get JSON from a local page. Raises StopError."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException) as e:
        raise StopError(f"http://{address}{path}: {e}") from e
    finally:
        connection.close()
