# SPDX-License-Identifier: Apache-2.0
"""What a host knows of edge nodes: births, aliases, order, death, history; pure, with a clock of the test's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fedge_agent.protocols.sparkplug import codec, topics
from fedge_agent.protocols.sparkplug.codec import Metric, encode
from fedge_agent.protocols.sparkplug.host_view import Alive, HostView, Outcome
from fedge_agent.protocols.sparkplug.metrics import Historical
from fedge_agent.protocols.sparkplug.node_view import DEVICES_S, SILENT_S, Patience
from fedge_agent.protocols.sparkplug.rebirths import MAX_UNANSWERED
from fedge_agent.types import Quality, Reading
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

FUZZ = settings(max_examples=examples(200), deadline=None, derandomize=True)

T = 1_700_000_000_000  # ms
TAGS = ["g/n/press/temperature", "g/n/press/state", "g/n//load", "g/n/pump/flow"]
INTERVAL = 10.0
ANSWER = 5.0
SILENCE = 3600.0


def double(name: str, value: float | None, at: int = 0, **more: Any) -> Metric:
    kind = "" if value is None else "double_value"
    return Metric(name, None, T + at, 10, value, kind, value is None)._replace(**more)


def bdseq(number: int) -> Metric:
    return Metric("bdSeq", None, T, 4, number, "long_value")


NOTHING_KNOWN = [Alive(None, frozenset(TAGS), frozenset(TAGS))]


class Plant:
    """A host's view and the messages of node g/n, which count their seq by themselves. Time is `now` seconds."""

    def __init__(self, reorder_s: float = 2.0, tags: list[str] = TAGS) -> None:
        self.tags, self.view = tags, HostView(tags, Patience(reorder_s, INTERVAL, ANSWER, SILENCE))
        self.now, self.seq = 1000.0, 0
        self.begun = self.view.connected(self.now, T)

    def payload(self, *metrics: Metric, at: int = 0, seq: int | None = None) -> bytes:
        seq = self.seq if seq is None else seq
        self.seq = (seq + 1) % 256
        return encode(T + at, seq, metrics)

    def receive(self, topic: str, data: bytes, retained: bool = False) -> Outcome:
        return self.view.take(f"spBv1.0/{topic}", data, retained, self.now, T)

    def birth(self, number: int = 0, at: int = 0) -> Outcome:
        """Of the node and of the press."""
        self.seq = 0
        received = self.receive("g/NBIRTH/n", self.payload(bdseq(number), double("load", 1.0, at, alias=1), at=at))
        state = Metric("state", 3, T + at, 12, "run", "string_value")
        received.add(self.dbirth(double("temperature", 20.0, at, alias=2), state, at=at))
        return received

    def dbirth(self, *metrics: Metric, device: str = "press", at: int = 0) -> Outcome:
        return self.receive(f"g/DBIRTH/n/{device}", self.payload(*metrics, at=at))

    def data(self, *metrics: Metric, device: str = "press", at: int = 0, seq: int | None = None) -> Outcome:
        return self.receive(f"g/DDATA/n/{device}", self.payload(*metrics, at=at, seq=seq))

    def death(self, number: int = 0) -> Outcome:
        return self.receive("g/NDEATH/n", encode(T, None, [bdseq(number)]))

    def tick(self, seconds: float) -> Outcome:
        self.now += seconds
        return self.view.tick(self.now, T)

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.view.counts.totals)


