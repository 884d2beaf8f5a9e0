# SPDX-License-Identifier: Apache-2.0
"""A real agent asks about windows: in `status`, through a MES, by the command line; answers become labels."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.canned_http import CannedServer, Request, reply
from support.databases import rows
from support.gateway import Gateway

T0, ROWS = 1_780_000_000, 4000
CARD = Card("classify", (Channel("a"), Channel("b")), WindowSpec(1, 10, 10), ("mean", "std"), ("ok", "worn"), "ok")


class Shop(Gateway):
    """One agent that follows a log of hours, and a maintenance system that makes an order of each POST."""

    def __init__(self, folder: Path) -> None:
        self.orders: list[dict[str, Any]] = []
        self.codes: dict[int, str] = {}
        self.server = CannedServer(self._answer)
        self.log = folder / "log.csv"
        chance = random.Random(0)
        rows = [f"{T0 + i},{math.sin(i / 7) + chance.gauss(0, 0.3):.4f},{chance.gauss(0, 1):.4f}" for i in range(ROWS)]
        self.log.write_text("\n".join(["time,a,b", *rows, ""]))
        super().__init__(
            folder,
            "press-1",
            f"""
[source.line]
type = "files"
path = "log.csv"
time_column = "time"
tail = true
start = "begin"
[model.m]
file = "model.onnx"
training = {{ min_samples = 20 }}
questions = {{ a_day = 48 }}
[asset.press-1]
model = "m"
channels.a = {{ source = "line", tag = "a" }}
channels.b = {{ source = "line", tag = "b" }}
when = {{ score_above = 0.9999 }}
[output.cmms]
type = "mes"
url = "{self.server.url}"
poll = "0.2s"
closing = {{ NFF = "ok", wear = "worn" }}
create = {{ body = {{ text = "{{summary}}", kind = "{{kind}}" }}, id = "/id" }}
status = {{ method = "GET", url = "/{{id}}", code = "/code" }}
""",
            zoo.mlp(CARD, 4, (8,)),
        )

    def _answer(self, asked: Request) -> bytes:
        if "GET" in asked.line:
            return reply(200, json.dumps({"code": self.codes.get(int(asked.line.split()[1].strip("/")), "open")}))
        self.orders.append(json.loads(asked.body))
        return reply(201, json.dumps({"id": len(self.orders)}))

    def questions(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status("gw")["questions"]
        return found

    def labelled(self) -> dict[str, int]:
        found: dict[str, int] = self.status("gw")["models"]["m"]["samples"]
        return {label: n for label, n in found.items() if label != "-"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    with made.server:
        yield made
        made.end()


def test_a_question_survives_kill_9_and_its_order_is_the_answer(shop: Shop) -> None:
    shop.start("gw")
    shop.wait(lambda: shop.questions()["open"], "a question")
    [asked] = shop.questions()["open"]
    said = shop.call("status").output
    assert f"question {asked['id']}: what was press-1 from " in said
    assert f"answer: fedge-agent question answer {asked['id']} LABEL  (one of ok, worn" in said
    shop.wait(lambda: shop.orders, "its order")
    assert shop.orders[0]["kind"] == "question" and "'wear' (worn)" in shop.orders[0]["text"]
    shop.kill("gw")
    shop.start("gw")
    shop.wait(lambda: shop.questions()["open"], "the question after the kill")
    assert [q["key"] for q in shop.questions()["open"]] == [asked["key"]]
    shop.codes[1] = "wear"
    shop.wait(shop.labelled, "the answer")
    labelled = rows(shop.folder / "gw/samples.sqlite", "SELECT DISTINCT time_ns, y FROM samples WHERE y IS NOT NULL")
    assert labelled == [(asked["end_ns"], 1)]  # rows that are read again after a kill give their samples again
    shop.wait(lambda: not shop.questions()["open"], "the end of the question")
    assert shop.questions()["counts"]["answered"] == {asked["reason"]: 1} and len(shop.orders) == 1
    assert f'fedge_agent_questions_answered_total{{name="{asked["reason"]}"}} 1.0' in shop.text("gw", "/metrics")


def test_a_person_answers_by_number(shop: Shop) -> None:
    shop.start("gw")
    shop.wait(lambda: shop.questions()["open"], "a question")
    assert "1  what was press-1 from" in shop.call("question", "list").output
    refused = shop.call("question", "answer", "1", "worm")
    assert refused.exit_code and "press-1 has no label 'worm': expected one of ok, worn" in refused.output
    done = shop.call("question", "answer", "1", "worn")
    assert done.exit_code == 0 and "question 1: press-1 was 'worn'" in done.output
    shop.wait(lambda: shop.labelled() == {"worn": 1}, "the label")
    shop.wait(lambda: not shop.questions()["open"], "the end of the question")
    again = shop.call("question", "answer", "1", "ok")
    assert "question 1 is answered worn (hand); open ones: none" in again.output
    listed = json.loads(shop.call("question", "list", "--all", "--json").output)
    assert [(q["id"], q["state"], q["answer"]) for q in listed["questions"]] == [(1, "answered", "worn (hand)")]
    assert "no question waits for an answer" in shop.call("question", "answer").output


def test_a_target_whose_codes_give_no_label_of_the_model_gets_no_question_and_says_so(shop: Shop) -> None:
    shop.config.write_text(shop.config.read_text().replace('{ NFF = "ok", wear = "worn" }', '{ done = "leak" }'))
    shop.start("gw")
    shop.wait(lambda: shop.questions()["open"], "a question")
    shop.wait(lambda: shop.status("gw")["outputs"]["cmms"]["asks_not_of"], "what is said of the output")
    assert "none of m, whose labels no closing code gives" in shop.call("status").output
    assert shop.orders == []
