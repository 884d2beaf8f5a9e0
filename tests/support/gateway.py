# SPDX-License-Identifier: Apache-2.0
"""One agent of one asset as a real process: its configuration, its status, its commands and its events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
from click.testing import CliRunner, Result
from fedge_agent.cli.main import main

from support.programs import Programs

AGENT = '[agent]\nname = "gw"\nstate = "gw"\n'
JOURNAL = '[output.journal]\ntype = "log"\npath = "events.jsonl"\n'  # for what `Gateway.events` returns


class Gateway(Programs):
    """The agent `gw`, whose model is model.onnx; its events are those of JOURNAL."""

    def __init__(self, folder: Path, asset: str, config: str, model: onnx.ModelProto | None = None) -> None:
        super().__init__(folder)
        self.config, self.journal, self._asset = folder / "gw.toml", folder / "events.jsonl", asset
        self.config.write_text(AGENT + config)
        if model is not None:
            self.give(model)

    def give(self, model: onnx.ModelProto) -> None:
        """Write its model."""
        (self.folder / "model.onnx").write_bytes(model.SerializeToString())

    def call(self, *words: str) -> Result:
        """A command of `fedge-agent`, in this process."""
        return CliRunner().invoke(main, [*words, "--config", str(self.config)])

    def asset(self) -> dict[str, Any]:
        """What the status page says of the asset."""
        found: dict[str, Any] = self.status("gw")["assets"][self._asset]
        return found

    def decisions(self) -> int:
        """How many it has made since it started."""
        return int(self.status("gw")["latency"]["decisions"])

    def events(self) -> list[dict[str, Any]]:
        """What is in the journal."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()] if self.journal.exists() else []
