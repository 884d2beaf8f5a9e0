# SPDX-License-Identifier: Apache-2.0
"""A question becomes an order of its own kind; the code with which it is closed labels exactly its window."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.durable.event_queue import Outcome
from fedge_agent.durable.event_writer import EventWriter
from fedge_agent.durable.spool import Spool
from fedge_agent.machines.questions import event_of
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.samples.question import Question, key_of
from fedge_agent.types import QUESTION, Decision, Event, Label, kind_of
from fedge_models.system.settings import Positive
from support.at_end import AtEnd
from support.canned_http import CannedServer, Request, reply
from support.waiting import until

S = 1_000_000_000
T0 = 1_700_000_000 * S
CLOSING = {"NFF": "normal", "bearing": "anomaly"}
STATUS = Step(method="GET", url="/{id}", code="/code")
ASKED = Question(
    7, key_of("gw", "m", "pump", T0), "m", "pump", T0 - 60 * S, T0, "P7", "normal", "normal, score 0.9 of 1",
    "uncertain", "the model is uncertain (0.90 of 1)", "one of normal, anomaly", 3, T0,
)  # fmt: skip


class Cmms:
    """A server that makes an order of each POST, with a state."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.code = "open"
        self.server = CannedServer(self._answer)

    def _answer(self, asked: Request) -> bytes:
        if "GET" in asked.line:
            return reply(200, json.dumps({"code": self.code}))
        self.made.append(json.loads(asked.body))
        return reply(201, json.dumps({"id": len(self.made)}))

    def config(self, **more: Any) -> MesConfig:
        closing = {"closing": CLOSING, "status": STATUS, **more}
        create = Step(body={"about": "{summary}", "ref": "{key}", "kind": "{kind}", "priority": "{priority}"}, id="/id")
        return MesConfig(url=self.server.url, create=create, poll=Positive(0), **closing)


@pytest.fixture
def cmms() -> Iterator[Cmms]:
    made = Cmms()
    with made.server:
        yield made


def output(at_end: AtEnd, config: MesConfig, folder: Path) -> MesOutput:
    made = at_end(MesOutput("cmms", config))
    made.begin(folder)
    return made


@pytest.mark.parametrize(("code", "label"), CLOSING.items())
def test_the_closing_code_labels_exactly_the_window(
    at_end: AtEnd, cmms: Cmms, tmp_path: Path, code: str, label: str
) -> None:
    mes = output(at_end, cmms.config(), tmp_path)
    assert mes.answers == ("normal", "anomaly") and kind_of(ASKED.key) == QUESTION
    assert mes.deliver(event_of(ASKED)).reference == "1"
    [made] = cmms.made
    assert (made["kind"], made["priority"], made["ref"]) == ("question", 3, ASKED.key)
    assert "Inspect pump: what was pump from 2023-11-14 22:12:20 to 22:13:20 UTC, part P7?" in made["about"]
    assert "Close this order with the code of what it was: 'NFF' (normal), 'bearing' (anomaly)" in made["about"]
    assert list(mes.collect()) == []
    cmms.code = code
    assert list(mes.collect()) == [Label("pump", T0 - 60 * S, T0, label, "mes")]
    assert list(mes.collect()) == []
    answered = ASKED._replace(state="answered", answer=f"{label} (mes)")
    assert "closed" in mes.deliver(event_of(answered)).skipped and len(cmms.made) == 1


def test_an_order_whose_question_is_over_is_told_so_and_asked_about_no_more(
    at_end: AtEnd, cmms: Cmms, tmp_path: Path
) -> None:
    mes = output(at_end, cmms.config(clear=Step(url="/{id}/note", body={"note": "{outcome}"})), tmp_path)
    mes.deliver(event_of(ASKED))
    mes.deliver(event_of(ASKED))  # the same again
    mes.deliver(event_of(ASKED._replace(state="expired")))
    assert [m.get("note") for m in cmms.made] == [None, "the question needs no answer any more: expired"]
    asked = len(cmms.server.requests)
    assert list(mes.collect()) == [] and len(cmms.server.requests) == asked


def test_a_severity_that_orders_need_is_not_that_of_questions(at_end: AtEnd, cmms: Cmms, tmp_path: Path) -> None:
    mes = output(at_end, cmms.config(severity="high"), tmp_path)
    mes.deliver(event_of(ASKED))
    assert len(cmms.made) == 1


def test_questions_may_have_a_request_of_their_own(at_end: AtEnd, cmms: Cmms, tmp_path: Path) -> None:
    ask = Step(url="/inspections", body={"text": "{reason}"}, id="/id")
    mes = output(at_end, cmms.config(ask=ask), tmp_path)
    mes.deliver(event_of(ASKED))
    assert cmms.made[0]["text"].startswith("what was pump from") and "/inspections" in cmms.server.requests[-1].line
    assert mes.preview(event_of(ASKED))["create"]["body"]["text"].startswith("what was pump from")


def test_b2mml_asks_for_an_inspection(at_end: AtEnd, cmms: Cmms, tmp_path: Path) -> None:
    mes = output(at_end, cmms.config(format="b2mml"), tmp_path)
    mes.deliver(event_of(ASKED))
    request = cmms.made[0]["WorkRequest"]
    assert request["WorkType"] == request["JobOrder"][0]["WorkType"] == {"$": "Quality"}
    names = [p["ID"]["$"] for p in request["JobOrder"][0]["JobOrderParameter"]]
    assert "label" in names and "score" not in names


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"questions": False}, "questions = false"),
        ({"closing": {}}, "nobody could answer: no closing codes are read; give closing, and status with code"),
        ({"status": None}, "nobody could answer: no closing codes are read; give closing, and status with code"),
    ],
)
def test_a_target_that_has_no_way_to_answer_gets_no_question_and_says_so(
    at_end: AtEnd, cmms: Cmms, more: dict[str, Any], why: str
) -> None:
    mes = at_end(MesOutput("cmms", cmms.config(**more)))
    assert not mes.answers and mes.status()["asks_not"] == why


def test_only_outputs_that_ask_get_questions_and_no_alarm_waits_for_one(at_end: AtEnd, tmp_path: Path) -> None:
    spool = at_end(Spool(tmp_path / "spool.sqlite"))
    writer = at_end(EventWriter(spool, ["log", "cmms"], lambda: None, lambda _: ["cmms"]))
    alarm = Event("gw:m:pump:1", "opened", Decision("pump", "m", 1, T0, 3.0, 1.0, "anomaly", 0.0, 0.0), 3.0)
    writer.start()
    writer.put(event_of(ASKED), None)
    writer.put(alarm, None)
    until(lambda: writer.waiting == 0, lambda: writer.problem)
    first = spool.next_event("log")
    assert first is not None and first.event == alarm
    asked = spool.next_event("cmms")
    assert asked is not None and asked.event.kind == "question" and not asked.event.alert
    behind = spool.next_event("cmms", [asked.event.lane])  # the question failed, and waits for its next try
    assert behind is not None and behind.event == alarm
    spool.skipped(asked, "")
    assert spool.without_opened(asked._replace(event=event_of(ASKED._replace(state="expired")))) == Outcome.WITHHELD
