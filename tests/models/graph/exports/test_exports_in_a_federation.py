# SPDX-License-Identifier: Apache-2.0
"""Files as PyTorch writes them by default, in a federation: an agent with a camera trains them and sends updates.

One aggregator and one agent for all: a network on pictures with labels from a tag, an autoencoder of pictures without
labels, a recurrent network and a Transformer with time first, whose labels are a column of the machine's log.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from support.counterparts import counterpart
from support.programs import Programs, free_port

counterpart("torch")
counterpart("onnxscript")

from support.exports.exporting import Way, export, made  # noqa: E402
from support.exports.network import Network  # noqa: E402
from support.exports.recordings import card_file, picture  # noqa: E402
from support.exports.registry import NETWORKS  # noqa: E402

BEGIN = 1_772_431_200  # of all readings, Unix time in s
PARTS, BLOCK = 240, 4  # pictures of the line; of one kind of part, one behind the other
WINDOWS = 240  # of the machines that write a log
LOOKS, BASELINE, FAULT = 140, 80, (120, 126)  # pictures of what has no label


class Model(NamedTuple):
    """A federation's model: its network, and how it was exported."""

    name: str
    network: str
    way: Way


MODELS = (
    Model("parts", "MobileNetV2-like", Way("torchscript", "default", "trained")),
    Model("looks", "convolutional autoencoder", Way("dynamo", "default", "fresh")),
    Model("press", "LSTM", Way("torchscript", "default", "trained")),
    Model("mill", "Transformer, batch_first", Way("dynamo", "default", "fresh")),
)
LOGGED = ("press", "mill")


class Plant(Programs):
    """An aggregator with a federation for each model, and the agent `gw` with a machine for each."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.agg: list[str | Path] = ["--config", folder / "agg.toml"]
        self.gw: list[str | Path] = ["--config", folder / "gw.toml"]
        listen = f'addresses = ["127.0.0.1"]\nlisten = "127.0.0.1:{free_port()}"\noperator = "127.0.0.1:0"\n'
        rounds = "".join(f'[federation.{m.name}]\nquorum = 1\ndeadline = "1s"\n' for m in MODELS)
        (folder / "agg.toml").write_text(f'[aggregator]\nstate = "{folder}/agg"\n{listen}{rounds}')
        for model in MODELS:
            self._add(model)
        self._pictures()
        self._logs()
        (folder / "gw.toml").write_text(self._gateway())

    def join(self) -> None:
        members = [word for m in MODELS for word in ("--federation", m.name)]
        self.start("agg", "fedge-aggregator")
        text = self.run("fedge-aggregator", "invite", "gw", *members, *self.agg)
        self.run("fedge-agent", "join", text.strip(), *self.gw)

    def model(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.status("gw")["models"][name]
        return found

    def asset(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.status("gw")["assets"][name]
        return found

    def rounds(self, name: str) -> list[dict[str, Any]]:
        """The rounds of a federation, as its operator sees them."""
        rows: list[dict[str, Any]] = json.loads(self.run("fedge-aggregator", "rounds", "--json", *self.agg))
        return [row for row in rows if row["federation"] == name]

    def opened(self, asset: str) -> list[float]:
        """When events of an asset were opened, in s since BEGIN."""
        lines = (self.folder / "events.jsonl").read_text().splitlines()
        found = [event for event in map(json.loads, lines) if event["asset"] == asset and event["state"] == "opened"]
        return [event["since_ns"] / 1e9 - BEGIN for event in found]

    def _add(self, model: Model) -> None:
        network, path = NETWORKS[model.network], self.folder / f"{model.name}.onnx"
        export(made(network, model.way.state), network, model.way, path)
        card = card_file(network.card(), self.folder / f"{model.name}.toml")
        self.run("fedge-aggregator", "model", "add", model.name, path, "--card", card, *self.agg)

    def _pictures(self) -> None:
        """What the cameras put into their folders, and what the PLC says of each part."""
        labels, rows = NETWORKS[MODELS[0].network].labels, ["time,kind"]
        for name in ("parts", "looks"):
            (self.folder / name).mkdir()
        for i in range(PARTS):
            kind = i // BLOCK % len(labels)
            Image.fromarray(picture(i, kind)).save(self._file("parts", i))
            rows.append(f"{BEGIN + i - 0.2:.1f},{labels[kind]}")
        (self.folder / "plc.csv").write_text("\n".join(rows) + "\n")
        for i in range(LOOKS):
            pixels = picture(i, 0)
            Image.fromarray(255 - pixels if FAULT[0] <= i < FAULT[1] else pixels).save(self._file("looks", i))

    def _file(self, folder: str, number: int) -> Path:
        return self.folder / folder / f"part_{BEGIN + number}.{('png', 'jpg')[number % 2]}"

    def _logs(self) -> None:
        for name in LOGGED:
            network = next(NETWORKS[m.network] for m in MODELS if m.name == name)
            (self.folder / f"{name}.csv").write_text(log(network))

    def _gateway(self) -> str:
        tables = "".join(_table_source(self.folder, name) for name in ("plc", *LOGGED))
        cameras = "".join(_camera(self.folder, name) for name in ("parts", "looks"))
        models = "".join(
            f'[model.{m.name}]\npoll = "200ms"\ntraining = {{ interval = "1s", min_samples = 40, epochs = 4, '
            "learning_rate = 0.01 }\n"
            for m in MODELS
        )
        logged = "".join(_logged_asset(m) for m in MODELS if m.name in LOGGED)
        return f"""
