# SPDX-License-Identifier: Apache-2.0
"""The steps of a work order against a server that says whatever it likes, and who may write to it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fedge_agent import figures
from fedge_agent.durable.spool import Spool
from fedge_agent.outputs.host import HostedOutput
from fedge_agent.outputs.mes.making import CONFLICTS
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.mes.writer import Writer, target_claim
from fedge_agent.outputs.webhook import WebhookConfig, WebhookOutput
from fedge_agent.protocols.http.client import MAX_ANSWER_BYTES
from fedge_agent.protocols.http.settings import Hmac
from fedge_agent.types import AlertState, Label
from fedge_models.errors import ConflictError, RefusedError, RetryError, UnreachableError
from fedge_models.system.settings import Positive, Seconds
from support.at_end import AtEnd
from support.canned_http import CannedServer, Request, reply
from support.events import changed, make_event
from support.rights import as_nobody, folder_of_nobody
from support.slow_link import SlowLink

EVENT = make_event(channel="current")
CREATE = Step(body={"reference": "{key}"}, id="/id")
FIND = Step(method="GET", url="/find", query={"q": "{key}"}, rows="/items", key="/reference", id="/id")

MALFORMED: dict[str, tuple[bytes, type[Exception], str]] = {
    "not JSON": (reply(200, "ok then"), RetryError, "expected JSON, got 'ok then'"),
    "half a JSON": (reply(200, '{"id": 1'), RetryError, "expected JSON"),
    "not UTF-8": (reply(200, b'{"id": "\xff\xfe"}'), RetryError, "expected JSON"),
    "nested too deep": (reply(200, "[" * 100_000), RetryError, "expected JSON"),
    "error page in a 200": (
        reply(200, "<html><title> Log in </title>", "text/html"),
        RetryError,
        "web page instead of JSON .*'Log in'",
    ),
    "page that claims to be JSON": (reply(200, "<!doctype html><p>"), RetryError, "web page instead of JSON"),
    "huge": (reply(200, b'"' + b"x" * MAX_ANSWER_BYTES), RetryError, "more than 1048576 bytes"),
    "ends early": (reply(200, '{"id": 1}').replace(b"Length: 9", b"Length: 90"), UnreachableError, "81 bytes early"),
    "no answer": (b"", UnreachableError, "no whole answer"),
    "no HTTP": (b"220 smtp ready\r\n", UnreachableError, "no whole answer"),
    "endless header": (b"HTTP/1.1 200 X\r\nA: " + b"x" * 70_000, UnreachableError, "no whole answer"),
    "redirect": (reply(302, "", "text/html", "Location: https://other/"), RetryError, "redirects to https://other,"),
    "bad request": (reply(400, '{"error": "no asset pump"}'), RefusedError, "400.*no asset pump"),
    "wrong key": (reply(401), RetryError, "401: the key or password is not accepted; renew it"),
    "no right": (reply(403), RetryError, "403: this account may not do that"),
    "not there": (reply(404, "<title>404 Not Found</title>", "text/html"), RetryError, "correct url.*404 Not Found"),
    "unprocessable": (reply(422, '"score: too long"'), RefusedError, "422.*score: too long"),
    "too many": (reply(429, "", "text/plain", "Retry-After: 30"), RetryError, "too many requests .asks to wait 30"),
    "server error": (reply(500, "oops"), RetryError, "500: the target failed: oops"),
    "bad gateway": (reply(502, "<h1>Bad", "text/html"), RetryError, "502: the target failed: a web page"),
    "error in a 200": (reply(200, '{"error": {"msg": "no such asset"}}'), RefusedError, "status 200 with the error"),
    "passing error in a 200": (reply(200, '{"error": "database is locked"}'), RetryError, "database is locked"),
    "id of a wrong type": (reply(200, '{"id": {"x": 1}}'), RetryError, "expected an id at '/id'"),
    "id that is true": (reply(200, '{"id": true}'), RetryError, "expected an id at '/id'"),
    "no id": (reply(200, "{}"), RetryError, "expected an id at '/id'"),
    "list instead of a table": (reply(200, "[1]"), RetryError, "expected an id at '/id'"),
    "nothing": (reply(204), RetryError, "expected an id at '/id'"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_answer_to_a_create(at_end: AtEnd, name: str) -> None:
    answer, error, words = MALFORMED[name]
    with CannedServer(lambda _: answer) as server:
        create = msgspec.structs.replace(CREATE, error="/error")
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, create=create, timeout=Positive(5))))
        with pytest.raises(error, match=rf"(?s){words}") as caught:
            mes.deliver(EVENT)
    assert isinstance(caught.value, RefusedError) == (error is RefusedError)  # set aside, or tried again
    assert mes.status()["orders"] == 0


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("{}", "expected a list at '/items'"),
        ('{"items": {"id": 1}}', "expected a list at '/items'"),
        ('{"items": [{"reference": "gw:m:pump:1"}]}', "expected an id at '/id' of each row"),
        ('{"items": [{"reference": "gw:m:pump:1", "id": [1]}]}', "expected an id at '/id' of each row"),
    ],
)
def test_malformed_answer_to_a_search_makes_no_order(at_end: AtEnd, found: str, words: str) -> None:
    with CannedServer(lambda asked: reply(200, found if "/find" in asked.line else '{"id": 1}')) as server:
        with pytest.raises(RetryError, match=words):
            at_end(MesOutput("mes", MesConfig(url=server.url, find=FIND, create=CREATE))).deliver(EVENT)
        assert [a.line for a in server.requests] == ["GET /find?q=gw%3Am%3Apump%3A1 HTTP/1.1"]


class Orders:
    """A target with a search; `lose` answers to creates are lost."""

    def __init__(self, lose: int = 0) -> None:
        self.made: list[str] = []
        self.lose = lose

    def __call__(self, asked: Request) -> bytes:
        if "/find" in asked.line:
            items = [{"id": i, "reference": r} for i, r in enumerate(self.made, 1)]
            return reply(200, msgspec.json.encode({"items": items}))
        self.made.append(msgspec.json.decode(asked.body)["reference"])
        self.lose -= 1
        return b"" if self.lose >= 0 else reply(201, f'{{"id": {len(self.made)}}}')


def test_lost_answer_is_searched_for_once_the_target_has_settled(at_end: AtEnd, tmp_path: Path) -> None:
    orders = Orders(lose=1)
    with CannedServer(orders) as server:
        config = MesConfig(url=server.url, find=FIND, create=CREATE, settle=Seconds(3600))
        mes = at_end(MesOutput("mes", config))
        mes.begin(tmp_path)
        with pytest.raises(UnreachableError):
            mes.deliver(EVENT)
        with pytest.raises(RetryError, match="a create had no answer; the order is searched again 3600 s after it"):
            mes.deliver(EVENT)
        mes.end()
        mes = at_end(MesOutput("mes", msgspec.structs.replace(config, settle=Seconds(0))))
        mes.begin(tmp_path)
        mes.deliver(EVENT)
    assert orders.made == [EVENT.key] and mes.status()["orders"] == 1


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("set_by", [-400 * 86_400.0, -3600.0, 3600.0, 400 * 86_400.0])
def test_a_clock_that_is_set_neither_ends_nor_prolongs_the_wait_for_a_target_that_settles(
    at_end: AtEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_by: float, restarts: bool
) -> None:
    orders, began, clock = Orders(lose=1), time.time(), [time.monotonic()]
    with CannedServer(orders) as server:
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        config = MesConfig(url=server.url, find=FIND, create=CREATE, settle=Seconds(10))
        mes = at_end(MesOutput("mes", config))
        mes.begin(tmp_path)
        with pytest.raises(UnreachableError):
            mes.deliver(EVENT)
        monkeypatch.setattr(time, "time", lambda: began + set_by)
        if restarts:
            mes.end()
            mes = at_end(MesOutput("mes", config))
            mes.begin(tmp_path)
        clock[0] += 9.0
        with pytest.raises(RetryError, match="a create had no answer"):
            mes.deliver(EVENT)
        clock[0] += 2.0
        mes.deliver(EVENT)
    assert orders.made == [EVENT.key]


def test_hostile_id_stays_one_part_of_the_address(at_end: AtEnd) -> None:
    """What a target or a machine says is put into addresses: it must not lead to another path or query."""
    hostile = "../users/1?delete=yes#"

    def answer(asked: Request) -> bytes:
        return reply(200, msgspec.json.encode({"id": hostile, "code": "closed"}))

    with CannedServer(answer) as server:
        status = Step(method="GET", url="/orders/{id}", code="/code")
        mes = at_end(
            MesOutput("mes", MesConfig(url=server.url, create=CREATE, status=status, closing={"closed": "normal"}))
        )
        mes.deliver(EVENT)
        assert [label.value for label in mes.collect()] == ["normal"]
        assert server.requests[-1].line == "GET /orders/..%2Fusers%2F1%3Fdelete%3Dyes%23 HTTP/1.1"


def test_target_settles_from_when_nobody_waits_for_its_answer_any_longer(
    at_end: AtEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A create that took the whole of `timeout` may still arrive: it is not searched for at once after that."""
    orders, clock = Orders(lose=1), [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def answer(asked: Request) -> bytes:
        clock[0] += 30.0 if "/find" not in asked.line else 0.0
        return orders(asked)

    with CannedServer(answer) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, find=FIND, create=CREATE, settle=Seconds(10))))
        with pytest.raises(UnreachableError):
            mes.deliver(EVENT)
        with pytest.raises(RetryError, match="searched again 10 s after it"):
            mes.deliver(EVENT)
        clock[0] += 11.0
        mes.deliver(EVENT)
    assert orders.made == [EVENT.key]


