# SPDX-License-Identifier: Apache-2.0
"""The messages about statistics: a site's histograms to the aggregator, and summaries over sites to the gateways.

Channels have no names on the wire: they are those of the model card, in its order, and the score last. Which card that
is, the digest of the model file says. Both are signed, bounded, and apart from updates and releases: who does not know
them takes part as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import cbor2
import msgspec
from msgspec import Meta

from ..errors import WireError
from ..statistics.histogram import Histogram
from ..statistics.over_sites import Summary
from ..system.structs import known
from . import cose
from .cbor import Count, Digest, Message, Name, decode

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SITE_PURPOSE = "fedge site statistics 1"
SITES_PURPOSE = "fedge statistics over sites 1"
MOST_CHANNELS = 1024  # with the score
MOST_WINDOWS = 2**20


@known
class SiteStatistics(Message, array_like=True, frozen=True, forbid_unknown_fields=True, kw_only=True, eq=False):
    """How the channels of one site are distributed."""

    schema: Literal[1] = 1
    federation: Name
    node: Name
    graph: Digest  # SHA-256 of the model file
    sequence: Count  # strictly rising per node and federation
    windows: Annotated[int, Meta(ge=1, le=MOST_WINDOWS)]  # a claim, rounded to a power of two
    channels: Annotated[tuple[Histogram | None, ...], Meta(min_length=2, max_length=MOST_CHANNELS)]  # None: too little


@known
class SitesStatistics(Message, array_like=True, frozen=True, forbid_unknown_fields=True, kw_only=True, eq=False):
    """How the channels of a model are distributed over sites."""

    schema: Literal[1] = 1
    federation: Name
    graph: Digest
    number: Annotated[int, Meta(ge=1, le=2**53)]  # strictly rising
    created: Count  # Unix time, s
    sites: Annotated[int, Meta(ge=1, le=2**20)]  # that contributed to any channel
    channels: Annotated[tuple[Summary | None, ...], Meta(min_length=2, max_length=MOST_CHANNELS)]  # None: `summarise`


def max_statistics_bytes(channels: int) -> int:
    """The longest that either message can honestly be, for a card with so many channels."""
    return 512 + 160 * (channels + 1)


def encode_site(statistics: SiteStatistics, key: Ed25519PrivateKey) -> bytes:
    """Encode and sign the statistics of a site."""
    return cose.sign(key, _encoded(statistics), SITE_PURPOSE)


def encode_sites(statistics: SitesStatistics, key: Ed25519PrivateKey) -> bytes:
    """Encode and sign statistics over sites."""
    return cose.sign(key, _encoded(statistics), SITES_PURPOSE)


def decode_site(body: bytes, key: Ed25519PublicKey, channels: int) -> SiteStatistics:
    """Verify and parse the statistics of a site, for a card with so many channels.

    Raises SignatureError, or WireError for another number of channels, or anything off the schema.
    """
    payload = cose.verify(body, key, SITE_PURPOSE, max_statistics_bytes(channels))
    found = decode(payload, SiteStatistics, "statistics")
    _check(found.channels, channels, f"statistics of {found.node}")
    return found


def decode_sites(body: bytes, key: Ed25519PublicKey, channels: int) -> SitesStatistics:
    """Verify and parse statistics over sites. Raises as `decode_site`."""
    payload = cose.verify(body, key, SITES_PURPOSE, max_statistics_bytes(channels))
    found = decode(payload, SitesStatistics, "statistics over sites")
    _check([None if s is None else s.joint for s in found.channels], channels, "statistics over sites")
    for one in found.channels:
        if one is not None and len(one.medians) != len(one.ranks):
            raise WireError(f"statistics over sites: {len(one.medians)} medians, expected {len(one.ranks)}")
    return found


def _check(histograms: Sequence[Histogram | None], channels: int, what: str) -> None:
    """Raise WireError for another number of channels than the card's, or for a histogram that counts nothing."""
    if len(histograms) != channels + 1:
        raise WireError(f"{what}: {len(histograms)} channels, expected {channels} and the score")
    if any(one is not None and not any(one.codes) for one in histograms):
        raise WireError(f"{what}: a histogram counts nothing")


def _encoded(message: Message) -> bytes:
    return cbor2.dumps(msgspec.to_builtins(message, builtin_types=(bytes,)))
