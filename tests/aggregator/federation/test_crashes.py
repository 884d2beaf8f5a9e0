# SPDX-License-Identifier: Apache-2.0
"""A round that is cut off, a clock that jumps, a release that runs out, a disk that damages: no bit changes."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from fedge_aggregator.rounds import average
from fedge_models.messages.quantize import LIMIT
from support.federation_bench import ASYNCHRONOUS, MakeBench, P


@pytest.mark.parametrize("keys", ["quorum = 2\n", ASYNCHRONOUS])
def test_round_that_is_cut_off_anywhere_ends_with_the_same_bits(
    make_bench: MakeBench, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_bench(keys)
    rng = np.random.default_rng(0)
    for name in "abc":
        made.send(name, codes=rng.integers(-LIMIT, LIMIT, P).astype(np.int8), samples=int(rng.integers(1, 500)))
    for moment in ("average", "publish", "save"):  # as if killed there: nothing after it happened
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            owner: Any = {"average": average, "publish": made.store.releases, "save": made.store.round_states}[moment]
            patch.setattr(owner, moment, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            made.step("abc", 600)
        assert made.federation.current.header.version == 1  # also in the process that goes on
        made.open()
        assert made.federation.current.header.version == 1 and list(made.store.updates.arrivals("f")) == ["a", "b", "c"]
    shutil.copytree(made.folder / "state", made.folder / "copy")
    assert made.step("abc") == 2
    shutil.rmtree(made.folder / "state")
    (made.folder / "copy").rename(made.folder / "state")
    first = made.federation.current
    made.open()
    assert made.step("abc") == 2
    assert made.federation.current.weights.tobytes() == first.weights.tobytes()
    assert made.federation.current.residual.tobytes() == first.residual.tobytes()


def test_clock_that_was_a_year_ahead_does_not_hold_the_round(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\n")
    made.now += 365 * 86400
    made.send("a")
    made.send("b")
    made.now -= 365 * 86400
    assert made.step("abc") == 1
    made.open()  # a new date stays
    assert made.step("abc", 599) == 1
    assert made.step("abc", 1) == 2


def test_release_is_renewed_while_a_round_waits_and_the_round_goes_on(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 3\nlifetime = '10d'\n")
    made.send("a")
    made.send("b")
    before = made.federation.current
    assert made.step("abcd", 6 * 86400) == 2
    renewed = made.federation.current
    assert renewed.weights.tobytes() == before.weights.tobytes() and renewed.header.expires > before.header.expires
    made.send("c")
    assert made.step("abcd", 600) == 3
    assert made.federation.current.header.figures["nodes"] == 3


def test_update_of_a_node_that_is_revoked_since_is_not_in_the_release_nor_counted_before(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\n")
    made.send("a")
    made.send("b")
    made.store.revoke("b", made.now)
    assert made.step("ac", 1e6) == 1
    assert "1 of at least 2" in made.federation.status(made.now, "ac")["waiting"]
    made.send("c")
    assert made.step("ac") == 2 and set(made.store.releases.listed("f")[-1].details["nodes"]) == {"a", "c"}


def test_update_that_the_disk_has_damaged_is_taken_out_and_the_round_waits_for_another(make_bench: MakeBench) -> None:
    made = make_bench("quorum = 2\n")
    made.send("a")
    made.send("b")
    with made.store.transaction() as db:
        db.execute("UPDATE updates SET body = x'00' WHERE node = 'b'")
    assert made.step("ab") == 1
    assert [node for node, _ in made.audit("damaged")] == ["b"]
    assert list(made.store.updates.arrivals("f")) == ["a"]
