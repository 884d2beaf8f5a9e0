# SPDX-License-Identifier: Apache-2.0
"""Rounds never wait for the dead, never average too few, lose nothing that was admitted, and always end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from fedge_aggregator.rounds.round import Round, RoundConfig, staleness_weight
from fedge_models.errors import StaleError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.examples import examples

CONFIG = RoundConfig(quorum=3, deadline_s=60)
SAMPLED = replace(CONFIG, share=0.3, margin=0.5)
ASYNCHRONOUS = RoundConfig(quorum=2, deadline_s=60, mode="asynchronous", buffer=4, max_staleness=5)


def started(*nodes: str, config: RoundConfig = CONFIG, version: int = 1) -> Round:
    made = Round("f", version, config)
    for i, node in enumerate(nodes):
        made.admit(node, version, 1000.0 + i)
    return made


# --- synchronous --------------------------------------------------------------------------------------------------


def test_all_active_nodes_in_ends_the_round_at_once() -> None:
    assert started("a", "b", "c", "d").due(1004, "abcd", 1)


def test_a_dead_node_is_not_waited_for_past_the_deadline() -> None:
    made = started("a", "b", "c")
    assert not made.due(1059.9, "abcd", 1)
    assert made.next_check(1030) == pytest.approx(30)
    assert made.due(1060, "abcd", 1)


def test_no_quorum_no_average_however_long() -> None:
    made = started("a", "b")
    assert not made.due(1e9, "abcd", 1) and made.next_check(1e9) is None
    reason = made.waiting_for(1e9, "abcd", 1)
    assert "2 of at least 3" in reason and "c, d" in reason


def test_a_federation_smaller_than_its_quorum_goes_on_when_all_are_in() -> None:
    assert started("a", "b").due(1002, "ab", 1)


def test_a_federation_smaller_than_its_quorum_says_that_all_of_its_nodes_end_the_round() -> None:
    reason = started("a").waiting_for(1002, "ab", 1)
    assert reason.startswith("1 of 2 updates: fewer nodes take part than the quorum of 3")
    assert reason.endswith("no update in this round from: b")
    assert "1 of at least 3" in started("a").waiting_for(1002, "abc", 1)


def test_a_node_that_calls_and_sends_no_update_is_told_from_one_that_is_silent() -> None:
    reason = started("a").waiting_for(1002, "abcd", 1, silent={"a": 40.0, "b": 1.2, "d": 300.0})
    assert reason.endswith(
        "; heard, but no update in this round: b (1 s ago), d (300 s ago); not heard from since the start: c"
    )
    assert "not heard" not in started("a").waiting_for(1002, "ab", 1, silent={"b": 0.0})


def test_an_outage_in_which_nobody_is_heard_ends_no_round_below_its_quorum() -> None:
    assert not started("a", "b").due(1e6, (), 1)


def test_a_rule_that_cannot_hold_waits_and_says_what_it_needs() -> None:
    made = started("a", "b", "c")
    assert not made.due(1e9, "abc", 5)
    reason = made.waiting_for(1e9, "abc", 5, "rule krum")
    assert reason.startswith("rule krum needs updates of 5 nodes, and 3 take part: waiting for 2 more")


def test_second_update_of_a_node_is_stale() -> None:
    with pytest.raises(StaleError, match="already has an update in the round after release 1"):
        started("a").admit("a", 1, 1001)


@pytest.mark.parametrize("base", [6, 8])
def test_synchronous_round_takes_only_the_newest_base(base: int) -> None:
    with pytest.raises(StaleError, match=f"base release {base} of node a is not open: release 7 is"):
        started(version=7).admit("a", base, 1000)


def test_clock_set_back_by_a_year_delays_the_deadline_by_no_more_than_itself() -> None:
    made = started("a", "b", "c")
    year_ago = 1000.0 - 365 * 86400
    assert made.redate(year_ago) and not made.redate(year_ago)
    assert not made.due(year_ago + 59, "abcd", 1) and made.due(year_ago + 60, "abcd", 1)


# --- over-selection -------------------------------------------------------------------------------------------------


def test_sample_is_of_the_needed_size_differs_between_releases_and_is_the_same_after_a_restart() -> None:
    nodes = [f"n{i:02d}" for i in range(40)]
    draws = [Round("f", v, SAMPLED, secret=b"s").to_ask(0, nodes, 1) for v in (1, 2, 1)]
    assert [len(d) for d in draws] == [18, 18, 18]  # 0.3 of 40 needed, half as many besides
    assert draws[0] == draws[2] != draws[1]
    assert Round("f", 1, SAMPLED, secret=b"t").to_ask(0, nodes, 1) != draws[0]


def test_sampled_round_refuses_who_was_not_asked_and_ends_when_enough_have_come() -> None:
    nodes = [f"n{i:02d}" for i in range(40)]
    made = Round("f", 1, SAMPLED)
    asked = made.to_ask(1000, nodes, 1)
    made.asked = dict.fromkeys(asked, 1000.0)
    with pytest.raises(StaleError, match="is not asked in the round after release 1: 18 nodes are asked"):
        made.admit(min(set(nodes) - set(asked)), 1, 1000)
    for node in asked[:11]:
        made.admit(node, 1, 1000)
    assert not made.due(1001, nodes, 1)
    made.admit(asked[11], 1, 1001)
    assert made.due(1001, nodes, 1)


def test_asked_nodes_that_never_train_are_made_up_for() -> None:
    nodes, made = [f"n{i}" for i in range(10)], Round("f", 1, SAMPLED)
    for now in (0.0, 60.0, 120.0):  # nobody comes: five, another five
        made.asked |= dict.fromkeys(made.to_ask(now, nodes, 1), now)
    assert set(made.asked) == set(nodes)


# --- asynchronous -----------------------------------------------------------------------------------------------------


def test_buffer_ends_the_round_at_once_and_the_deadline_a_smaller_one() -> None:
    made = started("a", "b", config=ASYNCHRONOUS)
    assert not made.due(1059, "abcdefg", 1) and made.due(1060, "abcdefg", 1)
    for node in "cd":
        made.admit(node, 1, 1002)
    assert made.due(1002, "abcdefg", 1)


def test_updates_up_to_the_maximum_staleness_are_admitted() -> None:
    made = Round("f", 9, ASYNCHRONOUS)
    assert [made.admit(n, base, 0) for n, base in (("a", 9), ("b", 6), ("c", 4))] == [0, 3, 5]
    with pytest.raises(StaleError, match="base release 3 of node d is not open: releases 4 to 9 are"):
        made.admit("d", 3, 0)


def test_nothing_from_before_a_rollback_is_admitted() -> None:
    made = Round("f", 9, ASYNCHRONOUS, floor=8)
    with pytest.raises(StaleError, match="releases 8 to 9 are"):
        made.admit("a", 7, 0)


def test_staleness_weight_is_fedbuffs() -> None:
    assert [staleness_weight(s, 0.5) for s in (0, 3, 8)] == pytest.approx([1, 1 / 2, 1 / 3])
    assert staleness_weight(1000, 0) == 1


# --- any order of events ----------------------------------------------------------------------------------------------

ACTIVE_S = 600.0


@dataclass
class Gateway:
    """A node as the aggregator meets it: what it holds, what it has trained on, what is on its way."""

    alive: bool = True
    trains: bool = True
    head: int = 0
    trained: int = 0
    seen_at: float = -1e9  # monotonic
    on_the_way: list[tuple[int, int]] = field(default_factory=list)  # (base, serial)


class Events(RuleBasedStateMachine):
    """Joins, deaths, revocations, late, repeated and reordered updates, restarts and clock jumps, in any order.

    What is `stored` survives a restart; the rest of the aggregator is made again from it before each use.
    """

    config, minimum = CONFIG, 2

    def __init__(self) -> None:
        super().__init__()
        self.wall, self.monotonic = 1e6, 0.0
        self.gateways = {name: Gateway() for name in "abcde"}
        self.version, self.serial = 1, 0
        self.stored: dict[str, tuple[float, int, int]] = {}  # node -> (accepted, base, serial)
        self.asked: dict[str, float] = {}
        self.admitted: set[int] = set()
        self.released: list[int] = []

    # what surrounds the state machine, as in federation.py

    def round(self) -> Round:
        arrivals = {node: accepted for node, (accepted, _, _) in self.stored.items()}
        return Round("f", self.version, self.config, arrivals, dict(self.asked))

    def active(self) -> set[str]:
        return {n for n, g in self.gateways.items() if self.monotonic - g.seen_at <= ACTIVE_S}

    def tick(self) -> None:
        opened = self.round()
        opened.redate(self.wall)
        self.stored = {n: (opened.arrivals[n], *rest) for n, (_, *rest) in self.stored.items()}  # type: ignore[misc]
        self.asked = opened.asked | dict.fromkeys(opened.to_ask(self.wall, self.active(), self.minimum), self.wall)
        opened.asked = self.asked
        if opened.due(self.wall, self.active(), self.minimum):
            self.finish(opened)

    def finish(self, opened: Round) -> None:
        used, active = list(opened.arrivals), self.active()
        assert len(used) >= self.minimum
        assert len(used) >= self.config.quorum or active <= set(used)
        self.released += [self.stored[n][2] for n in used]
        self.stored, self.asked, self.version = {}, {}, self.version + 1

    def poll(self, name: str) -> None:
        gateway, opened = self.gateways[name], self.round()
        gateway.seen_at, gateway.head = self.monotonic, self.version
        if gateway.trains and opened.is_asked(name) and gateway.trained < gateway.head:
            self.serial += 1
            gateway.trained = gateway.head
            gateway.on_the_way.append((gateway.head, self.serial))

    def deliver(self, name: str, at: int, keep: bool = False) -> None:
        gateway, opened = self.gateways[name], self.round()
        base, serial = gateway.on_the_way[at] if keep else gateway.on_the_way.pop(at)
        gateway.seen_at = self.monotonic
        try:
            staleness = opened.admit(name, base, self.wall)
        except StaleError:
            return
        if serial in self.admitted:  # a repeat: the store knows it by its sequence number
            return
        assert 0 <= staleness <= (self.config.max_staleness if self.config.mode == "asynchronous" else 0)
        self.admitted.add(serial)
        self.stored[name] = (self.wall, base, serial)

    # events

    @rule(name=st.sampled_from("fgh"), trains=st.booleans())
    def join(self, name: str, trains: bool) -> None:
        self.gateways.setdefault(name, Gateway(trains=trains, seen_at=self.monotonic))

    @rule(name=st.sampled_from("abcdefgh"), alive=st.booleans())
    def live_or_die(self, name: str, alive: bool) -> None:
        if name in self.gateways:
            self.gateways[name].alive = alive

    @precondition(lambda self: len(self.gateways) > 5)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.gateways)))
        del self.gateways[name]
        if name in self.stored:
            self.admitted.discard(self.stored.pop(name)[2])

    @rule(names=st.sets(st.sampled_from("abcdefgh")), send=st.booleans())
    def some_train(self, names: set[str], send: bool) -> None:
        """What they send arrives at once, or is on its way for as long as may be."""
        for name in sorted(names & set(self.gateways)):
            if self.gateways[name].alive:
                self.poll(name)
                while send and self.gateways[name].on_the_way:
                    self.deliver(name, 0)

    @precondition(lambda self: any(g.on_the_way for g in self.gateways.values()))
    @rule(data=st.data(), keep=st.booleans())
    def arrive(self, data: st.DataObject, keep: bool) -> None:
        """Any update on its way, in any order, perhaps to be repeated."""
        name = data.draw(st.sampled_from(sorted(n for n, g in self.gateways.items() if g.on_the_way)))
        self.deliver(name, data.draw(st.integers(0, len(self.gateways[name].on_the_way) - 1)), keep)

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        self.wall, self.monotonic = self.wall + seconds, self.monotonic + seconds

    @rule(days=st.sampled_from([-400.0, -1.0, 1.0, 400.0]))
    def clock_is_set(self, days: float) -> None:
        self.wall += days * 86400

    @rule()
    def keeper_looks(self) -> None:
        self.tick()

    @precondition(lambda self: self.enough())
    @rule()
    def those_who_live_keep_sending(self) -> None:
        """From any state: nodes that can be averaged, trying again each half deadline, lead to a release."""
        before = self.version
        for _ in range(4 * len(self.gateways)):
            for name in sorted(n for n, g in self.gateways.items() if g.alive):
                self.poll(name)
                while self.gateways[name].on_the_way:
                    self.deliver(name, 0)
            self.tick()
            if self.version > before:
                return
            self.wait(self.config.deadline_s / 2)
        raise AssertionError(self.round().waiting_for(self.wall, self.active(), self.minimum))

    def enough(self) -> bool:
        return sum(g.alive and g.trains for g in self.gateways.values()) >= max(self.config.quorum, self.minimum)

    @invariant()
    def nothing_admitted_is_lost_or_counted_twice(self) -> None:
        still = [serial for _, _, serial in self.stored.values()]
        assert sorted(self.released + still) == sorted(self.admitted)

    @invariant()
    def time_is_told_when_it_matters(self) -> None:
        opened = self.round()
        if len(opened.arrivals) >= max(self.config.quorum, self.minimum) and not opened.due(
            self.wall, self.active(), self.minimum
        ):
            assert opened.next_check(self.wall) is not None


class SampledEvents(Events):
    config = replace(SAMPLED, quorum=2)


class AsynchronousEvents(Events):
    config = ASYNCHRONOUS


HOW = settings(derandomize=True, deadline=None, max_examples=examples(150), stateful_step_count=40)


class TestSynchronous(Events.TestCase):  # type: ignore[misc, valid-type]  # hypothesis makes it on access
    settings = HOW


class TestSampled(SampledEvents.TestCase):  # type: ignore[misc, valid-type]  # hypothesis makes it on access
    settings = HOW


class TestAsynchronous(AsynchronousEvents.TestCase):  # type: ignore[misc, valid-type]  # hypothesis makes it on access
    settings = HOW