@pytest.mark.parametrize("slow", [False, True])
def test_order_that_appears_after_the_search_is_reported_as_a_duplicate(at_end: AtEnd, slow: bool) -> None:
    orders = Orders(lose=1)
    with CannedServer(orders) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, find=FIND, create=CREATE, settle=Seconds(0))))
        with pytest.raises(UnreachableError):
            mes.deliver(EVENT)
        if slow:
            orders.made.clear()  # the target is slower than `settle`: it shows its order only later
        mes.deliver(EVENT)
        assert orders.made == [EVENT.key]
        orders.made.append(EVENT.key)
        assert list(mes.collect()) == [] and mes.status()["duplicates"] == {EVENT.key: [1, 2]}
        asked = len(server.requests)
        assert list(mes.collect()) == [] and len(server.requests) == asked  # no doubt is left


ELSEWHERE = {
    "another host": "http://evil.example/new",
    "a host that begins alike": "{origin}.evil.example/new",
    "a host behind our name": "{origin}@evil.example/new",
    "another port": "{origin}0/new",
    "another scheme": "https{rest}/new",
    "no scheme": "//evil.example/new",
    "a path alone": "/new",
    "nothing": "",
}
TOKEN = Step(url="/once", id="/link")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_create_once_address_of_another_origin_is_never_called(at_end: AtEnd, tmp_path: Path, name: str) -> None:
    """Our credentials go with each request: an address that the target gives must not lead them elsewhere."""
    orders, links = Orders(), list[str]()

    def answer(asked: Request) -> bytes:
        if "/once" in asked.line:
            return reply(200, msgspec.json.encode({"link": links.pop()}))
        return orders(asked)

    (tmp_path / "key").write_text("secret")
    with CannedServer(answer) as server:
        address = ELSEWHERE[name].format(origin=server.url, rest=server.url.removeprefix("http"))
        create = msgspec.structs.replace(CREATE, url="{token}")
        config = MesConfig(url=server.url, find=FIND, token=TOKEN, create=create, token_file=tmp_path / "key")
        mes, links[:] = at_end(MesOutput("mes", config)), [server.url + "/new", address]
        with pytest.raises(RetryError, match=f"a create-once address must begin with {server.url}/"):
            mes.deliver(EVENT)
        assert [a.line.split()[1].partition("?")[0] for a in server.requests] == ["/find", "/once"]
        mes.deliver(EVENT)  # the target has been mended: a good address is asked for
        assert server.requests[-1].line == "POST /new HTTP/1.1" and orders.made == [EVENT.key]
        assert server.requests[-1].headers["authorization"] == "Bearer secret"


