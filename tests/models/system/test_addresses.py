# SPDX-License-Identifier: Apache-2.0
"""URLs that people mistype: refused when the configuration is read, not when a call is made."""

from __future__ import annotations

import pytest
from fedge_models.system.addresses import shown, shown_device, split_url, without_parts_of

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
    assert shown_device("rtspsrc\n\tlocation=rtsp://u:s3cret@h\n! appsink") == "rtspsrc …"
    assert shown_device("rtspsrc\tuser-pw=s3cret") == "rtspsrc …"


@pytest.mark.parametrize("text", ["rtsp://admin:my pass@cam/1", " rtsp://cam/my pass", "rtsp://u:p@cam/s ! user-pw=my"])
def test_an_address_with_a_blank_in_it_is_an_address(text: str) -> None:
    assert shown_device(text) == "rtsp://cam/***"


def test_of_a_host_with_a_blank_nothing_is_shown() -> None:
    assert shown_device("rtsp://cam ! user-pw=s3cret") == "rtsp://***"


@pytest.mark.parametrize(
    ("rest", "said", "expected"),
    [
        ("/?token=SECR3T&x=1", "invalid token SECR3T", "invalid token ***"),
        ("/services/T0/XYZSECRET", "no hook XYZSECRET at T0", "no hook *** at T0"),
        ("/a%20b/s3cret", "Cannot POST /a b/s3cret", "Cannot POST /a b/***"),
        ("/my%20s3cret", "no my s3cret, no my%20s3cret", "no ***, no ***"),
        ("/hook?k=s3cr+et", "s3cr et, s3cr+et", "***, ***"),
        ("/?s3cret", "no s3cret", "no ***"),
        ("/gemäß", "no gem%C3%A4%C3%9F", "no ***"),
        ("/abcd/abcdef", "abcdef", "***"),
        ("/l", "http://localhost is closed", "http://localhost is closed"),
        ("/?id", "invalid body", "invalid body"),
        ("", "no", "no"),
    ],
)
def test_what_a_server_repeats_of_an_address_is_hidden_and_nothing_else(rest: str, said: str, expected: str) -> None:
    assert without_parts_of(f"http://localhost{rest}", said) == expected
