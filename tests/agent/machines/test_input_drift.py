# SPDX-License-Identifier: Apache-2.0
"""A machine's inputs against what was learnt: which changes make an event, when, and what makes none."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from fedge_agent.config.schema import When
from fedge_agent.learning.reference import Reference, learn
from fedge_agent.machines.input_drift import InputDrift
from fedge_agent.machines.pace import Pace
from fedge_agent.types import Decision, DriftState, Event, EventState, kind_of
from fedge_agent.windows.summary import Summary
from fedge_models.graph.card import Card, Channel, ImageSpec, WindowSpec
from fedge_models.system.settings import Seconds
from numpy.typing import NDArray

CARD = Card("anomaly", (Channel("flow"), Channel("pressure")), WindowSpec(1.0, 30, 10))
SHAPE, PACE = (2, 30), Pace(1.0, 30, 10, 3.0, 2.0)
WHEN = When(drift_for=Seconds(1600), drift_baseline=Seconds(3600), drift_severity="medium")
START_NS, HOP_NS, BLOCK_NS = 1_700_000_000 * 10**9, 10 * 10**9, 400 * 10**9
S = 10**9
UNLIKE = "this run is not like those that its limit was made from: its first scores are 6.2 times theirs"
LEVELS = np.array([5.0, 80.0])[None, :, None]


def normal(count: int, seed: int = 0) -> NDArray[np.float64]:
    """Windows (count, 2, 30) of two regimes that last for an hour each."""
    rng = np.random.default_rng(seed)
    regime = (np.arange(count) // 360 % 2)[:, None, None]
    slow = np.cumsum(rng.normal(0, 0.02, (count, 2)), axis=0)[:, :, None] * 0.1
    return LEVELS + regime * np.array([2.0, 4.0])[None, :, None] + slow + rng.normal(0, 1, (count, 2, 30))


def learnt(windows: NDArray[np.float64], known: Reference | None = None, start_ns: int = START_NS) -> Reference:
    times = start_ns + np.arange(len(windows), dtype=np.int64) * HOP_NS
    found = learn(known, times, *Summary(CARD, SHAPE)(windows), BLOCK_NS, 3600 * 10**9)
    assert found is not None
    return found


class Machine:
    """A machine's drift, with what it raises, withholds and what a person accepted."""

    def __init__(self, reference: Reference | None, when: When = WHEN, state: DriftState | None = None) -> None:
        self.raised: list[Event] = []
        self.states: list[EventState | None] = []
        self.withheld: list[tuple[str, int, int | None]] = []
        self.accepted: set[str] = set()
        self.reference, self.time_ns = reference, START_NS + 10**15
        self.drift = InputDrift(
            "gw", "m", "pump", when, state or DriftState(), "k3x9q",
            lambda: self.reference, self._raise, lambda key: key in self.accepted,
            lambda *hold: self.withheld.append(hold),
        )  # fmt: skip
        self.drift.begin(CARD, SHAPE, PACE)

    def _raise(self, event: Event, state: EventState | None) -> None:
        self.raised.append(event)
        self.states.append(state)

    def see(self, windows: NDArray[Any], hop_ns: int = HOP_NS) -> Machine:
        for window in windows:
            self.time_ns += hop_ns
            self.drift.take(Decision("pump", "m", 3, self.time_ns, 0.2, 1.0, "normal", 0.0, 0.0), window)
        return self


def changed(kind: str, windows: NDArray[np.float64]) -> NDArray[np.float64]:
    made = windows.copy()
    flow = made[:, 0]
    if kind == "moved":
        flow += 8.0
    elif kind == "wide":
        flow[:] = flow.mean(axis=1, keepdims=True) + 3 * (flow - flow.mean(axis=1, keepdims=True))
    elif kind == "narrow":
        flow[:] = flow.mean(axis=1, keepdims=True) + 0.2 * (flow - flow.mean(axis=1, keepdims=True))
    elif kind == "constant":
        flow[:] = 5.5
    return made


REFERENCE = learnt(normal(2160))  # six hours