def plain(received: Outcome) -> list[tuple[str, float, Any]]:
    """(tag without its node, ms since T, value), None for what is bad."""
    return [
        (r.tag.removeprefix("g/n/"), r.time_ns // 1_000_000 - T, None if r.quality is Quality.BAD else r.value)
        for r in received.readings
    ]


def asked(received: Outcome) -> list[str]:
    for _, data in received.requests:
        (metric,) = (codec.read_metric(m) for m in codec.decode(data).metrics)
        assert (metric.name, metric.value, codec.decode(data).seq) == ("Node Control/Rebirth", True, None)
    return [topic for topic, _ in received.requests]


def test_a_new_connection_asks_for_births_and_subscribes_to_its_nodes_only() -> None:
    plant = Plant()
    assert asked(plant.begun) == ["spBv1.0/g/NCMD/n"]
    assert plant.view.subscriptions() == ["spBv1.0/g/+/n/#"]
    assert plant.view.alive(plant.now) == NOTHING_KNOWN


def test_births_and_data_by_alias() -> None:
    plant = Plant()
    assert plain(plant.birth()) == [("/load", 0, 1.0), ("press/temperature", 0, 20.0), ("press/state", 0, "run")]
    assert plain(plant.data(double("", 21.0, 5, alias=2))) == [("press/temperature", 5, 21.0)]
    assert plain(plant.data(double("temperature", 22.0, 6))) == [("press/temperature", 6, 22.0)]
    assert not plant.tick(60).requests
    assert plant.view.counts.take_unusable() == {} and plant.view.counts.last_refusal is None


def test_aliases_are_rebuilt_at_each_birth() -> None:
    plant = Plant()
    plant.birth()
    swapped = [double("temperature", 20.0, 10, alias=3), Metric("state", 2, T + 10, 12, "run", "string_value")]
    plant.dbirth(*swapped)
    assert plain(plant.data(double("", 23.0, 20, alias=3))) == [("press/temperature", 20, 23.0)]


def test_an_alias_given_twice_is_nobodys() -> None:
    plant = Plant()
    plant.birth()
    plant.dbirth(double("temperature", 20.0, 1, alias=2), double("other", 5.0, 1, alias=2))
    plant.now += INTERVAL
    received = plant.data(double("", 99.0, 5, alias=2))
    assert received.readings == [] and asked(received)
    assert plant.counts["aliases given twice"] == 1


def test_data_without_time_of_its_own_has_its_payloads() -> None:
    plant = Plant()
    plant.birth()
    assert plain(plant.data(double("temperature", 1.0, timestamp=None), at=7)) == [("press/temperature", 7, 1.0)]


def test_changes_within_a_millisecond_are_all_delivered_in_order() -> None:
    plant = Plant()
    plant.birth()
    readings = plant.data(*(double("temperature", v, 5) for v in (1.0, 2.0))).readings
    readings += plant.data(double("temperature", 3.0, 5)).readings
    assert [(r.value, r.time_ns - (T + 5) * 1_000_000) for r in readings] == [(1.0, 0), (2.0, 1), (3.0, 2)]


def test_a_gap_is_waited_out_then_a_rebirth_is_asked_for_at_most_once_in_the_interval() -> None:
    plant = Plant()
    plant.birth()
    plant.now += INTERVAL
    late = plant.payload(double("", 21.0, 1, alias=2), at=1)
    assert plant.data(double("", 22.0, 2, alias=2), at=2).readings == []
    assert not plant.tick(1.9).requests
    assert plant.view.alive(plant.now) == NOTHING_KNOWN  # the content of the lost message is not known
    received = plant.tick(0.2)
    assert asked(received) == ["spBv1.0/g/NCMD/n"]
    assert "expected seq 2, got 3" in str(received.problems["g/n"])
    assert received.readings == []  # an alias may mean something else by now
    assert plain(plant.data(double("temperature", 23.0, 3), at=3)) == [
        ("press/temperature", 3, 23.0)
    ]  # a name does not
    assert not plant.tick(INTERVAL - 1).requests
    assert plant.receive("g/DDATA/n/press", late).readings == []
    assert plant.counts["gaps"] == 1 and plant.counts["out of order, too late"] == 1
    received = plant.birth(at=4)
    assert received.problems["g/n"] is None and len(received.readings) == 3
    assert plain(plant.data(double("", 24.0, 5, alias=2))) == [("press/temperature", 5, 24.0)]


def test_messages_in_another_order_are_put_right_without_a_request() -> None:
    plant = Plant()
    plant.birth()
    plant.now += INTERVAL
    messages = [plant.payload(double("", float(i), i, alias=2), at=i) for i in range(1, 4)]
    received = [plant.receive("g/DDATA/n/press", messages[i]) for i in (2, 1, 0)]
    assert [plain(h) for h in received] == [[], [], [("press/temperature", i, float(i)) for i in range(1, 4)]]
    assert not plant.tick(INTERVAL).requests and "gaps" not in plant.counts


def test_without_waiting_a_gap_is_found_at_once() -> None:
    plant = Plant(reorder_s=0)
    plant.birth()
    plant.now += INTERVAL
    assert asked(plant.data(double("temperature", 1.0, 1), seq=9))


def test_seq_goes_round_at_256() -> None:
    plant = Plant()
    plant.birth()
    for i in range(600):
        assert len(plant.data(double("", float(i), i + 1, alias=2)).readings) == 1
    assert "gaps" not in plant.counts


def test_unanswered_requests_end_what_is_known() -> None:
    plant = Plant(reorder_s=0)
    plant.birth()
    plant.now += INTERVAL
    received = plant.data(double("temperature", 1.0, 1), seq=9)
    for _ in range(MAX_UNANSWERED):
        received.add(plant.tick(INTERVAL))
    assert len(received.requests) == MAX_UNANSWERED
    assert {tag for tag, _, value in plain(received) if value is None} == {"/load", "press/temperature", "press/state"}
    assert "3 requests for a rebirth have no answer" in str(received.problems["g/n"])
    assert plant.view.alive(plant.now) == NOTHING_KNOWN


def rebirths_as_asked(plant: Plant, *seqs: int) -> list[tuple[str, float, Any]]:
    """Data with these seqs, a second apart, from a node that answers each request; the temperatures that were used."""
    used = []
    for i, seq in enumerate(seqs):
        at = 1000 * (i + 1)
        received = plant.tick(1.0)
        received.add(plant.data(double("temperature", 100.0 + i, at), at=at, seq=seq))
        used += [r for r in plain(received) if r[0].endswith("temperature")]
        if asked(received):
            plant.birth(at=at + 1)
    return used


@pytest.mark.parametrize("seqs", [[0] * 60, [7] * 60, [(255 - i) % 256 for i in range(60)], [9, 3] * 30])
def test_a_node_that_does_not_count_its_seq_is_doubted_and_then_read_as_it_sends(seqs: list[int]) -> None:
    plant = Plant()
    plant.birth()
    used = rebirths_as_asked(plant, *seqs)
    assert used[-20:] == [("press/temperature", 1000 * (i + 1), 100.0 + i) for i in range(40, 60)]
    assert plant.counts["births"] <= 6 and plant.counts["without an order"] >= 20
    received = plant.birth(at=61_000)  # a birth alone says nothing of it
    assert "does not count the seq" in str(received.problems["g/n"])
    assert [a.unsure for a in plant.view.alive(plant.now)] == [frozenset()]


def test_until_then_nothing_is_known_of_it() -> None:
    plant = Plant()
    plant.birth()
    for i in range(4):
        assert [a.unsure for a in plant.view.alive(plant.now)] == [frozenset()]
        received = plant.data(double("temperature", 99.0, i), at=i, seq=0)
        assert received.readings == []
    assert received.problems["g/n"] == "its messages do not count on: expected seq 2, got 0; a rebirth is asked for"
    assert [a.unsure for a in plant.view.alive(plant.now)] == [frozenset(TAGS)]


def test_a_node_that_counts_again_is_read_in_order_again() -> None:
    plant = Plant()
    plant.birth()
    rebirths_as_asked(plant, *[0] * 60)
    for i in range(70):
        received = plant.data(double("temperature", 1.0, 100_000 + i), at=100_000 + i)
        assert len(received.readings) == 1
        if "g/n" in received.problems:
            assert received.problems["g/n"] is None
            break
    assert i >= 60
    assert plant.data(double("temperature", 9.0, 200_000), seq=(plant.seq + 5) % 256).readings == []  # it waits


def test_some_late_messages_are_no_sign_that_a_node_does_not_count() -> None:
    plant = Plant()
    plant.birth()
    for i in range(200):
        plant.data(double("temperature", 1.0, i), at=i)
        for late in (1, 2, 3):  # the broker repeats the last three
            assert plant.data(double("temperature", 1.0, i), at=i, seq=(plant.seq - late) % 256).readings == []
            plant.seq = (plant.seq + late - 1) % 256
    assert plant.counts["out of order, too late"] == 600 and plant.counts["births"] == 2  # of node and device, once


@pytest.mark.parametrize("data", [b'{"metrics": []}', b"", encode(T, 300, [])])
def test_a_message_that_cannot_be_read_leaves_nothing_known(data: bytes) -> None:
    plant = Plant()
    plant.birth()
    plant.now += INTERVAL
    received = plant.receive("g/DDATA/n/press", data)
    assert asked(received) and "a message of it cannot be read" in str(received.problems["g/n"])
    assert [a.unsure for a in plant.view.alive(plant.now)] == [frozenset(TAGS)]
    assert plant.birth(at=5).problems["g/n"] is None
    assert [a.unsure for a in plant.view.alive(plant.now)] == [frozenset()]


@pytest.mark.parametrize("stamp", [0, T * 1000, 2_500_000_000_000], ids=["0", "us", "2049"])
def test_a_value_without_a_usable_time_is_used_as_of_now(stamp: int) -> None:
    plant = Plant()
    plant.birth()
    plant.now += 3.0
    seq = plant.seq
    metric = double("temperature", 99.0, timestamp=stamp)
    received = plant.receive("g/DDATA/n/press", encode(stamp, seq, [metric]))
    [(tag, at, value)] = plain(received)
    assert (tag, at, value) == ("press/temperature", 3000, 99.0)  # of the node's own clock, which was known
    assert "it is used as of now" in str(received.problems["g/n/press/temperature"])
    assert plant.counts["without a time stamp"] == 1


def test_a_node_that_never_has_a_usable_time_has_this_gateways() -> None:
    plant = Plant()
    plant.receive("g/NBIRTH/n", encode(0, 0, [bdseq(0), double("load", 1.0, timestamp=0)]))
    plant.now += 5.0
    received = plant.receive("g/NDATA/n", encode(0, 1, [double("load", 2.0, timestamp=0)]))
    assert plain(received) == [("/load", 5000, 2.0)]
    assert [a.time_ns for a in plant.view.alive(plant.now)] == [(T + 5000) * 1_000_000]


def test_metrics_before_a_birth_ask_for_one() -> None:
    plant = Plant()
    assert plant.data(double("temperature", 1.0)).requests == []  # asked already, when connecting
    plant.now += INTERVAL
    received = plant.data(double("temperature", 1.0))
    assert received.readings == [] and asked(received)
    assert not plant.tick(100 * INTERVAL).requests  # silent: nothing to ask
    assert plant.counts["messages before a birth"] == 2
    plant.birth()
    plant.now += INTERVAL
    assert asked(plant.data(double("flow", 1.0), device="pump"))  # its node is born, it is not


def test_a_metric_that_no_birth_names_asks_once() -> None:
    plant = Plant()
    plant.birth()
    plant.now += INTERVAL
    assert asked(plant.data(double("new", 1.0)))
    plant.birth(at=1)
    plant.now += INTERVAL
    assert not plant.data(double("new", 1.0)).requests and not plant.tick(INTERVAL).requests


def test_a_silent_node_is_reported() -> None:
    plant = Plant()
    assert "no birth in 15 s" in str(plant.tick(SILENT_S).problems["g/n"])
    assert plant.birth().problems["g/n"] is None


def test_death_makes_all_tags_bad_and_rebirth_good_again() -> None:
    plant = Plant()
    plant.birth()
    plant.now += 3
    received = plant.death()
    assert plain(received) == [("/load", 3000, None), ("press/temperature", 3000, None), ("press/state", 3000, None)]
    assert "dead" in str(received.problems["g/n"])
    assert plant.view.alive(plant.now) == NOTHING_KNOWN
    assert plant.death().readings == []
    received = plant.birth(number=1)  # tells values of before the death: known again since then, and not before
    assert [(tag, value) for tag, _, value in plain(received)] == [
        ("/load", 1.0),
        ("press/temperature", 20.0),
        ("press/state", "run"),
    ]
    assert all(r.time_ns == (T + 3000) * 1_000_000 + 1 for r in received.readings)


def test_a_death_of_another_bdseq_is_asked_about_and_without_an_answer_the_node_is_dead() -> None:
    """The Python client of Tahu sends n in the Will and n + 1 in NBIRTH; others count bdSeq up at each rebirth."""
    plant = Plant()
    plant.birth(number=4)
    plant.now += INTERVAL
    received = plant.death(3)
    assert received.readings == [] and asked(received) == ["spBv1.0/g/NCMD/n"]
    assert "has bdSeq 3, its birth 4; a rebirth is asked for" in str(received.problems["g/n"])
    assert plant.view.counts.take_unusable() == {"deaths of another bdSeq": 1}
    assert plant.view.alive(plant.now) == NOTHING_KNOWN  # neither dead nor known to be unchanged
    assert plant.tick(ANSWER - 0.1).readings == []
    received = plant.tick(0.2)
    assert {(tag, value) for tag, _, value in plain(received)} == {
        ("/load", None),
        ("press/temperature", None),
        ("press/state", None),
    }
    assert "counts as dead" in str(received.problems["g/n"]) and "no answer in 5 s" in str(received.problems["g/n"])
    assert not plant.tick(100 * INTERVAL).requests  # it is not asked for ever
    assert plant.birth(number=5).problems["g/n"] is None


def test_a_node_asked_just_before_its_death_is_asked_again_when_the_interval_is_over() -> None:
    plant = Plant()
    plant.birth(number=4)  # the answer to the request of the connection
    assert not plant.death(3).requests and not plant.tick(INTERVAL - 1).readings
    assert asked(plant.tick(1)) and not plant.tick(ANSWER - 0.1).readings
    assert plant.tick(0.2).readings


def test_a_node_that_answers_after_a_strange_death_has_no_hole() -> None:
    plant = Plant()
    plant.birth(number=4)
    plant.now += INTERVAL
    received = plant.death(3)
    plant.now += ANSWER - 1
    received.add(plant.birth(number=4, at=15_000))
    received.add(plant.tick(10 * ANSWER))
    assert received.problems["g/n"] is None and None not in [value for _, _, value in plain(received)]
    assert plant.view.alive(plant.now)[0].time_ns is not None


def test_a_node_that_sends_in_order_after_a_strange_death_is_alive() -> None:
    plant = Plant()
    plant.birth(number=4)
    plant.now += INTERVAL
    plant.death(3)
    received = plant.data(double("", 21.0, 5, alias=2))
    assert plain(received) == [("press/temperature", 5, 21.0)] and received.problems["g/n"] is None
    assert plant.tick(10 * ANSWER).readings == []


def test_a_death_without_bdseq_ends_the_node() -> None:
    plant = Plant()
    plant.birth(number=4)
    assert len(plant.receive("g/NDEATH/n", encode(T, None, [])).readings) == 3


def test_a_retained_death_is_of_the_past() -> None:
    plant = Plant()
    plant.birth(number=4)
    received = plant.receive("g/NDEATH/n", encode(T, None, [bdseq(4)]), retained=True)
    assert received.readings == [] and plant.view.counts.take_unusable() == {"refused messages": 1}


def test_the_late_death_of_an_earlier_connection_with_the_same_bdseq_is_asked_about() -> None:
    """A node that never counts its bdSeq connects again; then the broker notices the end of the old connection."""
    plant = Plant()
    plant.birth(number=0)
    plant.now += INTERVAL
    received = plant.death(0)
    assert len(received.readings) == 3 and asked(received)
    received = plant.birth(number=0, at=15_000)
    assert [value for _, _, value in plain(received)] == [1.0, 20.0, "run"] and received.problems["g/n"] is None


def test_a_silent_node_is_asked_whether_it_is_alive() -> None:
    """A bridge between two brokers that broke brings no NDEATH."""
    plant = Plant()
    plant.birth()
    plant.now += SILENCE - 1
    assert not plant.tick(0).requests
    assert asked(plant.tick(1)) == ["spBv1.0/g/NCMD/n"]
    plant.birth(at=5)  # it answers
    plant.now += SILENCE
    assert asked(plant.tick(0))
    received = plant.tick(ANSWER)
    assert len(received.readings) == 3 and "max_silence" in str(received.problems["g/n"])


def test_a_node_in_doubt_takes_no_life_from_the_others() -> None:
    plant = Plant(tags=[*TAGS, "g/other//m"])
    plant.birth(number=4)
    plant.receive("g/NBIRTH/other", encode(T, 0, [bdseq(0), double("m", 1.0)]))
    everything, other = frozenset(plant.tags), frozenset({"g/other//m"})
    assert plant.view.alive(plant.now) == [Alive(T * 1_000_000, frozenset(), everything)]
    plant.death(3)
    living = Alive((T + 1000) * 1_000_000, everything - other, other)
    assert plant.view.alive(plant.now + 1) == [living, Alive(None, everything, everything - other)]


def test_clocks_that_are_far_apart_are_reported() -> None:
    plant = Plant(tags=["g/n//load", "g/other//m"])
    plant.birth(at=50_000)
    plant.receive("g/NBIRTH/other", encode(T, 0, [bdseq(0), double("m", 1.0)]))
    plant.view.alive(plant.now)
    text = "compared with the clock of g/n, that of g/other is 50 s behind; each node's times are used as they are, so "
    text += "its events have them; set the clock"
    assert plant.view.counts.take_problems() == {"clocks": text}
    plant.receive("g/NBIRTH/other", encode(T + 50_000, 0, [bdseq(0), double("m", 1.0, 50_000)]))
    plant.view.alive(plant.now)
    assert plant.view.counts.take_problems() == {"clocks": None}


def test_a_clock_that_stands_still_does_not_stop_what_is_known() -> None:
    plant = Plant()
    plant.birth()
    for i in range(5):
        plant.now += 1
        assert len(plant.data(double("", float(i), 0, alias=2)).readings) == 1
    assert [a.time_ns for a in plant.view.alive(plant.now)] == [(T + 5000) * 1_000_000]


def test_an_alias_of_before_the_rebirth_is_asked_about() -> None:
    plant = Plant()
    plant.birth(number=4)
    plant.seq = 0
    plant.receive("g/NBIRTH/n", plant.payload(bdseq(4), double("load", 1.0), at=10))
    plant.dbirth(double("temperature", 20.0, 10), at=10)  # neither gives aliases
    plant.now += INTERVAL
    received = plant.data(double("", 99.0, 20, alias=2))
    assert received.readings == [] and asked(received)
    assert plant.view.counts.take_unusable() == {"metrics that no birth named": 1}


def test_the_death_of_a_device_ends_that_device() -> None:
    plant = Plant()
    plant.birth()
    received = plant.receive("g/DDEATH/n/press", plant.payload(at=9))
    assert set(plain(received)) == {("press/temperature", 9, None), ("press/state", 9, None)}
    assert plain(plant.receive("g/NDATA/n", plant.payload(double("", 2.0, 10, alias=1)))) == [("/load", 10, 2.0)]
    assert plant.data(double("", 2.0, 11, alias=2)).readings == []


def test_a_rebirth_makes_no_hole_and_a_device_that_does_not_follow_is_stale() -> None:
    plant = Plant()
    plant.birth(number=2)
    plant.seq = 0
    node = plant.payload(bdseq(2), double("load", 3.0, 5, alias=1), at=5)
    assert plain(plant.receive("g/NBIRTH/n", node)) == [("/load", 5, 3.0)]
    assert plant.tick(DEVICES_S - 0.1).readings == []
    received = plant.tick(0.2)
    assert {(tag, value) for tag, _, value in plain(received)} == {("press/temperature", None), ("press/state", None)}
    assert "'press' sent no birth" in str(received.problems["g/n"])


def test_another_bdseq_ends_the_devices_at_once() -> None:
    plant = Plant()
    plant.birth(number=2)
    plant.seq = 0
    received = plant.receive("g/NBIRTH/n", plant.payload(bdseq(3), double("load", 3.0, 5, alias=1), at=5))
    assert [(tag, value) for tag, _, value in plain(received)] == [
        ("press/temperature", None),
        ("press/state", None),
        ("/load", 3.0),
    ]


def test_a_metric_missing_from_a_birth_is_reported_with_what_is_near() -> None:
    plant = Plant()
    received = plant.birth()
    received.add(plant.dbirth(double("Temperature", 1.0, 1), double("state 2", 1.0, 1), at=1))
    text = str(received.problems["g/n/press/temperature"])
    assert "not in the birth of g/n/press" in text and "Temperature" in text
    assert plain(received)[-2:] == [("press/temperature", 1, None), ("press/state", 1, None)]


def test_historical_values_are_marked_whatever_is_newer() -> None:
    plant = Plant()
    plant.birth()
    old = [double("temperature", float(i), i, historical=True) for i in (30, 10, 20)]
    received = plant.data(*old, double("temperature", 4.0, 40))
    assert [(r.value, isinstance(r, Historical)) for r in received.readings] == [
        *((v, True) for v in (30.0, 10.0, 20.0)),
        (4.0, False),
    ]
    later = plant.data(double("temperature", 3.5, 35, historical=True)).readings
    assert [(r.time_ns, r.value, isinstance(r, Historical)) for r in later] == [((T + 35) * 1_000_000, 3.5, True)]
    assert plant.counts["historical"] == 4 and plant.view.counts.take_unusable() == {}


def test_history_after_a_new_connection_is_older_than_its_birth() -> None:
    plant = Plant()
    plant.birth()
    plant.data(double("temperature", 4.0, 40))
    plant.view.connected(plant.now, T)
    plant.birth(at=80)
    assert [type(r) for r in plant.data(double("temperature", 3.5, 35, historical=True)).readings] == [Historical]


@pytest.mark.parametrize(
    ("metric", "quality", "count"),
    [
        (double("temperature", None, 5), Quality.BAD, "null"),
        (double("temperature", 1.0, 5, quality=192), Quality.GOOD, None),
        (double("temperature", 1.0, 5, quality=0), Quality.BAD, None),
        (double("temperature", 1.0, 5, quality=500), Quality.BAD, None),
        (double("temperature", 1.0, 5, quality=64), Quality.UNCERTAIN, None),
        (Metric("temperature", None, T + 5, 12, "hot", "string_value"), Quality.BAD, "not usable"),
        (Metric("temperature", None, T + 5, 0, "hot", "string_value"), Quality.BAD, "not usable"),
        (Metric("temperature", None, T + 5, 10), Quality.BAD, "not usable"),
        (Metric("temperature", None, T + 5, 16, b"", "dataset_value"), Quality.BAD, "not usable"),
        (Metric("temperature", None, T + 5, 19, b"", "template_value"), Quality.BAD, "not usable"),
    ],
)
def test_quality_of_a_reading(metric: Metric, quality: Quality, count: str | None) -> None:
    plant = Plant()
    plant.birth()
    received = plant.data(metric)
    (reading,) = received.readings
    assert reading.quality is quality
    assert not isinstance(reading.value, str)
    if count:
        assert plant.counts[count] == 1 and math.isnan(float(reading.value))
    if count == "not usable":
        assert "metric 'temperature' is a" in str(received.problems["g/n/press/temperature"])
        assert plant.data(double("temperature", 1.0, 6)).problems["g/n/press/temperature"] is None


GOOD = encode(T, 2, [double("temperature", 1.0, 5)])
BAD_NAME = b"\x0a\x02\xc3\x28"
MALFORMED = {  # topic, payload, retained, what is counted, the message
    "not protobuf": ("g/DDATA/n/press", b"\xff\xff", False, "refused messages", "is not protobuf"),
    "empty": ("g/DDATA/n/press", b"", False, "refused messages", "seq None; expected 0 to 255"),
    "JSON": ("g/DDATA/n/press", b'{"metrics": []}', False, "refused messages", "g/DDATA/n/press"),
    "truncated": ("g/DDATA/n/press", GOOD[:-3], False, "refused messages", "is not protobuf"),
    "no seq": ("g/DDATA/n/press", encode(T, None, []), False, "refused messages", "seq None"),
    "seq of 256": ("g/DDATA/n/press", encode(T, 256, []), False, "refused messages", "seq 256"),
    "seq of 64 bits": ("g/DDATA/n/press", encode(T, 2**64 - 1, []), False, "refused messages", "seq 1844"),
    "retained": ("g/DDATA/n/press", GOOD, True, "refused messages", "a retained message"),
    "huge": ("g/DDATA/n/press", b"\x12\x00" * 1_100_000, False, "refused messages", "expected at most"),
    "crowd": ("g/DDATA/n/press", b"\x12\x00" * 20_001, False, "refused messages", "20001 metrics"),
    "compressed": ("g/DDATA/n/press", b"\x22\x12SPBV1.0_COMPRESSED", False, "refused messages", "compress"),
    "no device": ("g/DDATA/n", GOOD, False, "refused messages", "expected spBv1.0/group"),
    "no kind": ("g/DTA/n/press", GOOD, False, "refused messages", "expected spBv1.0/group"),
    "a metric's name": ("g/DDATA/n/press", b"\x18\x02\x12\x04" + BAD_NAME, False, "malformed metrics", "not UTF-8"),
    "no name": ("g/DBIRTH/n/press", encode(T, 2, [double("", 1.0)]), False, "unnamed or named twice in a birth", ""),
    "no time": (
        "g/DDATA/n/press",
        encode(None, 2, [double("temperature", 1.0, timestamp=None)]),
        False,
        "without a time stamp",
        "",
    ),
    "time of the year 9999999": (
        "g/DDATA/n/press",
        encode(2**63, 2, [double("temperature", 1.0, timestamp=2**63)]),
        False,
        "without a time stamp",
        "",
    ),
    "type": ("g/DDATA/n/press", encode(T, 2, [double("temperature", 1.0, datatype=77)]), False, "not usable", ""),
    "alias of nobody": (
        "g/DDATA/n/press",
        encode(T, 2, [double("", 1.0, alias=99)]),
        False,
        "metrics that no birth named",
        "",
    ),
}


@pytest.mark.parametrize("case", MALFORMED, ids=str)
def test_malformed_messages_are_counted_reported_and_stop_nothing(case: str) -> None:
    topic, data, retained, count, words = MALFORMED[case]
    plant = Plant(tags=[*TAGS, "g/other/d/m"])
    plant.birth()
    plant.receive(topic, data, retained)
    assert plant.view.counts.take_unusable() == {count: 1}
    assert words in (plant.view.counts.last_refusal or "")
    other = plant.receive("g/NBIRTH/other", encode(T, 0, [bdseq(0)]))
    other.add(plant.receive("g/DBIRTH/other/d", encode(T, 1, [double("m", 5.0)])))
    assert [r.value for r in other.readings] == [5.0]
    plant.birth(at=50)  # and the node itself is heard again
    assert plain(plant.data(double("", 7.0, 60, alias=2))) == [("press/temperature", 60, 7.0)]


def test_strangers_are_ignored() -> None:
    plant = Plant()
    plant.birth()
    for topic in ("g/NBIRTH/x", "h/NBIRTH/n", "g/NCMD/n", "g/DCMD/n/press"):
        assert plant.receive(topic, plant.payload(seq=77)) == Outcome()
    plant.seq = 2
    assert plant.dbirth(double("m", 1.0), device="nobody wants").readings == []
    assert len(plant.data(double("", 7.0, 60, alias=2)).readings) == 1  # its seq was counted


@pytest.mark.parametrize("ahead_ms", [3000, 40_000, 3_600_000])
def test_a_metric_that_is_newer_than_its_message_has_the_time_of_that(ahead_ms: int) -> None:
    plant = Plant()
    plant.birth()
    for i in range(1, 5):
        plant.now += 1
        at = 1000 * i
        received = plant.data(double("", float(i), at + ahead_ms, alias=2), at=at)
        assert [r.time_ns for r in received.readings] == [(T + at) * 1_000_000]
    assert plant.counts["times_implausible"] == 4
    said = received.problems["g/n/press/temperature"]
    assert said is not None and f"{ahead_ms // 1000:,} s ahead of its message" in said
    received = plant.data(double("", 9.0, 5000, alias=2), at=5000)
    assert received.problems["g/n/press/temperature"] is None and plant.counts["times_implausible"] == 4


def test_a_node_that_stamps_its_messages_wrongly_but_its_metrics_rightly_keeps_their_times() -> None:
    plant = Plant()
    plant.receive("g/NBIRTH/n", encode(1000, 0, [double("load", 1.0, 0, alias=1)]))
    plant.receive("g/DBIRTH/n/press", encode(1000, 1, [double("temperature", 20.0, 0, alias=2)]))
    for i in range(1, 5):
        received = plant.receive("g/DDATA/n/press", encode(1000, i + 1, [double("", float(i), 1000 * i, alias=2)]))
        assert [r.time_ns for r in received.readings] == [(T + 1000 * i) * 1_000_000]
    assert "times_implausible" not in plant.counts


def test_a_metric_that_was_measured_before_it_was_sent_keeps_its_time() -> None:
    plant = Plant()
    plant.birth()
    received = plant.data(double("", 1.0, 1000, alias=2), at=60_000)
    assert [r.time_ns for r in received.readings] == [(T + 1000) * 1_000_000]


def test_of_clocks_that_agree_the_slowest_says_until_when_nothing_changed() -> None:
    plant = Plant(tags=["g/n//load", "g/other//m"])
    plant.birth(at=900)
    assert plant.view.alive(plant.now + 1)[0].time_ns == (T + 1900) * 1_000_000
    plant.receive("g/NBIRTH/other", encode(T, 0, [bdseq(0), double("m", 1.0)]))
    assert plant.view.alive(plant.now + 1) == [Alive((T + 1000) * 1_000_000, frozenset(), frozenset(plant.tags))]


@pytest.mark.parametrize("off_ms", [-60_000_000, -3_600_000, -1_500, 1_500, 3_600_000])
def test_a_node_with_another_clock_says_nothing_of_the_other_nodes(off_ms: int) -> None:
    names = ["odd", "one", "two", "three"]
    plant = Plant(tags=[f"g/{name}//m" for name in names])
    for name in names:
        at = T + (off_ms if name == "odd" else 0)
        plant.receive(f"g/NBIRTH/{name}", encode(at, 0, [bdseq(0), double("m", 1.0, at - T)]))
    odd = frozenset({"g/odd//m"})
    others = frozenset(plant.tags) - odd
    assert {a.tags: (a.time_ns, a.unsure) for a in plant.view.alive(plant.now)} == {
        odd: ((T + off_ms) * 1_000_000, others),
        others: (T * 1_000_000, odd),
    }
    said = plant.view.counts.take_problems().get("clocks")
    far = abs(off_ms) > 10_000
    assert (said is not None) == far and (not far or said is None or "and 2 more, that of g/odd is" in said)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH", "NDEATH"]),
        st.integers(0, 5) | st.integers(250, 256) | st.none(),
        st.lists(
            st.builds(
                lambda name, alias, at, value, historical: double(name, value, at, alias=alias, historical=historical),
                st.sampled_from(["", "temperature", "load", "bdSeq", "x"]),
                st.none() | st.integers(0, 3),
                st.integers(-5000, 5000),
                st.none() | st.floats(0, 1),
                st.booleans(),
            ),
            max_size=3,
        ),
        st.floats(0, 3),
    ),
    max_size=30,
)