def test_order_whose_target_moves_gets_another_create_once_address(tmp_path: Path) -> None:
    """A create had no answer, and then the target got another address: the old one would never be taken again."""
    create = msgspec.structs.replace(CREATE, url="{token}")
    orders = Orders(lose=1)

    def deliver() -> list[str]:
        def answer(asked: Request) -> bytes:
            link = {"link": f"{server.url}/new"}
            return reply(200, msgspec.json.encode(link)) if "/once" in asked.line else orders(asked)

        with CannedServer(answer) as server:
            config = MesConfig(url=server.url, find=FIND, token=TOKEN, create=create, settle=Seconds(0))
            mes = MesOutput("mes", config)
            mes.begin(tmp_path)
            try:
                mes.deliver(EVENT)
            finally:
                mes.end()
            return [a.line.split()[1].partition("?")[0] for a in server.requests]

    with pytest.raises(UnreachableError):
        deliver()
    orders.made.clear()  # it was lost on the way there
    assert deliver() == ["/find", "/once", "/new"] and orders.made == [EVENT.key]


def test_answer_of_which_nothing_is_read_may_be_any_text_but_no_web_page(at_end: AtEnd) -> None:
    with CannedServer(lambda asked: reply(201, "order 7 made", "text/plain")) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url)))
        mes.deliver(EVENT)
        assert mes.status()["orders"] == 1
        server.answer = lambda asked: reply(200, "<title>Log in</title>", "text/html")
        with pytest.raises(RetryError, match="web page"):
            mes.deliver(changed(EVENT, key="gw:m:pump:2"))


