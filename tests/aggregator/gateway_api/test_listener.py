# SPDX-License-Identifier: Apache-2.0
"""The listener against clients without a certificate, and such as send noise, too much, too slowly or nothing."""

from __future__ import annotations

import socket
import ssl

from fedge_agent.federation import identity
from support.running_aggregator import MakeAggregator, RunningAggregator
from support.waiting import LONGEST_S, until


def test_without_certificate_only_ca_and_join_answer(aggregator: RunningAggregator) -> None:
    context = ssl._create_unverified_context()
    link = identity.connection(aggregator.url, context)
    link.request("GET", "/v1/federations/pumps/model")
    answer = link.getresponse()
    assert answer.status == 403 and b"client certificate" in answer.read()
    link.close()


def raw(aggregator: RunningAggregator, data: bytes) -> bytes:
    """Send bytes over TLS without a certificate; what comes back until the end."""
    host, port = aggregator.app.address.rsplit(":", 1)
    context = ssl._create_unverified_context()
    with socket.create_connection((host, int(port)), LONGEST_S) as plain, context.wrap_socket(plain) as link:
        got = b""
        try:
            link.sendall(data)
            while part := link.recv(65536):
                got += part
        except OSError:
            return got
    return got


def test_body_without_a_length_or_over_the_cap_is_refused_unread(aggregator: RunningAggregator) -> None:
    assert b" 411 " in raw(aggregator, b"POST /v1/join HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 413 " in raw(aggregator, b"POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    chunked = b"POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 411 " in raw(aggregator, chunked)


def test_endless_headers_end_the_connection(aggregator: RunningAggregator) -> None:
    assert b" 200 " not in raw(aggregator, b"GET /v1/ca HTTP/1.1\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n")


def test_noise_is_answered_with_an_error_or_nothing(aggregator: RunningAggregator) -> None:
    assert b" 200 " not in raw(aggregator, b"\x00\xff\r\n\r\n")


def test_silent_client_does_not_hold_up_the_others(make_aggregator: MakeAggregator) -> None:
    aggregator = make_aggregator(more='request_timeout = "1h"')  # no silent client is cut off meanwhile
    host, port = aggregator.app.address.rsplit(":", 1)
    silent = [socket.create_connection((host, int(port))) for _ in range(20)]
    aggregator.enrol("a")
    for connection in silent:
        connection.close()


def test_slow_sender_is_cut_off(make_aggregator: MakeAggregator) -> None:
    aggregator = make_aggregator(more='request_timeout = "1s"')
    host, port = aggregator.app.address.rsplit(":", 1)
    context = ssl._create_unverified_context()
    with socket.create_connection((host, int(port)), LONGEST_S) as plain, context.wrap_socket(plain) as link:
        link.sendall(b"POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 8000\r\n\r\n")

        def is_cut_off() -> bool:
            try:
                link.sendall(b"x")
            except OSError:
                return True
            return False

        until(is_cut_off, "the end of the connection", 60)  # at 100 bytes a second it has not sent all by then