@FUZZ
@given(STEPS)
def test_whatever_a_node_says_history_changes_nothing_of_now_and_requests_are_rare(steps: Any) -> None:
    plant, without = Plant(tags=TAGS), Plant(tags=TAGS)
    begun, requests = plant.now, len(plant.begun.requests)
    for kind, seq, metrics, wait in steps:
        plant.now += wait
        without.now += wait
        tail = "/press" if kind[0] == "D" else ""
        received = plant.receive(f"g/{kind}/n{tail}", encode(T, seq, metrics))
        live = metrics if "BIRTH" in kind else [m for m in metrics if not m.historical]
        alone = without.receive(f"g/{kind}/n{tail}", encode(T, seq, live))
        requests += len(received.requests)
        assert all(isinstance(r, Reading) and r.tag in TAGS for r in received.readings)
        assert repr([r for r in received.readings if not isinstance(r, Historical)]) == repr(alone.readings)
    assert requests <= 1 + (plant.now - begun) / INTERVAL


def test_a_rebirth_request_is_addressed_to_its_node() -> None:
    plant = Plant(tags=["a/b/c/d", "e/f//g"])
    assert asked(plant.begun) == ["spBv1.0/a/NCMD/b", "spBv1.0/e/NCMD/f"]
    assert str(topics.Topic("NCMD", topics.NodeId("a", "b"))) == "spBv1.0/a/NCMD/b"
