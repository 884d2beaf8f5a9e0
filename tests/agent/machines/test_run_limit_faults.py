# SPDX-License-Identifier: Apache-2.0
"""A limit that adapts to a new run hides no fault: not over a gap, not by many short runs, not by many worse ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig, Training, When
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.learning import stored_limits
from fedge_agent.learning.limits import UNKNOWN, Limit, of_machines
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.training import Data
from fedge_agent.machines.asset import Asset
from fedge_agent.machines.run_limit import BUDGET, FIRST, RunLimit
from fedge_agent.samples.baseline import Plan, Progress, plan
from fedge_agent.samples.event_book import EventBook
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Event, Reading
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system.settings import Seconds

S = 10**9
CARD = Card("anomaly", (Channel("a"),), WindowSpec(1, 4, 4), ("mean", "std"))
GAP_S = 600
SMALL = 2.5  # a level whose scores are seldom above four times the limit
FAULT = 4.0  # a level whose scores are above the limit, and below four times that


class Pump:
    """A machine whose limit comes from one run, at a gateway that can be killed. No thread runs."""

    def __init__(self, folder: Path) -> None:
        (folder / "m.onnx").write_bytes(zoo.autoencoder(CARD, 2, (1,)).SerializeToString())
        when = When(for_windows=3, min_gap=Seconds(0), drift_for=Seconds(0))
        channels = {"a": TagConfig(source="plc", tag="a")}
        self.config = AssetConfig(model="m", channels=channels, baseline=Seconds(400), when=when)
        plans = {"m": {"pump": plan(self.config)}}
        self.book = EventBook(folder / "s")
        self.samples = SampleStore(folder / "s", {"m": 20_000}, None, plans)
        self.spool = Spool(folder / "spool")
        model = ModelConfig(file=folder / "m.onnx", training=Training(min_samples=64))
        self.part = Participant(
            "m", model, folder / "models", self.samples, self.spool, None, None, lambda *_: None,
            lambda _: False, plans["m"],
        )  # fmt: skip
        self.part.restore()
        self.events: list[Event] = []
        self.state = AlertState()
        self.at, self._rng = 0, np.random.default_rng(0)
        self.asset = self._made()
        self.run(600)
        self.samples.flush()
        self.part.model.rescale()
        self.part.model.complete_baselines()
        assert self.part.serving is not None and self.part.serving.limit("pump").runs == 1

    def _made(self) -> Asset:
        return Asset(
            "gw", "pump", self.config, self.part, self.samples, Latency(), self.state, self._raise, events=self.book
        )

    def _raise(self, event: Event, state: object) -> None:
        self.events.append(event)
        self.book.note(event)
        if isinstance(state, AlertState):
            self.state = state

    def run(self, seconds: int, level: float = 0.0) -> None:
        for _ in range(seconds):
            value = level + float(self._rng.normal())
            self.asset.push(Batch("plc", [Reading("a", self.at * S, value)], None, 0))
            self.at += 1

    def pause(self) -> None:
        self.at += GAP_S

    def kill(self, knows_the_run: bool) -> None:
        """Start again from the last checkpoint, or from the stored event only."""
        saved = self.asset.checkpoint() if knows_the_run else None
        self.asset = self._made()
        self.asset.resume(saved)
        self.asset.live()

    @property
    def opened(self) -> list[str]:
        return [e.state for e in self.events if e.state != "raised"]

    @property
    def factor(self) -> float:
        """Of the limit in use to the released one, at the last window."""
        serving, (decision, _) = self.part.serving, self.asset.decisions[-1]
        assert serving is not None
        return decision.threshold / serving.limit("pump").score

    def close(self) -> None:
        self.samples.stop()
        self.spool.close()


@pytest.fixture
def pump(tmp_path: Path) -> Iterator[Pump]:
    made = Pump(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("ends", ["gap", "kill", "kill that loses the run"])
def test_an_open_alarm_keeps_the_limit_it_was_opened_against_over_a_gap(pump: Pump, ends: str) -> None:
    pump.run(60, FAULT)
    assert pump.opened == ["opened"] and pump.factor == 1
    for _ in range(3):
        if ends != "gap":
            pump.kill(knows_the_run=ends == "kill")
        pump.pause()
        pump.run(200, FAULT)
        assert pump.opened == ["opened"] and pump.factor == 1
    pump.run(60)
    assert pump.opened == ["opened", "cleared"]  # by that limit
    pump.run(60, FAULT)
    assert pump.opened[2:] == ["opened"]  # it was not learnt


@pytest.mark.parametrize("ends", ["gap", "kill"])
def test_an_alarm_against_a_raised_limit_is_over_by_that_limit(pump: Pump, ends: str) -> None:
    pump.pause()
    pump.run(200, SMALL)
    raised = pump.factor
    pump.run(60, 4 * FAULT)
    assert raised > 1.2 and pump.opened == ["opened"]
    if ends == "kill":
        pump.kill(knows_the_run=True)
    pump.pause()
    pump.run(60, 4 * FAULT)
    assert pump.factor == pytest.approx(raised) and pump.opened == ["opened"]
    pump.run(60)
    assert pump.factor == 1 and pump.opened == ["opened", "cleared"]
    assert not pump.asset.decisions[-1][0].provisional
    assert pump.asset.status()["run"]["unlike"] is None  # another run began
    pump.run(3000)
    pump.run(100, FAULT)  # without another gap
    assert pump.factor == 1 and pump.opened[2:] == ["opened"]


def test_the_run_that_an_alarm_put_off_begins_after_a_restart_too(pump: Pump) -> None:
    pump.pause()
    pump.run(200, SMALL)
    pump.run(60, 4 * FAULT)
    pump.pause()
    pump.run(8, 4 * FAULT)
    pump.kill(knows_the_run=True)
    pump.run(60)
    assert pump.factor == 1 and pump.opened == ["opened", "cleared"]


def test_a_fault_that_comes_back_after_a_repair_is_not_learnt(pump: Pump) -> None:
    """The first run after an alarm may be that of the same fault: it is compared with the limit as it was released."""
    pump.pause()
    pump.run(200, SMALL)
    pump.run(60, 4 * FAULT)
    pump.pause()
    pump.run(40)
    spent = pump.asset.status()["run"]["left"]
    pump.run(100, FAULT)
    assert pump.factor == 1 and pump.opened == ["opened", "cleared", "opened"]
    assert pump.asset.status()["run"]["left"] == spent


def test_a_run_that_a_person_accepts_while_its_alarm_is_open_adapts(pump: Pump) -> None:
    pump.run(60, FAULT)
    pump.pause()
    pump.run(60, FAULT)
    assert pump.factor == 1 and pump.opened == ["opened"]
    pump.book.flush()
    pump.book.acknowledge(pump.asset.open_key, "me", "", "normal")
    pump.book._load()
    pump.run(200, FAULT)
    assert pump.factor > 1.5 and pump.opened[:2] == ["opened", "cleared"]


def test_an_alarm_that_a_person_takes_for_the_new_normal_keeps_no_limit(pump: Pump) -> None:
    pump.run(60, FAULT)
    pump.book.flush()
    pump.book.acknowledge(pump.asset.open_key, "me", "", "normal")
    pump.book._load()
    pump.pause()
    pump.run(200, FAULT)
    assert pump.factor > 1.5 and pump.opened[:2] == ["opened", "cleared"]


def test_a_machine_that_starts_and_stops_all_the_time_is_compared_with_its_own_limit(pump: Pump) -> None:
    """Each run is shorter than the six windows that would show its level."""
    factors = []
    for _ in range(10):
        pump.pause()
        pump.run(20)
        factors.append(pump.factor)
    assert factors == [4.0] * 3 + [1.0] * 7  # four windows are decided on of each
    assert pump.asset.status()["run"]["used_up"]
    pump.pause()
    pump.run(20, FAULT)
    assert pump.opened == ["opened"]


@pytest.mark.parametrize("hop_s", [60, 42, 30, 10, 7, 1])
@pytest.mark.parametrize("seconds", [60, 130, 240, 300, 350, 900])
def test_no_more_than_eighteen_windows_are_compared_with_the_bound(hop_s: int, seconds: int) -> None:
    limit, run, at = Limit(1.0, middle=0.5, independent=100.0, runs=1), RunLimit(4.0, 60 * S, hop_s * S), 10**6 * S
    covered, raised = 0.0, 0
    for _ in range(40):
        at += 86_400 * S
        for i in range(seconds // hop_s):
            at += hop_s * S
            if run.limit(limit, "", at).score == 4.0:
                covered += hop_s / 60 if i else 1.0
                raised += i == 0
            run.learn(0.4, at, is_open=False)
    assert run.figures(limit, "").used_up and run.figures(limit, "").left < FIRST
    assert BUDGET - FIRST < covered < BUDGET + 3 * min(1, hop_s / 60)  # the last of six may overlap with the fifth
    assert raised == 3 or seconds < 360


def test_the_budget_comes_back_with_a_limit_that_is_made_from_the_beginning() -> None:
    limit, run = Limit(1.0, middle=0.5, independent=100.0, runs=2), RunLimit(4.0, S, S)
    spent = msgspec.structs.replace(run.state, spent=BUDGET, last_ns=S, runs=2, since_ns=S)
    for again, left in (
        ([limit], 0.0),
        ([limit._replace(runs=1)], BUDGET),
        ([UNKNOWN, limit], BUDGET),  # samples are made otherwise, and none of the others count
    ):
        run.resume(spent)
        for now in again:
            run.limit(now, "", 2 * S)
        assert run.figures(limit, "").left == left
    run.resume(spent)
    run.pass_over(2 * S)  # after a restart, before the model is read
    assert run.figures(limit, "").left == 0


def test_windows_of_an_unlike_run_that_are_withheld_bring_no_budget_back() -> None:
    limit, run = Limit(1.0, middle=0.5, independent=100.0, runs=2), RunLimit(4.0, S, S)
    run.limit(limit, "", 10**6 * S)
    for i in range(7):
        run.learn(1.5, (10**6 + i) * S, is_open=False)
    left = run.figures(limit, "").left
    run.limit(limit._replace(runs=1), "", (10**6 + 8) * S)
    assert run.figures(limit, "").left == left == BUDGET - FIRST


def test_a_run_that_a_person_accepts_brings_the_budget_back_once(pump: Pump) -> None:
    for _ in range(4):
        pump.pause()
        pump.run(20)
    assert pump.asset.status()["run"]["used_up"]
    pump.run(60, FAULT)
    key = pump.asset.open_key
    pump.book.flush()
    pump.book.acknowledge(key, "me", "", "normal")
    pump.book._load()
    pump.run(8, FAULT)
    assert pump.asset.status()["run"]["left"] == BUDGET
    pump.pause()
    pump.run(20)
    left = pump.asset.status()["run"]["left"]
    pump.asset._decider.run.accept(key)
    assert pump.asset.status()["run"]["left"] == left < BUDGET


def test_a_fault_that_is_there_when_a_run_begins_is_said(pump: Pump) -> None:
    pump.pause()
    pump.run(200, SMALL)
    assert not pump.opened and pump.factor > 1.5
    assert all(d.provisional for d, _ in list(pump.asset.decisions)[-40:])  # for as long as the run lasts
    pump.pause()
    pump.run(60, 4 * FAULT)
    assert pump.opened == ["opened"]  # beyond the bound


BLEND_CARD = Card("anomaly", (Channel("a"),), WindowSpec(1, 1, 1), ("mean", "std"), threshold_quantile=0.99)


def test_ten_runs_each_worse_than_the_one_before_do_not_raise_the_limit_without_end() -> None:
    """What is below the limit in use is learnt, and the limit is made from it again, after each run."""
    graph = TrainableGraph.load(zoo.autoencoder(BLEND_CARD, 2, (1,)).SerializeToString())
    blend, run, rng = Blend(graph, graph.params), RunLimit(4.0, S, S), np.random.default_rng(0)
    learnt, units, limits, above = np.zeros((0, 2), np.float32), np.zeros(0, np.int64), [Limit(float("inf"))], []
    for k in range(11):
        x = (1.5 ** (k / 2) * rng.normal(size=(200, 2))).astype(np.float32)  # scores grow with the square
        scores = np.square(blend.predict(x) - x).mean(axis=1)
        in_use = []
        for i, score in enumerate(scores):
            in_use.append(run.limit(limits[-1], "", (1000 * (k + 1) + i) * S).score)
            run.learn(float(score), (1000 * (k + 1) + i) * S, is_open=False)
        below = scores <= np.array(in_use)
        above.append(1 - below.mean())
        learnt, units = np.concatenate([learnt, x[below]]), np.append(units, np.full(int(below.sum()), k))
        data = Data(learnt, np.zeros(len(learnt)), np.full(len(learnt), "m"), units, np.ones(len(learnt)))
        done = {"m": Progress(1, 0, len(learnt), 1)}
        limits.append(of_machines(blend, data.part(np.zeros(len(learnt), np.bool_)), data, done, {"m": Plan()})["m"])
    first, last = limits[1].score, limits[-1].score
    assert limits[1].runs == 1 and limits[-1].runs == 11
    assert last < 4.5 * first and 1.5**10 > 50
    assert above[-1] > 0.25 > 0.05 > above[1]  # the last runs are alarmed, the first were within the bound


def _slowly_worse(keep: int, remembers: bool, accepts_at: int = 0) -> list[Limit]:
    """Limits after each of 40 runs of which each scores 1.15 times as high as the one before; the newest `keep` windows
    are stored. What is below the limit in use is learnt. Each limit is stored for another model."""
    graph = TrainableGraph.load(zoo.autoencoder(BLEND_CARD, 2, (1,)).SerializeToString())
    blend, run, rng = Blend(graph, graph.params), RunLimit(4.0, S, S), np.random.default_rng(0)
    x, units, times = np.zeros((0, 2), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)
    limits, stored, accepted = [Limit(float("inf"))], b"", {"m": 0}
    for k in range(40):
        new = (1.15 ** (k / 2) * rng.normal(size=(200, 2))).astype(np.float32)
        ends, in_use = (1000 * (k + 1) + np.arange(200)) * S, []
        scores = np.square(blend.predict(new) - new).mean(axis=1)
        for score, end in zip(scores, ends, strict=True):
            in_use.append(run.limit(limits[-1], "", int(end)).score)
            run.learn(float(score), int(end), is_open=False)
        if k == accepts_at and k:
            accepted, in_use = {"m": int(ends[0])}, [float("inf")]
        below = scores <= np.array(in_use)
        x, units = np.concatenate([x, new[below]])[-keep:], np.append(units, np.full(int(below.sum()), k))[-keep:]
        times = np.append(times, ends[below])[-keep:]
        data = Data(x, np.zeros(len(x)), np.full(len(x), "m"), units, np.ones(len(x)), times)
        done, anchors = {"m": Progress(1, 0, len(x), 1)}, stored_limits.anchors(stored) if remembers else {}
        limits.append(
            of_machines(blend, data.part(np.zeros(len(x), bool)), data, done, {"m": Plan()}, anchors, accepted)["m"]
        )
        stored = stored_limits.encode(b"%d" % k, {"m": limits[-1]})
    return limits


def test_runs_each_worse_than_the_one_before_raise_no_limit_without_end_when_the_oldest_are_deleted() -> None:
    limits, forgetful = _slowly_worse(1000, remembers=True), _slowly_worse(1000, remembers=False)
    first = limits[1].score
    assert max(limit.score for limit in limits[1:]) < 4.01 * first < 8 * first < forgetful[-1].score
    assert limits[-1].anchor is not None and limits[-1].anchor.score == pytest.approx(first)


def test_the_bound_counts_from_what_a_person_accepted() -> None:
    limits = _slowly_worse(1000, remembers=True, accepts_at=20)
    before, after = limits[20].anchor, limits[-1].anchor
    assert before is not None and after is not None
    assert 2 * before.score < after.score and after.since_ns > before.since_ns == 0
    assert limits[-1].score < 4.5 * after.score


def test_runs_like_those_that_a_limit_was_made_from_are_not_new() -> None:
    limit = Limit(2.5, middle=1.0, independent=300.0, runs=3)
    run = RunLimit(4.0, S, S)
    assert run.limit(limit, "", 10**6 * S).score == 2.5
    assert RunLimit(4.0, S, S).limit(limit._replace(runs=2, lifted=2.0), "", 10**6 * S).score == 5.0  # 4 in all


def test_the_state_of_an_earlier_version_has_its_budget() -> None:
    run = RunLimit(4.0, S, S)
    state = msgspec.json.decode(b'{"last_ns": 5, "is_new": true}', type=type(run.state))
    assert state.spent == 0
