# SPDX-License-Identifier: Apache-2.0
"""What a site gives away: clipped, noised, paid for before it leaves, and nothing beyond its budget."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fedge_agent.config import schema
from fedge_agent.durable.spool import Spool
from fedge_agent.learning.carry_over import CarryOver, decode
from fedge_agent.learning.training import Trained
from fedge_agent.learning.update import code, protected, update_body
from fedge_models.errors import BudgetError, ConfigError
from fedge_models.messages.quantize import LIMIT, dequantize, expand
from fedge_models.messages.update import decode_update
from fedge_models.privacy import budget
from fedge_models.privacy.accounting import zcdp_budget, zcdp_epsilon
from fedge_models.privacy.budget import Charge, SitePrivacy, Spent
from fedge_models.privacy.discrete_gaussian import Bits, sample
from fedge_models.privacy.mechanism import unit
from fedge_models.system import damage
from fedge_models.training import personal
from fedge_models.training.loop import FitReport
from support.at_end import AtEnd
from support.offline_site import KEY, OfflineSite, model


def private(updates: int = 3, **fields: float) -> SitePrivacy:
    """A budget that pays for so many updates."""
    how = {"clip": 0.5, "epsilon": 8.0, "delta": 1e-5, **fields}
    multiplier = math.sqrt(2 * (updates + 0.5) / zcdp_budget(how["epsilon"], how["delta"]))
    return SitePrivacy(**{"noise_multiplier": multiplier, **how})


def seeded() -> Bits:
    rng = np.random.default_rng(5)
    return lambda count: rng.integers(0, 2**64, count, dtype=np.uint64)


# what an update says


def test_update_says_nothing_but_the_noised_difference() -> None:
    _, graph, head = model()
    mask, privacy = personal.local_mask(graph), private()
    delta = np.where(mask, 0, 3).astype(np.float32)
    known = Trained(FitReport((1.0,), 777, 0, False), delta, {"loss": 1.0}, {"loss": 0.5})
    noised = protected(known, privacy, mask, 64, seeded())
    assert noised.delta is not None and (noised.delta[mask] == 0).all()
    shared = int((~mask).sum())
    noise = sample(shared, seeded()) * unit(privacy.clip, privacy.noise_multiplier)
    np.testing.assert_allclose(noised.delta[~mask] - noise, privacy.clip / math.sqrt(shared), rtol=1e-2)
    residual = np.full_like(delta, 0.001) * ~mask
    body, left = update_body(head, noised, residual, graph.sizes, "gw", 7, KEY)
    update = decode_update(body, KEY.public_key(), graph.sizes)
    assert update.samples == 64 and update.metrics == {}  # not how many there were, nor how good the model is
    sent = dequantize(update.codes, expand(head.header.steps, graph.sizes))
    np.testing.assert_allclose(
        sent + left, noised.delta + residual, atol=1e-5
    )  # coding and feedback see the noised only


def test_noise_wider_than_the_first_grid_arrives_as_a_part_of_itself() -> None:
    """Saturated, it would be refused as an update of nothing but ends of the grid, and the budget spent for nothing."""
    _, graph, head = model()
    mask, privacy = personal.local_mask(graph), private(200, clip=20.0)
    known = Trained(FitReport((), 777, 0, False), np.zeros_like(head.weights), {}, {})
    noised, none = protected(known, privacy, mask, 64, seeded()), np.zeros_like(head.weights)
    assert noised.delta is not None
    body, left = update_body(head, noised, none, graph.sizes, "gw", 7, KEY, shorten=True)
    codes = decode_update(body, KEY.public_key(), graph.sizes).codes
    sent = dequantize(codes, expand(head.header.steps, graph.sizes))
    assert float((np.abs(codes[~mask]) == LIMIT).mean()) < 0.15  # the largest of each (here tiny) tensor
    assert np.abs(noised.delta).max() > 100 * np.abs(sent).max()
    for part in np.split(np.arange(graph.params.size), np.cumsum(graph.sizes)[:-1]):
        if not mask[part].any():
            assert np.corrcoef(sent[part], noised.delta[part])[0, 1] > 0.999
    np.testing.assert_allclose(sent + left, noised.delta, rtol=1e-5, atol=1e-4)


def test_noise_a_little_wider_than_the_grid_is_shortened_too() -> None:
    """Without noise a few ends of the grid do no harm; noise that is cut off is no Gaussian any more."""
    wide = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    sizes, steps = np.array([1000]), np.full(1, 1.0 / LIMIT, np.float32)
    cut, whole = code(wide, steps, sizes)[0], code(wide, steps, sizes, shorten=True)[0]
    assert np.corrcoef(cut, wide)[0, 1] < 0.98 and np.corrcoef(whole, wide)[0, 1] > 0.999


def test_two_sites_differ_by_no_more_than_is_accounted_for() -> None:
    """The farthest that two data sets can be apart: opposite directions, each clipped. With the same noise for both,
    what differs is what the noise has to hide, and it is what `SENSITIVITY` says."""
    _, graph, _ = model()
    mask, privacy = personal.local_mask(graph), private()
    there, back = (
        protected(Trained(FitReport((), 1, 0, False), s * delta, {}, {}), privacy, mask, 64, seeded()).delta
        for s in (1, -1)
        for delta in [np.where(mask, 0, 1e6).astype(np.float32)]
    )
    assert there is not None and back is not None
    apart = float(np.linalg.norm((there - back).astype(np.float64))) / privacy.clip
    assert 0.99 * budget.SENSITIVITY < apart <= budget.SENSITIVITY * (1 + 1e-5)  # float32 after the noise


# the budget


def test_budget_pays_for_what_it_says_and_no_more(at_end: AtEnd, tmp_path: Path) -> None:
    spool, privacy = at_end(Spool(tmp_path / "s")), private(3)
    for left in (3, 2, 1):
        assert budget.updates_left(spool.privacy_spent("m"), privacy) == left
        assert budget.why_stopped(spool.privacy_spent("m"), privacy, "m") is None
        spool.put_update("m", 1, left, b"body%d" % left, b"g", b"r", budget.charge(privacy))
    spent = spool.privacy_spent("m")
    why = budget.why_stopped(spent, privacy, "m")
    assert why is not None and why.startswith("privacy budget spent: 7.") and "of 8 " in why and "still decides" in why
    with pytest.raises(BudgetError, match="not stored or sent"):
        spool.put_update("m", 1, 9, b"more", b"g2", b"r2", budget.charge(privacy))
    pending = spool.update("m")
    assert pending is not None and pending.body == b"body1" and spool.privacy_spent("m") == spent
    assert spool.residual("m", b"g") == b"r"
    assert zcdp_epsilon(spent.rho, 1e-5) <= 8 < zcdp_epsilon(spent.rho + budget.charge(privacy).rho, 1e-5)
    assert budget.updates_left(spent, private(6, epsilon=20.0)) > 0  # a person may give away more


def test_what_was_spent_adds_up_over_other_settings(at_end: AtEnd, tmp_path: Path) -> None:
    spool, few, many = at_end(Spool(tmp_path / "s")), private(2), private(20)
    spool.put_update("m", 1, 1, b"", b"g", b"r", budget.charge(few))
    assert budget.updates_left(spool.privacy_spent("m"), many) in (11, 12)  # half of it is gone
    assert spool.privacy_spent("other") == Spent()


SPENDER = """
import sys
from pathlib import Path
from fedge_models.privacy.budget import Charge
from fedge_agent.durable.spool import Spool
spool = Spool(Path(sys.argv[1]))
while True:
    number = spool.reserve_sequence("m")
    spool.put_update("m", 1, number, b"%d" % number, b"g", b"r", Charge(1.0, 1e9))
    print(number, flush=True)
