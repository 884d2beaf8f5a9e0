# SPDX-License-Identifier: Apache-2.0
"""Real processes on the first day: four gateways that have trained nothing yet are compared, a fifth that shares
nothing takes part as before."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.programs import Programs, free_port

CARD = Card("anomaly", (Channel("a", "A"), Channel("p", "bar")), WindowSpec(200, 20, 5), ("mean", "std"))
LEVELS = {"one": (8.0, 3.0), "two": (8.3, 3.1), "three": (8.6, 3.2), "four": (14.0, 3100.0)}
ALONE = "five"


class Plant(Programs):
    """An aggregator, and a gateway for each of LEVELS and ALONE."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        model = folder / "model.onnx"
        model.write_bytes(zoo.autoencoder(CARD, 4, (3,)).SerializeToString())
        (folder / "agg.toml").write_text(
            f'[aggregator]\nstate = "{folder}/agg"\naddresses = ["127.0.0.1"]\nlisten = "127.0.0.1:{free_port()}"\n'
            'operator = "127.0.0.1:0"\n[federation.f]\nquorum = 2\ndeadline = "1s"\nstatistics_sites = 4\n'
        )
        self.run("fedge-aggregator", "model", "add", "f", model, "--config", folder / "agg.toml")
        self.start("agg", "fedge-aggregator")
        for name, levels in {**LEVELS, ALONE: (8.1, 3.0)}.items():
            self._gateway(name, *levels)
        for name in (*LEVELS, ALONE):
            self.wait((folder / name / "status.addr").exists, f"{name} to start")

    def _gateway(self, name: str, a: float, p: float) -> None:
        rng = np.random.default_rng(len(name))
        rows = np.stack([rng.normal(a, 0.2, 2000), rng.normal(p, 0.02 * p, 2000)], axis=1)
        with (self.folder / f"{name}.csv").open("w") as file:
            csv.writer(file).writerows([["a", "p"], *rows.round(4).tolist()])
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
{"" if name == ALONE else "statistics = true"}
training = {{ min_samples = 20000 }}
[asset.pump-1]
model = "f"
channels.a = {{ source = "csv", tag = "a" }}
channels.p = {{ source = "csv", tag = "p" }}
window = {{ max_hold = "1s", lateness = "20ms" }}
"""
        )
        config = ["--config", str(self.folder / "agg.toml")]
        text = self.run("fedge-aggregator", "invite", name, "--federation", "f", *config)
        self.run("fedge-agent", "join", text.strip(), "--config", self.folder / f"{name}.toml")
        self.start(name, state=None)

    def of(self, name: str) -> dict[str, Any]:
        """What a gateway says of its statistics."""
        found: dict[str, Any] = self.status(name)["models"]["f"]["statistics"]
        return found


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    yield made
    made.end()


def test_is_my_pump_like_the_others_is_answered_before_the_first_training(plant: Plant) -> None:
    for name in LEVELS:
        plant.wait(lambda name=name: plant.of(name)["sites"] == 4, f"statistics at {name}")  # type: ignore[misc]
    config = ["--config", str(plant.folder / "four.toml")]
    said = plant.typed("fedge-agent", "compare", "pump-1", *config)
    assert said.startswith("model f: compared with statistics of 4 sites, as of ")
    lines = said.splitlines()
    assert lines[2].startswith("    p: 3,") and "higher than 3 of 3" in lines[2]
    assert "1,000 times too large: is it read in milli-units" in lines[2]
    a = r"    a: 1[34][.\d]* \(13[.\d]*–14[.\d]*\) A; others 8.* over 3 sites: higher than 3 of 3, and far from them"
    assert re.fullmatch(a, lines[3]), lines[3]
    wrong = CliRunner().invoke(main, ["compare", "pump-2", *config])
    assert wrong.exit_code == 1 and "no asset 'pump-2'" in wrong.output
    status = plant.told("four")
    assert "compared with statistics of 4 sites: 2 channels unlike theirs" in status
    assert "unlike other sites: pump-1 p: 3," in status and "no update yet" in status
    assert "compared with statistics of 4 sites: all channels like theirs" in plant.told("two")
    metrics = plant.text("four", "/metrics")
    assert 'fedge_agent_statistics_sites{name="f"} 4.0' in metrics
    assert 'fedge_agent_channels_that_differ{name="pump-1"} 2.0' in metrics

    alone = plant.of(ALONE)
    assert alone["sent"] == 0 and alone["off"] and plant.status(ALONE)["models"]["f"]["reachable"]
    only = CliRunner().invoke(main, ["compare", "--config", str(plant.folder / f"{ALONE}.toml")])
    assert "not compared with other sites: set statistics = true in [model.f]" in only.output
    assert "    a: 8" in only.output

    aggregator = ["--config", str(plant.folder / "agg.toml")]
    operator = plant.typed("fedge-aggregator", "statistics", "f", *aggregator)
    assert "f: statistics of 4 sites, number 1 published" in operator and "    four: 3," in operator
    assert "statistics: of 4 sites, number 1 published" in plant.run("fedge-aggregator", "status", *aggregator)
    table = json.loads(plant.run("fedge-aggregator", "statistics", "--json", *aggregator))["f"]
    assert {c["channel"]: c["stand_out"] for c in table["channels"]} == {"a": ["four"], "p": ["four"], "score": []}

    before = plant.page("four", "/comparison")["f"]["machines"]["pump-1"]["windows"]
    plant.running["four"].terminate()
    assert plant.running.pop("four").wait(60) == 0
    plant.start("four")
    plant.wait(lambda: plant.page("four", "/comparison")["f"]["machines"], "the model")
    assert plant.page("four", "/comparison")["f"]["machines"]["pump-1"]["windows"] >= before
