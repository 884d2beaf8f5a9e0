# SPDX-License-Identifier: Apache-2.0
"""The way out: alerts, the durable spool, work orders that are made exactly once."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fedge_agent.config.plugins import load_class
from fedge_agent.config.schema import Level, When
from fedge_agent.durable.event_writer import MAX_WAITING, EventWriter
from fedge_agent.durable.spool import Spool
from fedge_agent.machines.alerts import Alert
from fedge_agent.outputs.host import HostedOutput
from fedge_agent.outputs.log import LogConfig, LogOutput
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.registry import OUTPUTS
from fedge_agent.outputs.registry import build as build_output
from fedge_agent.sources.registry import SOURCES
from fedge_agent.sources.registry import build as build_source
from fedge_agent.types import AlertState, Decision, Output, Source
from fedge_fleet.machines.mes import Mes
from fedge_models.errors import ConfigError, RefusedError, RetryError, UnreachableError
from fedge_models.system.settings import Seconds
from support.at_end import AtEnd
from support.databases import locked
from support.events import changed, make_event
from support.waiting import LONGEST_S, until

WHEN = When(for_windows=2, min_gap=Seconds(10), clear_below=0.5)
EVENT = make_event()


def decision(score: float, threshold: float = 1.0, second: float = 0.0) -> Decision:
    return Decision("pump", "m", 3, round(second * 1e9), score, threshold, "anomaly", 0.0, 0.001)


def states(alert: Alert, scores: Sequence[float], start: float = 0.0) -> list[str]:
    """States of the events of windows that are a second apart on the source's clock."""
    found = []
    for i, score in enumerate(scores):
        made = alert.update(decision(score, second=1 + start + i))
        found.append(made[0].state if made else "")
    return found


def test_one_event_for_many_windows() -> None:
    alert = Alert("gw", "pump", WHEN, AlertState())
    assert states(alert, [2, 2, 3, 2, 0.9, 2, 0.1, 0.1, 0.1]) == ["", "opened", "", "", "", "", "", "cleared", ""]


def test_single_window_above_is_no_event() -> None:
    assert not any(states(Alert("gw", "pump", WHEN, AlertState()), [2, 0.9, 2, 0.9]))


def test_a_label_that_joins_those_of_an_open_event_raises_it_once() -> None:
    def made(labels: list[str]) -> list[tuple[str, str]]:
        found = []
        for label in labels:
            event = alert.update(msgspec.structs.replace(decision(1.5, second=next(seconds)), label=label))
            found.append((event[0].state, event[0].decision.label) if event else ("", ""))
        return found

    seconds = itertools.count(1)
    alert = Alert("gw", "pump", WHEN, AlertState())
    alert.several = True
    assert made(["worn", "worn"]) == [("", ""), ("opened", "worn")]
    assert made(["worn;leak", "worn", "leak", "worn"]) == [("", "")] * 4  # it comes and goes
    assert made(["worn;leak", "worn;leak", "leak", "leak"]) == [("", ""), ("raised", "worn;leak"), ("", ""), ("", "")]
    state = alert.at(20 * 10**9)
    assert state.labels == "leak;worn"
    alert = Alert("gw", "pump", WHEN, state)  # started again: it is no news
    alert.several = True
    assert made(["worn;leak", "worn;leak", "loose", "loose"])[1:] == [("", ""), ("", ""), ("raised", "loose")]
    one = Alert("gw", "pump", WHEN, AlertState())  # a model whose labels exclude each other
    assert [one.update(msgspec.structs.replace(decision(1.5, second=s), label=w)) is None
            for s, w in enumerate(["worn", "worn", "broken", "broken"], 1)] == [True, False, True, True]  # fmt: skip


def test_minimum_gap_between_openings() -> None:
    alert = Alert("gw", "pump", WHEN, AlertState())
    assert states(alert, [2, 2, 0, 0, 2, 2, 2]) == ["", "opened", "", "cleared", "", "", ""]
    assert states(alert, [2], start=20) == ["opened"]


