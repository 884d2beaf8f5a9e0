# SPDX-License-Identifier: Apache-2.0
"""Files as PyTorch writes them by default, on a gateway: a real agent makes windows, trains and raises events."""

from __future__ import annotations

import math
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import onnx
import pytest
from fedge_models.graph.intake import read_model
from support.counterparts import counterpart
from support.gateway import JOURNAL, Gateway

counterpart("torch")
counterpart("onnxscript")

from support.exports.exporting import Way, export, made  # noqa: E402
from support.exports.network import Network  # noqa: E402
from support.exports.registry import NETWORKS  # noqa: E402

BEGIN = datetime(2026, 3, 2, 6, tzinfo=timezone.utc)
WINDOWS, BASELINE, FAULT = 200, 80, (150, 160)  # in windows


class Machine(Gateway):
    """A machine whose logger has written a past with one fault in it."""

    def __init__(self, folder: Path, network: Network, data: bytes) -> None:
        card = network.card()
        self.length, self.rate = card.window.length, card.window.rate_hz
        names = [c.name for c in card.channels]
        given = "\n".join(f'channels.{n} = {{ source = "log", tag = "{n}" }}' for n in names)
        super().__init__(
            folder,
            "pump",
            f"""
[source.log]
type = "files"
path = "{folder / "log.csv"}"
time_column = "time"
tail = true
start = "begin"
[model.m]
file = "model.onnx"
training = {{ min_samples = 40 }}
[asset.pump]
model = "m"
baseline = "{BASELINE * self.length / self.rate:.0f}s"
{given}
[asset.pump.when]
min_gap = 0
{JOURNAL}
""",
            onnx.load_from_string(data),
        )
        rows = "".join(self._row(i, len(names)) for i in range(WINDOWS * self.length))
        (folder / "log.csv").write_text(f"time,{','.join(names)}\n{rows}")

    def _row(self, number: int, channels: int) -> str:
        noise, fault = random.Random(number), FAULT[0] <= number // self.length < FAULT[1]
        values = [20 + math.sin(number / 3 + i) + noise.gauss(0, 0.1) + 15 * fault for i in range(channels)]
        time = BEGIN + timedelta(seconds=number / self.rate)
        return f"{time.isoformat()},{','.join(f'{v:.3f}' for v in values)}\n"

    def opened(self) -> list[int]:
        """The windows in which events were opened."""
        times = [e["since_ns"] / 1e9 - BEGIN.timestamp() for e in self.events() if e["state"] == "opened"]
        return [int(t * self.rate // self.length) for t in times]


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("LSTM autoencoder", Way("dynamo", "default", "fresh")),
        pytest.param("U-Net, 1-D", Way("torchscript", "default", "fresh"), marks=pytest.mark.slow),
        pytest.param("autoencoder", Way("dynamo", "default", "fresh"), marks=pytest.mark.slow),
    ],
)
def test_exported_network_learns_what_is_normal_and_raises_an_event(name: str, way: Way, tmp_path: Path) -> None:
    network, path = NETWORKS[name], tmp_path / "net.onnx"
    export(made(network, way.state), network, way, path)
    machine = Machine(tmp_path, network, read_model(path, network.card()))
    try:
        machine.start("gw")
        machine.wait(lambda: machine.asset()["counters"]["windows"] >= WINDOWS - 2, "all windows")
        machine.wait(lambda: bool(machine.opened()), "the event")
        asset: dict[str, Any] = machine.asset()
        assert asset["windows_undecided"] == 0 and asset["last"]["threshold"] is not None, asset
        assert len(machine.opened()) == 1 and FAULT[0] - 1 <= machine.opened()[0] < FAULT[1], machine.opened()
    finally:
        machine.end()
