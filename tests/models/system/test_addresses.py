# SPDX-License-Identifier: Apache-2.0
"""URLs that people mistype: refused when the configuration is read, not when a call is made."""

from __future__ import annotations

import pytest
from fedge_models.system.addresses import split_url

WRONG = ["", "plc", "opc.tcp://", "http://plc:4840", "opc.tcp://plc:port", "opc.tcp://plc:99999", "opc.tcp://[::1"]


@pytest.mark.parametrize("url", WRONG)
def test_what_is_no_url_of_the_scheme_is_none(url: str) -> None:
    assert split_url(url, ("opc.tcp",)) is None


@pytest.mark.parametrize(("url", "port"), [("opc.tcp://plc", None), ("opc.tcp://[::1]:4840/a", 4840)])
def test_a_url_is_split(url: str, port: int | None) -> None:
    parts = split_url(url, ("opc.tcp",))
    assert parts is not None and parts.hostname and parts.port == port