def test_conflict_that_says_so_or_goes_on_means_that_the_order_is_there(at_end: AtEnd) -> None:
    """A target without a search says 409 to the second of two equal creates, or while something else is at it."""
    with CannedServer(lambda _: reply(409, "reference already exists")) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url)))
        mes.deliver(EVENT)
        assert mes.status()["orders"] == 1
        server.answer = lambda _: reply(409)
        for _ in range(CONFLICTS):
            with pytest.raises(ConflictError, match="409: a conflict with what is there"):
                mes.deliver(changed(EVENT, key="k2"))
        mes.deliver(changed(EVENT, key="k2"))
        assert mes.status()["orders"] == 2
        with pytest.raises(ConflictError):
            mes.deliver(changed(EVENT, key="k3"))
        server.answer = lambda _: reply(201)  # the conflict was about something else
        mes.deliver(changed(EVENT, key="k3"))


def test_conflict_of_a_create_with_a_search_is_no_order_until_it_is_found(at_end: AtEnd) -> None:
    orders, answers = Orders(), [reply(409, "duplicate"), reply(409)]

    def answer(asked: Request) -> bytes:
        return orders(asked) if "/find" in asked.line or not answers else answers.pop()

    with CannedServer(answer) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, find=FIND, create=CREATE, settle=Seconds(3600))))
        for _ in range(2):
            with pytest.raises(ConflictError):
                mes.deliver(EVENT)
        receipt = mes.deliver(EVENT)  # at once: a conflict made nothing, so nothing has to settle
    assert orders.made == [EVENT.key] and receipt.reference == "1"