def test_a_short_alarm_does_not_mute_a_longer_one_within_the_minimum_gap() -> None:
    when = msgspec.structs.replace(WHEN, for_windows=3, min_gap=Seconds(4 * 3600))
    alert = Alert("gw", "pump", when, AlertState())
    assert [s for s in states(alert, [2] * 10 + [0] * 20) if s] == ["opened", "cleared"]  # open for 10 s
    again = Alert("gw", "pump", when, alert.at(30 * 10**9))
    assert not any(states(again, [2] * 15 + [0] * 20, start=100))  # 14 s: no more than the one before
    assert again.held == 1 and again.held_until_ns is None
    assert not any(states(again, [2] * 10, start=200)) and again.held == 2
    assert again.held_until_ns == alert.state.opened_ns + 4 * 3600 * 10**9
    longer = states(again, [2] * 60, start=210)
    assert [s for s in longer if s] == ["opened"] and longer.index("opened") <= 12
    assert again.held_until_ns is None and again.state.number == 2


def test_a_weak_alarm_does_not_mute_a_more_severe_one_within_the_minimum_gap() -> None:
    when = msgspec.structs.replace(WHEN, min_gap=Seconds(4 * 3600))
    alert = Alert("gw", "pump", when, AlertState())
    assert [s for s in states(alert, [1.5] * 30 + [0] * 2) if s] == ["opened", "cleared"]
    assert not any(states(alert, [1.5, 1.5, 0, 0], start=60))
    assert states(alert, [9, 9], start=90) == ["", "opened"] and alert.state.severity == 2
    states(alert, [0, 0], start=100)
    assert not any(states(alert, [9, 9, 0, 0], start=110)) and alert.held == 2  # as severe as the last, and no longer


NOW = 1.8e9  # s
HOUR, DAY = 3600.0, 86400.0


@pytest.mark.parametrize("ahead", [HOUR, 400 * DAY, NOW])
def test_a_clock_that_was_ahead_and_is_put_right_mutes_nothing(ahead: float) -> None:
    when = msgspec.structs.replace(WHEN, for_windows=1, min_gap=Seconds(4 * HOUR))
    alert = Alert("gw", "pump", when, AlertState())
    assert states(alert, [9, 0], start=NOW + ahead) == ["opened", "cleared"]
    alert = Alert("gw", "pump", when, alert.at(round((NOW + ahead + 2) * 1e9)))  # started again before it was put right
    assert states(alert, [9, 0], start=NOW) == ["opened", "cleared"]
    assert states(alert, [9, 0], start=NOW + 5 * HOUR) == ["opened", "cleared"]
    # the time of the wrong clock has come
    assert states(alert, [9, 0], start=NOW + ahead + 10) == ["opened", "cleared"]


def test_an_open_event_keeps_its_age_when_the_clock_is_set_back() -> None:
    alert = Alert("gw", "pump", WHEN, AlertState())
    first = [alert.update(decision(1.5, second=NOW + i * HOUR)) for i in range(8)]
    again = [alert.update(decision(1.5, second=NOW - 400 * DAY + i * HOUR)) for i in range(3)]
    assert [made[0].severity for made in [*first, *again] if made] == ["low", "medium", "high"]
    assert again[2] is not None  # open for seven hours before, and two after


def test_an_open_event_ages_only_while_its_machine_is_watched() -> None:
    alert = Alert("gw", "pump", WHEN, AlertState())
    alert.watched_ns = 60 * 10**9
    moments = [NOW, NOW + 1, NOW + 2 * DAY, NOW + 2 * DAY + 30]  # the clock is set ahead, or nothing came for two days
    made = [alert.update(decision(1.2, second=s)) for s in moments]
    assert [m[0].severity for m in made if m] == ["low"]
    later = [alert.update(decision(1.2, second=NOW + 2 * DAY + s)) for s in range(60, 3600, 30)]
    assert [m[0].severity for m in later if m] == ["medium"]


def test_started_at_1970_it_raises_an_event_and_another_when_the_time_comes() -> None:
    yesterday = round((NOW - DAY) * 1e9)
    alert = Alert("gw", "pump", WHEN, AlertState(7, opened_ns=yesterday, time_ns=yesterday))
    assert states(alert, [9, 9, 0, 0], start=120) == ["", "opened", "", "cleared"]
    assert states(alert, [9, 9], start=NOW) == ["", "opened"]
    assert alert.state.number == 9


