# SPDX-License-Identifier: Apache-2.0
"""What published statistics are made of, so that the next ones differ from them by enough sites. Pure.

A basis holds for each site a digest of the histogram that its part in each column was. It is of each column's own last
publication: a column that too few sites changed keeps its summary, and its basis with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
from fedge_models.statistics.histogram import Histogram

CHANGED = 3  # sites by which a column must differ before it is published again
CHANGED_SHARE = 0.25  # of its sites, so that large federations do not publish all the time
DIGEST_BYTES = 16
NONE = b""  # of a column that a site has not

Basis = Mapping[str, Sequence[bytes]]  # site -> digest of each column


def digests(channels: Sequence[Histogram | None]) -> list[bytes]:
    """The digest of each histogram of a site."""
    return [NONE if h is None else hashlib.sha256(msgspec.msgpack.encode(h)).digest()[:DIGEST_BYTES] for h in channels]


def due(before: Basis, after: Basis, column: int) -> bool:
    """Whether enough sites came, left or changed in a column since it was published."""
    sites = {node: (_of(before, node, column), _of(after, node, column)) for node in {*before, *after}}
    there = [was_is for was_is in sites.values() if any(was_is)]
    changed = sum(was != now for was, now in there)
    return changed >= max(CHANGED, CHANGED_SHARE * len(there))


def followed(before: Basis, after: Basis, made: Sequence[bool]) -> dict[str, list[bytes]]:
    """The basis after a publication; made: which columns were made anew. Sites that are in no column are left out."""
    merged = {
        node: [_of(after if new else before, node, column) for column, new in enumerate(made)]
        for node in {*before, *after}
    }
    return {node: row for node, row in merged.items() if any(row)}


def packed(row: Sequence[bytes]) -> bytes:
    """A site's digests as they are stored."""
    return b"".join(digest.ljust(DIGEST_BYTES, b"\0") for digest in row)


def unpacked(row: bytes) -> list[bytes]:
    """A site's digests from `packed`."""
    parts = [row[i : i + DIGEST_BYTES] for i in range(0, len(row), DIGEST_BYTES)]
    return [part if any(part) else NONE for part in parts]


def _of(basis: Basis, node: str, column: int) -> bytes:
    return basis[node][column] if node in basis else NONE
