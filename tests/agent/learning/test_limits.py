# SPDX-License-Identifier: Apache-2.0
"""The limit of each machine: its own, over a span of operation, provisional where configured, never of one moment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fedge_agent.config.schema import AssetConfig, LabelConfig, ModelConfig, TagConfig, Training, When
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.learning.limits import Limit, Scores, of_machines, threshold
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.training import Data
from fedge_agent.machines.asset import Asset
from fedge_agent.machines.condition import Condition, Reason, SourceFacts, State
from fedge_agent.machines.condition_words import words
from fedge_agent.samples.baseline import Plan, Progress, plan
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Event, Reading
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system.settings import Seconds

S = 10**9
CARD = Card("anomaly", (Channel("a"),), WindowSpec(1, 4, 4), ("mean", "std"))


class Hall:
    """Machines of one model at one gateway, in memory time: no thread runs."""

    def __init__(self, folder: Path, machines: int, labelled: str = "", **config: object) -> None:
        """labelled: a machine whose tag `state` gives each window its label."""
        (folder / "m.onnx").write_bytes(zoo.autoencoder(CARD, 2, (1,)).SerializeToString())
        names = [f"m{i}" for i in range(machines)]
        made = {
            n: AssetConfig(model="m", channels={"a": TagConfig(source="plc", tag=n)}, **config)  # type: ignore[arg-type]
            for n in names
        }
        if labelled:
            label = LabelConfig(source="plc", tag="state")
            made[labelled] = msgspec.structs.replace(made[labelled], label=label)
        plans = {"m": {n: plan(c) for n, c in made.items()}}
        self.samples, self.spool = SampleStore(folder / "s", {"m": 20_000}, None, plans), Spool(folder / "spool")
        model = ModelConfig(file=folder / "m.onnx", training=Training(min_samples=64))
        self.part = Participant(
            "m", model, folder / "models", self.samples, self.spool, None, None, lambda *_: None,
            lambda _: False, plans["m"],
        )  # fmt: skip
        self.part.restore()
        self.events: list[Event] = []
        self.assets = {
            n: Asset("gw", n, c, self.part, self.samples, Latency(), AlertState(), lambda e, _: self.events.append(e))
            for n, c in made.items()
        }

    def run(self, start: int, stop: int, values: dict[str, np.ndarray], state: str = "normal") -> None:
        """Give each machine its values of these seconds; the learning thread's step comes after every 40."""
        for t in range(start, stop):
            for name, asset in self.assets.items():
                asset.push(
                    Batch(
                        "plc", [Reading("state", t * S, state), Reading(name, t * S, float(values[name][t]))], None, 0
                    )
                )
            if t % 40 == 39:
                self.samples.flush()
                self.part.model.rescale()
                self.part.model.complete_baselines()

    def condition(self, asset: str) -> Condition:
        return self.assets[asset].condition({}, 0.0)  # all readings were received then

    def opened(self) -> list[Event]:
        return [e for e in self.events if e.state == "opened"]

    def close(self) -> None:
        self.samples.stop()
        self.spool.close()


@pytest.fixture
def hall(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hall]:
    monkeypatch.setattr("fedge_agent.learning.baselines.LOOK_S", 0.0)
    machines, config = request.param
    made = Hall(tmp_path, machines, **config)
    yield made
    made.close()


def cycles(machines: int, seconds: int, period: float) -> dict[str, np.ndarray]:
    """Healthy machines of very different levels that go through slow cycles, each in its own phase."""
    rng, t = np.random.default_rng(0), np.arange(seconds)
    made = {}
    for i in range(machines):
        level, height, phase = rng.uniform(10, 30), rng.uniform(0.5, 2), rng.uniform(0, 6)
        made[f"m{i}"] = level + height * np.sin(2 * np.pi * t / period + phase) + rng.normal(0, 0.1 * height, seconds)
    return made


HOUR = {"baseline": Seconds(3600), "when": When(min_gap=Seconds(0))}