"""


def test_kill_at_any_moment_forgets_nothing_that_was_spent(at_end: AtEnd, tmp_path: Path) -> None:
    printed = 0
    for i in range(6):
        line: list[str | Path] = [sys.executable, "-c", SPENDER, tmp_path / "s"]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as spender:
            assert spender.stdout is not None
            for _ in range(3 + 5 * i):
                spender.stdout.readline()
            os.kill(spender.pid, signal.SIGKILL)
            printed += 3 + 5 * i + len(spender.stdout.read().splitlines())
        spool = at_end(Spool(tmp_path / "s"))
        spent, update = spool.privacy_spent("m"), spool.update("m")
        spool.close()
        assert printed <= spent.updates <= printed + i + 1 and spent.rho == spent.updates
        assert update is not None and update.sequence == spent.sequence  # one transaction: never one without the other


def test_ledger_lost_with_a_damaged_spool_is_not_a_new_budget(at_end: AtEnd, tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"not a database" * 1000)
    spool, privacy = at_end(Spool(tmp_path / "s")), private()
    why = budget.why_stopped(spool.privacy_spent("m"), privacy, "m")
    assert (
        why is not None and "unknown: s.damaged-" in why and budget.updates_left(spool.privacy_spent("m"), privacy) == 0
    )
    with pytest.raises(BudgetError, match="unknown"):
        spool.put_update("m", 1, 1, b"", b"g", b"r", budget.charge(privacy))
    (tmp_path / str(damage.before(tmp_path / "s"))).unlink()  # what the words tell a person to do
    spool.put_update("m", 1, 1, b"", b"g", b"r", budget.charge(privacy))


def test_updates_without_noise_are_counted(at_end: AtEnd, tmp_path: Path) -> None:
    spool = at_end(Spool(tmp_path / "s"))
    for number in (1, 2):
        spool.put_update("m", 1, number, b"", b"g", b"r")
        assert spool.privacy_spent("m") == Spent(unprotected=number)


# configuration


def written(tmp_path: Path, privacy: str) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(f'[agent]\nname = "gw"\nstate = "{tmp_path}"\n[model.m.privacy]\n{privacy}\n')
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip = 1\nnoise_multiplier = 20\nepsilon = 8\n", ["'model.m.privacy.delta' is missing"]),
        ("clip = 0\nnoise_multiplier = 20\nepsilon = 8\ndelta = 1e-5\n", ["'model.m.privacy.clip'", "more than 0"]),
        ("clip = 1\nnoise = 20\nepsilon = 8\ndelta = 1e-5\n", ["'model.m.privacy.noise'", "noise_multiplier"]),
        ("clip = 1\nnoise_multiplier = 20\nepsilon = 8\ndelta = 1\n", ["'model.m.privacy.delta'", "less than 1"]),
        (
            "clip = 1\nnoise_multiplier = 0.5\nepsilon = 4\ndelta = 1e-5\n",
            ["costs epsilon", "budget is 4", "for 100"],
        ),
    ],
)
def test_configuration_errors_say_what_to_do(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        schema.load(written(tmp_path, text))
    for word in words:
        assert word in str(caught.value)


def test_noise_that_the_words_propose_is_enough(tmp_path: Path) -> None:
    path = written(tmp_path, "clip = 1\nnoise_multiplier = 1\nepsilon = 2\ndelta = 1e-5\n")
    with pytest.raises(ConfigError, match=r"noise_multiplier ([\d.]+) pays for 1, ([\d.]+) pays for 100") as caught:
        schema.load(path)
    for multiplier, count in re.findall(r"([\d.]+) pays for (\d+)", str(caught.value)):
        affordable = budget.updates_left(Spent(), private(epsilon=2.0, noise_multiplier=float(multiplier)))
        assert int(count) <= affordable <= 1.02 * int(count)


# a participant


def test_site_stops_learning_when_the_budget_is_spent_and_goes_on_deciding(at_end: AtEnd, tmp_path: Path) -> None:
    site, privacy = at_end(OfflineSite(tmp_path)), private(2)
    for version in range(4, 8):  # restarted each time: the schedule forgets, the spent does not
        site.release(version)
        made = site.participant(privacy)
        made.step()
    assert site.spool.privacy_spent("m").updates == 2 and (site.update().samples, site.update().metrics) == (40, {})
    status = made.status()["privacy"]
    assert (status["updates"], status["left"], status["unprotected"]) == (2, 0, 0)
    assert 6 < status["spent"] < 8 and "privacy budget spent" in status["stopped"]
    assert made.serving is not None and made.serving.decide(np.zeros(2, np.float32)).label in ("ok", "bad")
    assert made.trainings == []  # not even trained
    richer = site.participant(msgspec.structs.replace(privacy, epsilon=16.0))
    richer.step()
    assert site.spool.privacy_spent("m").updates == 3


def test_what_was_made_without_noise_never_leaves_once_privacy_is_set(at_end: AtEnd, tmp_path: Path) -> None:
    """Neither the update that waits nor its error feedback, which would carry it into the next."""
    site = at_end(OfflineSite(tmp_path))
    site.participant(None).step()
    assert site.update().metrics != {} and site.spool.privacy_spent("m").unprotected == 1
    waiting = site.spool.update("m")
    assert waiting is not None and waiting.body is not None
    raw = decode(site.spool.residual("m", site.head.header.graph), site.graph, personal.local_mask(site.graph))
    huge = CarryOver(np.full_like(raw.residual, 1e6), raw.own, raw.movement, raw.base, raw.version)
    site.spool.put_update("m", 3, waiting.sequence, waiting.body, site.head.header.graph, huge.encode())
    site.release(4)
    site.participant(private(3), uplink=Unreached()).step()
    pending = site.spool.update("m")
    assert (
        pending is not None and pending.body is None and pending.outcome is not None and "withheld" in pending.outcome
    )
    site.participant(private(3)).step()
    left = decode(site.spool.residual("m", site.head.header.graph), site.graph, personal.local_mask(site.graph))
    assert np.abs(left.residual).max() < 1e3
    pending, privacy = site.spool.update("m"), private(3)
    assert pending is not None and pending.body is not None
    residual = CarryOver(np.full_like(left.residual, 1e6), left.own, left.movement, left.base, left.version).encode()
    site.spool.put_update(
        "m", 4, pending.sequence, pending.body, site.head.header.graph, residual, budget.charge(privacy)
    )
    site.release(5)
    site.participant(privacy).step()  # what coding left of a noised update does go on
    again = decode(site.spool.residual("m", site.head.header.graph), site.graph, personal.local_mask(site.graph))
    assert np.abs(again.residual).max() > 1e5


class Unreached:
    """An uplink over which no update may go; the aggregator wants none and has no release."""

    def keep_certificate(self, now: float) -> None:
        """It lasts."""

    def fetch_release(self, federation: str, have: int, cap: int, idle: object = None, serves: object = None) -> None:
        """None is newer."""

    def asked(self, federation: str) -> bool:
        return False

    def submit(self, federation: str, body: bytes) -> None:
        raise AssertionError("an update without noise was sent")


def test_charge_needs_room(tmp_path: Path) -> None:
    assert Charge(1.0, 3.0).affordable(Spent(2.0)) and not Charge(1.0, 3.0).affordable(Spent(2.1))
    assert not Charge(1.0, 3.0).affordable(Spent(lost="s.damaged-1"))
