# SPDX-License-Identifier: Apache-2.0
"""URLs that people mistype: refused when the configuration is read, not when a call is made."""

from __future__ import annotations

import pytest
from fedge_models.system.addresses import shown, shown_device, split_url

WRONG = ["", "plc", "opc.tcp://", "http://plc:4840", "opc.tcp://plc:port", "opc.tcp://plc:99999", "opc.tcp://[::1"]


@pytest.mark.parametrize("url", WRONG)
def test_what_is_no_url_of_the_scheme_is_none(url: str) -> None:
    assert split_url(url, ("opc.tcp",)) is None


@pytest.mark.parametrize(("url", "port"), [("opc.tcp://plc", None), ("opc.tcp://[::1]:4840/a", 4840)])
def test_a_url_is_split(url: str, port: int | None) -> None:
    parts = split_url(url, ("opc.tcp",))
    assert parts is not None and parts.hostname and parts.port == port


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hooks.example:8443/services/T0/B0/XyZ", "https://hooks.example:8443/***"),
        ("https://hooks.example/?key=1", "https://hooks.example/***"),
        ("https://hooks.example?key=1#x", "https://hooks.example/***"),
        ("https://hooks.example/", "https://hooks.example"),
        ("mqtt://name:pass@broker:1883", "mqtt://broker:1883"),
        ("https://gw:p@ss@mes.example/api", "https://mes.example/***"),
        ("https://gw:p@ss/w0rd@mes.example/api?key=1#x", "https://***"),  # the host cannot be told from the password
        ("https://gw:pa/ss@mes.example", "https://***"),
        ("opc.tcp://[::1]:4840/a", "opc.tcp://[::1]:4840/***"),
        ("http://h:port/secret", "http://***"),
        ("hooks.example/services/T0", "hooks.example/***"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_of_a_pipeline_the_first_word_is_shown() -> None:
    assert shown_device("rtspsrc location=rtsp://u:p@h user-pw=p ! appsink") == "rtspsrc …"
    assert shown_device("/dev/video0") == "/dev/video0" and shown_device("rtsp://u:p@h/s") == "rtsp://h/***"
