# SPDX-License-Identifier: Apache-2.0
"""Issues in a real Roundup 2.6 over REST, created through its create-once addresses (POST Once Exactly)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.outputs.mes.orders import Orders
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig
from fedge_agent.types import Event, Label
from fedge_models.errors import RetryError
from fedge_models.system import settings
from support.at_end import AtEnd
from support.events import changed, make_event
from support.roundup import PASSWORD, USER, Roundup

EVENT = make_event(channel="current")


@pytest.fixture(scope="module")
def roundup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roundup]:
    server = Roundup(tmp_path_factory.mktemp("mes") / "roundup")
    server.start()
    yield server
    server.kill()


def output(url: str, folder: Path) -> MesOutput:
    (folder / "password").write_text(PASSWORD + "\n")
    table: dict[str, Any] = {"preset": "roundup", "url": url, "username": USER, "password_file": "password"}
    table |= {"closing": {"resolved": "anomaly", "done-cbb": "normal"}}
    made = MesOutput("cmms", settings.convert(table, MesConfig, str(folder / "agent.toml")))
    made.begin(folder)
    return made


def noticed(folder: Path, event: Event, token: str, asked: bool) -> None:
    """What a killed agent has left in its book: a create-once address, and whether a create was sent to it."""
    book = Orders(folder / "cmms.sqlite")
    book.notice(event.key, "pump", event.decision.time_ns, 0.0)
    book.hold_token(event.key, token)
    if asked:
        book.asking(event.key, 0.0)
    book.close()


def issues(roundup: Roundup, key: str) -> list[int]:
    rows = roundup.call("GET", "/rest/data/issue?@fields=title")["collection"]
    return [int(row["id"]) for row in rows if row["title"] == f"Check pump ({key})"]


def test_life_of_an_issue(at_end: AtEnd, roundup: Roundup, tmp_path: Path) -> None:
    mes = at_end(output(roundup.url, tmp_path))
    assert mes.check() == []
    raised = changed(EVENT, state="raised", severity="high")
    cleared = changed(raised, state="cleared", time_ns=EVENT.decision.time_ns + 60_000_000_000)
    for event in (EVENT, EVENT, raised, cleared):
        mes.deliver(event)
    [number] = issues(roundup, EVENT.key)
    issue = roundup.call("GET", f"/rest/data/issue/{number}?@verbose=2")
    assert issue["attributes"]["status"]["name"] == "chatting" and len(issue["attributes"]["messages"]) == 2
    assert list(mes.collect()) == []
    body = {"status": "done-cbb", "@etag": issue["@etag"]}  # a person closes it: no fault found
    roundup.call("PATCH", f"/rest/data/issue/{number}", body)
    assert list(mes.collect()) == [Label("pump", EVENT.decision.time_ns, cleared.decision.time_ns, "normal", "mes")]


def test_answer_lost_after_the_issue_was_made(at_end: AtEnd, roundup: Roundup, tmp_path: Path) -> None:
    event = changed(EVENT, key="gw:m:pump:2")
    address = roundup.call("POST", "/rest/data/issue/@poe", {})["link"]
    noticed(tmp_path, event, address, asked=True)
    mes = at_end(output(roundup.url, tmp_path))
    made = roundup.call("POST", address.removeprefix(roundup.url), {"title": "Check pump (gw:m:pump:2)"})
    mes.deliver(event)
    assert issues(roundup, event.key) == [int(made["id"])] and mes.status()["orders"] == 1


def test_create_once_address_that_has_expired_is_replaced(at_end: AtEnd, roundup: Roundup, tmp_path: Path) -> None:
    event = changed(EVENT, key="gw:m:pump:4")
    noticed(tmp_path, event, f"{roundup.url}/rest/data/issue/@poe/expired", asked=False)
    mes = at_end(output(roundup.url, tmp_path))
    with pytest.raises(RetryError, match="expired unused"):
        mes.deliver(event)
    assert issues(roundup, event.key) == []
    mes.deliver(event)
    assert len(issues(roundup, event.key)) == 1


def test_key_that_is_the_beginning_of_another_is_not_taken_for_it(
    at_end: AtEnd, roundup: Roundup, tmp_path: Path
) -> None:
    mes = at_end(output(roundup.url, tmp_path))
    for number in (31, 3):  # Roundup searches for parts of a title
        mes.deliver(changed(EVENT, key=f"gw:m:pump:{number}"))
    assert len(issues(roundup, "gw:m:pump:3")) == len(issues(roundup, "gw:m:pump:31")) == 1
    assert mes.status() == {"orders": 2, "states": {"?": 2}, "duplicates": {}, "asks_not": ""}