def test_events_of_a_backlog_are_as_far_apart_as_they_were() -> None:
    """It is read in a moment; a month has an event an hour, of which every fourth is far enough from the last."""
    alert = Alert("gw", "pump", msgspec.structs.replace(WHEN, for_windows=1, min_gap=Seconds(3.5 * HOUR)), AlertState())
    found = [states(alert, [9, 0], start=NOW + hour * HOUR) for hour in range(12)]
    assert found == 3 * [["opened", "cleared"], ["", ""], ["", ""], ["", ""]]


def test_restart_neither_repeats_nor_forgets() -> None:
    alert = Alert("gw", "pump", WHEN, AlertState())
    states(alert, [2, 2])
    again = Alert("gw", "pump", WHEN, alert.state)
    assert states(again, [2, 2, 0, 0]) == ["", "", "", "cleared"]
    assert again.state.number == 1


@pytest.mark.parametrize(("score", "threshold"), [(float("nan"), 1.0), (5.0, float("inf"))])
def test_nothing_is_raised_without_a_number_to_compare(score: float, threshold: float) -> None:
    alert = Alert("gw", "pump", WHEN, AlertState())
    assert all(alert.update(decision(score, threshold, t)) is None for t in range(5))


def test_a_window_without_a_number_neither_counts_nor_interrupts() -> None:
    alert = Alert("gw", "pump", WHEN, AlertState())
    assert states(alert, [2, math.nan, 2, 0, math.nan, 0]) == ["", "", "opened", "", "", "cleared"]


def event_states(alert: Alert, scores: list[float], seconds: float = 1.0) -> list[tuple[str, str]]:
    """(state, severity) of each event; windows are `seconds` apart on the source's clock."""
    found = []
    for i, score in enumerate(scores):
        if made := alert.update(decision(score, second=i * seconds)):
            found.append((made[0].state, made[0].severity))
    return found


def test_severity_rises_with_a_score_that_holds() -> None:
    alert = Alert("gw", "pump", WHEN, AlertState())
    scores = [1.5, 1.5, 9, 1.5, 9, 9, 1.5, 9, 9, 0, 0]  # one odd window raises nothing; it never falls while open
    assert event_states(alert, scores) == [("opened", "low"), ("raised", "high"), ("cleared", "high")]


@pytest.mark.parametrize("first", [[1.5, 9], [9, 1.5]])
def test_severity_is_what_every_window_held(first: list[float]) -> None:
    """Of the windows that open an event the mildest counts; a more severe one has to hold as long again."""
    alert = Alert("gw", "pump", WHEN, AlertState())
    assert event_states(alert, first) == [("opened", "low")]
    assert event_states(alert, [9]) == ([("raised", "high")] if first[-1] == 9 else [])
    assert event_states(alert, [1.5, 9, 1.5, 9]) == []


def test_severity_rises_with_time() -> None:
    alert = Alert("gw", "pump", WHEN, AlertState())
    found = event_states(alert, [1.5] * 20, seconds=1800.0)
    assert found == [("opened", "low"), ("raised", "medium"), ("raised", "high")]
    assert alert.state.opened_ns == 1_800_000_000_000


def test_severe_from_the_start_and_reported_once_over_a_restart() -> None:
    alert = Alert("gw", "pump", WHEN, AlertState())
    assert event_states(alert, [2.5, 2.5]) == [("opened", "medium")]
    again = Alert("gw", "pump", WHEN, alert.state)
    assert event_states(again, [2.5, 2.5, 2.5]) == []


def test_event_says_since_when() -> None:
    when = msgspec.structs.replace(WHEN, for_windows=3, min_gap=Seconds(0))
    alert = Alert("gw", "pump", when, AlertState())
    seen = []
    for i, score in enumerate([0, 2, 2, 2, 2, 0, 2, 0, 0, 0]):
        if i == 8:  # kill -9 within the windows that clear it
            alert = Alert("gw", "pump", when, alert.at(7))
        if made := alert.update(msgspec.structs.replace(decision(score), time_ns=i)):
            seen.append((made[0].state, made[0].since_ns, made[0].decision.time_ns))
    assert seen == [("opened", 1, 3), ("cleared", 7, 9)]


