# SPDX-License-Identifier: Apache-2.0
"""The host of an output: one event that fails holds up its own asset only, and nothing fails for ever unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fedge_agent.durable.event_desk import Desk, Order
from fedge_agent.durable.event_queue import Outcome
from fedge_agent.durable.spool import Spool
from fedge_agent.outputs import host, host_status, lanes
from fedge_agent.outputs.host import CONFLICT_TRIES, UNCLEAR_TRIES, UNEXPECTED_TRIES, HostedOutput
from fedge_agent.outputs.lanes import Lanes
from fedge_agent.types import AlertState, Decision, Event, Output, Receipt
from fedge_models.errors import ConfigError, ConflictError, RefusedError, RetryError, UnclearError, UnreachableError
from support.at_end import AtEnd
from support.databases import locked
from support.events import changed, make_event
from support.waiting import until

EVENT = make_event()


class Target(Output):
    """An output in memory. `wrong`: what it raises for an asset; `said`: what it returns."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []  # (key, state) of what was taken
        self.tried: list[str] = []  # asset of each try
        self.wrong: dict[str, Exception] = {}
        self.said: Callable[[Event], Receipt | None] = lambda event: None
        self.shown: list[Decision] = []

    def deliver(self, event: Event) -> Receipt | None:
        asset = event.decision.asset
        self.tried.append(asset)
        if asset in self.wrong:
            raise self.wrong[asset]
        receipt = self.said(event)
        self.got.append((event.key, event.state))
        return receipt

    def show(self, decision: Decision) -> None:
        self.shown.append(decision)

    def check(self) -> list[str]:
        return []


class Bench:
    """A target with its host and a spool."""

    def __init__(self, folder: Path, at_end: AtEnd) -> None:
        self.path = folder / "spool.sqlite"
        self.spool, self.target = at_end(Spool(self.path)), Target()
        self.hosted = HostedOutput("mes", self.target, self.spool)
        at_end(self)

    def put(self, asset: str, number: int = 1, state: str = "opened") -> None:
        self.spool.put_event(["mes"], changed(EVENT, key=f"gw:m:{asset}:{number}", state=state, asset=asset), STATE)
        self.hosted.wake()

    def orders(self, outcome: Outcome) -> list[Order]:
        with Desk(self.path, changes=True) as desk:
            return [order for order in desk.orders() if order.outcome == outcome]

    def end(self) -> None:
        self.hosted.stop(5)


STATE = AlertState(1, True)


