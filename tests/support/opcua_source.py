# SPDX-License-Identifier: Apache-2.0
"""An OPC UA source of the agent that runs in a thread, and the host that records what it delivers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedge_agent.sources.opcua import OpcuaConfig, OpcuaSource

from support.recording_host import RecordingHost
from support.waiting import LONGEST_S


class RunningSource:
    """A source whose thread runs until the `with` block ends; `error` is the exception that ended it before."""

    def __init__(self, url: str, tags: Sequence[str], state: Path | None = None, **config: Any) -> None:
        self.error: Exception | None = None
        self.host = RecordingHost(state or Path())
        config.setdefault("publishing_interval", 0.05)
        self.source = OpcuaSource("plc", OpcuaConfig(url=url, **config), state)
        self.thread = threading.Thread(target=self._run, args=(tags,))
        self.thread.start()

    @classmethod
    def again(cls, before: RunningSource, tags: Sequence[str]) -> RunningSource:
        """The same source with a new connection, as its host starts it when one has ended."""
        made = cls.__new__(cls)
        made.error, made.host, made.source = None, before.host, before.source
        made.thread = threading.Thread(target=made._run, args=(tags,))
        made.thread.start()
        return made

    def _run(self, tags: Sequence[str]) -> None:
        try:
            self.source.run(tags, self.host)
        except Exception as e:
            self.error = e

    def __enter__(self) -> RunningSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.host.stop.set()
        self.thread.join(LONGEST_S)
        assert not self.thread.is_alive()
