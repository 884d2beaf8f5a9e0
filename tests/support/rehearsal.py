# SPDX-License-Identifier: Apache-2.0
"""A user's folder for a rehearsal: an aggregator, gateways with pumps, recordings and a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec

CARD = Card("anomaly", (Channel("current_A"), Channel("flow")), WindowSpec(1.0, 10, 5), ("mean", "std", "max"))
AGENT = """
[agent]
name = "{name}"
state = "/var/lib/fedge-agent"

[source.plc]
{source}

[model.pump]
training = {{ min_samples = 8 }}

[asset.pump-1]
model = "pump"
baseline = "2m"
channels.current_A = {{ source = "plc", tag = "ns=2;s=Pump1.Current" }}
channels.flow = {{ source = "plc", tag = "ns=2;s=Pump1.Flow", range = [0, 1000] }}
when = {{ for_windows = 2, min_gap = "1m" }}

{output}
"""
SOURCE = 'type = "opcua"\nurl = "opc.tcp://192.0.2.10:4840"'
OUTPUT = """[output.mes]
type = "mes"
url = "https://mes.plant.example/api/work-orders"
token_file = "/etc/fedge/mes.token"
"""
AGGREGATOR = """
[aggregator]
state = "/var/lib/fedge-aggregator"
addresses = ["aggregator.plant.example"]

[federation.pump]
"""


def write_agent(path: Path, name: str, source: str = SOURCE, output: str = OUTPUT) -> Path:
    """A gateway's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(AGENT.format(name=name, source=source, output=output))
    return path


def write_recording(path: Path, seconds: int = 400, fault: bool = True, seed: int = 0) -> Path:
    """A table with a row a second; with a fault near its end."""
    rng = np.random.default_rng(seed)
    current, flow = 3 + 0.1 * rng.normal(size=seconds), 50 + rng.normal(size=seconds)
    if fault:
        current[-120:-40] += 4
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.datetime64("2026-03-01T08:00:00") + np.arange(seconds)
    rows = [f"{t},{a:.4f},{b:.4f}" for t, a, b in zip(times, current, flow, strict=True)]
    path.write_text("\n".join(["time,current_A,flow", *rows]) + "\n")
    return path


def write_folder(root: Path, names: tuple[str, ...] = ("press-1", "press-2")) -> Path:
    """A whole folder."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "aggregator.toml").write_text(AGGREGATOR)
    (root / "pump.onnx").write_bytes(zoo.autoencoder(CARD, 6, (4,)).SerializeToString())
    for seed, name in enumerate(names):
        write_agent(root / f"{name}.agent.toml", name)
        write_recording(root / name / "plc.csv", seed=seed)
    return root