[agent]
name = "gw"
state = "{self.folder / "gw"}"
{cameras}{tables}{models}{logged}
[asset.parts]
model = "parts"
channels.c0 = {{ source = "parts", tag = "*" }}
label = {{ source = "plc", tag = "kind" }}
[asset.looks]
model = "looks"
channels.c0 = {{ source = "looks", tag = "*" }}
baseline = "{BASELINE}s"
when = {{ min_gap = 0 }}
[output.journal]
type = "log"
path = "{self.folder / "events.jsonl"}"
"""


def log(network: Network) -> str:
    """A CSV of WINDOWS windows: noise around a level that says which label holds."""
    card, noise = network.card(), random.Random(3)
    names = [c.name for c in card.channels]
    lines = [",".join(["time", *names, "label"])]
    for i in range(WINDOWS * card.window.length):
        kind = i // (4 * card.window.length) % len(card.labels)
        values = [f"{kind + noise.gauss(0, 0.3):.3f}" for _ in names]
        lines.append(",".join([f"{BEGIN + i / card.window.rate_hz:.3f}", *values, card.labels[kind]]))
    return "\n".join(lines) + "\n"


def _camera(folder: Path, name: str) -> str:
    return f'[source.{name}]\ntype = "images"\npath = "{folder / name}"\ntime_pattern = \'part_(\\d+)\'\n'


def _table_source(folder: Path, name: str) -> str:
    path = folder / f"{name}.csv"
    return f'[source.{name}]\ntype = "files"\npath = "{path}"\ntime_column = "time"\ntail = true\nstart = "begin"\n'


def _logged_asset(model: Model) -> str:
    names = [c.name for c in NETWORKS[model.network].card().channels]
    channels = "".join(f'channels.{n} = {{ source = "{model.name}", tag = "{n}" }}\n' for n in names)
    label = f'label = {{ source = "{model.name}", tag = "label" }}\n'
    return f'[asset.{model.name}]\nmodel = "{model.name}"\n{channels}{label}'


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """All that was recorded is there, and the agent has joined and started."""
    made_plant = Plant(tmp_path_factory.mktemp("plant"))
    made_plant.join()
    made_plant.start("gw")
    yield made_plant
    made_plant.end()


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.network} ({m.way})")
def test_exported_network_is_trained_on_a_gateway_and_serves_the_release_of_its_federation(
    model: Model, plant: Plant
) -> None:
    plant.wait(lambda: any(row.get("nodes") for row in plant.rounds(model.name)), "a round with the gateway's update")
    plant.wait(lambda: (plant.model(model.name)["release"] or 0) >= 2, "a release of a round to serve")
    expected = {"parts": PARTS, "looks": LOOKS}.get(model.name, WINDOWS)
    plant.wait(lambda: plant.asset(model.name)["counters"]["windows"] >= expected - 2, "all windows")
    asset, found = plant.asset(model.name), plant.model(model.name)
    assert asset["windows_undecided"] == 0 and asset["counters"].get("not_pictures", 0) == 0, asset
    assert not found["refused_releases"] and found["problem"] is None, found
    assert not any(t["diverged"] for t in found["trainings"]), found


@pytest.mark.slow
@pytest.mark.parametrize("name", [m.name for m in MODELS if NETWORKS[m.network].outputs == 0])
def test_exported_classifier_learns_what_its_tag_says(name: str, plant: Plant) -> None:
    def accuracy() -> float:  # of pictures and windows that were held back
        return max((t["local_figures"].get("accuracy", 0.0) for t in plant.model(name)["trainings"]), default=0.0)

    plant.wait(lambda: accuracy() > 0.9, f"{name} to learn")
    assert set(plant.model(name)["samples"]) == {"ok", "worn", "blocked"}


@pytest.mark.slow
def test_exported_autoencoder_of_pictures_raises_an_event_about_what_it_never_saw(plant: Plant) -> None:
    plant.wait(lambda: bool(plant.opened("looks")), "the event")
    assert len(plant.opened("looks")) == 1 and FAULT[0] - 1 <= plant.opened("looks")[0] < FAULT[1], plant.opened(
        "looks"
    )
    assert np.isfinite(plant.asset("looks")["last"]["threshold"])
