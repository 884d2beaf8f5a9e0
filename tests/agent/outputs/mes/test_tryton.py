# SPDX-License-Identifier: Apache-2.0
"""Work orders in a real Tryton 8.2, over its REST and its JSON-RPC: once each, noted on, and read back when closed."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig
from fedge_agent.outputs.registry import build
from fedge_agent.types import Label
from fedge_fleet.machines import tryton as demo
from fedge_models.errors import RefusedError, RetryError
from fedge_models.system import settings
from support.events import changed, make_event
from support.tryton import KEY, PASSWORD, USER, Tryton
from support.waiting import LONGEST_S

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EVENT = make_event(channel="current")
RAISED = changed(EVENT, state="raised", severity="high", worst=9.0)
CLEARED = changed(RAISED, state="cleared", time_ns=EVENT.decision.time_ns + 60_000_000_000)


@pytest.fixture(scope="module")
def tryton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tryton]:
    server = Tryton(tmp_path_factory.mktemp("mes") / "tryton")
    server.start()
    yield server
    server.kill()


def output(tryton: Tryton, folder: Path, preset: str, **more: Any) -> MesOutput:
    """A MES output as its table in the configuration would make it."""
    (folder / "key").write_text(KEY + "\n")
    (folder / "password").write_text(PASSWORD + "\n")
    table = {"preset": preset, "closing": {"cancelled": "normal", "done": "anomaly"}, **more}
    if preset == "tryton":
        table |= {"url": tryton.url, "token_file": str(folder / "key")}
    else:
        table |= {"url": f"{tryton.url}/rpc/", "username": USER, "password_file": str(folder / "password")}
    made = MesOutput("cmms", settings.convert(table | more, MesConfig, str(folder / "agent.toml")))
    made.begin(folder)
    return made


def post(tryton: Tryton, path: str, body: dict[str, Any]) -> Any:
    """What a person does at the server, without us."""
    connection = HTTPConnection("127.0.0.1", tryton.port, timeout=LONGEST_S)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    context = json.dumps({"company": 1, "companies": [1]}).encode()
    headers["X-Tryton-Context"] = base64.urlsafe_b64encode(context).decode()
    connection.request("POST", f"/mes/rest/model/production{path}", json.dumps(body), headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    assert answer.status == 200, data
    return json.loads(data)


@pytest.mark.parametrize("preset", ["tryton", "tryton-jsonrpc"])
def test_life_of_an_order(tryton: Tryton, tmp_path: Path, preset: str) -> None:
    key = f"gw:{preset}:pump:1"
    opened, raised, cleared = (changed(e, key=key) for e in (EVENT, RAISED, CLEARED))
    mes = output(tryton, tmp_path, preset)
    assert mes.check() == []
    for event in (opened, opened, raised, cleared):
        mes.deliver(event)
    [(number, _, state)] = [row for row in tryton.productions() if row[1] == key]
    assert state == "draft"
    notes = [text for resource, text in tryton.notes() if resource == f"production,{number}"]
    assert len(notes) == 2 and "severity is now high" in notes[0] and "the condition is over" in notes[1]
    assert list(mes.collect()) == []  # still open
    post(tryton, f"/{number}/cancel", {})  # no fault found
    assert list(mes.collect()) == [Label("pump", opened.decision.time_ns, cleared.decision.time_ns, "normal", "mes")]
    assert list(mes.collect()) == [] and mes.status()["states"] == {"cancelled": 1}
    mes.end()


@pytest.mark.parametrize("preset", ["tryton", "tryton-jsonrpc"])
def test_order_that_is_there_is_found(tryton: Tryton, tmp_path: Path, preset: str) -> None:
    key = f"gw:{preset}:pump:2"
    event = changed(EVENT, key=key)
    for folder in (tmp_path / "a", tmp_path / "b"):  # the second has lost its state
        folder.mkdir()
        mes = output(tryton, folder, preset)
        mes.deliver(event)
        mes.end()
    assert len([row for row in tryton.productions() if row[1] == key]) == 1


@pytest.mark.parametrize("preset", ["tryton", "tryton-jsonrpc"])
def test_duplicates_are_reported(tryton: Tryton, tmp_path: Path, preset: str) -> None:
    key = f"gw:{preset}:pump:5"
    ids = [post(tryton, "", {"reference": key})["id"] for _ in range(2)]
    mes = output(tryton, tmp_path, preset)
    mes.deliver(changed(EVENT, key=key))
    assert mes.status()["duplicates"] == {key: ids} and mes.status()["orders"] == 1
    mes.end()


@pytest.mark.parametrize(("preset", "file"), [("tryton", "key"), ("tryton-jsonrpc", "password")])
def test_wrong_key_loses_no_order(tryton: Tryton, tmp_path: Path, preset: str, file: str) -> None:
    key = f"gw:{preset}:pump:3"
    event = changed(EVENT, key=key)
    mes = output(tryton, tmp_path, preset)
    right = (tmp_path / file).read_text()
    (tmp_path / file).write_text("wrong")
    with pytest.raises(RetryError, match="orders wait meanwhile"):
        mes.deliver(event)
    (tmp_path / file).write_text(right)
    mes.deliver(event)
    assert len([row for row in tryton.productions() if row[1] == key]) == 1


def test_error_inside_a_200_is_a_refusal(tryton: Tryton, tmp_path: Path) -> None:
    create = {"body": {"id": 1, "method": "model.production.create", "params": [[{"state": "done"}], "{session}"]}}
    mes = output(tryton, tmp_path, "tryton-jsonrpc", create={**create, "error": "/error", "id": "/result/0"})
    with pytest.raises(RefusedError, match="status 200 with the error"):
        mes.deliver(changed(EVENT, key="gw:m:pump:4"))


def test_orders_and_table_of_the_demo(tryton: Tryton, tmp_path: Path) -> None:
    """What `fedge-fleet demo --mes tryton` writes and reads (the whole of it takes two minutes)."""
    table = tomllib.loads(demo.output(tmp_path, tryton.port))["output"]["mes"]
    mes = build("mes", table, str(tmp_path / "agent.toml"))
    for number, state in ((6, "opened"), (6, "cleared"), (7, "opened")):
        mes.deliver(changed(EVENT, key=f"gw:m:pump:{number}", state=state))
    orders = {o["key"]: o["cleared"] for o in demo.orders(tryton.folder) if o["key"] in ("gw:m:pump:6", "gw:m:pump:7")}
    assert orders == {"gw:m:pump:6": True, "gw:m:pump:7": False}
