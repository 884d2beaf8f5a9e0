# SPDX-License-Identifier: Apache-2.0
"""Which windows of a stored past wait is decided in one look, whatever other threads do meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig, Training
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.machines import backlog
from fedge_agent.machines.asset import Asset
from fedge_agent.machines.backlog import Backlog
from fedge_agent.machines.condition import Reason
from fedge_agent.machines.routing import Routes
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.at_end import AtEnd

CARD = Card("anomaly", (Channel("temp"),), WindowSpec(1, 10, 5), ("mean", "std"))
ENOUGH = 100  # samples, for a standardisation


class Site:
    """Two machines, each of a followed file and with a model of its own name."""

    def __init__(self, at_end: AtEnd, folder: Path) -> None:
        (folder / "m.onnx").write_bytes(zoo.autoencoder(CARD, 2, (3, 2)).SerializeToString())
        spool = at_end(Spool(folder / "spool.sqlite"))
        self.samples = at_end(SampleStore(folder / "samples.sqlite", {"pump": 1000, "fan": 1000}))
        config = ModelConfig(file=folder / "m.onnx", training=Training(min_samples=10, fine_tune=0))
        self.parts, self.assets, wanted = dict[str, Participant](), dict[str, Asset](), dict[str, AssetConfig]()
        for name in ("fan", "pump"):
            self.parts[name] = Participant(
                name, config, folder / "models", self.samples, spool, None, None, lambda *_: None, lambda _: False
            )
            channels = {"temp": TagConfig(source=f"log of {name}", tag="temp")}
            wanted[name] = AssetConfig(model=name, channels=channels)
            made = Asset(
                "gw", name, wanted[name], self.parts[name], self.samples, Latency(), AlertState(), lambda *_: None
            )
            self.assets[name] = made
        logs = {"log of fan": None, "log of pump": None}
        self.held: dict[str, str] = {}
        self.backlog = Backlog(Routes(logs, wanted), self.assets, logs, self.held.update, lambda *_: None)

    def collect(self) -> None:
        """Samples of the pump, as the thread that stores them would bring."""
        for i in range(ENOUGH):
            self.samples.put(Sample("pump", "pump", i * 10**9, np.array([i, 1], np.float32), None, False))
        self.samples.flush()


class OnMessage(logging.Handler):
    """Does something when a message is logged."""

    def __init__(self, does: Callable[[], None]) -> None:
        super().__init__()
        self._does = does

    def emit(self, record: logging.LogRecord) -> None:
        self._does()


@contextmanager
def meanwhile(happens: Callable[[], None]) -> Iterator[None]:
    """Let something happen within a look, when it says that a source is read no further."""
    handler = OnMessage(happens)
    backlog.logger.addHandler(handler)
    try:
        yield
    finally:
        backlog.logger.removeHandler(handler)


def test_one_look_asks_each_machine_once_what_it_lacks(
    at_end: AtEnd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine that lacked nothing when it was looked, and does at the end of the look, holds its windows: otherwise
    they would be decided on without what is being made for them."""
    caplog.set_level(logging.INFO, backlog.logger.name)
    site = Site(at_end, tmp_path)
    site.parts["pump"].restore()
    pump = site.assets["pump"]
    assert pump.lacks() is None
    with meanwhile(site.collect):
        site.backlog.look(0.0)
    lacks = pump.lacks()
    assert lacks is not None and lacks.reason is Reason.BASELINE
    assert list(site.held) == ["log of fan"] and pump.can_wait
    site.backlog.look(1.0)
    assert "log of pump" in site.held and pump.can_wait
