# SPDX-License-Identifier: Apache-2.0
"""How old what decides is: since the release was made, and since the site's own model was trained. Pure.

A release is dated by the aggregator's clock and read by this machine's, which may be wrong: then its age is unknown,
and only how long it has served since the start is said. The own model is dated by the source time of the newest sample
that it learnt from, so that its age is right whatever clock this machine has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

LEEWAY_S = 300.0  # by which the clocks of two machines may differ

BEFORE = "this machine's clock shows a time before it was made"
SET_BACK = "the source's clock was set back since"


class Age(NamedTuple):
    """The age of one thing; None: unknown, or there is nothing."""

    seconds: float | None = None
    why: str = ""  # unknown: why


def of_release(created: int, now: float) -> Age:
    """The age of a release made at `created` by its header; now: of this machine's clock. Unix times, s."""
    age = now - created
    return Age(max(0.0, age)) if age >= -LEEWAY_S else Age(why=BEFORE)


def of_own(trained_ns: int, newest_ns: int) -> Age:
    """The age of a model that learnt from samples up to `trained_ns`, as of the newest sample. Source times."""
    age = (newest_ns - trained_ns) / 1e9
    return Age(age) if age >= 0 else Age(why=SET_BACK)


def status(release: Age | None, served_s: float | None, own: Age | None) -> dict[str, Any]:
    """For the status page. None: no release decides, or there is no own model; served_s: since the start."""
    return {
        "release_s": None if release is None else release.seconds,
        "release_unknown": "" if release is None else release.why,
        "served_s": served_s,
        "own_s": None if own is None else own.seconds,
        "own_unknown": "" if own is None else own.why,
    }
