# SPDX-License-Identifier: Apache-2.0
"""Answers that look like a refusal or a success and are neither: what ended sessions, conflicts and login pages mean.

The bodies are those that the systems' users report: Odoo's "Session Expired" inside a 200, Frappe's 417.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fedge_agent.durable.spool import Spool
from fedge_agent.outputs import host
from fedge_agent.outputs.host import HostedOutput
from fedge_agent.outputs.lanes import LONGEST_ASKED_S, Lanes
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.webhook import WebhookConfig, WebhookOutput
from fedge_agent.protocols.http import client, refusals
from fedge_agent.types import AlertState
from fedge_models.errors import ConfigError, ConflictError, FedgeError, RefusedError, RetryError, UnavailableError
from support.at_end import AtEnd
from support.canned_http import CannedServer, Request, reply
from support.events import changed, make_event
from support.waiting import until

EVENT = make_event(channel="current")
CREATE = Step(body={"reference": "{key}"}, id="/id")
LOGIN = '<html><title>Sign in</title><form><input type="password" name="pw"></form></html>'
ODOO_EXPIRED = {
    "jsonrpc": "2.0",
    "id": None,
    "error": {
        "code": 100,
        "message": "Odoo Session Expired",
        "data": {"name": "odoo.http.SessionExpiredException", "message": "Session expired"},
    },
}
FRAPPE = '{"exception": "frappe.exceptions.TimestampMismatchError", "exc_type": "TimestampMismatchError"}'
NTLM = reply(401, "", "text/html", "WWW-Authenticate: Negotiate")


def json_reply(body: Any, status: int = 200) -> bytes:
    return reply(status, msgspec.json.encode(body))


HEALS: dict[str, tuple[bytes, type[Exception]]] = {
    "session that expired inside a 200 (Odoo)": (json_reply(ODOO_EXPIRED), UnavailableError),
    "login that is not accepted inside a 200": (json_reply({"error": "Access Denied"}), UnavailableError),
    "token that was rotated": (reply(401, '{"error": "token revoked"}'), UnavailableError),
    "negotiation": (NTLM, UnavailableError),
    "CSRF token that expired": (reply(403, '{"error": "CSRF token mismatch"}'), RetryError),
    "login page in a 200": (reply(200, LOGIN, "text/html"), UnavailableError),
    "redirect to a login page": (reply(302, "", "text/html", "Location: /web/login"), UnavailableError),
    "two writers at once (Frappe)": (reply(417, FRAPPE), ConflictError),
    "changed since it was read": (reply(412, "etag"), ConflictError),
    "locked": (reply(423, "locked"), ConflictError),
    "too early": (reply(425), RetryError),
    "another is at it": (reply(409, "in progress"), ConflictError),
    "serialisation inside a 200": (json_reply({"error": "could not serialize: concurrent update"}), ConflictError),
    "lock in a 400": (reply(400, "order is locked by user PLANNER"), ConflictError),
    "deadlock in a 422": (reply(422, "Deadlock found when trying to get lock"), ConflictError),
}


@pytest.mark.parametrize(
    ("asked", "words", "wait_s"),
    [
        ("99999999999999", "asks to wait 99999999999999; it is asked again after 60 min", 1e6),
        ("9" * 5000, "it is asked again after 60 min", 1e6),
        ("60", r"wait 60\)", 60.0),
        ("-5", r"wait -5\)", 0.0),
    ],
    ids=lambda value: str(value)[:8],
)
def test_how_long_a_target_asks_to_wait_is_bounded_and_said(asked: str, words: str, wait_s: float) -> None:
    with pytest.raises(UnavailableError, match=words) as caught:
        client.interpret("here", 503, {"Retry-After": asked}, b"", "json")
    assert caught.value.wait_s == wait_s
    lanes = Lanes()
    lanes.target_failed(0.0, caught.value.wait_s)
    assert lanes.closed_to_fresh_s(0.0) <= LONGEST_ASKED_S == 3600


@pytest.mark.parametrize("name", HEALS)
@pytest.mark.parametrize("pointer", ["/error", None])
def test_order_is_made_once_the_reason_is_over(at_end: AtEnd, name: str, pointer: str | None) -> None:
    """At once after it: what certainly made nothing is not waited for."""
    answer, error = HEALS[name]
    answers = [answer, answer]
    with CannedServer(lambda _: answers.pop() if answers else reply(201, '{"id": 7}')) as server:
        create = msgspec.structs.replace(CREATE, error=pointer)
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, create=create)))
        for _ in range(2):
            with pytest.raises(error) as caught:
                mes.deliver(EVENT)
            assert isinstance(caught.value, RetryError) and caught.value.nothing_done
        assert mes.deliver(EVENT).reference == "7"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (json_reply({"error": {"code": "SY/530", "message": {"value": "Equipment PUMP does not exist"}}}), "PUMP"),
        (json_reply({"RETURN": [{"TYPE": "E", "MESSAGE": "No authorization profile"}]}), "No authorization profile"),
        (json_reply({"errors": [{"message": "asset: unknown"}], "data": None}), "asset: unknown"),
        (json_reply({"success": False, "message": "asset is retired"}), "asset is retired"),
        (json_reply({"status": "error", "message": "asset is retired"}), "asset is retired"),
        (json_reply({"exc_type": "MandatoryError"}), "MandatoryError"),
        (json_reply({"result": {"success": False, "why": "asset is retired"}}), "asset is retired"),
    ],
)
def test_error_inside_a_success_is_found_without_a_pointer(at_end: AtEnd, answer: bytes, words: str) -> None:
    with CannedServer(lambda _: answer) as server:
        for step in (CREATE, Step(body={"reference": "{key}"})):
            mes = at_end(MesOutput("mes", MesConfig(url=server.url, create=step)))
            with pytest.raises(RefusedError, match=words):
                mes.deliver(EVENT)
        with pytest.raises(RefusedError, match=words):
            WebhookOutput("hook", WebhookConfig(url=server.url)).deliver(EVENT)


@pytest.mark.parametrize(
    "body",
    [
        {"id": 7, "error": None, "errors": [], "success": True},
        {"id": 7, "fault": "bearing", "status": "error"},  # a record of an order, with words of its own
        {"id": 7, "exception": "none"},
        {"id": 7, "error": {"code": 0, "message": "success"}},
        {"id": 7, "RETURN": [{"TYPE": "S", "MESSAGE": "created"}, {"TYPE": "W", "MESSAGE": "no priority"}]},
    ],
)
def test_success_is_not_mistaken_for_an_error(at_end: AtEnd, body: Any) -> None:
    assert refusals.find(body) is None
    with CannedServer(lambda _: json_reply(body)) as server:
        assert at_end(MesOutput("mes", MesConfig(url=server.url, create=CREATE))).deliver(EVENT).reference == "7"
        WebhookOutput("hook", WebhookConfig(url=server.url)).deliver(EVENT)


def test_record_that_holds_the_id_is_a_success_whatever_else_it_holds(at_end: AtEnd) -> None:
    with CannedServer(lambda _: json_reply({"id": 7, "error": "E42 of the machine"})) as server:
        assert at_end(MesOutput("mes", MesConfig(url=server.url, create=CREATE))).deliver(EVENT).reference == "7"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"ok"', b"true"])
def test_success_of_another_kind_is_no_order_where_an_id_is_read(at_end: AtEnd, body: bytes) -> None:
    """It may have been made all the same: it is searched for once the target has settled."""
    with CannedServer(lambda _: reply(200, body)) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, create=CREATE)))
        with pytest.raises(RetryError, match="expected an id at '/id'") as caught:
            mes.deliver(EVENT)
        assert not caught.value.nothing_done and mes.status()["orders"] == 0


def test_webhook_takes_no_login_page_for_an_answer() -> None:
    with CannedServer(lambda _: reply(200, LOGIN, "text/html")) as server:
        hook = WebhookOutput("hook", WebhookConfig(url=server.url))
        with pytest.raises(UnavailableError, match="login page"):
            hook.deliver(EVENT)
        server.answer = lambda _: json_reply(ODOO_EXPIRED)
        with pytest.raises(UnavailableError, match="Session Expired"):
            hook.deliver(EVENT)
        server.answer = lambda _: reply(204)
        assert hook.deliver(EVENT).skipped == ""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (["Retry-After: 30"], 30),
        (["Date: Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After: Sun, 06 Nov 1994 08:50:37 GMT"], 60),
        (["Retry-After: soon"], 0),
        (["Retry-After: Sun, 06 Nov 1994 08:50:37 GMT"], 0),  # without the server's clock it says nothing
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_target_says_how_long_to_wait(at_end: AtEnd, status: int, headers: list[str], seconds: float) -> None:
    with CannedServer(lambda _: reply(status, "", "text/plain", *headers)) as server:
        with pytest.raises(UnavailableError) as caught:
            at_end(MesOutput("mes", MesConfig(url=server.url))).deliver(EVENT)
        assert caught.value.wait_s == seconds


def test_note_that_meets_a_conflict_is_sent_with_what_is_read_then(at_end: AtEnd) -> None:
    """As Roundup's: a note is made, the issue is read for its etag, and patched; somebody else patched it meanwhile."""
    etags = iter(["1", "2", "3"])

    def answer(asked: Request) -> bytes:
        if asked.line.startswith("POST /note"):
            return json_reply({"id": 9})
        if asked.line.startswith("GET"):
            return json_reply({"etag": next(etags)})
        if asked.line.startswith("PATCH"):
            return reply(200 if msgspec.json.decode(asked.body)["etag"] == "3" else 412)
        return json_reply({"id": 7})

    patch = Step(method="PATCH", url="/{id}", body={"etag": "{saved.etag}", "note": "{saved.note}"})
    read = Step(method="GET", url="/{id}", save={"etag": "/etag"}, then=patch)
    clear = Step(url="/note", body={"text": "over"}, save={"note": "/id"}, then=read)
    with CannedServer(answer) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, create=CREATE, clear=clear)))
        mes.deliver(EVENT)
        server.requests.clear()
        assert mes.deliver(changed(EVENT, state="cleared")).reference == "7"
        words = [a.line.split()[0] for a in server.requests]
    assert words == ["POST", "GET", "PATCH", "GET", "PATCH", "GET", "PATCH"]  # one note


