# SPDX-License-Identifier: Apache-2.0
"""What the demo shows: a data set's sites, their model, and how they train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedge_agent.windows.features import input_count
from fedge_models.errors import ConfigError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.training.config import TrainingConfig

from ..data import bearing_physics, recordings
from ..data.recordings import Track

CONFIG = TrainingConfig()  # the agent's defaults


@dataclass(frozen=True)
class Scenario:
    """The sites of a demo, their model and their training."""

    name: str
    tracks: dict[str, Track]
    card: Card
    model: bytes
    metric: str

    @property
    def seconds(self) -> float:
        """Length of the longest replay."""
        return max(t.seconds for t in self.tracks.values())


def load(data: Path | None) -> Scenario:
    """Choose the scenario by the contents of a data folder; without a folder, the simulation. Raises ConfigError."""
    if data is None:
        return _simulation()
    if list(data.glob("valve1-*.csv.gz")):
        return _skab(data)
    if list(data.glob("fan*-s*.npz")):
        return _fan(data)
    raise ConfigError(f"{data}: neither SKAB (valve1-00.csv.gz, ...) nor fan (fan1-s1.npz, ...) recordings are here")


def _skab(folder: Path) -> Scenario:
    tracks = recordings.skab(folder)
    features = ("mean", "std", "slope")
    card = _card("anomaly", tracks, 60, 5, features, (), "")
    model = zoo.autoencoder(card, input_count(card), (8,))
    return Scenario("SKAB: pumps and valves, 50 times as fast", tracks, card, model.SerializeToString(), "AUROC")


def _fan(folder: Path) -> Scenario:
    tracks = recordings.fan(folder)
    features = ("mean", "std", "kurtosis", "bands:6")
    card = _card("classify", tracks, 200, 100, features, recordings.FAN_STATES, "on")
    model = zoo.mlp(card, input_count(card), (32, 16))
    return Scenario("fans: vibration, 10 times as fast", tracks, card, model.SerializeToString(), "macro-F1")


def _simulation() -> Scenario:
    tracks = recordings.simulated()
    features = ("std", "kurtosis", "crest", "bands:8")
    card = _card("classify", tracks, 1024, 512, features, bearing_physics.STATES, "healthy")
    model = zoo.mlp(card, input_count(card), (32, 16))
    return Scenario("simulated bearings, twice as fast", tracks, card, model.SerializeToString(), "macro-F1")


def _card(
    task: str,
    tracks: dict[str, Track],
    length: int,
    hop: int,
    features: tuple[str, ...],
    labels: tuple[str, ...],
    normal: str,
) -> Card:
    track = next(iter(tracks.values()))
    return Card(
        task=task,  # type: ignore[arg-type]
        channels=tuple(Channel(name, unit) for name, unit in track.channels),
        window=WindowSpec(track.rate_hz, length, hop),
        features=features,
        labels=labels,
        normal=normal,
    )
