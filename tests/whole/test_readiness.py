# SPDX-License-Identifier: Apache-2.0
"""Real processes: gateways whose data is not ready to train on say why, at the gateway and at the aggregator."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fedge_aggregator.cli.main import main as aggregator
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.programs import Programs, free_port

LABELS = ("normal", "worn")
CARD = Card("classify", (Channel("a"), Channel("p")), WindowSpec(200, 20, 10), ("mean", "std"), LABELS, "normal")
LABELLED = 'label = { source = "csv", tag = "state", map = { 0 = "normal", 1 = "worn" } }'
LATE = 'label = { late = "1h" }'


class Plant(Programs):
    """An aggregator with two gateways: `ready` has labels, `mute` gets none, and one of its channels is constant."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        model = folder / "model.onnx"
        model.write_bytes(zoo.mlp(CARD, 4, (8,)).SerializeToString())
        (folder / "agg.toml").write_text(
            f'[aggregator]\nstate = "{folder}/agg"\naddresses = ["127.0.0.1"]\nlisten = "127.0.0.1:{free_port()}"\n'
            'operator = "127.0.0.1:0"\n[federation.f]\nquorum = 2\ndeadline = "1s"\n'
        )
        self.run("fedge-aggregator", "model", "add", "f", model, "--config", folder / "agg.toml")
        self.start("agg", "fedge-aggregator")
        self._gateway("ready", LABELLED, 0.2)
        self._gateway("mute", LATE, 0.0)

    def _gateway(self, name: str, label: str, noise: float) -> None:
        rng, state = np.random.default_rng(1), np.arange(4000) // 100 % 2
        rows = np.stack([rng.normal(8 + state, 0.2), 3 + noise * rng.normal(size=4000), state], axis=1)
        with (self.folder / f"{name}.csv").open("w") as file:
            csv.writer(file).writerows([["a", "p", "state"], *rows.round(4).tolist()])
        (self.folder / f"{name}.toml").write_text(
            f"""
[agent]
name = "{name}"
state = "{self.folder / name}"
[source.csv]
type = "files"
path = "{self.folder / name}.csv"
rate_hz = 200.0
speed = 4.0
at_end = "repeat"
[model.f]
poll = "500ms"
training = {{ min_samples = 40 }}
[asset.pump-1]
model = "f"
channels.a = {{ source = "csv", tag = "a" }}
channels.p = {{ source = "csv", tag = "p" }}
{label}
window = {{ max_hold = "1s", lateness = "20ms" }}
"""
        )
        config = ["--config", str(self.folder / "agg.toml")]
        text = self.run("fedge-aggregator", "invite", name, "--federation", "f", *config)
        self.run("fedge-agent", "join", text.strip(), "--config", self.folder / f"{name}.toml")
        self.start(name, state=None)

    def heard(self) -> str:
        """What the aggregator says, in one line."""
        done = CliRunner().invoke(aggregator, ["status", "--config", str(self.folder / "agg.toml")])
        return " ".join(done.output.split())


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    yield made
    assert made.end() == [0, 0, 0]


def test_a_gateway_without_labels_says_so_here_and_there_and_one_with_labels_trains(plant: Plant) -> None:
    plant.wait(lambda: "no update from mute (samples, but no labels)" in plant.heard(), "the aggregator to hear it")
    plant.wait(lambda: "samples, but none with a label" in plant.told("mute"), "the gateway to say it")
    plant.wait(
        lambda: "data of pump-1: no labels; constant: p (mean), p (std)" in plant.told("mute"), "what is doubtful"
    )
    assert "not ready to train: " in plant.told("mute")
    assert 'fedge_agent_not_ready{name="f"} 1.0' in plant.text("mute", "/metrics")
    plant.wait(lambda: plant.status("ready")["models"]["f"]["update"] is not None, "an update")
    plant.wait(lambda: " ready (" not in plant.heard(), "the aggregator to hear that it trains")
    assert "not ready to train" not in plant.told("ready")
