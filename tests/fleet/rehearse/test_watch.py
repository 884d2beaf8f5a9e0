# SPDX-License-Identifier: Apache-2.0
"""When a rehearsal is over, and which of the problems that were seen are reported."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.app import App
from fedge_agent.config import schema
from fedge_agent.health import STATUS_FILE
from fedge_fleet.rehearse import folder, plan, words
from fedge_fleet.rehearse.outcome import evaluate
from fedge_fleet.rehearse.watch import QUIET_S, SETTLE_S, UNREAD_S, Watch
from support.rehearsal import write_folder
from support.waiting import until

LAST = {"label": "normal", "score": 0.1, "threshold": 1.0, "hours_left_at_least": None, "hours_left": None}


@pytest.fixture
def prepared(tmp_path: Path) -> plan.Plan:
    root = write_folder(tmp_path / "user", ("press-1",))
    return plan.prepare(folder.read(root), tmp_path / "scratch", 10, 2, None)


@pytest.fixture
def watch(prepared: plan.Plan) -> Watch:
    return Watch(prepared, 2)


@pytest.fixture
def status(prepared: plan.Plan) -> Callable[..., dict[str, Any]]:
    """The status of a real agent that waits for its model, with other figures."""
    gateway = prepared.gateways["press-1"]
    for feed in gateway.feeds.values():
        feed.open()
        feed.close()
    app = App(schema.load(gateway.config), gateway.config)
    thread = threading.Thread(target=app.run)
    thread.start()
    until(lambda: (gateway.place.state / STATUS_FILE).exists() and app.status()["sources"])
    base = app.status()
    app.stop()
    thread.join()

    def made(read: int = 800, held: str | None = None, pending: int = 0, stale: int = 0) -> dict[str, Any]:
        found = copy.deepcopy(base)
        found["sources"]["plc"] |= {"readings": read, "held": held, "problems": {}}
        found["outputs"]["mes"] |= {"pending": pending, "problems": []}
        found["models"]["pump"] |= {"problem": None, "waits_for": None}
        asset = found["assets"]["pump-1"]
        state: dict[str, Any] = {
            "state": "stale" if stale else "deciding",
            "problem": bool(stale),
            "age_s": float(stale),
            "causes": [],
        }
        asset["condition"] |= state
        return found | {"assets": {"pump-1": asset | {"last": LAST, "tag_labels": {"problem": None, "unknown": 0}}}}

    return made


def server(release: int) -> dict[str, Any]:
    return {"federations": {"pump": {"release": release, "rule": "median", "waiting": "1 of 2"}}}


def test_it_is_over_when_all_was_read_decided_and_delivered_and_the_rounds_were_made(
    watch: Watch, status: Callable[..., Any]
) -> None:
    def look(at: float, release: int, **keys: Any) -> bool:
        watch.look({"press-1": status(**keys)}, server(release), at)
        return watch.over(True, at)

    assert not look(0, 3, read=700)  # 100 values are to come
    assert not look(5, 3) and not look(5 + SETTLE_S / 2, 3)
    assert not look(8, 3, pending=1)
    assert look(9, 3) and not watch.over(False, 9)


def test_rounds_that_do_not_come_are_not_waited_for_without_end(watch: Watch, status: Callable[..., Any]) -> None:
    for at, release in ((0, 1), (5, 2)):
        watch.look({"press-1": status()}, server(release), at)
    assert not watch.over(True, 5 + QUIET_S - 1) and watch.over(True, 5 + QUIET_S)
    assert watch.short() == {"pump": 1}


def test_values_that_are_not_read_are_waited_for_while_a_machine_waits_for_its_limit(
    watch: Watch, status: Callable[..., Any]
) -> None:
    for at, held in ((0, "pump-1 waits for its limit"), (UNREAD_S + 5, "pump-1 waits for its limit")):
        watch.look({"press-1": status(read=700, held=held)}, server(3), at)
        assert not watch.over(True, at)
    watch.look({"press-1": status(read=700)}, server(3), UNREAD_S + 6)
    assert watch.over(True, UNREAD_S + 6) and watch.unread() == {"press-1": {"plc": 100}}


def test_a_problem_is_reported_once_and_one_that_is_over_as_such(watch: Watch, status: Callable[..., Any]) -> None:
    for at, stale in ((1, 20), (2, 21), (3, 0)):
        watch.look({"press-1": status(read=700, stale=stale)}, server(3), at)
    (watch.plan.scratch / "aggregator").mkdir()
    found = evaluate(watch.plan, watch, 10, None).gateways["press-1"]
    assert len(found.passed) == 1 and next(iter(found.passed.values())) == 1
    assert found.problems == [
        "source plc: 100 of 800 values of its recording were not read in time",
        "model pump: took part in no round: it has 0 of the 8 samples that a training needs (min_samples)",
    ]
    text = "federation pump: 2 rounds, median; of the round after these: 1 of 2"
    assert text in words.lines(evaluate(watch.plan, watch, 10, None))
    assert any("was a problem  from 1 s on" in line for line in words.lines(evaluate(watch.plan, watch, 10, None)))


def test_a_machine_is_not_stale_because_its_recording_is_over(watch: Watch, status: Callable[..., Any]) -> None:
    for at in (0, 1):
        watch.look({"press-1": status()}, server(3), at)
    for feed in watch.plan.gateways["press-1"].feeds.values():
        feed.done = True
    for at in (9, 60):
        watch.look({"press-1": status(stale=int(at) if at > 5 else 0)}, server(3), at)
    assert watch.now["press-1"] == [] and not watch.seen["press-1"]


def test_no_rounds_are_asked_for_where_there_is_no_aggregator(watch: Watch, status: Callable[..., Any]) -> None:
    watch.look({"press-1": status()}, None, 0)
    watch.look({"press-1": status()}, None, SETTLE_S)
    assert watch.over(True, SETTLE_S) and watch.releases() == {}