def test_levels_are_configurable() -> None:
    when = msgspec.structs.replace(WHEN, high=Level(score=1.2, after=Seconds(1e9)))
    assert event_states(Alert("gw", "pump", when, AlertState()), [1.5, 1.5]) == [("opened", "high")]


# --- spool ------------------------------------------------------------------------------------------------------


def test_events_wait_in_order_until_delivered(at_end: AtEnd, tmp_path: Path) -> None:
    spool = at_end(Spool(tmp_path / "s"))
    for i in range(3):
        event = changed(EVENT, key=f"k{i}")
        spool.put_event(["mes"], event, AlertState(i))
    keys = []
    while (entry := spool.next_event("mes")) is not None:
        keys.append(entry.event.key)
        spool.delivered(entry)
    assert keys == ["k0", "k1", "k2"] and spool.alert_state("pump").number == 2


def test_refused_event_steps_aside(at_end: AtEnd, tmp_path: Path) -> None:
    spool = at_end(Spool(tmp_path / "s"))
    spool.put_event(["mes"], EVENT, AlertState())
    entry = spool.next_event("mes")
    assert entry is not None
    spool.refused(entry, "no")
    assert spool.next_event("mes") is None and spool.counts("mes") == {"pending": 0, "refused": 1}


def test_update_and_residual_are_stored_together(at_end: AtEnd, tmp_path: Path) -> None:
    spool = at_end(Spool(tmp_path / "s"))
    number = spool.reserve_sequence("f")
    spool.put_update("f", 4, number, b"body", b"graph", b"left")
    spool.close()
    again = at_end(Spool(tmp_path / "s"))
    pending = again.update("f")
    assert pending is not None and pending.body == b"body" and again.residual("f", b"graph") == b"left"
    assert again.residual("f", b"other") is None
    again.finish_update("f", number, "accepted")
    assert again.reserve_sequence("f") > number


WRITER = """
import sys
from pathlib import Path
from fedge_agent.durable.spool import Spool
from fedge_agent.types import AlertState, Decision, Event
spool = Spool(Path(sys.argv[1]))
decision = Decision("p", "m", 1, 0, 1.0, 1.0, "", 0.0, 0.0)
while True:
    number = spool.reserve_sequence("f")
    print("sequence", number, flush=True)
    spool.put_event(["mes"], Event(f"k{number}", "opened", decision, 1.0), AlertState(number))
    print("event", number, flush=True)
"""


