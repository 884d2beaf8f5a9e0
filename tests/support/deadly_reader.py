# SPDX-License-Identifier: Apache-2.0
"""A gateway's MQTT source whose reading of one payload ends the process, as the kernel does when memory is out.

    python deadly_reader.py URL TOPIC FOLDER

A message that holds b"die" kills; the others are printed, as are the problems that are stated.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from fedge_agent.sources import mqtt
from fedge_agent.sources.mqtt_payload import Complaint, Reader
from fedge_agent.types import Reading
from fedge_models.errors import RetryError

from support.recording_host import RecordingHost


class Deadly(Reader):
    """A reader that kills this process at some payloads."""

    def read(self, topic: str, payload: bytes, now_ns: int) -> tuple[list[Reading], list[Complaint]]:
        if b"die" in payload:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(topic, payload, now_ns)


class DeadlySource(mqtt.MqttSource):
    """The source with that reader."""

    reader = Deadly


class Printing(RecordingHost):
    """A host that prints problems and counts, so that they outlive the process."""

    def problem(self, subject: str, text: str | None) -> None:
        if text:
            sys.stdout.write(f"problem {subject} {text}\n")
            sys.stdout.flush()

    def count(self, what: str, by: int = 1, example: str = "") -> None:
        sys.stdout.write(f"count {what} {by}\n")
        sys.stdout.flush()


def main(url: str, topic: str, folder: str) -> None:
    host = Printing(Path(folder))
    source = DeadlySource("broker", mqtt.MqttConfig(url=url, client_id="gw", version="3.1.1"))
    try:
        source.run([topic], host)
    except RetryError as e:
        sys.stdout.write(f"ended {e}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