def test_delivered_means_that_something_was_sent(at_end: AtEnd) -> None:
    with CannedServer(lambda _: json_reply({"id": 7})) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, create=CREATE, severity="medium")))
        skipped = [
            mes.deliver(changed(EVENT, key="k2", severity="low")),
            mes.deliver(changed(EVENT, key="k2", state="cleared")),
        ]
        assert server.requests == [] and [r.reference for r in skipped] == ["", ""]
        assert "below medium" in skipped[0].skipped and "no order" in skipped[1].skipped
        assert mes.deliver(changed(EVENT, severity="high")).reference == "7"
        for state, step in (("raised", "escalate"), ("cleared", "clear")):
            assert mes.deliver(changed(EVENT, state=state, severity="high")).skipped == f"there is no step {step!r}"
        hook = WebhookOutput("hook", WebhookConfig(url=server.url, body={}))
        assert hook.deliver(EVENT).skipped == "the template `body` is empty" and len(server.requests) == 1


def test_closing_codes_that_nothing_reads_fail_in_check(at_end: AtEnd, tmp_path: Path) -> None:
    with CannedServer(lambda _: json_reply({"id": 7})) as server:
        mes = at_end(MesOutput("cmms", MesConfig(url=server.url, create=CREATE, closing={"done": "normal"})))
        [problem] = mes.check()
        assert problem.startswith("output cmms: output.cmms.closing: no step reads the closing codes")
        assert server.requests == [] and "closing" in mes.status()["problem"]
        status = Step(method="GET", url="/{id}", code="/state")
        for known in (MesConfig(url=server.url, closing={"done": "normal"}, status=status), MesConfig(url=server.url)):
            assert at_end(MesOutput("cmms", known)).check() == []


