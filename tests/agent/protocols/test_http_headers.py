# SPDX-License-Identifier: Apache-2.0
"""Headers, addresses and secrets that HTTP does not allow end in words, never in an exception that quotes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fedge_agent.outputs.mes.output import MesOutput
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.webhook import WebhookConfig, WebhookOutput
from fedge_agent.protocols.http import headers
from fedge_agent.protocols.http.settings import Hmac
from fedge_agent.sources.http import HttpConfig, HttpSource
from fedge_agent.types import Output
from fedge_models.errors import ConfigError, UnreachableError
from support.canned_http import CannedServer, reply
from support.events import make_event

BAD_HEADERS: dict[str, dict[str, Any]] = {
    "beyond Latin-1": {"X-A": "S3CRET€"},
    "line end": {"X-A": "S3CRET\nX-B: 1"},
    "NUL": {"X-A": "S3CRET\0"},
    "space in the name": {"X A": "S3CRET"},
    "empty name": {"": "S3CRET"},
    "colon in the name": {"X-A:": "S3CRET"},
    "umlaut in the name": {"Schlüssel": "S3CRET"},
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(name: str) -> None:
    bad = BAD_HEADERS[name]
    with pytest.raises(ConfigError, match=r"output\.one\.headers") as caught:
        WebhookOutput("one", WebhookConfig(url="http://x", headers=bad))
    assert "S3CRET" not in str(caught.value)
    for config in (MesConfig(url="http://x", headers=bad), MesConfig(url="http://x", create=Step(headers=bad))):
        with pytest.raises(ConfigError, match=r"output\.one\.(create\.)?headers"):
            MesOutput("one", config)
    with pytest.raises(ConfigError, match=r"source one\.headers"):
        HttpSource("one", HttpConfig(url="http://x", headers=bad))


@pytest.mark.parametrize(
    "keys",
    [
        {"idempotency_header": "Idempotency Key"},
        {"hmac": Hmac(key_file=Path("k"), header="X\nA")},
        {"hmac": Hmac(key_file=Path("k"), prefix="€")},
        {"hmac": Hmac(key_file=Path("k"), timestamp_header="Zeit:")},
    ],
)
def test_names_of_our_own_headers_are_checked_too(keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"output\.one\.(idempotency_header|hmac)"):
        WebhookOutput("one", WebhookConfig(url="http://x", **keys))


def test_texts_of_events_reach_the_target_whatever_they_hold() -> None:
    """A name of an asset is no mistake of the configuration: a line end becomes a space, the rest is UTF-8."""
    event = make_event(reason="Pumpe Łódź\nstill", channel="Ł")
    with CannedServer(lambda _: reply(204)) as server:
        config = WebhookConfig(
            url=server.url + "/prüf stand?a={channel}", headers={"X-A": "{reason}", "X-B": "{channel}"}
        )
        WebhookOutput("one", config).deliver(event)
        [asked] = server.requests
    assert asked.headers["x-a"] == "Pumpe Łódź still" and asked.line.split()[1] == "/pr%C3%BCf%20stand?a=%C5%81"
    assert headers.on_the_wire({"a": "ü", "b": "€"}) == {"a": b"\xfc", "b": "€".encode()}


@pytest.mark.parametrize("url", ["http://a..b/", "http://" + "x" * 64 + ".example/", "http://ü..b/"])
def test_a_host_that_cannot_be_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="expected http://host:port/path"):
        WebhookOutput("one", WebhookConfig(url=url))


@pytest.mark.parametrize("kind", ["webhook", "mes", "hmac"])
def test_a_token_of_two_lines_is_shown_nowhere(tmp_path: Path, kind: str) -> None:
    """`check` and delivery say the same."""
    key = tmp_path / "key"
    key.write_text("S3CRET\nexpires 2027\n")
    keys: dict[str, Any] = {"hmac": Hmac(key_file=key)} if kind == "hmac" else {"token_file": key}
    with CannedServer(lambda _: reply(204)) as server:
        output: Output = WebhookOutput("one", WebhookConfig(url=server.url, **keys))
        if kind == "mes":
            output = MesOutput("one", MesConfig(url=server.url, **keys))
        try:
            with pytest.raises(UnreachableError) as caught:
                output.deliver(make_event(channel="a"))
            [said] = output.check()
        finally:
            output.end()
        assert server.requests == []
    assert said == f"output one: {caught.value}" and "key: cannot be read: it has 2 lines" in said
    assert "S3CRET" not in said