def test_deleted_order_holds_nobody_up(at_end: AtEnd) -> None:
    """A person deletes an order: it gets no note and gives no label, and the next events are delivered."""

    def answer(asked: Request) -> bytes:
        if asked.line.startswith("POST / "):
            return reply(201, f'{{"id": {1 + asked.body.count(b"pump:2")}}}')
        return reply(404, "<title>Not Found", "text/html") if " /1 " in asked.line else reply(200, '{"code": "closed"}')

    status = Step(method="GET", url="/{id}", code="/code")
    with CannedServer(answer) as server:
        config = MesConfig(url=server.url, create=CREATE, status=status, clear=Step(url="/{id}", body={}))
        mes = at_end(MesOutput("mes", msgspec.structs.replace(config, closing={"closed": "anomaly"})))
        for key in ("gw:m:pump:1", "gw:m:pump:2"):
            for state in ("opened", "raised", "cleared"):
                mes.deliver(changed(EVENT, key=key, state=state))
        assert [label.value for label in mes.collect()] == ["anomaly"]
    assert mes.status()["states"] == {"gone": 1, "closed": 1} and list(mes.collect()) == []


def test_order_whose_state_cannot_be_read_holds_no_other_up(at_end: AtEnd) -> None:
    def answer(asked: Request) -> bytes:
        if asked.line.startswith("POST"):
            return reply(201, f'{{"id": {1 + asked.body.count(b"pump:2")}}}')
        return reply(500, "broken") if " /1 " in asked.line else reply(200, '{"code": "closed"}')

    with CannedServer(answer) as server:
        status = Step(method="GET", url="/{id}", code="/code")
        config = MesConfig(url=server.url, create=CREATE, status=status, closing={"closed": "anomaly"})
        mes = at_end(MesOutput("mes", config))
        for key in ("gw:m:pump:1", "gw:m:pump:2"):
            mes.deliver(changed(EVENT, key=key))
        closed = mes.collect()
        assert next(closed).value == "anomaly"
        with pytest.raises(RetryError, match="broken"):
            next(closed)
    assert mes.status()["states"] == {"?": 1, "closed": 1}


def test_order_waits_until_the_event_is_severe_enough(at_end: AtEnd) -> None:
    orders = Orders()
    with CannedServer(orders) as server:
        config = MesConfig(url=server.url, find=FIND, create=CREATE, severity="high", clear=Step(body={}))
        mes = at_end(MesOutput("mes", config))
        for severity in ("low", "medium"):
            mes.deliver(changed(EVENT, severity=severity))
        assert server.requests == []
        mes.deliver(changed(EVENT, state="raised", severity="high"))
        mild = changed(EVENT, key="gw:m:pump:2", state="opened")
        mes.deliver(mild)
        mes.deliver(changed(mild, state="cleared"))
    assert orders.made == [EVENT.key]


# --- who we are -------------------------------------------------------------------------------------------------


def sent(config: Callable[[str], MesConfig], context: ssl.SSLContext | None = None) -> Request:
    with CannedServer(lambda _: reply(201), context) as server:
        mes = MesOutput("mes", config(server.url))
        try:
            mes.deliver(EVENT)
        finally:
            mes.end()
        return server.requests[0]