def test_orders_without_a_body_fail_in_check() -> None:
    with CannedServer(lambda _: json_reply({"id": 7})) as server:
        [problem] = MesOutput("cmms", MesConfig(url=server.url, create=Step(id="/id"))).check()
        assert "output.cmms.create has no body, so orders would be empty" in problem and server.requests == []
        by_query = Step(id="/id", query={"reference": "{key}"})
        assert MesOutput("cmms", MesConfig(url=server.url, create=by_query)).check() == []


def test_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"transient: '\(' is no regular expression"):
        MesOutput("mes", MesConfig(url="http://x", transient="("))


# --- a gateway's output, with its spool ---------------------------------------------------------------------------


class Systems:
    """Odoo and ERPNext on one port: each refuses the first requests as they do, then makes what is asked."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.asked = {"odoo": 0, "erp": 0}
        self.lock = threading.Lock()

    def __call__(self, asked: Request) -> bytes:
        kind = "odoo" if "/odoo" in asked.line else "erp"
        with self.lock:
            self.asked[kind] += 1
            if b"search_read" in asked.body or asked.line.startswith("GET"):
                return json_reply({"result": [], "data": []})
            if kind == "odoo" and self.asked[kind] < 6:
                return json_reply(ODOO_EXPIRED)
            if kind == "erp" and self.asked[kind] < 6:
                return reply(417, FRAPPE)
            self.made.append(kind)
            return json_reply({"result": 41, "data": {"name": "ISS-1"}})


ODOO = {
    "find": Step(body={"method": "search_read", "key": "{key}"}, rows="/result", key="/name", error="/error"),
    "create": Step(body={"method": "create", "key": "{key}"}, id="/result", error="/error"),
}
ERPNEXT = {
    "find": Step(method="GET", query={"key": "{key}"}, rows="/data", key="/fedge_key", id="/name"),
    "create": Step(body={"fedge_key": "{key}"}, id="/data/name"),
}


@pytest.mark.parametrize(("kind", "steps", "reference"), [("odoo", ODOO, "41"), ("erp", ERPNEXT, "ISS-1")])
def test_order_outlives_what_odoo_and_erpnext_say_for_a_moment(
    at_end: AtEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, steps: dict[str, Step], reference: str
) -> None:
    monkeypatch.setattr(host, "FIRST_WAIT_S", 0.01)
    spool, systems = at_end(Spool(tmp_path / "s")), Systems()
    with CannedServer(systems) as server:
        mes = MesOutput("mes", MesConfig(url=f"{server.url}/{kind}", **steps))  # type: ignore[arg-type]
        hosted = HostedOutput("mes", mes, spool, tmp_path)
        spool.put_event(["mes"], EVENT, AlertState(1, True))
        hosted.start()
        until(lambda: not spool.counts("mes")["pending"], hosted.status)
        hosted.stop(5)
    assert systems.made == [kind] and hosted.status()["delivered"] == 1 and hosted.status()["refused"] == 0
    assert hosted.status()["retries"] >= 2
    assert spool._all("SELECT reference FROM events") == [(reference,)]


def test_time_that_no_calendar_has_stops_no_output() -> None:
    with CannedServer(lambda _: reply(201)) as server:
        hook = WebhookOutput("h", WebhookConfig(url=server.url, format="b2mml"))
        hook.deliver(changed(EVENT, time_ns=10**21))
        assert b"1000000000000000000000 ns" in server.requests[0].body


def test_every_error_of_an_answer_is_one_of_ours() -> None:
    """Whatever the status, an answer is taken, or one of our errors."""
    status = 100
    with CannedServer(lambda _: reply(status, "x", "text/plain")) as server:
        for status in range(100, 600):
            try:
                WebhookOutput("hook", WebhookConfig(url=server.url)).deliver(EVENT)
            except FedgeError:
                assert status >= 300 or status < 200
            else:
                assert 200 <= status < 300
