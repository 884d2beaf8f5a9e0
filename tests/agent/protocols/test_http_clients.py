# SPDX-License-Identifier: Apache-2.0
"""What every HTTP client of the agent holds: no credentials follow a redirect, no answer is longer than its cap."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fedge_agent.federation import identity
from fedge_agent.federation.identity import Identity
from fedge_agent.federation.uplink import MAX_CERTIFICATE_BYTES, Uplink
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.webhook import WebhookConfig, WebhookOutput
from fedge_agent.protocols.http.client import MAX_ANSWER_BYTES
from fedge_agent.sources.http import HttpConfig, HttpSource
from fedge_models.errors import FedgeError, IdentityError, RetryError, UnreachableError, WireError
from fedge_models.messages.invitation import Invitation, decode_invitation
from support.canned_http import CannedServer, reply
from support.events import make_event
from support.recording_host import RecordingHost
from support.running_aggregator import RunningAggregator

EVENT = make_event(channel="current")
REDIRECTS = (301, 302, 303, 307, 308)
CAP = 1000  # of the model and of a release, in these tests


def deliver(output: MesOutput | WebhookOutput) -> None:
    try:
        output.deliver(EVENT)
    finally:
        output.end()


def deliver_to_mes(url: str, folder: Path) -> None:
    create = Step(body={"reference": "{key}"}, id="/id")
    deliver(MesOutput("mes", MesConfig(url=url, create=create, token_file=folder / "secret")))


def deliver_in_a_session(url: str, folder: Path) -> None:
    config = MesConfig(preset="tryton-jsonrpc", url=url, username="gw", password_file=folder / "secret")
    deliver(MesOutput("mes", config))


def deliver_to_webhook(url: str, folder: Path) -> None:
    config = WebhookConfig(url=url, username="gw", password_file=folder / "secret")
    deliver(WebhookOutput("hook", config))


def ask(url: str, folder: Path) -> None:
    HttpSource("mes", HttpConfig(url=url, token_file=folder / "secret")).run(["/job"], RecordingHost(folder))


CLIENTS: dict[str, Callable[[str, Path], None]] = {
    "mes": deliver_to_mes,
    "session": deliver_in_a_session,
    "webhook": deliver_to_webhook,
    "source": ask,
}


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_credentials_do_not_follow_a_redirect(tmp_path: Path, client: str, status: int) -> None:
    (tmp_path / "secret").write_text("secret")
    with CannedServer(lambda _: reply(200, '{"id": 1}')) as elsewhere:
        moved = reply(status, "", "text/html", f"Location: {elsewhere.url}/")
        with CannedServer(lambda _: moved) as server, pytest.raises(RetryError, match=f"redirects to {elsewhere.url}"):
            CLIENTS[client](server.url, tmp_path)
        assert len(server.requests) == 1 and elsewhere.requests == []


@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_of_a_cache_is_not_called_a_redirect(tmp_path: Path, client: str) -> None:
    (tmp_path / "secret").write_text("secret")
    with (
        CannedServer(lambda _: reply(304)) as server,
        pytest.raises(RetryError, match="status 304: no value, because nothing was modified; a cache"),
    ):
        CLIENTS[client](server.url, tmp_path)


@pytest.mark.parametrize("client", CLIENTS)
def test_answer_longer_than_the_cap_is_refused(tmp_path: Path, client: str) -> None:
    (tmp_path / "secret").write_text("secret")
    long = reply(200, b'"' + b"x" * (MAX_ANSWER_BYTES - 1) + b'"')
    with CannedServer(lambda _: long) as server, pytest.raises(RetryError, match=f"more than {MAX_ANSWER_BYTES} bytes"):
        CLIENTS[client](server.url, tmp_path)


# --- the aggregator's clients: a server with the aggregator's own certificate that answers what it likes -------------


@pytest.fixture(scope="module")
def aggregator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAggregator]:
    made = RunningAggregator(tmp_path_factory.mktemp("aggregator"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def gateway(aggregator: RunningAggregator) -> Identity:
    return aggregator.enrol("gw")


@pytest.fixture(scope="module")
def context(aggregator: RunningAggregator) -> ssl.SSLContext:
    return aggregator.app.authority.server_context(["127.0.0.1"])


UPLINK: dict[str, tuple[Callable[[Uplink], object], int]] = {  # a call, and the cap of its answer
    "model": (lambda link: link.fetch_model("pumps"), CAP),
    "release": (lambda link: link.fetch_release("pumps", 0, CAP), CAP),
    "update": (lambda link: link.submit("pumps", b"update"), 64 * 1024),
    "certificate": (lambda link: link.keep_certificate(2.0**40), MAX_CERTIFICATE_BYTES),
}


def call(who: Identity, context: ssl.SSLContext, name: str, answer: bytes) -> object:
    """What a call of the uplink makes of an answer."""
    with CannedServer(lambda _: answer, context) as server:
        link = Uplink(replace(who, url=server.url))
        try:
            return UPLINK[name][0](link)
        finally:
            link.close()


@pytest.mark.parametrize("name", UPLINK)
def test_uplink_refuses_an_answer_longer_than_the_cap_of_its_call(
    gateway: Identity, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("fedge_agent.federation.uplink.MAX_MODEL_BYTES", CAP)
    cap = UPLINK[name][1]
    with pytest.raises(WireError, match=f"an answer of more than {cap} bytes"):
        call(gateway, context, name, reply(200, b"x" * (cap + 1)))
    if name == "certificate":
        with pytest.raises(IdentityError, match="holds no certificate"):
            call(gateway, context, name, reply(200, b"x" * cap))
    else:
        assert call(gateway, context, name, reply(200, b"x" * cap)) in (b"x" * cap, None)


@pytest.mark.parametrize("name", UPLINK)
def test_uplink_takes_half_an_answer_for_none(gateway: Identity, context: ssl.SSLContext, name: str) -> None:
    with pytest.raises(UnreachableError, match="the answer ended 10 bytes early"):
        call(gateway, context, name, reply(200, b"x" * 20)[:-10])


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("name", UPLINK)
def test_uplink_does_not_follow_a_redirect(gateway: Identity, context: ssl.SSLContext, name: str, status: int) -> None:
    with CannedServer(lambda _: reply(200, b"x"), context) as elsewhere:
        with pytest.raises(FedgeError, match=f"HTTP status {status}"):
            call(gateway, context, name, reply(status, "", "text/html", f"Location: {elsewhere.url}/"))
        assert elsewhere.requests == []


def invitation_to(aggregator: RunningAggregator, node: str, url: str) -> Invitation:
    made = decode_invitation(aggregator.invite(node))
    return Invitation(url, made.ca, made.secret, made.expires, made.node)


def test_invitation_is_not_spent_at_an_address_that_a_redirect_names(
    aggregator: RunningAggregator, context: ssl.SSLContext, tmp_path: Path
) -> None:
    with CannedServer(lambda _: reply(200, b"x"), context) as elsewhere:

        def answer(line: str) -> bytes:
            moved = reply(307, "", "text/html", f"Location: {elsewhere.url}/v1/join")
            return moved if "/v1/join" in line else reply(200, aggregator.app.authority.ca_der)

        with CannedServer(lambda asked: answer(asked.line), context) as server:
            with pytest.raises(IdentityError, match="refused"):
                identity.join(invitation_to(aggregator, "other", server.url), tmp_path / "state")
            assert [a.line.split()[1] for a in server.requests] == ["/v1/ca", "/v1/join"]
        assert elsewhere.requests == []