def test_basic_authentication(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("päss\n")
    asked = sent(lambda url: MesConfig(url=url, username="gw", password_file=tmp_path / "password"))
    assert asked.headers["authorization"] == "Basic " + base64.b64encode("gw:päss".encode()).decode()


@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_hmac_is_over_the_exact_body_and_its_time(tmp_path: Path, encoding: Any) -> None:
    (tmp_path / "key").write_text("secret\n")
    asked = sent(lambda url: MesConfig(url=url, hmac=Hmac(key_file=tmp_path / "key", encoding=encoding)))
    message = asked.headers["x-signature-timestamp"].encode() + b"." + asked.body
    digest = hmac.new(b"secret", message, hashlib.sha256).digest()
    text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    assert asked.headers["x-signature-256"] == "sha256=" + text


def test_hmac_as_github_signs(tmp_path: Path) -> None:
    """The value of GitHub's "Validating webhook deliveries": secret, body and digest are published there."""
    (tmp_path / "key").write_text("It's a Secret to Everybody")
    config = Hmac(key_file=tmp_path / "key", header="X-Hub-Signature-256", timestamp_header="")
    from fedge_agent.protocols.http.auth import signed

    expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert signed(config, b"Hello, World!", 0.0) == {"X-Hub-Signature-256": expected}


def test_missing_secret_is_waited_for(at_end: AtEnd, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="key: cannot be read: No such file"):
        at_end(MesOutput("mes", MesConfig(url="http://127.0.0.1:9/", token_file=tmp_path / "key"))).deliver(EVENT)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """ca.pem and, signed by it, server and client with their keys.

    The CA has no key usage, as many in plants: a strict verification (Python 3.13's default) refuses it.
    """
    folder = tmp_path_factory.mktemp("certificates")
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    for name, more in (("ca", []), ("server", [*signed, "-addext", "subjectAltName=IP:127.0.0.1"]), ("client", signed)):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        subprocess.run([*make, *files, *more], cwd=folder, check=True, capture_output=True)
    yield folder


@pytest.mark.slow
def test_round_trip_of_ten_seconds_gets_through(at_end: AtEnd, certificates: Path) -> None:
    """With the default time-out: a connection, TLS and a request need ten seconds each."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    orders = Orders()
    with CannedServer(orders, context) as server, SlowLink(server.port, 5.0) as slow:
        url = f"https://127.0.0.1:{slow.port}"
        config = MesConfig(url=url, find=FIND, create=CREATE, ca_file=certificates / "ca.pem")
        assert at_end(MesOutput("mes", config)).deliver(EVENT).reference == "1"
    assert orders.made == [EVENT.key]


def test_client_certificate_and_own_ca(certificates: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    known: dict[str, Any] = {"ca_file": certificates / "ca.pem"}
    ours: dict[str, Any] = {"certificate": certificates / "client.pem", "private_key": certificates / "client.key"}
    assert sent(lambda url: MesConfig(url=url, **known, **ours), context).headers["idempotency-key"] == EVENT.key
    with pytest.raises(UnreachableError):
        sent(lambda url: MesConfig(url=url, **known), context)
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        sent(lambda url: MesConfig(url=url, **ours), context)


# --- one writer, and what the host does -------------------------------------------------------------------------


def test_second_writer_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with CannedServer(lambda _: reply(201)) as server:
        first, second = (MesOutput(n, MesConfig(url=server.url)) for n in ("first", "second"))
        for mes in (first, second):
            mes.begin(tmp_path)
        first.deliver(EVENT)
        with pytest.raises(RetryError, match="another output or agent writes there"):
            second.deliver(EVENT)
        first.end()
        second.deliver(EVENT)
        second.end()


@pytest.mark.parametrize("kind", ["no folder", "a folder of another user"])
def test_an_order_needs_no_lock_file_and_there_is_still_one_writer(kind: str) -> None:
    with folder_of_nobody() as folder, as_nobody(), CannedServer(lambda _: reply(201)) as server:
        place = folder / "missing" if kind == "no folder" else folder
        if kind == "a folder of another user":
            folder.chmod(0)
        first, second, other = (Writer(place, target) for target in (server.url, server.url, f"{server.url}/other"))
        first.hold()
        other.hold()
        with pytest.raises(RetryError, match="another output or agent writes there"):
            second.hold()
        first.release()
        second.hold()
        for writer in (second, other):
            writer.release()
        folder.chmod(0o700)


@pytest.mark.parametrize("rest", ["orders?key=secret-", "secret-"])
def test_two_addresses_of_a_host_are_two_targets_and_no_message_shows_them(rest: str) -> None:
    names = [target_claim(f"http://mes/{rest}{which}") for which in "ab"]
    assert names[0] != names[1] and "secret" not in "".join(names)
    assert target_claim("http://mes/") == "http://mes"


@pytest.mark.parametrize(
    "other", ["http://LOCALHOST:80/wo/", "HTTP://127.0.0.1/wo", "http://[::1]/wo", "http://127.0.1.1/wo"]
)
def test_a_target_has_one_writer_under_all_its_names(tmp_path: Path, other: str) -> None:
    assert target_claim(other) == target_claim("http://localhost/wo") != target_claim("http://localhost:8080/wo")
    first, second = Writer(tmp_path, "http://localhost/wo"), Writer(tmp_path, other)
    first.hold()
    with pytest.raises(RetryError, match="another output or agent writes there"):
        second.hold()
    first.release()


def test_an_order_that_does_not_carry_what_it_is_searched_by_is_remarked_on() -> None:
    find = Step(method="GET", rows="/items", key="/reference")

    def remark(create: Step, **keys: Any) -> str:
        return MesOutput("mes", MesConfig(url="http://x", find=find, create=create, **keys)).remark

    assert "create does not send {key}, which find searches by" in remark(Step(body={"a": "{asset}"}, id="/id"))
    assert remark(Step(body={"a": ["{key}"]}, id="/id")) == ""
    assert remark(Step(url="/{key}", body={"a": "1"}, id="/id")) == ""
    assert "silent does not send" in remark(Step(body={"a": "{key}"}, id="/id"), silent=Step(body={"a": "1"}, id="/id"))
    assert "find" not in MesOutput("mes", MesConfig(url="http://x", create=Step(body={"a": "1"}, id="/id"))).remark


HOLD = """
import sys
from pathlib import Path
from fedge_agent.outputs.mes.writer import Writer
Writer(Path(sys.argv[1]), sys.argv[2]).hold()
print("held", flush=True)
sys.stdin.read()
"""


def test_lock_of_a_killed_process_is_given_back(tmp_path: Path) -> None:
    with CannedServer(lambda _: reply(201)) as server:
        mes = MesOutput("mes", MesConfig(url=server.url))
        mes.begin(tmp_path)
        command = [sys.executable, "-c", HOLD, str(tmp_path), server.url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as agent:
            assert agent.stdout is not None and agent.stdout.readline() == "held\n"
            with pytest.raises(RetryError, match="another output or agent"):
                mes.deliver(EVENT)
            agent.kill()
        mes.deliver(EVENT)
        mes.end()


def test_host_collects_what_became_known_and_keeps_it_before_it_forgets(at_end: AtEnd, tmp_path: Path) -> None:
    code = {"code": "open"}
    labels: list[Label] = []
    there = threading.Event()

    def keep(label: Label) -> None:
        if not labels:
            labels.append(label)
            raise OSError("the disk is full")  # whatever happens here: the label comes again
        labels.append(label)
        there.set()

    with CannedServer(lambda asked: reply(200, msgspec.json.encode(code if "GET" in asked.line else {}))) as server:
        status = Step(method="GET", url="/{id}", code="/code")
        closing = {"no fault found": "normal"}
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, status=status, closing=closing, poll=Positive(0))))
        spool = at_end(Spool(tmp_path / "spool.sqlite"))
        spool.put_event(["mes"], EVENT, AlertState(1))
        cleared = changed(EVENT, state="cleared", time_ns=EVENT.decision.time_ns + 5)
        spool.put_event(["mes"], cleared, AlertState(1))
        code["code"] = "no fault found"
        hosted = HostedOutput("mes", mes, spool, tmp_path, keep)
        hosted.start()
        for _ in range(1000):
            hosted.wake()
            if there.wait(0.01):
                break
        hosted.stop(5)
    assert labels == [Label("pump", EVENT.decision.time_ns, cleared.decision.time_ns, "normal", "mes")] * 2
    assert (tmp_path / "mes.sqlite").exists()
    assert "closed" in hosted.status()["problem"]  # its book is closed; the status page still answers


def test_false_alarm_that_goes_on_is_labelled_up_to_now(at_end: AtEnd) -> None:
    with CannedServer(lambda asked: reply(201, '{"code": 7}')) as server:
        status = Step(method="GET", url="/{id}", code="/code")
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, status=status, closing={"7": "normal"})))
        mes.deliver(EVENT)
        [label] = mes.collect()
        assert label.start_ns == EVENT.decision.time_ns <= label.end_ns < EVENT.decision.time_ns + 60_000_000_000
        assert label.value == "normal"


# --- formats and webhook ----------------------------------------------------------------------------------------


def test_b2mml_work_request() -> None:
    asked = sent(lambda url: MesConfig(url=url, format="b2mml"))
    request = msgspec.json.decode(asked.body)["WorkRequest"]
    [job] = request["JobOrder"]
    assert request["ID"] == {"$": EVENT.key} and request["HierarchyScope"] == {"EquipmentID": {"$": "pump"}}
    assert request["WorkType"] == job["WorkType"] == {"$": "Maintenance"} and request["Priority"] == {"$": 3}
    values = {p["ID"]["$"]: p["Value"][0]["ValueString"]["$"] for p in job["JobOrderParameter"]}
    assert (
        values["score"] == "2.5"
        and values["release"] == "3"
        and values["detectedAt"] == "2023-11-14T22:13:20.000+00:00"
    )
    # WorkRequestType and JobOrderType know nothing else ("additionalProperties": false) but what they name
    assert set(request) <= {"ID", "Description", "WorkType", "Priority", "HierarchyScope", "JobOrder"}
    assert set(job) <= {"ID", "WorkType", "Priority", "HierarchyScope", "JobOrderParameter"}


def test_webhook_sends_each_event_signed_with_a_key_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    raised = changed(EVENT, state="raised", severity="high")
    with CannedServer(lambda _: reply(200, "<html>thanks", "text/html")) as server:
        hook = WebhookOutput("hook", WebhookConfig(url=server.url, hmac=Hmac(key_file=tmp_path / "key")))
        assert hook.check() == []
        for event in (EVENT, raised):
            hook.deliver(event)
        assert [msgspec.json.decode(a.body) for a in server.requests] == [figures.of_event(e) for e in (EVENT, raised)]
        keys = [a.headers["idempotency-key"] for a in server.requests]
        assert keys == ["gw:m:pump:1:opened:low", "gw:m:pump:1:raised:high"]
        hook.deliver(changed(raised, label="worn;leak", values={"worn": 0.9, "leak": 0.8}))  # a label joined
        assert server.requests[-1].headers["idempotency-key"] == "gw:m:pump:1:raised:high:worn;leak"
        assert all(a.headers["x-signature-256"].startswith("sha256=") for a in server.requests)


@pytest.mark.parametrize(("status", "error"), [(409, None), (500, RetryError), (404, RetryError), (422, RefusedError)])
def test_webhook_that_is_not_taken(status: int, error: type[Exception] | None) -> None:
    with CannedServer(lambda _: reply(status, "already known")) as server:
        hook = WebhookOutput("hook", WebhookConfig(url=server.url + "/{asset}", body={"text": "{state}: {summary}"}))
        if error is None:
            hook.deliver(EVENT)
        else:
            with pytest.raises(error, match=str(status)):
                hook.deliver(EVENT)
        [asked] = server.requests
    text = "opened: anomaly on pump (current): score 2.5, threshold 1"
    assert asked.line == "POST /pump HTTP/1.1" and msgspec.json.decode(asked.body) == {"text": text}


def test_each_open_order_is_looked_at_in_its_turn(at_end: AtEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedge_agent.outputs.mes.output.LOOKS", 2)
    with CannedServer(lambda asked: reply(200, "{}" if "POST" in asked.line else '{"code": "open"}')) as server:
        mes = at_end(MesOutput("mes", MesConfig(url=server.url, status=Step(method="GET", url="/{key}", code="/code"))))
        for number in range(5):
            mes.deliver(changed(EVENT, key=f"k{number}"))
        server.requests.clear()
        for _ in range(4):
            assert list(mes.collect()) == []
        assert [a.line.split()[1] for a in server.requests] == ["/k0", "/k1", "/k2", "/k3", "/k4", "/k0", "/k1"]
