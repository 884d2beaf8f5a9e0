# SPDX-License-Identifier: Apache-2.0
"""Write an output: each event as a message in the log of the operating system (syslog).

In fedge this is a file in `agent/fedge_agent/outputs/` and a line in its `registry.py`. Run it: it takes an event
through the agent's own spool and host, into a socket that stands for /dev/log.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import msgspec
from fedge_agent.durable.spool import Spool
from fedge_agent.outputs.host import HostedOutput
from fedge_agent.outputs.registry import OUTPUTS, build
from fedge_agent.types import AlertState, Decision, Event, Output
from fedge_models.errors import UnreachableError

PRIORITY = {"low": 13, "medium": 12, "high": 11}  # RFC 5424: facility user; notice, warning, error


class SyslogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[output.X] type = "syslog"``."""

    path: Path = Path("/dev/log")


class SyslogOutput(Output):
    """Sends one datagram an event. The host stores events, tries again and counts."""

    Config = SyslogConfig

    def __init__(self, name: str, config: SyslogConfig) -> None:
        self._path = config.path

    def deliver(self, event: Event) -> None:
        """Send it, or raise UnreachableError: the host keeps the event and tries again."""
        decision = event.decision
        text = (
            f"<{PRIORITY[event.severity]}>fedge: {decision.asset} {event.state}: score {decision.score:.3g} {event.key}"
        )
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.connect(str(self._path))
                connection.send(text.encode())
        except OSError as e:
            raise UnreachableError(f"{self._path}: {e.strerror}; does a syslog daemon run?") from e

    def check(self) -> list[str]:
        """Whether the socket is there."""
        return [] if self._path.exists() else [f"{self._path}: not there; does a syslog daemon run?"]


OUTPUTS["syslog"] = f"{__name__}:SyslogOutput"  # in fedge: the line in registry.py


def main() -> None:
    """Deliver one event and print what arrived."""
    decision = Decision("pump-1", "pumps", 3, 1_700_000_000_000_000_000, 2.5, 1.0, "anomaly", 0.0, 0.001)
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(f"{folder}/log")
        log.settimeout(10)
        output = build("log", {"type": "syslog", "path": f"{folder}/log"}, "example")
        spool = Spool(Path(folder) / "spool.db")
        hosted = HostedOutput("log", output, spool)
        spool.put_event(["log"], Event("gw:pumps:pump-1:1", "opened", decision, 2.5), AlertState())
        hosted.start()
        print(log.recv(1000).decode(), output.check())
        hosted.stop(10)
        spool.close()


if __name__ == "__main__":
    main()