@pytest.mark.parametrize("hall", [(20, HOUR)], indirect=True)
def test_healthy_machines_of_one_model_raise_nothing_at_their_first_start(hall: Hall) -> None:
    values = cycles(20, 7200, 600)
    hall.run(0, 3600, values)
    assert hall.opened() == []
    hall.run(3600, 7200, values)
    assert hall.part.serving is not None and set(hall.part.serving.limits) == set(hall.assets)
    assert len(hall.opened()) <= 1, [e.key for e in hall.opened()]
    values["m7"][7000:] += 30
    hall.run(7000, 7200, values)
    assert "m7" in {e.decision.asset for e in hall.opened()}


@pytest.mark.parametrize("hall", [(2, HOUR)], indirect=True)
def test_until_its_baseline_is_complete_an_asset_waits_and_says_for_what(hall: Hall) -> None:
    values = cycles(2, 4000, 600)
    hall.assets["m1"].push(Batch("plc", [], None, 0))
    hall.run(0, 1200, values)
    status = hall.assets["m0"].status()
    assert status["baseline"]["text"] == "1196 of 3600 s" or status["baseline"]["text"] == "20 of 60 min", status
    last = hall.assets["m0"].decisions[-1][0]
    assert last.threshold == math.inf and last.label == "unknown" and not last.provisional
    hall.run(1200, 4000, values)
    last = hall.assets["m0"].decisions[-1][0]
    assert last.threshold < math.inf and last.label in ("normal", "anomaly")
    assert hall.assets["m0"].status()["baseline"]["done"]


LABELLED = {**HOUR, "labelled": "m0"}


@pytest.mark.parametrize("hall", [(3, LABELLED)], indirect=True)
def test_a_label_at_one_machine_takes_the_baseline_of_no_other(hall: Hall) -> None:
    values = cycles(3, 4000, 600)
    hall.run(0, 4000, values)
    assert hall.part.serving is not None and set(hall.part.serving.limits) == {"m0", "m1", "m2"}


@pytest.mark.parametrize("hall", [(2, LABELLED)], indirect=True)
@pytest.mark.parametrize("state", ["", "anomaly"])
def test_a_machine_whose_windows_are_never_labelled_normal_is_blind_and_says_why(hall: Hall, state: str) -> None:
    values = cycles(2, 8000, 600)
    hall.run(0, 4000, values, state)
    assert hall.condition("m0").waits
    hall.run(4000, 8000, values, state)
    blind = hall.condition("m0")
    assert blind.problem and not blind.waits, blind
    assert words(blind) == "cannot alarm: no baseline: 0 of 2,000 windows are labelled normal, 20 are needed"
    assert hall.condition("m1").state is State.DECIDING


FIXED = {**HOUR, "when": When(min_gap=Seconds(0), score_above=5.0)}


@pytest.mark.parametrize("hall", [(1, FIXED)], indirect=True)
def test_a_limit_that_is_configured_waits_for_no_baseline(hall: Hall) -> None:
    hall.run(0, 400, cycles(1, 400, 100))
    last = hall.assets["m0"].decisions[-1][0]
    assert last.threshold == 5.0 and last.label == "normal" and not last.provisional
    assert hall.condition("m0").state is State.DECIDING


@pytest.mark.parametrize("hall", [(1, HOUR), (1, FIXED)], indirect=True)
def test_a_machine_whose_source_went_away_learns_nothing(hall: Hall) -> None:
    hall.run(0, 400, cycles(1, 400, 100))
    gone = hall.assets["m0"].condition({"plc": SourceFacts({"connection": "refused"})}, 1000.0)
    assert gone.state is State.STALE and gone.causes[0].reason is Reason.SOURCE and not gone.well


PROVISIONAL = {**HOUR, "provisional": True}


@pytest.mark.parametrize("hall", [(1, PROVISIONAL)], indirect=True)
def test_a_provisional_limit_decides_before_and_its_events_say_so(hall: Hall) -> None:
    values = cycles(1, 5000, 200)
    values["m0"][1000:1100] += 50
    values["m0"][4500:4600] += 500
    hall.run(0, 1100, values)
    assert [(e.state, e.decision.provisional) for e in hall.events][:1] == [("opened", True)]
    hall.run(1100, 5000, values)
    assert not hall.opened()[-1].decision.provisional and hall.opened()[-1].decision.time_ns > 4500 * S


