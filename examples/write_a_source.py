# SPDX-License-Identifier: Apache-2.0
"""Write a source: the load and the temperature of this board, as channels for a model.

In fedge this is a file in `agent/fedge_agent/sources/` and a line in its `registry.py`. Run it: it reads for a moment
through the agent's own host, and prints what an asset would get.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.sources.registry import SOURCES, build
from fedge_agent.types import Quality, Reading, Source, SourceHost
from fedge_models.system.settings import Seconds

FILES = {"load": ("/proc/loadavg", 1.0), "temperature": ("/sys/class/thermal/thermal_zone0/temp", 1000.0)}


class BoardConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[source.X] type = "board"``; a tag is "load" (processes) or "temperature" (°C)."""

    poll: Seconds = Seconds(1)  # from one reading to the next


class BoardSource(Source):
    """Reads files of the Linux kernel. What cannot be read is a gap of that tag."""

    Config = BoardConfig

    def __init__(self, name: str, config: BoardConfig) -> None:
        self._config = config

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """Read until `host.stop`. An exception here would be logged, counted and followed by another call."""
        while not host.stop.is_set():
            now = time.time_ns()
            readings = [read(tag, now) for tag in tags]
            for reading in readings:
                bad = reading.quality is Quality.BAD
                host.problem(reading.tag, "this board does not tell it" if bad else None)
            host.emit(readings, now)
            host.stop.wait(self._config.poll)

    def check(self, tags: Sequence[str]) -> list[str]:
        """Read each tag once."""
        return [f"tag {t}: this board does not tell it" for t in tags if read(t, 0).quality is Quality.BAD]


def read(tag: str, now_ns: int) -> Reading:
    """A tag's value now."""
    path, divisor = FILES.get(tag, ("", 1.0))
    try:
        return Reading(tag, now_ns, float(Path(path).read_text().split()[0]) / divisor)
    except (OSError, ValueError):
        return Reading(tag, now_ns, float("nan"), Quality.BAD)


SOURCES["board"] = f"{__name__}:BoardSource"  # in fedge: the line in registry.py


def main() -> None:
    """Build it from its table, as the agent does, and print what it hands over."""
    source = build("board", {"type": "board", "poll": "100ms"}, "example")
    queue = Queue(10)
    hosted = HostedSource("board", source, ["load"], queue)
    hosted.start()
    batch = queue.get(10)
    hosted.join(10)
    if batch is not None:
        print([(r.tag, r.value) for r in batch.readings], source.check(["load", "wind"]))


if __name__ == "__main__":
    main()