def test_regimes_that_were_learnt_are_no_drift_alone_or_in_turn() -> None:
    machine = Machine(REFERENCE)
    for seed in range(1, 6):
        machine.see(normal(720, seed))
        machine.see(normal(300, seed))  # one regime only
    assert machine.raised == [] and machine.drift.status()["columns"] == {}
    assert machine.drift.status()["outside_share"] < 0.05


@pytest.mark.parametrize(
    ("kind", "row", "words"),
    [
        ("moved", "moved", "flow moved to 1"),
        ("wide", "spread", "flow spreads 2.9 times as wide as learnt"),
        ("narrow", "spread", "flow spreads 0.23 times as wide as learnt"),
        ("constant", "constant", "flow is constant at 5.5"),
    ],
)
def test_each_change_opens_one_event_that_says_which_it_is_and_clears(kind: str, row: str, words: str) -> None:
    machine = Machine(REFERENCE).see(normal(300, 7))
    before_ns = machine.time_ns
    machine.see(changed(kind, normal(150, 8)))
    assert machine.raised == []  # 1500 s: not for long enough
    machine.see(changed(kind, normal(200, 9)))
    opened = machine.raised[0]
    assert len(machine.raised) == 1 and (opened.kind, opened.state, opened.severity) == ("drift", "opened", "medium")
    assert opened.reason.startswith(words) and opened.decision.channel == "flow" and opened.drifts and not opened.alert
    assert before_ns - BLOCK_NS <= opened.since_ns <= before_ns + 2 * BLOCK_NS
    assert kind_of(opened.key) == "drift" and (opened.moved > 0) == (kind in ("moved", "wide"))
    shown = machine.drift.status()
    assert shown["open"] and shown["columns"]["flow"]["kind"] == row and shown["outside_share"] > 0.5
    assert machine.withheld == [(opened.key, opened.since_ns, None)]
    machine.see(normal(300, 10))
    cleared = machine.raised[1]
    assert (cleared.state, cleared.key, cleared.drifts) == ("cleared", opened.key, False) and len(machine.raised) == 2
    assert machine.withheld[1][0] == opened.key and machine.withheld[1][2] is not None
    machine.see(changed(kind, normal(400, 11)))
    assert machine.raised[2].key.endswith("drift-k3x9q-2")


def test_nothing_opens_before_a_baseline_is_learnt_but_it_is_shown() -> None:
    machine = Machine(REFERENCE, msgspec.structs.replace(WHEN, drift_baseline=Seconds(86400)))
    machine.see(changed("moved", normal(400, 3)))
    assert machine.raised == [] and machine.drift.status()["columns"]["flow"]["lasts"]
    nothing_learnt = Machine(None).see(changed("moved", normal(400, 3)))
    assert nothing_learnt.raised == [] and nothing_learnt.drift.status()["outside_share"] is None


def test_it_can_be_turned_off() -> None:
    machine = Machine(REFERENCE, When(drift_for=Seconds(0))).see(changed("moved", normal(400, 3)))
    assert machine.raised == [] and not machine.drift.status()["watched"]


def test_what_a_person_accepts_is_normal_from_then_on_also_after_a_restart() -> None:
    machine = Machine(REFERENCE).see(changed("moved", normal(300, 3)))
    machine.accepted.add(machine.raised[0].key)
    machine.see(changed("moved", normal(200, 4)))
    assert [e.state for e in machine.raised] == ["opened", "cleared"]
    state = msgspec.json.decode(msgspec.json.encode(machine.states[-1]), type=DriftState)
    again = Machine(REFERENCE, state=state).see(changed("moved", normal(400, 5)))
    assert again.raised == []
    again.see(changed("moved", changed("moved", normal(400, 6))))  # further than that
    assert [e.key for e in again.raised] == ["gw:m:pump:drift-k3x9q-2"]


