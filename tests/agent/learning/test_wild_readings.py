# SPDX-License-Identifier: Apache-2.0
"""A reading that is far off hides no fault: a recording with wild readings raises the events of the one without."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig, Training, When
from fedge_agent.durable.releases import ChainStore
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.learning.training import Data, usable
from fedge_agent.machines.alerts import Alert
from fedge_agent.machines.asset import Asset
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Decision, Event, Reading
from fedge_agent.windows.assembler import Assembler
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system.settings import Seconds
from fedge_models.training import standardise
from support.at_end import AtEnd
from support.made_releases import make_release

LEARNS, FAULTS, EVERY = 3000, 4, 200  # readings before the first fault; faults, and readings from one to the next
AB = (Channel("a"), Channel("b"))
CARDS = {
    "features": Card("anomaly", AB, WindowSpec(1, 10, 10), ("mean", "std")),
    "overlapping": Card("anomaly", AB, WindowSpec(1, 10, 2), ("mean", "rms")),
    "peaks": Card("anomaly", AB, WindowSpec(1, 10, 10), ("mean", "std"), threshold_fit="peaks"),
    "raw": Card("anomaly", AB, WindowSpec(1, 10, 10)),
}
Wild = Mapping[int, tuple[float, ...]]  # reading -> what a, or a and b, are instead
WILD: dict[str, Wild] = {
    **{f"{v:g}": {1503: (v,)} for v in (1e3, 1e6, -1e6, 1e12, 1e19, 1e25, 3.4e38, -3.4e38, 1e39, 1e300)},
    "at the very beginning": {0: (1e6,)},
    "the largest at the very beginning": {0: (3.4e38, -3.4e38)},
    "two": {700: (1e6,), 2100: (-1e9,)},
    "five of all sizes": {500: (1e5,), 900: (-1e7,), 1503: (1e19,), 2333: (3e38,), 2500: (99999.0,)},
    "both channels": {1503: (1e6, -1e6)},
    "stuck for a minute": dict.fromkeys(range(1500, 1560), (850.0,)),
    "no numbers": {1500: (math.nan,), 1501: (math.inf,), 1502: (-math.inf,)},
    "the last before a fault": {LEARNS - 1: (1e25,)},
}


class Outcome(NamedTuple):
    """What came of a recording."""

    opened: int  # events of the faults
    limit: float
    left_out: int
    usable: int
    out_of_range: int


class Gateway:
    """One machine with an anomaly model; it learns when it is asked to, never from its faults."""

    def __init__(self, folder: Path, card: Card, at_end: AtEnd, span: tuple[float, float] | None) -> None:
        folder.mkdir()
        width = len(card.features) * len(card.channels) or len(card.channels) * card.window.length
        inputs = width if card.features else (len(card.channels), card.window.length)
        (folder / "m.onnx").write_bytes(zoo.autoencoder(card, inputs, (6,)).SerializeToString())
        self.samples = at_end(SampleStore(folder / "samples.sqlite", {"m": 5000}))
        self.spool = at_end(Spool(folder / "spool.sqlite"))
        config = ModelConfig(file=folder / "m.onnx", training=Training(min_samples=64))
        self.part = Participant(
            "m", config, folder / "models", self.samples, self.spool, None, None,
            lambda *_: None, lambda _: False,
        )  # fmt: skip
        self.part.restore()
        tags = {n: TagConfig(source="plc", tag=n, range=span) for n in ("a", "b")}
        asset = AssetConfig(model="m", channels=tags, when=When(for_windows=3, min_gap=Seconds(0)))
        self.events: list[Event] = []
        self.asset = Asset(
            "gw", "pump", asset, self.part, self.samples, Latency(), AlertState(), lambda e, _: self.events.append(e)
        )  # fmt: skip

    def read(self, i: int, a: float, b: float) -> None:
        """Take in one reading of each channel."""
        self.asset.push(Batch("plc", [Reading("a", i * 10**9, a), Reading("b", i * 10**9, b)], i * 10**9, 0))

    def learn(self) -> None:
        """Fit the standardisation and the limit to what is stored."""
        self.samples.flush()
        self.part.model.rescale()


def replay(folder: Path, card: Card, wild: Wild, at_end: AtEnd, span: tuple[float, float] | None = None) -> Outcome:
    """Run a recording with faults after `LEARNS` readings through a gateway."""
    gateway, rng = Gateway(folder, card, at_end, span), np.random.default_rng(1)
    for i in range(LEARNS + FAULTS * EVERY):
        a = float(rng.normal())
        b = 0.5 * a + float(rng.normal(0, 0.3))
        if i >= LEARNS and i % EVERY < EVERY // 4:
            a, b = a + 9, b - 9
        gateway.read(i, *(*wild.get(i, ()), *(a, b)[len(wild.get(i, ())) :]))
        if i < LEARNS and i % 500 == 499:
            gateway.learn()
    model, serving = gateway.part.model, gateway.part.serving
    assert serving is not None
    opened = sum(e.state == "opened" and e.decision.time_ns >= (LEARNS - 20) * 10**9 for e in gateway.events)
    left_out, used = model.left_out, len(model.usable(held=False).x) + len(model.usable(held=True).x)
    return Outcome(opened, serving.threshold, left_out, used, sum(gateway.asset.status()["out_of_range"].values()))


def assert_nothing_hidden(folder: Path, card: Card, names: Iterable[str], at_end: AtEnd) -> None:
    clean = replay(folder / "clean", card, {}, at_end)
    assert clean.opened == FAULTS and clean.left_out == 0
    for k, name in enumerate(names):
        found = replay(folder / str(k), card, WILD[name], at_end)
        assert found.opened == FAULTS, (name, found, clean)
        assert 0.5 * clean.limit < found.limit < 1.25 * clean.limit, (name, found, clean)


def test_wild_readings_hide_no_fault(at_end: AtEnd, tmp_path: Path) -> None:
    assert_nothing_hidden(tmp_path, CARDS["features"], WILD, at_end)


@pytest.mark.parametrize("name", [n for n in CARDS if n != "features"])
def test_wild_readings_hide_no_fault_from_other_models(name: str, at_end: AtEnd, tmp_path: Path) -> None:
    worst = ["1e+06", "1e+25", "3.4e+38", "the largest at the very beginning", "five of all sizes"]
    assert_nothing_hidden(tmp_path, CARDS[name], worst, at_end)


def test_what_is_left_out_is_counted(at_end: AtEnd, tmp_path: Path) -> None:
    found = replay(tmp_path / "gw", CARDS["features"], WILD["1e+06"], at_end)
    clean = replay(tmp_path / "clean", CARDS["features"], {}, at_end)
    assert (found.left_out, found.usable) == (1, clean.usable - 1)


def test_readings_outside_of_the_range_are_no_values(at_end: AtEnd, tmp_path: Path) -> None:
    wild = {1503: (1e6,), 1600: (-150.0,), 1700: (1.0, 200.1), 1955: (100.0, -100.0)}
    found = replay(tmp_path / "gw", CARDS["features"], wild, at_end, span=(-100.0, 100.0))
    assert (found.out_of_range, found.opened, found.left_out) == (3, FAULTS, 1)  # 100 lies in the range


def test_a_marker_for_missing_values_is_named_until_there_is_a_range(at_end: AtEnd, tmp_path: Path) -> None:
    for span, expected in ((None, ["a"]), ((-100.0, 100.0), [])):
        gateway, rng = Gateway(tmp_path / str(span), CARDS["features"], at_end, span), np.random.default_rng(1)
        for i in range(2000):
            gateway.read(i, -9999.0 if i % 300 < 20 else float(rng.normal()), float(rng.normal()))
        gateway.learn()
        assert gateway.part.status()["doubtful_channels"] == expected


def test_a_waveform_outside_of_the_range_has_gaps() -> None:
    tag = TagConfig(source="s", tag="x", waveform_hz=10.0, range=(-5.0, 5.0))
    made = Assembler("a", {"x": tag}, [], 10.0, 10, 10, 0.3, 0.2)
    block = np.array([0, 1, 9, 2, 3, -6, 4, 5, 4, -5], np.float32)
    windows = made.push(Batch("s", [Reading("x", 10**9, block)], None, 0))
    assert np.isnan(windows[0].values[0]).nonzero()[0].tolist() == [2, 5]
    assert made.out_of_range() == {"x": 2} and made.counters.out_of_range == 2


def test_wild_targets_teach_nothing() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 3)).astype(np.float32), rng.normal(50, 5, (400, 2))
    assert len(usable("regress", Data(x, y), True).y) == 400
    y[7, 0], y[9, 1], y[11] = 1e9, -3e38, math.nan
    data = usable("regress", Data(x, y), True)
    assert len(data.y) == 397 and np.abs(data.y).max() < 100
    one = rng.normal(50, 5, 400)
    one[3] = 1e6
    assert len(usable("regress", Data(x, one), True).y) == 399


def test_a_state_that_an_older_version_poisoned_heals(at_end: AtEnd, tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "gw", CARDS["features"], at_end, None)
    rng = np.random.default_rng(0)
    for i in range(1000):
        gateway.read(i, float(rng.normal()), float(rng.normal()))
    gateway.learn()
    good = gateway.part.serving
    assert good is not None and math.isfinite(good.threshold)
    for k in range(3):
        x = np.full(4, (math.nan, math.inf, -math.inf)[k], np.float32)
        gateway.samples.put(Sample("m", "pump", 10**13 + k, x, None, bool(k % 2)))
    gateway.samples.flush()
    gateway.part.model.serve()
    after = gateway.part.serving
    assert after is not None and after.threshold == pytest.approx(good.threshold)
    broken = standardise.Scale(np.full(4, np.nan, np.float32), np.full(4, np.nan, np.float32))
    with sqlite3.connect(tmp_path / "gw" / "samples.sqlite") as db:  # where they stored it, and where it is now
        db.execute("INSERT OR REPLACE INTO scalings VALUES ('m', '(4,)', ?, 500)", (standardise.encode(broken),))
    db.close()
    ChainStore(tmp_path / "gw" / "models").save_scale((4,), broken, 500)
    again = Participant(
        "m", gateway.part.config, tmp_path / "gw" / "models", gateway.samples, gateway.spool, None, None,
        lambda *_: None, lambda _: False,
    )  # fmt: skip
    again.restore()
    assert again.serving is None  # it serves nothing rather than something that cannot alarm
    again.model.rescale()
    assert again.serving is not None and math.isfinite(again.serving.threshold)


@pytest.mark.parametrize(("score", "limit"), [(math.nan, 1.0), (math.inf, 1.0), (0.1, math.nan), (0.1, math.inf)])
def test_a_decision_that_cannot_alarm_is_counted(score: float, limit: float) -> None:
    alert = Alert("gw", "pump", When(), AlertState())
    for second in range(5):
        alert.update(Decision("pump", "m", 1, second * 10**9, score, limit, "anomaly", 0.0, 0.0))
    assert alert.unjudged == 5 and not alert.state.opened


@pytest.mark.parametrize("name", ["1e+06", "1e+25", "five of all sizes", "both channels"])
def test_wild_readings_bend_no_update(name: str, at_end: AtEnd, tmp_path: Path) -> None:
    def delta(wild: Wild, folder: Path) -> np.ndarray:
        gateway, rng = Gateway(folder, CARDS["features"], at_end, None), np.random.default_rng(1)
        for i in range(LEARNS):
            a = float(rng.normal())
            b = 0.5 * a + float(rng.normal(0, 0.3))
            gateway.read(i, *(*wild.get(i, ()), *(a, b)[len(wild.get(i, ())) :]))
        gateway.learn()
        model = gateway.part.model
        assert model.graph is not None
        base = make_release(model.graph.params.copy(), np.full(len(model.graph.sizes), 0.01, np.float32), 1)
        trained = model.train(base, model.usable(held=False), np.random.default_rng(0))
        assert trained.delta is not None
        return trained.delta

    clean, found = delta({}, tmp_path / "clean"), delta(WILD[name], tmp_path / "wild")
    alike = float(clean @ found) / float(np.linalg.norm(clean) * np.linalg.norm(found))
    assert alike > 0.95 and 0.8 < np.linalg.norm(found) / np.linalg.norm(clean) < 1.25
