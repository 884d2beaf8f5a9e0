# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent order` beside a running agent and without one: list, show, retry, drop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from fedge_agent.cli.main import main
from fedge_agent.durable.event_desk import Desk
from fedge_agent.durable.spool import Spool
from fedge_agent.types import AlertState
from support.canned_http import CannedServer, Request, reply
from support.events import changed, make_event
from support.programs import Programs
from support.waiting import until

EVENT = make_event()
AGENT = """
[agent]
name = "gw"
state = "gw"
"""
MACHINE = """
[model.m]
file = "net.onnx"
[source.s]
type = "files"
path = "d.csv"
[asset.pump]
model = "m"
channels.a = { source = "s", tag = "a" }
"""
OUTPUTS = """
[output.mes]
type = "mes"
url = "%s/orders"
headers = { Authorization = "token KEY:hunter2" }
token_file = "token"
[output.mes.create]
query = { api_key = "hunter2" }
body = { args = ["plant", 7, "hunter2", "request", "create", { name = "{key}", asset = "{asset}" }] }
id = "/id"
[output.journal]
type = "log"
"""


class Target:
    """A MES that refuses the orders of some machines."""

    def __init__(self) -> None:
        self.refused = {"pump"}
        self.broken: set[str] = set()
        self.made: list[str] = []

    def __call__(self, asked: Request) -> bytes:
        body = msgspec.json.decode(asked.body)["args"][5]
        if body["asset"] in self.refused:
            return reply(422, f'{{"error": "asset {body["asset"]} is not known\\u001b[31m"}}')
        if body["asset"] in self.broken:
            return reply(500, "oops")
        self.made.append(body["name"])
        return reply(201, f'{{"id": "WO-{len(self.made)}"}}')


@pytest.fixture
def target() -> Iterator[tuple[Target, CannedServer]]:
    made = Target()
    with CannedServer(made) as server:
        yield made, server


@pytest.fixture
def folder(tmp_path: Path, target: tuple[Target, CannedServer]) -> Path:
    """A configuration; its events are in the spool before the agent starts."""
    (tmp_path / "gw.toml").write_text(AGENT + MACHINE + OUTPUTS % target[1].url)
    (tmp_path / "token").write_text("hunter2")
    (tmp_path / "gw").mkdir()
    return tmp_path


def put(folder: Path, *events: tuple[str, str]) -> None:
    """Store events of (asset, state) for the output mes."""
    spool = Spool(folder / "gw/spool.sqlite")
    for number, (asset, state) in enumerate(events):
        key = f"gw:m:{asset}:{1 if state != 'opened' else number + 1}"
        spool.put_event(["mes"], changed(EVENT, key=key, state=state, asset=asset), AlertState(1))
    spool.close()


def order(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["order", *words, "--config", str(folder / "gw.toml")], prog_name="fedge-agent")