def test_a_sensor_that_a_person_accepts_as_constant_is_normal_and_a_spread_can_still_drift() -> None:
    machine = Machine(REFERENCE).see(changed("constant", normal(300, 3)))
    machine.accepted.add(machine.raised[0].key)
    machine.see(changed("constant", normal(200, 4)))
    assert [e.state for e in machine.raised] == ["opened", "cleared"]
    stored = machine.states[-1]
    assert isinstance(stored, DriftState) and np.isfinite([stored.low, stored.high]).all()
    state = msgspec.json.decode(msgspec.json.encode(stored), type=DriftState)
    again = Machine(REFERENCE, state=state).see(changed("constant", normal(400, 5)))
    assert again.raised == []
    wide = normal(400, 6)
    wide[:, 0] = 5.5 + 100 * (wide[:, 0] - wide[:, 0].mean(axis=1, keepdims=True))
    assert len(again.see(wide).raised) == 1


def test_a_restart_while_it_is_open_neither_repeats_nor_forgets_it() -> None:
    before = Machine(REFERENCE).see(changed("moved", normal(300, 3)))
    state = msgspec.json.decode(msgspec.json.encode(before.states[-1]), type=DriftState)
    after = Machine(REFERENCE, state=state).see(normal(150, 7))  # the readings of before come again
    assert after.time_ns < before.time_ns and after.raised == []
    after.time_ns = before.time_ns
    after.see(changed("moved", normal(400, 4)))
    assert after.raised == [] and after.drift.open_key == before.raised[0].key
    after.see(normal(200, 5))
    assert [(e.state, e.key) for e in after.raised] == [("cleared", before.raised[0].key)]


def test_time_off_a_clock_that_is_set_back_and_a_wild_window_are_no_drift() -> None:
    machine = Machine(REFERENCE)
    outside = changed("moved", normal(400, 3))
    for start in range(0, 400, 100):  # a quarter hour a day is no hour, but what follows goes on
        machine.see(outside[start : start + 30])
        machine.time_ns += 86400 * 10**9
    assert machine.raised == []
    machine.see(normal(200, 4))
    machine.time_ns -= 10**15
    machine.see(normal(200, 5))
    wild = normal(400, 6)
    wild[::7] *= 1e30
    machine.see(wild)
    assert machine.raised == []
    machine.see(outside)
    assert len(machine.raised) == 1  # the clock that was set back blinds nothing


def test_a_slow_fault_is_not_learnt_away() -> None:
    reference, machine = REFERENCE, Machine(REFERENCE)
    for day in range(60):  # each learns from what came, however it looked
        windows = normal(400, day)
        windows[:, 0] += 0.1 * day
        machine.see(windows)
        machine.reference = reference = learnt(windows, reference, reference.until_ns + HOP_NS)
        if machine.raised:
            break
    assert machine.raised and machine.raised[0].decision.channel == "flow"
    assert float(reference.high[0, 0] - REFERENCE.high[0, 0]) < 0.6 * float(REFERENCE.high[0, 0] - REFERENCE.low[0, 0])


def test_until_its_baseline_is_covered_the_reference_takes_each_regime() -> None:
    first = learnt(normal(200))  # 2000 s
    warm = normal(400, 1) + 30.0
    assert learnt(warm, first, first.until_ns + HOP_NS).high[0, 0] > 30
    assert learnt(warm, REFERENCE, REFERENCE.until_ns + HOP_NS).high[0, 0] < 30


@pytest.mark.parametrize("every_s", [1, 20, 600])
def test_pictures_that_become_darker_drift_however_often_they_come(every_s: int) -> None:
    image = ImageSpec(8, 8, "grey")
    card = Card("classify", (Channel("camera"),), WindowSpec(1.0, 1, 1), labels=("ok", "bad"), normal="ok", image=image)

    def pictures(count: int, level: float, seed: int) -> NDArray[np.uint8]:
        found = np.random.default_rng(seed).normal(level, 20, (count, 1, 8, 8))
        return found.clip(0, 255).astype(np.uint8)

    times = np.arange(600, dtype=np.int64) * every_s * 10**9
    known = learn(None, times, *Summary(card, (1, 8, 8))(pictures(600, 120, 0)), BLOCK_NS, 1)
    machine = Machine(known, msgspec.structs.replace(WHEN, drift_baseline=Seconds(0)))
    machine.drift.begin(card, (1, 8, 8), Pace(1.0, 1, 1, 0.0, 0.0, True))
    count = 2400 if every_s == 1 else 300
    machine.see(pictures(count, 120, 1), every_s * 10**9)
    assert machine.raised == [] and machine.drift.status()["outside_share"] < 0.1
    machine.see(pictures(count, 70, 2), every_s * 10**9)
    assert len(machine.raised) == 1 and machine.raised[0].reason.startswith("camera (brightness) moved to 0.2")


