# SPDX-License-Identifier: Apache-2.0
"""What a success really says: refusals that hide in it are found, honest answers are taken, and what says neither is
neither."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.webhook import WebhookConfig, WebhookOutput
from fedge_agent.protocols.http import client, other_forms, proofs, refusals
from fedge_agent.protocols.http.client import Answer
from fedge_agent.protocols.http.ids import is_id
from fedge_agent.types import SILENT
from fedge_models.errors import ConfigError, ConflictError, RefusedError, RetryError, UnavailableError, UnclearError
from fedge_models.system.settings import Seconds
from support import answers
from support.answers import Given
from support.at_end import AtEnd
from support.canned_http import CannedServer, Request, reply
from support.events import make_event

EVENT = make_event(channel="current")
MEANS: list[tuple[dict[str, Given], type[Exception] | None, type[Exception] | None]] = [  # for a MES, for a webhook
    (answers.HONEST_ORDERS, None, None),
    (answers.LOGIN, UnavailableError, UnavailableError),
    (answers.REFUSED, RefusedError, RefusedError),
    (answers.BUSY, ConflictError, ConflictError),
    (answers.UNCLEAR, UnclearError, UnclearError),
    (answers.UNPROVEN, UnclearError, None),
]
WRONG_FORM = ("error page",)  # a page where JSON is expected: a MES is asked again


def sent(given: Given) -> bytes:
    return reply(given.status, given.data, given.kind, *given.headers)


def of(table: dict[str, Given], error: Any) -> list[Any]:
    return [pytest.param(given, error, id=name) for name, given in table.items()]


FOR_MES = [p for table, error, _ in MEANS for p in of(table, error) if p.id not in WRONG_FORM]
FOR_HOOK = [p for table, _, error in MEANS for p in of(table, error)] + of(answers.HONEST_HOOKS, None)


@pytest.mark.parametrize(("given", "error"), FOR_MES)
def test_order_is_delivered_only_with_a_proof(at_end: AtEnd, given: Given, error: type[Exception] | None) -> None:
    """With the default step, which names neither an id nor an error."""
    with CannedServer(lambda _: sent(given)) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url)))
        if error is None:
            mes.deliver(EVENT)
        else:
            with pytest.raises(error):
                mes.deliver(EVENT)
        assert mes.status()["orders"] == (error is None)


@pytest.mark.parametrize(("given", "error"), FOR_HOOK)
def test_webhook_takes_any_answer_that_is_no_refusal(given: Given, error: type[Exception] | None) -> None:
    with CannedServer(lambda _: sent(given)) as server:
        hook = WebhookOutput("hook", WebhookConfig(url=server.url))
        if error is None:
            assert hook.deliver(EVENT).skipped == ""
        else:
            with pytest.raises(error):
                hook.deliver(EVENT)


def test_tables_are_as_long_as_they_should_be() -> None:
    refused = [*answers.LOGIN, *answers.REFUSED, *answers.BUSY, *answers.UNCLEAR]
    assert len(answers.HONEST_ORDERS) >= 40 and len(answers.HONEST_HOOKS) >= 25 and len(refused) >= 70


@pytest.mark.parametrize("body", [{"message": "{reason}", "error": "{cause}", "errorCode": "{channel}"}, None])
def test_what_repeats_the_request_is_no_refusal(body: dict[str, Any] | None) -> None:
    """A target that echoes what it got, such as a flow under construction, says nothing about it."""
    event = make_event(channel="error: not logged in", reason="session closed, login failed", kind=SILENT)
    with CannedServer(lambda asked: reply(200, asked.body)) as server:
        WebhookOutput("hook", WebhookConfig(url=server.url, body=body)).deliver(event)
        server.answer = lambda asked: reply(200, b'{"received": ' + asked.body + b"}")
        WebhookOutput("hook", WebhookConfig(url=server.url, body=body)).deliver(event)


def test_accept_says_which_answers_are_a_success(at_end: AtEnd) -> None:
    """Whatever else they hold; any other answer is none."""
    create = Step(body={"reference": "{key}"}, accept=r'"code": ?77\b')
    with CannedServer(lambda _: reply(200, b'{"code": 77, "error": "x"}')) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, create=create)))
        hook = WebhookOutput("hook", WebhookConfig(url=server.url, accept=r'"code": ?77\b'))
        mes.deliver(EVENT)
        hook.deliver(EVENT)
        assert mes.status()["orders"] == 1
        server.answer = lambda _: reply(201, b'{"id": 5}')
        for output in (at_end(MesOutput("mes", MesConfig(url=server.url, create=create))), hook):
            with pytest.raises(UnclearError, match="accept"):
                output.deliver(EVENT)
    with pytest.raises(ConfigError, match=r"output.mes.create.accept: '\(' is no regular expression"):
        MesOutput("mes", MesConfig(url="http://x", create=Step(body={}, accept="(")))
    with pytest.raises(ConfigError, match=r"output.hook.accept: '\(' is no regular expression"):
        WebhookOutput("hook", WebhookConfig(url="http://x", accept="("))


def test_place_of_an_error_is_a_proof_when_nothing_is_there(at_end: AtEnd) -> None:
    create = Step(body={"reference": "{key}"}, error="/fault")
    with CannedServer(lambda _: reply(200, b'{"fault": null, "info": "x"}')) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, create=create)))
        mes.deliver(EVENT)
        server.answer = lambda _: reply(200, b'{"fault": null, "message": "session expired"}')
        with pytest.raises(UnavailableError):
            mes.deliver(make_event(channel="current", key="k2"))


def test_message_says_which_key_is_missing(at_end: AtEnd) -> None:
    words = r"neither that an order was made nor that it was refused; give create.id"
    with CannedServer(lambda _: reply(200, b'{"message": "Istunto on vanhentunut"}')) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url)))
        with pytest.raises(UnclearError, match=words) as caught:
            mes.deliver(EVENT)
    assert not caught.value.nothing_done  # an order may be there: a search comes before the next create


SENT = {"reference": "gw:m:k", "asset": "pump-7", "state": "opened", "ok": True, "kind": 5, "steps": [{"id": "A-7"}]}


@pytest.mark.parametrize(
    "data",
    [
        SENT,
        {"got": "gw:m:k"},
        {"reference": "gw:m:k", "asset": {"id": 5}, "text": "unknown asset"},
        {"request": SENT, "message": "unknown asset"},
        {"received": SENT},
        {"status": "opened", "kind": 5, "message": "pump-7"},
        {"assetId": "pump-7", "id": "gw:m:k"},
        {"steps": [{"id": "A-7"}], "ok": True},
    ],
)
def test_our_own_request_repeated_is_no_proof(data: Any) -> None:
    assert not proofs.has(Answer(200, data, str(data)), SENT)
    assert proofs.has(Answer(200, {**data, "id": "WO-5"}, str(data)), SENT)


@pytest.mark.parametrize("value", answers.NO_IDS, ids=repr)
@pytest.mark.parametrize("pointer", ["/id", None])
def test_what_stands_for_no_id_is_none(at_end: AtEnd, value: Any, pointer: str | None) -> None:
    """With `id` and without: the order is asked for a few times, and then a person has to look."""
    create = Step(body={"reference": "{key}"}, id=pointer)
    data = msgspec.json.encode({"id": value, "took": None})
    with CannedServer(lambda _: reply(200, data)) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, create=create)))
        with pytest.raises(UnclearError):
            mes.deliver(EVENT)
        assert mes.status()["orders"] == 0
    assert is_id("000010000042") and is_id("WO-0") and is_id(1) and is_id("newton-5")


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "XML": (reply(200, '<order id="17"/>', "application/xml"), "status 200 with XML instead of JSON"),
    "XML of no kind": (reply(201, "<a><b>1</b></a>", ""), "status 201 with XML instead of JSON"),
    "page": (reply(200, "<html><body>Tilaukset</body></html>", "text/html"), "web page instead of JSON"),
    "page, created": (
        reply(201, "<html><body>Order 17 created</body></html>", "text/html"),
        "web page instead of JSON",
    ),
    "text": (reply(200, "Order 4711 created", "text/plain"), "expected JSON"),
    "letters of no known set": (reply(200, b'{"id": "\xff\xfc"}'), "expected JSON in UTF-8"),
    "long": (reply(200, b'"' + b"x" * client.MAX_ANSWER_BYTES + b'"'), "more than 1048576 bytes"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_create_whose_answer_cannot_be_read_is_not_repeated_without_end(at_end: AtEnd, name: str) -> None:
    """Each further one may make a further order: where no search tells, it has few tries."""
    answer, words = UNREADABLE[name]
    create = Step(body={"reference": "{key}"}, id="/id")
    with CannedServer(lambda _: answer) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, create=create)))
        with pytest.raises(UnclearError, match=words):
            mes.deliver(EVENT)


@pytest.mark.parametrize("name", UNREADABLE)
def test_with_a_search_the_order_is_found(at_end: AtEnd, name: str) -> None:
    answer, made = UNREADABLE[name][0], list[bytes]()

    def serve(asked: Request) -> bytes:
        if asked.line.startswith("GET"):
            return reply(200, b'[{"id": 17}]' if made else b"[]")
        made.append(asked.body)
        return answer

    create, find = Step(body={"reference": "{key}"}, id="/id"), Step(method="GET", query={"r": "{key}"}, rows="")
    with CannedServer(serve) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, create=create, find=find, settle=Seconds(0))))
        with pytest.raises(RetryError):
            mes.deliver(EVENT)
        assert mes.deliver(EVENT).reference == "17" and len(made) == 1


@pytest.mark.parametrize(
    "title", ["Wartungsarbeiten", "502 Bad Gateway", "Service Unavailable", "Internal Server Error"]
)
@pytest.mark.parametrize("status", [200, 201])
def test_the_page_of_a_proxy_is_waited_for(at_end: AtEnd, title: str, status: int) -> None:
    page = reply(status, f"<html><title>{title}</title></html>", "text/html")
    with CannedServer(lambda _: page) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url)))
        with pytest.raises(UnavailableError, match="a proxy or login page answers"):
            mes.deliver(EVENT)


def test_markup_is_read_within_bounds_and_without_entities() -> None:
    assert other_forms.read("<a>" * 100) is None
    bomb = '<!DOCTYPE x [<!ENTITY a "&b;&b;">]><x>&a;</x>'
    assert other_forms.read(bomb) == {"x": "&a;"}
    assert other_forms.read("<r><i n='1'>x</i><i>2</i><e/></r>") == {"r": {"i": [{"n": 1, "text": "x"}, 2], "e": ""}}
    assert other_forms.read("<r><a>1</r>") == {"r": {"a": 1}} and other_forms.read("</r>") == {}
    assert other_forms.read("a: 1\nb = x y") == {"a": 1, "b": "x y"} and other_forms.read("thank you") is None


def test_deep_and_long_answers_are_looked_at_within_bounds() -> None:
    deep: Any = {"error": "x"}
    for _ in range(900):
        deep = {"data": deep}
    assert refusals.find(deep) is None
    assert refusals.find([{"a": 1}] * 100_000 + [{"error": "x"}]) is None
    assert refusals.find(None, "x" * 1_000_000) is None