def listed(folder: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(order(folder, "list", "--json").stdout)
    return found


@pytest.fixture
def agent(folder: Path, target: tuple[Target, CannedServer]) -> Iterator[Programs]:
    """An agent without a machine: it only delivers."""
    (folder / "gw.toml").write_text(AGENT + OUTPUTS % target[1].url)
    programs = Programs(folder)
    yield programs
    programs.end()


def test_orders_beside_a_running_agent(folder: Path, agent: Programs, target: tuple[Target, CannedServer]) -> None:
    mes, _ = target
    mes.broken.add("fan")
    put(folder, ("pump", "opened"), ("pump", "cleared"), ("fan", "opened"), ("press", "opened"))
    agent.start("gw")
    agent.wait(lambda: agent.status("gw")["outputs"]["mes"]["refused"] and mes.made, "the orders")
    agent.wait(lambda: agent.status("gw")["outputs"]["mes"]["delivered"], "the order to be noted")
    agent.wait(lambda: agent.status("gw")["outputs"]["mes"]["held"], "cleared to be held")
    shown = order(folder, "list").stdout
    for words in (
        "waiting:\n  3 mes gw:m:fan:3 opened, for ",
        "500: the target failed: oops",
        "set aside:\n  1 mes gw:m:pump:1 opened, ",
        "asset pump is not known",
        "held:\n  2 mes gw:m:pump:1 cleared",
        "done:\n  4 mes gw:m:press:4 opened, delivered as WO-1, ",
        "fedge-agent order retry NUMBER",
    ):
        assert words in shown, shown
    assert "\x1b" not in shown
    status = CliRunner().invoke(main, ["status", "--config", str(folder / "gw.toml")])
    assert status.exit_code == 2 and "1 set aside" in status.output and "fedge-agent order list" in status.output
    found = listed(folder)
    [waiting], [aside] = found["waiting"], found["set aside"]
    assert waiting["tries"] >= 1 and "oops" in waiting["answers"][-1] and aside["outcome"] == "set aside"

    detail = order(folder, "show", "1").stdout
    assert "because: " in detail and '"asset": "pump"' in detail and '"method": "POST"' in detail
    assert "hunter2" not in detail and '"***"' in detail

    mes.refused.clear()
    done = order(folder, "retry", "1")
    assert done.exit_code == 0 and "1 mes gw:m:pump:1 opened: waits again" in done.stdout, done.output
    agent.wait(lambda: "gw:m:pump:1" in mes.made, "the order to be sent again")
    agent.wait(lambda: not agent.status("gw")["outputs"]["mes"]["held"], "cleared to go on")

    done = order(folder, "drop", "3", "--reason", "the fan was sold")
    assert done.exit_code == 0 and "3 mes gw:m:fan:3 opened: dropped" in done.stdout
    until(lambda: agent.status("gw")["outputs"]["mes"]["problems"] == [], lambda: agent.status("gw")["outputs"])
    [dropped] = [o for o in listed(folder)["done"] if o["outcome"] == "dropped"]
    assert dropped["text"].endswith(": the fan was sold") and dropped["id"] == 3
    assert "gw:m:fan:3" not in mes.made
    assert agent.end() == [0]
    agent.running.clear()


def test_orders_without_a_running_agent(folder: Path) -> None:
    assert "the agent has not yet run" in order(folder, "list").output
    put(folder, ("pump", "opened"))
    spool = Spool(folder / "gw/spool.sqlite")
    entry = spool.next_event("mes")
    assert entry is not None
    spool.refused(entry, "status 422: no asset pump", ["status 422: no asset pump"])
    spool.close()
    shown = order(folder, "list").stdout
    assert "nothing waits" in shown and "1 mes gw:m:pump:1 opened" in shown
    assert "nothing was delivered yet" in shown and "events come when a machine is in alarm" in shown
    done = order(folder, "retry", "--all")
    assert "waits again" in done.stdout and "fedge-agent is not running; it sends them when it starts" in done.stdout
    assert "nothing is set aside" in order(folder, "retry", "--all").stdout
    with Desk(folder / "gw/spool.sqlite") as desk:
        [waiting] = desk.orders()
    assert waiting.name == "waiting"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["show", "99"], "there is no order '99': expected a number or a key of: fedge-agent order list"),
        (["retry", "1"], "1 mes gw:m:pump:1 opened is waiting: only what is set aside can be sent again"),
        (["retry"], "no order is named: expected e.g. fedge-agent order retry 17, or --all"),
        (["drop", "1", "--reason", " "], "--reason is empty"),
        (["drop", "1"], "Missing option '--reason'"),
        (["list", "--output", "mess"], "did you mean 'mes'?"),
        (["list", "--asset", "pmup"], "did you mean 'pump'?"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Path, words: list[str], why: str) -> None:
    put(folder, ("pump", "opened"))
    done = order(folder, *words)
    assert done.exit_code != 0 and why in done.output, done.output


def test_order_of_an_output_that_is_gone_is_shown(folder: Path) -> None:
    spool = Spool(folder / "gw/spool.sqlite")
    spool.put_event(["old", "journal"], EVENT, AlertState(1))
    spool.close()
    assert "has no [output.old] any more" in order(folder, "show", "1").stdout
    assert '"severity": "low"' in order(folder, "show", "2").stdout
    [two] = json.loads(order(folder, "show", "2", "--json").stdout)
    assert two["request"]["key"] == EVENT.key and two["event"]["decision"]["asset"] == "pump"
