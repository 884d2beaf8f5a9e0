# SPDX-License-Identifier: Apache-2.0
"""Connections to other people's servers stay open between requests, and one that was closed costs no order."""

from __future__ import annotations

import ssl
import threading
import time
from pathlib import Path

import msgspec
import pytest
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.webhook import WebhookConfig, WebhookOutput
from fedge_agent.protocols.http.keeping import LIVES_S, UNKEPT_S
from fedge_agent.protocols.http.kept import IDLE_S, MOST, Connections
from fedge_agent.protocols.http.settings import Server
from fedge_agent.sources.http import HttpConfig, HttpSource
from fedge_models.errors import UnavailableError, UnreachableError
from fedge_models.system.settings import Positive
from support.at_end import AtEnd
from support.canned_http import Request, reply
from support.events import changed, make_event
from support.keeping_http import KeepingServer, keep
from support.mosquitto import Authority
from support.recording_host import RecordingHost
from support.waiting import LONGEST_S, until

EVENT = make_event(channel="current")


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ssl.SSLContext | None, Path | None]:
    """Of the server; and the CA that the client trusts."""
    if request.param == "http":
        return None, None
    authority = Authority(tmp_path, "plant")
    certificate, key = authority.issue("mes", "localhost", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, authority.file


class Cuts:
    """Answers all requests but one, whose connection it closes."""

    def __init__(self, which: int = 2) -> None:
        self.count, self.which = 0, which

    def __call__(self, asked: Request) -> bytes:
        self.count += 1
        return b"" if self.count == self.which else keep(200, "{}")


@pytest.mark.parametrize(
    ("method", "again", "sent"), [("GET", None, 4), ("POST", True, 4), ("POST", None, 3), ("POST", False, 3)]
)
def test_a_request_whose_kept_connection_ends_is_sent_again_only_where_that_is_safe(
    at_end: AtEnd, tls: tuple[ssl.SSLContext | None, Path | None], method: str, again: bool | None, sent: int
) -> None:
    context, ca_file = tls
    with KeepingServer(Cuts(3), context) as server:
        connections = at_end(Connections(Server(url=server.url, ca_file=ca_file)))
        for _ in range(2):
            connections.call("GET", server.url, None, {})
        if sent == 4:
            assert connections.call(method, server.url, b"", {}, again=again).status == 200
        else:
            with pytest.raises(UnreachableError, match="no whole answer"):
                connections.call(method, server.url, b"", {}, again=again)
        assert len(server.requests) == sent and server.connections == (2 if sent == 4 else 1)
        for _ in range(2):  # a connection was lost: what must not be sent twice has one of its own
            connections.call("POST", server.url, b"", {}, again=False)
        assert server.connections == (4 if sent == 4 else 3)


def test_a_new_connection_that_ends_is_not_tried_again(at_end: AtEnd) -> None:
    with KeepingServer(lambda _: b"") as server:
        with pytest.raises(UnreachableError):
            at_end(Connections(Server(url=server.url))).call("GET", server.url, None, {}, again=True)
        assert len(server.requests) == 1


def test_a_kept_connection_that_is_known_to_be_closed_is_not_used(at_end: AtEnd) -> None:
    with KeepingServer(lambda _: keep(200, "{}")) as server:
        connections = at_end(Connections(Server(url=server.url)))
        connections.call("POST", server.url, b"", {})
        server.hang_up()
        until(lambda: not server.open)
        assert connections.call("POST", server.url, b"", {}, again=False).status == 200
        assert server.connections == 2


@pytest.mark.parametrize("lived", [False, True])
def test_a_request_that_is_sent_once_uses_a_kept_connection_only_of_a_server_that_keeps_them(
    at_end: AtEnd, monkeypatch: pytest.MonkeyPatch, lived: bool
) -> None:
    now = time.monotonic()
    with KeepingServer(lambda _: keep(200, "{}")) as server:
        connections = at_end(Connections(Server(url=server.url)))
        for i in range(3):
            monkeypatch.setattr(time, "monotonic", lambda at=now + 2 * LIVES_S * i * lived: at)
            connections.rest()
            connections.call("POST", server.url, b"", {}, again=False)
        assert len(server.requests) == 3 and server.connections == (1 if lived else 3)


def test_a_server_that_closes_what_is_kept_gets_a_new_connection_each_time_for_an_hour(
    at_end: AtEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    with KeepingServer(Cuts()) as server:
        connections = at_end(Connections(Server(url=server.url)))
        connections.call("GET", server.url, None, {})
        connections.call("GET", server.url, None, {})  # its connection is cut, another one is opened
        until(lambda: not server.open)
        monkeypatch.setattr(time, "monotonic", lambda: now + UNKEPT_S + LONGEST_S)
        for _ in range(3):
            connections.call("GET", server.url, None, {})
        assert server.connections == 3 and len(server.requests) == 6


def test_an_idle_connection_is_closed(at_end: AtEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    with KeepingServer(lambda _: keep(200, "{}")) as server:
        connections = at_end(Connections(Server(url=server.url)))
        connections.call("GET", server.url, None, {})
        connections.rest()
        assert len(server.open) == 1
        monkeypatch.setattr(time, "monotonic", lambda: now + 2 * IDLE_S)
        connections.rest()
        until(lambda: not server.open)


def test_no_more_than_a_few_connections_are_kept_and_all_are_closed_at_the_end() -> None:
    with KeepingServer(lambda _: keep(200, "{}")) as server:
        connections = Connections(Server(url=server.url))
        for i in range(MOST + 2):  # each name is a server of its own
            connections.call("GET", f"http://{'localhost'[:i].upper()}{'localhost'[i:]}:{server.port}", None, {})
        until(lambda: len(server.open) == MOST)
        connections.close()
        until(lambda: not server.open)


def test_an_error_of_the_server_keeps_the_connection_and_an_answer_that_closes_ends_it(at_end: AtEnd) -> None:
    answers = [keep(503), keep(200, "{}"), reply(200, "{}"), keep(200, "{}")]
    with KeepingServer(lambda _: answers.pop(0)) as server:
        connections = at_end(Connections(Server(url=server.url)))
        with pytest.raises(UnavailableError):
            connections.call("GET", server.url, None, {})
        for _ in range(3):
            connections.call("GET", server.url, None, {})
        assert server.connections == 2


# --- who uses them ---------------------------------------------------------------------------------------------------


class Mes:
    """A MES with a search and closing codes."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, asked: Request) -> bytes:
        if asked.line.startswith("GET /find"):
            found = [{"id": i, "reference": key} for i, key in enumerate(self.made, 1)]
            return keep(200, msgspec.json.encode({"items": found}))
        if asked.line.startswith("POST"):
            self.made.append(msgspec.json.decode(asked.body)["reference"])
        return keep(201, '{"id": 1, "code": "open"}')


def mes_config(url: str) -> MesConfig:
    find = Step(method="GET", url="/find", rows="/items", key="/reference", match="{key}", id="/id")
    return MesConfig(url=url, find=find, create=Step(body={"reference": "{key}"}, id="/id"))


def test_orders_go_over_one_connection_which_the_end_closes(tmp_path: Path) -> None:
    with KeepingServer(Mes()) as server:
        mes = MesOutput("mes", mes_config(server.url))
        mes.begin(tmp_path)
        for key in ("gw:m:pump:1", "gw:m:pump:2", "gw:m:pump:3"):
            mes.deliver(changed(EVENT, key=key))
        assert len(server.requests) == 6 and server.connections == 2  # the first create has one of its own
        mes.end()
        until(lambda: not server.open)


def test_a_create_whose_kept_connection_ends_is_searched_for_and_not_repeated(at_end: AtEnd, tmp_path: Path) -> None:
    """A target with a search may not know the key in the header: the order that it made is found."""
    orders = Mes()

    def answer(asked: Request) -> bytes:
        answered = orders(asked)
        return b"" if asked.line.startswith("POST") and len(orders.made) == 2 else answered

    with KeepingServer(answer) as server:
        config = msgspec.structs.replace(mes_config(server.url), settle=Positive(0.001))
        mes = at_end(MesOutput("mes", config))
        mes.begin(tmp_path)
        mes.deliver(changed(EVENT, key="gw:m:pump:0"))
        with pytest.raises(UnreachableError):
            mes.deliver(EVENT)
        assert server.connections == 2
        until(lambda: _delivered(mes))
        assert orders.made == ["gw:m:pump:0", EVENT.key]


def _delivered(mes: MesOutput, key: str = EVENT.key) -> bool:
    try:
        mes.deliver(changed(EVENT, key=key))
    except UnreachableError:
        raise
    except Exception:  # it waits until the target has settled
        return False
    return True


@pytest.mark.parametrize("most", [1, 2, 3])
def test_orders_reach_a_server_that_closes_after_its_answer_without_a_word(
    at_end: AtEnd, tls: tuple[ssl.SSLContext | None, Path | None], tmp_path: Path, most: int
) -> None:
    """The create follows the search at once, before the end of the connection has arrived."""
    context, ca_file = tls
    orders, lost = Mes(), list[str]()
    with KeepingServer(orders, context, most=most) as server:
        config = msgspec.structs.replace(mes_config(server.url), settle=Positive(0.001), ca_file=ca_file)
        mes = at_end(MesOutput("mes", config))
        mes.begin(tmp_path)
        keys = [f"gw:m:pump:{i}" for i in range(8)]
        for key in keys:
            try:
                mes.deliver(changed(EVENT, key=key))
            except UnreachableError:
                lost.append(key)
                until(lambda: _delivered(mes, key))  # noqa: B023
        assert orders.made == keys and len(lost) <= (most > 1)  # one is lost at most, until that is known


@pytest.mark.parametrize("header", ["Idempotency-Key", ""])
def test_events_reach_a_server_that_closes_after_its_answer_without_a_word(at_end: AtEnd, header: str) -> None:
    with KeepingServer(lambda _: keep(200, "{}"), most=1) as server:
        hook = at_end(WebhookOutput("hook", WebhookConfig(url=server.url, idempotency_header=header)))
        for _ in range(5):
            hook.deliver(EVENT)
        assert len(server.requests) == server.connections == 5


@pytest.mark.parametrize("header", ["Idempotency-Key", ""])
def test_an_event_is_posted_again_only_with_its_key(at_end: AtEnd, header: str) -> None:
    with KeepingServer(Cuts()) as server:
        hook = at_end(WebhookOutput("hook", WebhookConfig(url=server.url, idempotency_header=header)))
        hook.deliver(EVENT)
        if header:
            hook.deliver(changed(EVENT, state="raised"))
            first, *others = [asked.headers["idempotency-key"] for asked in server.requests]
            assert len(others) == 2 and others[0] == others[1] != first
        else:
            with pytest.raises(UnreachableError):
                hook.deliver(changed(EVENT, state="raised"))
            assert len(server.requests) == 2


def test_a_source_polls_over_one_connection_and_closes_it_when_it_stops(tmp_path: Path) -> None:
    with KeepingServer(lambda _: keep(200, '{"level": 1.5}')) as server:
        host = RecordingHost(tmp_path)
        source = HttpSource("meter", HttpConfig(url=server.url, poll=Positive(0.01)))
        run = threading.Thread(target=source.run, args=(["/level"], host))
        run.start()
        until(lambda: len(server.requests) > 5)
        host.stop.set()
        run.join()
        assert server.connections == 1
        until(lambda: not server.open)
        assert source.check(["/level"]) == []
        until(lambda: not server.open)
