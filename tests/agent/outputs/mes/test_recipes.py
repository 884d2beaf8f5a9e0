# SPDX-License-Identifier: Apache-2.0
"""Recipes of the mes output's page: each builds, and asks what the systems' public documentation describes."""

from __future__ import annotations

import re
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from fedge_agent.config import schema as agent_config
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.registry import build
from fedge_models.system import settings
from support.canned_http import CannedServer, Request, reply
from support.events import make_event
from support.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EVENT = make_event(channel="current")
PAGE = ROOT / "docs/automation-engineer/connectors/output-mes.md"
ALARMS = ROOT / "docs/automation-engineer/alarms.md"
TABLES = [tomllib.loads(block) for block in re.findall(r"(?m)^```toml\n(.*?)^```", PAGE.read_text(), re.S | re.M)]
OUTPUTS: dict[str, dict[str, Any]] = {n: o for table in TABLES for n, o in table.get("output", {}).items()}


@pytest.mark.parametrize("name", OUTPUTS)
def test_recipe_builds(name: str) -> None:
    assert callable(build(name, OUTPUTS[name], str(PAGE)).check)


def test_escalation_as_documented_is_the_default() -> None:
    blocks = re.findall(r"(?m)^```toml\n(.*?)^```", ALARMS.read_text(), re.S | re.M)
    [block] = [b for b in blocks if ".when]" in b]
    when = tomllib.loads(block)["asset"]["pump-1"]["when"]
    assert settings.convert(when, agent_config.When, str(ALARMS)) == agent_config.When()


def deliver(name: str, answers: dict[str, Any], code: str) -> list[Request]:
    """An event's way through a recipe: what was asked, with `answers` by a word in the request; `code` closes it."""

    def answer(asked: Request) -> bytes:
        text = asked.line + asked.body.decode()
        return next(reply(200, msgspec.json.encode(body)) for word, body in answers.items() if word in text)

    with CannedServer(answer) as server:
        path = urlsplit(OUTPUTS[name]["url"]).path
        mes = build(name, {**OUTPUTS[name], "url": server.url + path}, str(PAGE))
        assert isinstance(mes, MesOutput)
        try:
            mes.deliver(EVENT)
            [label] = mes.collect()
        finally:
            mes.end()
        assert label.value == OUTPUTS[name]["closing"][code]
        return server.requests


def test_odoo_maintenance_request() -> None:
    answers = {
        "search_read": {"jsonrpc": "2.0", "id": None, "result": []},
        '"create"': {"jsonrpc": "2.0", "id": None, "result": 42},
        '"read"': {"jsonrpc": "2.0", "id": None, "result": [{"id": 42, "stage_id": [5, "No fault found"]}]},
    }
    calls = [msgspec.json.decode(a.body)["params"]["args"][3:] for a in deliver("odoo", answers, "No fault found")]
    domain = [["name", "=", EVENT.key]]
    request = {"name": EVENT.key, "description": "anomaly on pump (current): score 2.5, threshold 1"}
    assert calls == [
        ["maintenance.request", "search_read", [domain], {"fields": ["name"], "limit": 10}],
        ["maintenance.request", "create", [{**request, "maintenance_type": "corrective"}]],
        ["maintenance.request", "read", [[42], ["stage_id"]]],
    ]


def test_odoo_error_inside_a_200() -> None:
    error = {"code": 200, "message": "Odoo Server Error", "data": {"message": "Access Denied"}}
    with pytest.raises(Exception, match="Access Denied"):
        deliver("odoo", {"search_read": {"jsonrpc": "2.0", "id": None, "error": error}}, "Repaired")


def test_frappe_document() -> None:
    answers = {
        "filters": {"data": []},
        "POST": {"data": {"name": "ISS-2026-00001"}},
        "ISS-2026-00001": {"data": {"name": "ISS-2026-00001", "status": "Closed"}},
    }
    find, create, status = deliver("erpnext", answers, "Closed")
    query = parse_qs(urlsplit(find.line.split()[1]).query)
    assert msgspec.json.decode(query["filters"][0]) == [["fedge_key", "=", EVENT.key]]
    assert msgspec.json.decode(create.body)["fedge_key"] == EVENT.key
    assert find.headers["authorization"] == "token KEY:SECRET"
    assert status.line == "GET /api/resource/Issue/ISS-2026-00001 HTTP/1.1"