# a run that is unlike those its limit was made from


def decide(machine: Machine, since_ns: int, ratio: float | None = None) -> None:
    machine.time_ns += 10 * S
    decision = Decision("pump", "m", 3, machine.time_ns, 9.0, 4.0, "normal", 0.0, 0.0)
    machine.drift.unlike.take(decision, since_ns, ratio)


def unlike(reference: Reference | None = REFERENCE) -> tuple[Machine, int]:
    machine = Machine(reference)
    since_ns = machine.time_ns
    decide(machine, since_ns, 6.2)
    return machine, since_ns


def told(machine: Machine) -> list[tuple[str, str]]:
    return [(e.state, e.reason) for e in machine.raised]


def test_it_opens_once_and_its_windows_are_withheld_however_calm_the_inputs_are() -> None:
    machine, since_ns = unlike()
    decide(machine, since_ns, 6.2)
    machine.see(normal(1440, 3))
    (event,) = machine.raised
    assert (event.state, event.reason, event.moved) == ("opened", UNLIKE, 0.0) and kind_of(event.key) == "drift"
    assert machine.withheld == [(event.key, since_ns, None)]
    assert machine.drift.status()["unlike_key"] == event.key and not machine.drift.status()["open"]


@pytest.mark.parametrize("reference", [REFERENCE, None])
def test_the_next_run_ends_it_and_is_not_withheld(reference: Reference | None) -> None:
    machine, since_ns = unlike(reference)
    last_ns = machine.time_ns
    machine.time_ns += 3600 * S
    decide(machine, machine.time_ns + 10 * S)
    assert told(machine) == [("opened", UNLIKE), ("cleared", "another run began")]
    assert machine.withheld[-1] == (machine.raised[0].key, since_ns, last_ns)
    decide(machine, machine.time_ns, 7.0)
    assert machine.raised[-1].key == "gw:m:pump:drift-k3x9q-run-2"


@pytest.mark.parametrize("reference", [REFERENCE, None])
def test_a_person_who_accepts_it_ends_it_for_this_run(reference: Reference | None) -> None:
    machine, since_ns = unlike(reference)
    machine.accepted.add(machine.raised[0].key)
    decide(machine, since_ns)
    decide(machine, since_ns, 6.2)
    assert told(machine) == [("opened", UNLIKE), ("cleared", "the run was accepted as normal")]
    assert machine.withheld[-1][2] == machine.raised[1].decision.time_ns


def test_inputs_drift_beside_it_and_neither_ends_the_other() -> None:
    machine, _ = unlike()
    machine.see(changed("moved", normal(300, 3)))
    run, inputs = machine.raised
    assert inputs.reason.startswith("flow moved to") and set(machine.drift.open_since()) == {run.key, inputs.key}
    machine.see(normal(300, 4))
    cleared = machine.raised[2]
    assert (cleared.key, cleared.state, cleared.drifts) == (inputs.key, "cleared", True)
    assert cleared.reason == f"its inputs are within what was learnt again; still open: {UNLIKE}"
    decide(machine, machine.time_ns)
    assert (machine.raised[3].key, machine.raised[3].drifts) == (run.key, False)


def test_a_restart_neither_repeats_nor_forgets_it() -> None:
    before, since_ns = unlike()
    state = msgspec.json.decode(msgspec.json.encode(before.states[-1]), type=DriftState)
    after = Machine(REFERENCE, state=state)
    assert after.withheld == [(before.raised[0].key, since_ns, None)]
    decide(after, since_ns - 7200 * S, 9.0)  # the run before it comes again
    decide(after, since_ns, 6.2)
    assert after.raised == []
    decide(after, since_ns + 3600 * S)
    assert [(e.state, e.key) for e in after.raised] == [("cleared", before.raised[0].key)]
