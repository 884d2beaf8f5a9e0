# SPDX-License-Identifier: Apache-2.0
"""A gateway's calls over links and with state as plants have them: slow, ended, restored, with a wrong clock."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import closing
from dataclasses import replace

import pytest
from fedge_agent.federation.uplink import Uplink
from fedge_models.errors import ReplayError, StaleError, UnreachableError
from fedge_models.messages.update import renumber_update
from fedge_models.system import http_exchange
from support.federation_bench import GRAPH
from support.running_aggregator import RunningAggregator, head_of, update
from support.slow_link import SlowLink


def test_a_number_that_was_used_is_refused_with_the_last_one_and_taken_above_it(aggregator: RunningAggregator) -> None:
    who = aggregator.enrol("a")
    head = head_of(who)
    with closing(Uplink(who)) as link:
        link.submit("pumps", update(who, head, sequence=1_000_000))
        behind = update(who, head, sequence=7, samples=50)
        with pytest.raises(ReplayError, match="not above its last, 1000000") as found:
            link.submit("pumps", behind)
        assert found.value.last == 1_000_000
        again = renumber_update(behind, found.value.last + 1, who.key, GRAPH.sizes)
        with pytest.raises(StaleError) as late:
            link.submit("pumps", again)
        assert not isinstance(late.value, ReplayError)  # its number is right; the round has this node's update


@pytest.mark.parametrize("ended", [ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), BrokenPipeError()])
def test_a_kept_connection_that_ended_gets_one_second_try(
    aggregator: RunningAggregator, monkeypatch: pytest.MonkeyPatch, ended: OSError
) -> None:
    who = aggregator.enrol("a")
    with closing(Uplink(who)) as link:
        first = link.fetch_release("pumps", 0, 1 << 20)
        request, failures = link._connection.request, [ended, ended]

        def fail_once(*values: object, **named: object) -> None:
            monkeypatch.setattr(link._connection, "request", request)
            raise failures.pop()

        monkeypatch.setattr(link._connection, "request", fail_once)
        assert link.fetch_release("pumps", 0, 1 << 20) == first and len(failures) == 1


def test_a_certificate_out_of_its_time_names_the_clock(aggregator: RunningAggregator) -> None:
    who = aggregator.enrol("a")

    class Context(ssl.SSLContext):
        """The time that OpenSSL verifies at cannot be set from Python; the error that it gives can."""

        def wrap_socket(self, *values: object, **named: object) -> ssl.SSLSocket:
            error = ssl.SSLCertVerificationError(1, "certificate verify failed: certificate is not yet valid")
            error.verify_code = 9
            raise error

    with closing(Uplink(who)) as link:
        link._connection.__dict__["_context"] = Context(ssl.PROTOCOL_TLS_CLIENT)
        year = time.gmtime().tm_year
        with pytest.raises(UnreachableError, match=rf"not yet valid.*; this machine's clock says {year}-.* set it"):
            link.fetch_release("pumps", 0, 1 << 20)
    assert "clock" not in http_exchange.in_words(ConnectionResetError("reset"))


@pytest.mark.slow
def test_a_round_trip_of_ten_seconds_gets_through(aggregator: RunningAggregator) -> None:
    who = aggregator.enrol("a")
    port = int(aggregator.url.rpartition(":")[2])
    with SlowLink(port, 5.0) as slow, closing(Uplink(replace(who, url=f"https://127.0.0.1:{slow.port}"))) as link:
        body = link.fetch_release("pumps", 0, 1 << 20)
        assert body is not None
        link.submit("pumps", update(who, head_of(who)))


def test_a_client_that_says_nothing_is_cut_off_before_the_handshake_limit(
    aggregator: RunningAggregator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedge_aggregator.gateway_api.http_server.FIRST_BYTE_S", 0.2)
    port = int(aggregator.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.settimeout(20.0)  # below HANDSHAKE_S
        assert silent.recv(1) == b""