def test_kill_at_a_dozen_moments_loses_nothing_and_reuses_no_number(at_end: AtEnd, tmp_path: Path) -> None:
    seen: list[str] = []
    for i in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "s"], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(3 + 5 * i):  # kill after so many acknowledgements, in the middle of the next
            seen.append(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        seen += writer.stdout.read().splitlines()
        writer.stdout.close()
        writer.wait()
    words = [line.split() for line in seen if len(line.split()) == 2]
    numbers = [int(n) for kind, n in words if kind == "sequence"]
    assert len(numbers) == len(set(numbers)) > 100 and numbers == sorted(numbers)
    spool, pending = at_end(Spool(tmp_path / "s")), set()
    while (entry := spool.next_event("mes")) is not None:
        pending.add(entry.event.key)
        spool.delivered(entry)
    assert {f"k{n}" for kind, n in words if kind == "event"} <= pending


def test_event_waits_for_the_disk_but_nobody_for_the_event(at_end: AtEnd, tmp_path: Path) -> None:
    spool, there = at_end(Spool(tmp_path / "s")), threading.Event()
    recorder = EventWriter(spool, ["mes"], there.set)
    recorder.start()
    with locked(tmp_path / "s"):  # a commit that takes its time
        recorder.put(EVENT, AlertState(1, True))
        assert recorder.waiting == 1
    assert there.wait(LONGEST_S) and spool.counts("mes")["pending"] == 1 and spool.alert_state("pump").opened
    recorder.stop()
    assert recorder.lost == 0


def test_more_events_than_may_wait_are_counted(at_end: AtEnd, tmp_path: Path) -> None:
    spool = at_end(Spool(tmp_path / "s"))
    recorder = EventWriter(spool, ["mes"], lambda: None)
    for _ in range(MAX_WAITING + 3):
        recorder.put(EVENT, AlertState())
    assert recorder.lost == 3
    recorder.start()
    until(lambda: not recorder.waiting, "the disk, however slow it is")
    recorder.stop()
    assert recorder.lost == 3 and spool.counts("mes")["pending"] == MAX_WAITING


def test_event_that_cannot_be_stored_holds_up_no_other(at_end: AtEnd, tmp_path: Path) -> None:
    spool = at_end(Spool(tmp_path / "s"))
    recorder = EventWriter(spool, ["mes"], lambda: None)
    recorder.start()
    recorder.put(changed(EVENT, time_ns=10**21), AlertState())  # no 64 bits hold it
    recorder.put(EVENT, AlertState())
    until(lambda: spool.counts("mes")["pending"], "the other event")
    recorder.stop()
    assert recorder.lost == 1


def test_full_output_does_not_keep_others_from_an_event(
    at_end: AtEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedge_agent.durable.event_queue.MAX_EVENTS", 2)
    spool = at_end(Spool(tmp_path / "s"))
    for _ in range(2):
        assert spool.put_event(["mes"], EVENT, AlertState()) == []
    assert spool.put_event(["mes", "log"], EVENT, AlertState()) == ["mes"]
    assert spool.counts("mes")["pending"] == 2 and spool.counts("log")["pending"] == 1


def test_event_that_an_output_has_no_room_for_is_counted_and_said(
    at_end: AtEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("durable.event_queue", "outputs.host_status"):
        monkeypatch.setattr(f"fedge_agent.{module}.MAX_EVENTS", 2)
    spool = at_end(Spool(tmp_path / "s"))
    recorder = EventWriter(spool, ["mes", "log"], lambda: None)
    recorder.start()
    for number in range(3):
        recorder.put(changed(EVENT, key=f"k{number}"), AlertState())
        until(lambda: not recorder.waiting, "the disk")
    recorder.stop()
    assert recorder.overflowed == {"mes": 1, "log": 1}
    status = HostedOutput("mes", LogOutput("mes", LogConfig()), spool).status(recorder.overflowed["mes"])
    assert "1 lost: more than 2 waited" in status["problems"][0] and status["overflowed"] == 1


# --- outputs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def mes(tmp_path: Path) -> Iterator[Mes]:
    server = Mes(tmp_path / "mes.sqlite", drop=0.5)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    server.database.close()


def mes_url(server: Mes, path: str = "/work-orders") -> str:
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def test_lost_answers_make_no_second_order(
    at_end: AtEnd, mes: Mes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedge_agent.outputs.host.FIRST_WAIT_S", 0.01)
    spool = at_end(Spool(tmp_path / "s"))
    for i in range(30):
        spool.put_event(["mes"], changed(EVENT, key=f"gw:m:pump:{i}"), AlertState())
    hosted = HostedOutput("mes", at_end(MesOutput("mes", MesConfig(url=mes_url(mes)))), spool)
    hosted.start()
    until(lambda: not spool.counts("mes")["pending"], hosted.status)
    hosted.stop(5)
    orders = mes.orders()
    assert len(orders) == 30 and sum(o["deliveries"] > 1 for o in orders) >= 5
    assert orders[0]["body"] == {
        "reference": "gw:m:pump:0",
        "asset": "pump",
        "description": "anomaly on pump: score 2.5, threshold 1",
        "severity": "low",
        "detected_at": "2023-11-14T22:13:20.000+00:00",
        "score": 2.5,
    }


def test_cleared_event_is_noted_on_its_order(at_end: AtEnd, mes: Mes) -> None:
    mes.drop = 0
    config = MesConfig(url=mes_url(mes), clear=Step(url="/{key}/cleared", body={"reference": "{key}"}))
    output = at_end(MesOutput("mes", config))
    output.deliver(EVENT)
    output.deliver(changed(EVENT, state="cleared"))
    assert mes.orders()[0]["cleared"] is True


def test_a_cleared_event_that_is_read_again_changes_nothing_at_its_order(at_end: AtEnd, mes: Mes) -> None:
    mes.drop = 0
    config = MesConfig(url=mes_url(mes), clear=Step(url="/{key}/cleared", body={"reference": "{key}"}))
    output = at_end(MesOutput("mes", config))
    for _ in range(2):
        assert output.deliver(EVENT) is not None
        receipt = output.deliver(changed(EVENT, state="cleared"))
    assert receipt is not None and receipt.skipped.startswith("the order says so already")
    assert len(mes.orders()) == 1


def test_refusal_is_not_tried_again(at_end: AtEnd, mes: Mes) -> None:
    with pytest.raises(RefusedError, match="400"):
        at_end(MesOutput("mes", MesConfig(url=mes_url(mes), idempotency_header=""))).deliver(EVENT)


def test_wrong_token_is_tried_again_until_somebody_renews_it(at_end: AtEnd, mes: Mes) -> None:
    mes.token = "secret"
    with pytest.raises(RetryError, match=r"401: the key or password is not accepted.*orders wait meanwhile"):
        at_end(MesOutput("mes", MesConfig(url=mes_url(mes)))).deliver(EVENT)


def test_bearer_token_comes_from_a_file(at_end: AtEnd, mes: Mes, tmp_path: Path) -> None:
    mes.token, mes.drop = "secret", 0
    (tmp_path / "token").write_text("secret\n")
    at_end(MesOutput("mes", MesConfig(url=mes_url(mes), token_file=tmp_path / "token"))).deliver(EVENT)
    assert len(mes.orders()) == 1


def test_absent_target_is_tried_again(at_end: AtEnd) -> None:
    with pytest.raises(UnreachableError, match="refused"):
        at_end(MesOutput("mes", MesConfig(url="http://127.0.0.1:9/x"))).deliver(EVENT)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"url": "ftp://x"}, "http"),
        ({"url": "http://me:secret@x"}, "give username and password_file instead"),
        ({"url": "http://x", "preset": "trytn"}, "did you mean 'tryton'"),
        ({"url": "http://x", "create": Step(body={"a": "{asett}"})}, "create: .*did you mean {asset}"),
        ({"url": "http://x", "create": Step(body={"a": "{asset.x}"})}, "unknown field {asset.x}"),
        ({"url": "http://x", "clear": Step(url="/{id}", then=Step(url="/{idd}"))}, "clear: .*did you mean {id}"),
        ({"url": "http://x", "token": Step(id="/link")}, "token: a create-once address needs a search too"),
        ({"url": "http://x", "create": Step(id="id")}, "create.id: 'id' is no JSON pointer"),
    ],
)
def test_unusable_template_is_refused_at_start(config: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        MesOutput("mes", MesConfig(**config))


def test_log_is_bounded(tmp_path: Path) -> None:
    output = LogOutput("log", LogConfig(path=tmp_path / "events.jsonl", max_bytes=2000))
    for _ in range(50):
        output.deliver(EVENT)
    assert (tmp_path / "events.jsonl").stat().st_size <= 2000
    assert msgspec.json.decode((tmp_path / "events.jsonl").read_bytes().splitlines()[0])["key"] == EVENT.key


@pytest.mark.parametrize(("registry", "base"), [(SOURCES, Source), (OUTPUTS, Output)])
def test_every_registered_plugin_keeps_the_contract(registry: dict[str, str], base: type) -> None:
    for path in registry.values():
        class_ = load_class(path)
        assert issubclass(class_, base) and not class_.__abstractmethods__
        assert issubclass(class_.Config, msgspec.Struct) and class_.__doc__


@pytest.mark.parametrize("build", [build_source, build_output])
def test_unknown_type_is_refused_with_the_types_there_are(build: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match=r"expected one of|did you mean"):
        build("x", {"type": "nothing-like-it"}, "agent.toml")


def test_a_log_file_in_a_folder_that_takes_none_fails_in_check(tmp_path: Path) -> None:
    assert LogOutput("log", LogConfig(path=tmp_path / "events.jsonl")).check() == []
    assert not list(tmp_path.iterdir())
    (said,) = LogOutput("log", LogConfig(path=Path("/proc/events.jsonl"))).check()
    assert said.startswith("/proc/events.jsonl: cannot be made: /proc: ")
