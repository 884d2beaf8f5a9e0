# SPDX-License-Identifier: Apache-2.0
"""What a success really says: refusals that hide in it are found, honest answers are taken, and what says neither is
neither."""

from __future__ import annotations

from typing import Any

import pytest
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.webhook import WebhookConfig, WebhookOutput
from fedge_agent.protocols.http import proofs, refusals
from fedge_agent.protocols.http.client import Answer
from fedge_agent.types import SILENT
from fedge_models.errors import ConfigError, ConflictError, RefusedError, UnavailableError, UnclearError
from support import answers
from support.answers import Given
from support.at_end import AtEnd
from support.canned_http import CannedServer, reply
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
WRONG_FORM = ("error page", "SOAP fault", "XML")  # markup where JSON is expected: a MES is asked again


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


def test_our_reference_repeated_is_a_proof() -> None:
    assert proofs.has(Answer(200, {"got": "gw:m:k"}, '{"got": "gw:m:k"}'), "gw:m:k")
    assert not proofs.has(Answer(200, {"got": "gw:m:j"}, '{"got": "gw:m:j"}'), "gw:m:k")


def test_deep_and_long_answers_are_looked_at_within_bounds() -> None:
    deep: Any = {"error": "x"}
    for _ in range(900):
        deep = {"data": deep}
    assert refusals.find(deep) is None
    assert refusals.find([{"a": 1}] * 100_000 + [{"error": "x"}]) is None
    assert refusals.find(None, "x" * 1_000_000) is None
