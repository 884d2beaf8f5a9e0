# SPDX-License-Identifier: Apache-2.0
"""Statistics on the wire: a round trip, and each way of being hostile by its name."""

from __future__ import annotations

from typing import Any

import cbor2
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_models.errors import SignatureError, WireError
from fedge_models.messages import cose
from fedge_models.messages import statistics as messages
from fedge_models.messages.statistics import SITE_PURPOSE, SITES_PURPOSE, SitesStatistics, SiteStatistics
from fedge_models.statistics.histogram import Histogram, describe
from fedge_models.statistics.over_sites import summarise

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()


def histogram(seed: int = 0) -> Histogram:
    made = describe(np.random.default_rng(seed).normal(10, 1, 1000))
    assert made is not None
    return made


def site(**changes: Any) -> SiteStatistics:
    fields: dict[str, Any] = {
        "federation": "pumps",
        "node": "gw-1",
        "graph": bytes(32),
        "sequence": 3,
        "windows": 256,
        "channels": (histogram(1), None, histogram(2)),
    }
    return SiteStatistics(**{**fields, **changes})


def sites() -> SitesStatistics:
    over = summarise([histogram(i) for i in range(9)])
    return SitesStatistics(
        federation="pumps", graph=bytes(32), number=4, created=1000, sites=9, channels=(over, None, over)
    )


def sent(*fields: object, purpose: str = SITE_PURPOSE) -> bytes:
    """A properly signed message of a hostile node, with fields as it pleases."""
    return cose.sign(KEY, cbor2.dumps(list(fields)), purpose)


def hostile(*channels: object, windows: object = 256) -> bytes:
    return sent(1, "pumps", "gw-1", bytes(32), 3, windows, list(channels))


def test_round_trips() -> None:
    got = messages.decode_site(messages.encode_site(site(), KEY), PUBLIC, 2)
    assert got.channels == site().channels and got.windows == 256 and got.node == "gw-1"
    over = messages.decode_sites(messages.encode_sites(sites(), KEY), PUBLIC, 2)
    assert over.channels == sites().channels and over.number == 4


def test_eight_channels_and_the_score_take_half_a_kilobyte() -> None:
    body = messages.encode_site(site(channels=tuple(histogram(i) for i in range(9))), KEY)
    assert len(body) < 560
    over = summarise([histogram(i) for i in range(50)])
    whole = messages.encode_sites(
        SitesStatistics(federation="p" * 64, graph=bytes(32), number=1, created=1, sites=50, channels=(over,) * 9), KEY
    )
    assert len(whole) < 1000 < messages.max_statistics_bytes(8)


ONE = [0, 5, b"\xff"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (hostile(ONE, ONE), "2 channels, expected 2 and the score"),
        (hostile(ONE, ONE, ONE, ONE), "4 channels"),
        (hostile(ONE, ONE, [0, 5, b""]), "length"),
        (hostile(ONE, ONE, [0, 5, bytes(27)]), "length"),
        (hostile(ONE, ONE, [0, 5, bytes(9)]), "counts nothing"),
        (hostile(ONE, ONE, [0, 2**60, b"\xff"]), "<= 16777216"),
        (hostile(ONE, ONE, [900, 5, b"\xff"]), "<= 100"),
        (hostile(ONE, ONE, [0, float("nan"), b"\xff"]), "int"),
        (hostile(ONE, ONE, [float("inf"), 5, b"\xff"]), "int"),
        (hostile(ONE, ONE, [0, 5, [float("nan")]]), "bytes"),
        (hostile(ONE, ONE, [0, 5, b"\xff", "\x1b[2J"]), "length"),
        (hostile(ONE, ONE, {"\x1b[31mcurrent": 1}), "Expected `array"),
        (hostile(ONE, ONE, "\x1b]0;owned\x07"), "Expected `array"),
        (hostile(ONE, ONE, ONE, windows=2**40), "<= 1048576"),
        (hostile(ONE, ONE, ONE, windows=0), ">= 1"),
        (hostile(ONE, ONE, ONE, windows=float("nan")), "int"),
        (sent(1, "pumps", "\x1b[2J", bytes(32), 3, 256, [ONE] * 3), "regex"),
        (sent(2, "pumps", "gw-1", bytes(32), 3, 256, [ONE] * 3), "invalid|Invalid"),
    ],
)
def test_hostile_statistics_are_refused(body: bytes, said: str) -> None:
    with pytest.raises(WireError, match=said) as caught:
        messages.decode_site(body, PUBLIC, 2)
    assert "\x1b" not in str(caught.value)


def test_statistics_beyond_their_cap_are_refused_before_they_are_parsed() -> None:
    with pytest.raises(WireError, match="expected at most"):
        messages.decode_site(hostile(*[ONE] * 1000), PUBLIC, 2)


def test_a_site_cannot_sign_for_the_aggregator_nor_statistics_pass_as_another_message() -> None:
    body = messages.encode_site(site(), KEY)
    with pytest.raises(SignatureError):
        messages.decode_sites(body, PUBLIC, 2)
    with pytest.raises(SignatureError):
        messages.decode_site(body, Ed25519PrivateKey.generate().public_key(), 2)
    over = bytearray(messages.encode_sites(sites(), KEY))
    over[80] ^= 1
    with pytest.raises((SignatureError, WireError)):
        messages.decode_sites(bytes(over), PUBLIC, 2)


def test_a_summary_with_too_many_medians_for_its_sites_is_refused() -> None:
    summary = [5, 0, 1, 9, [1, 2, 3, 4], 8, [0, 5, b"\xff"]]
    body = sent(1, "pumps", bytes(32), 1, 1000, 5, [summary] * 3, purpose=SITES_PURPOSE)
    with pytest.raises(WireError, match="4 medians, expected 3"):
        messages.decode_sites(body, PUBLIC, 2)
