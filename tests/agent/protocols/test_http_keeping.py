# SPDX-License-Identifier: Apache-2.0
"""A server keeps connections when a kept one has lived; what was lost right after an answer says that it does not."""

from __future__ import annotations

import pytest
from fedge_agent.protocols.http.keeping import LIVES_S, MOST, UNKEPT_S, Keeping

PLANT, OTHER = ("http", "mes:80"), ("https", "mes:443")
LONG_S = 10 * LIVES_S


def test_nothing_is_taken_for_granted() -> None:
    keeping = Keeping()
    assert not keeping.keeps(PLANT) and keeping.may_keep(PLANT, 0.0)


def test_one_that_has_lived_counts_for_its_server_alone() -> None:
    keeping = Keeping()
    keeping.lived(PLANT, 5.0)
    assert keeping.keeps(PLANT) and not keeping.keeps(OTHER)


@pytest.mark.parametrize(
    ("idle_s", "closed", "kept"),
    [(0.0, True, False), (0.0, False, False), (LONG_S, False, False), (LONG_S, True, True)],
)
def test_a_request_that_was_lost_ends_the_trust(idle_s: float, closed: bool, kept: bool) -> None:
    keeping = Keeping()
    keeping.lived(PLANT, 5.0)
    keeping.lost(PLANT, idle_s, closed, 10.0)
    assert not keeping.keeps(PLANT) and keeping.may_keep(PLANT, 10.0) is kept and keeping.may_keep(OTHER, 10.0)
    assert keeping.may_keep(PLANT, 9.0 + UNKEPT_S) is kept and keeping.may_keep(PLANT, 10.0 + UNKEPT_S)


def test_one_that_was_found_closed_says_something_only_right_after_an_answer() -> None:
    keeping = Keeping()
    keeping.lived(PLANT, 5.0)
    keeping.ended(PLANT, LONG_S, 20.0)
    assert keeping.keeps(PLANT) and keeping.may_keep(PLANT, 20.0)
    keeping.ended(PLANT, LIVES_S / 2, 20.0)
    assert not keeping.keeps(PLANT) and not keeping.may_keep(PLANT, 20.0)


def test_no_more_than_a_few_servers_are_remembered() -> None:
    keeping = Keeping()
    for i in range(MOST + 1):
        keeping.lived(("http", str(i)), 1.0)
        keeping.lived(("http", "1"), 1.0)
    assert not keeping.keeps(("http", "0")) and keeping.keeps(("http", "1")) and keeping.keeps(("http", str(MOST)))