@pytest.fixture
def bench(tmp_path: Path, at_end: AtEnd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(host, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(host, "LONGEST_WAIT_S", 0.05)
    monkeypatch.setattr(host, "LOOK_S", 0.05)
    yield Bench(tmp_path, at_end)


@pytest.mark.parametrize(
    ("error", "most"), [(KeyError("values"), UNEXPECTED_TRIES), (ConflictError("417"), CONFLICT_TRIES)]
)
def test_a_limit_of_tries_holds_over_restarts(
    bench: Bench, error: Exception, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.target.wrong["bad"] = error
    bench.put("bad")
    for run in range(2):
        monkeypatch.setattr(host, "FIRST_WAIT_S", 3600.0)  # one try in each of these runs
        bench.hosted = HostedOutput("mes", bench.target, bench.spool)
        bench.hosted.start()
        until(lambda run=run: len(bench.target.tried) > run, bench.hosted.status)  # type: ignore[misc]
        bench.hosted.stop(5)
    monkeypatch.setattr(host, "FIRST_WAIT_S", 0.01)
    bench.hosted = HostedOutput("mes", bench.target, bench.spool)
    bench.hosted.start()
    until(lambda: bench.orders(Outcome.SET_ASIDE), bench.hosted.status)
    assert len(bench.target.tried) == most and f"tried {most} times" in bench.orders(Outcome.SET_ASIDE)[0].text
    with Desk(bench.path, changes=True) as desk:
        desk.retry(bench.orders(Outcome.SET_ASIDE)[0].id)
    until(lambda: len(bench.target.tried) > most + 1, bench.hosted.status)  # a person begins a new count


@pytest.mark.parametrize(
    "error", [RetryError("500"), UnreachableError("hung up"), ConflictError("417"), KeyError("values")]
)
def test_one_event_that_fails_holds_up_its_own_asset_only(bench: Bench, error: Exception) -> None:
    bench.target.wrong["bad"] = error
    bench.put("bad")
    bench.hosted.start()
    until(lambda: bench.target.tried, "the first try")
    for number in range(1, 6):
        bench.put("good", number)
        bench.put("other", number)
    until(lambda: len(bench.target.got) == 10 or len(bench.target.tried) > 500, bench.hosted.status)
    assert len(bench.target.got) == 10 and not any(":bad:" in key for key, _ in bench.target.got)
    by_asset = [key for key, _ in bench.target.got if ":good:" in key]
    assert by_asset == [f"gw:m:good:{number}" for number in range(1, 6)]  # in their order


def test_order_is_kept_within_an_asset(bench: Bench) -> None:
    bench.target.wrong["bad"] = RetryError("500")
    for number, state in ((1, "opened"), (1, "cleared"), (2, "opened")):
        bench.put("bad", number, state)
    bench.hosted.start()
    until(lambda: len(bench.target.tried) > 3, "some tries")
    assert bench.target.got == []
    del bench.target.wrong["bad"]
    until(lambda: len(bench.target.got) == 3, bench.hosted.status)
    assert bench.target.got == [("gw:m:bad:1", "opened"), ("gw:m:bad:1", "cleared"), ("gw:m:bad:2", "opened")]


def test_what_fails_and_how_long_it_waits_is_in_the_status(bench: Bench) -> None:
    bench.target.wrong["bad"] = RetryError("status 500: oops")
    bench.put("bad")
    bench.put("bad", 2)
    bench.hosted.start()
    until(lambda: len(bench.target.tried) > 2, "some tries")
    status = bench.hosted.status()
    [failing] = status["failing"]
    assert failing["asset"] == "bad" and failing["tries"] >= 2 and failing["answers"][-1] == "status 500: oops"
    assert status["pending"] == 2 and status["oldest_s"] >= 0 and status["delivered"] == 0
    [problem] = status["problems"]
    assert problem.startswith("bad: status 500: oops (tried")
    del bench.target.wrong["bad"]
    until(lambda: bench.hosted.status()["problems"] == [], bench.hosted.status)
    assert bench.hosted.status()["oldest_s"] is None


def test_event_that_ends_each_connection_starves_no_decision_and_no_other_asset(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target hangs up on one event for ever: that looks as if it were down, and it is not."""
    monkeypatch.setattr(lanes, "FRESH_S", 0.05)
    bench.hosted._lanes = Lanes(3600.0, 3600.0)  # the next try of the event is an hour away
    bench.target.shows_decisions = True
    bench.target.wrong["bad"] = UnreachableError("hung up")
    bench.put("bad")
    bench.hosted.start()
    until(lambda: bench.target.tried, "the first try")
    bench.hosted.show(EVENT.decision)
    bench.put("good")
    until(lambda: bench.target.shown and bench.target.got, bench.hosted.status)
    assert bench.target.tried == ["bad", "good"]


def test_assets_that_fail_alike_are_one_text() -> None:
    failed = Lanes()
    for number in range(8):
        failed.failed(f"a{number}", number, "status 401: no", 0.0)
    for _ in range(2):
        failed.failed("b", 9, "status 404: there is nothing", 0.0)
    assert host_status.in_words(host_status.failing(failed, 0.0)) == (
        "b: status 404: there is nothing (tried 2 times); a0, a1, a2, a3, a4 and 3 more: status 401: no (tried once)"
    )
    assert host_status.in_words([]) is None


@pytest.mark.parametrize(
    ("error", "tries", "words"),
    [
        (KeyError("values"), UNEXPECTED_TRIES, "unexpected KeyError: 'values'"),
        (ConflictError("status 417: changed"), CONFLICT_TRIES, "status 417: changed"),
        (UnclearError("status 200 with 'x': it tells neither"), UNCLEAR_TRIES, "status 200 with 'x'"),
        (RefusedError("status 422: no asset bad"), 1, "status 422: no asset bad"),
    ],
)
def test_what_fails_too_often_is_set_aside_and_holds_up_nothing(
    bench: Bench, error: Exception, tries: int, words: str
) -> None:
    bench.target.wrong["bad"] = error
    bench.put("bad")
    bench.hosted.start()
    until(lambda: bench.spool.counts("mes")["refused"] or len(bench.target.tried) > tries, bench.hosted.status)
    assert bench.spool.counts("mes")["refused"] == 1 and bench.target.tried.count("bad") == tries
    del bench.target.wrong["bad"]
    bench.put("bad", 2)
    until(lambda: bench.target.got == [("gw:m:bad:2", "opened")], bench.hosted.status)
    [order] = bench.orders(Outcome.SET_ASIDE)
    assert order.text.startswith(words) and order.answers[-1].startswith(words)
    assert bench.hosted.status()["problems"] == ["1 set aside; look at them with: fedge-agent order list"]


@pytest.mark.parametrize("error", [ConflictError("417"), UnclearError("null")])
def test_tries_without_the_target_use_up_no_limit(bench: Bench, error: Exception) -> None:
    """After a long outage an order meets its first conflict: it is tried again."""
    tries = iter([*[UnreachableError("no route")] * 2 * CONFLICT_TRIES, error])

    def said(event: Event) -> Receipt:
        if (failure := next(tries, None)) is not None:
            raise failure
        return Receipt("WO-7")

    bench.target.said = said
    bench.put("pump")
    bench.hosted.start()
    until(lambda: bench.target.got or bench.spool.counts("mes")["refused"], bench.hosted.status)
    assert bench.spool.counts("mes")["refused"] == 0


@pytest.mark.parametrize("error", [RetryError("500"), UnreachableError("no route"), ConfigError("no such file")])
def test_what_may_heal_is_never_set_aside(bench: Bench, error: Exception) -> None:
    bench.target.wrong["pump"] = error
    bench.put("pump")
    bench.hosted.start()
    until(lambda: len(bench.target.tried) > 2 * CONFLICT_TRIES, bench.hosted.status)
    assert bench.spool.counts("mes") == {"pending": 1, "refused": 0}
    del bench.target.wrong["pump"]
    until(lambda: bench.target.got, bench.hosted.status)


def test_delivered_is_what_was_sent_and_answered(bench: Bench) -> None:
    bench.target.said = lambda event: (
        Receipt("WO-7") if event.state == "opened" else Receipt(skipped="there is no step 'clear'")
    )
    bench.put("pump")
    bench.put("pump", 1, "cleared")
    bench.hosted.start()
    until(lambda: not bench.spool.counts("mes")["pending"], bench.hosted.status)
    status = bench.hosted.status()
    assert (status["delivered"], status["skipped"], status["retries"]) == (1, 1, 0)
    assert [order.reference for order in bench.orders(Outcome.DELIVERED)] == ["WO-7"]
    assert [order.text for order in bench.orders(Outcome.SKIPPED)] == ["there is no step 'clear'"]


def test_cleared_is_sent_only_for_what_was_opened_there(bench: Bench) -> None:
    bench.put("pump", 1, "cleared")  # of an event that another configuration's outputs got
    bench.put("pump", 2, "opened")
    bench.put("pump", 2, "raised")
    bench.put("pump", 2, "cleared")
    bench.hosted.start()
    until(lambda: not bench.spool.counts("mes")["pending"], bench.hosted.status)
    assert bench.target.got == [("gw:m:pump:2", s) for s in ("opened", "raised", "cleared")]
    assert bench.hosted.status()["withheld"] == 1
    assert [order.key for order in bench.orders(Outcome.WITHHELD)] == ["gw:m:pump:1"]


@pytest.mark.parametrize("then", ["retry", "drop"])
def test_cleared_waits_for_what_becomes_of_an_opened_that_is_set_aside(bench: Bench, then: str) -> None:
    bench.target.wrong["pump"] = RefusedError("no such asset")
    bench.put("pump")
    bench.hosted.start()
    until(lambda: bench.spool.counts("mes")["refused"], bench.hosted.status)
    del bench.target.wrong["pump"]
    bench.put("pump", 1, "cleared")
    bench.put("pump", 2, "opened")
    until(lambda: bench.target.got, bench.hosted.status)
    assert bench.target.got == [("gw:m:pump:2", "opened")] and bench.hosted.status()["held"] == 1
    [order] = bench.orders(Outcome.SET_ASIDE)
    with Desk(bench.path, changes=True) as desk:
        desk.retry(order.id) if then == "retry" else desk.drop(order.id, "a test")
    done = {"retry": 3, "drop": 1}[then]
    until(lambda: len(bench.target.got) == done and not bench.hosted.status()["held"], bench.hosted.status)
    until(lambda: not bench.spool.counts("mes")["pending"], bench.hosted.status)
    assert bench.target.got[1:] == [("gw:m:pump:1", "opened"), ("gw:m:pump:1", "cleared")][: done - 1]
    assert bench.hosted.status()["withheld"] == (then == "drop")


def test_restart_remembers_what_was_opened(bench: Bench, at_end: AtEnd) -> None:
    bench.put("pump")
    bench.hosted.start()
    until(lambda: bench.target.got, bench.hosted.status)
    bench.hosted.stop(5)
    bench.spool.close()
    spool, target = at_end(Spool(bench.path)), Target()
    spool.put_event(["mes"], changed(EVENT, key="gw:m:pump:1", state="cleared"), AlertState(1))
    again = HostedOutput("mes", target, spool)
    again.start()
    until(lambda: target.got == [("gw:m:pump:1", "cleared")], again.status)
    again.stop(5)


def test_dropped_event_frees_its_asset_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "LONGEST_WAIT_S", 3600.0)
    bench.hosted._lanes._range = 3600.0, 3600.0  # the next try is an hour away
    bench.target.wrong["pump"] = RetryError("500")
    bench.put("pump")
    bench.put("pump", 2)
    bench.hosted.start()
    until(lambda: bench.target.tried, "the first try")
    del bench.target.wrong["pump"]
    with Desk(bench.path, changes=True) as desk:
        desk.drop(desk.orders()[0].id, "the machine was sold")
    until(lambda: bench.target.got == [("gw:m:pump:2", "opened")], bench.hosted.status)
    [order] = bench.orders(Outcome.DROPPED)
    assert order.text == "the machine was sold"


def test_event_that_cannot_be_read_any_more_is_set_aside(bench: Bench) -> None:
    bench.put("pump")
    bench.put("pump", 2)
    with bench.spool._transaction() as db:
        db.execute("UPDATE events SET event = ? WHERE id = 1", (b"\x81\xa1x",))
    bench.hosted.start()
    until(lambda: bench.target.got == [("gw:m:pump:2", "opened")], bench.hosted.status)
    [order] = bench.orders(Outcome.SET_ASIDE)
    assert "cannot be read" in order.text and order.event is None


def test_delivered_event_is_not_sent_again_because_the_spool_cannot_be_written(bench: Bench) -> None:
    bench.put("pump")
    with bench.spool._transaction() as db:
        db.execute("PRAGMA busy_timeout = 10")
    with locked(bench.path):
        bench.hosted.start()
        until(lambda: "cannot be written" in str(bench.hosted.status()["error"]), bench.hosted.status)
    until(lambda: not bench.spool.counts("mes")["pending"], bench.hosted.status)
    assert bench.target.got == [("gw:m:pump:1", "opened")] and bench.hosted.status()["delivered"] == 1