def test_progress_is_said_in_words() -> None:
    assert Progress(43 * 60 * S, 240 * 60 * S, 100, 20).text() == "43 of 240 min"
    assert Progress(240 * 60 * S, 240 * 60 * S, 12, 20).text() == "12 of 20 windows"
    assert Progress(5 * S, 30 * S, 1, 20).text() == "5 of 30 s"
    assert not Progress(240 * 60 * S, 240 * 60 * S, 12, 20).done


def test_a_few_held_back_windows_of_one_moment_make_no_limit() -> None:
    graph = TrainableGraph.load(zoo.autoencoder(CARD, 2, (1,)).SerializeToString())
    quiet, busy = np.full((20, 1), 1.0, np.float32), np.full((200, 1), 5.0, np.float32)
    assert Scores(quiet, busy, (20.0, 200.0)).limit(graph.card, 50).score == 5.0
    assert Scores(busy, quiet, (200.0, 20.0)).limit(graph.card, 50).score == 5.0
    assert Scores(quiet, busy, (20.0, 200.0)).limit(graph.card, 10).score == 1.0
    assert Scores(quiet, busy, (2.0, 20.0)).limit(graph.card, 10).score == 5.0  # they overlap


def _raised(machines: int, windows: int) -> list[float]:
    """By how much the limits of healthy machines rise above their own scores; one of the machines is broken."""
    graph = TrainableGraph.load(zoo.autoencoder(CARD, 2, (1,)).SerializeToString())
    rng = np.random.default_rng(0)
    x = {f"m{i}": (rng.uniform(0.5, 5) * rng.normal(size=(windows, 2))).astype(np.float32) for i in range(machines)}
    x["m3"] *= np.where(np.arange(windows) > windows / 2, 1000, 1)[:, None].astype(np.float32)
    nothing = Data(x["m0"][:0], np.zeros(0), np.repeat(["m0"], 0))

    def limits(names: list[str]) -> dict[str, Limit]:
        train = Data(np.concatenate([x[n] for n in names]), np.zeros(len(names) * windows), np.repeat(names, windows))
        progress = {n: Progress(1, 0, windows, 20) for n in names}
        return of_machines(Blend(graph, graph.params), nothing, train, progress, dict.fromkeys(names, Plan()))

    together = limits([*x])
    return [together[n].score / limits([n])[n].score for n in x if n != "m3"]


def test_few_windows_borrow_the_tail_of_siblings_but_not_of_a_broken_one() -> None:
    ratios = _raised(machines=100, windows=50)  # alone, each is raised by what its own windows leave open
    assert min(ratios) > 0.6 and 1.0 < float(np.median(ratios)) < 5


def _exceeded(windows: int, overlaps: bool) -> float:
    """By how much more windows than promised exceed the limit of a machine's first windows, in the mean of 40."""
    graph = TrainableGraph.load(zoo.autoencoder(CARD, 4, (1,)).SerializeToString())
    nobody, found = Data(np.zeros((0, 4), np.float32), np.zeros(0)), []
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(size=(4, 5 * (windows + 3000) + 55))
        means = np.stack([np.convolve(row, np.full(60, 60**-0.5), "valid")[::5] for row in noise], axis=1)
        x = means.astype(np.float32)
        shares = np.full(windows, 5 / 60 if overlaps else 1.0)
        first = Data(x[:windows], np.zeros(windows), shares=shares)
        blend = Blend(graph, graph.params)
        limit, scores = threshold(blend, nobody, first).score, np.square(blend.predict(x) - x).mean(axis=1)
        found.append((scores[windows + 12 :] > limit).mean() / (1 - CARD.threshold_quantile))
    return float(np.mean(found))


def test_windows_that_overlap_count_once() -> None:
    """70 windows of 60 samples, 5 apart, show no more than six would."""
    assert _exceeded(70, overlaps=True) < 2 < 4 < _exceeded(70, overlaps=False)
    assert 0.3 < _exceeded(700, overlaps=True) < 2


@pytest.mark.parametrize(("machines", "windows"), [(4, 50), (8, 50), (12, 20), (5, 190)])
def test_one_broken_machine_blinds_none_of_a_few_siblings(machines: int, windows: int) -> None:
    assert max(_raised(machines, windows)) < 1.1
