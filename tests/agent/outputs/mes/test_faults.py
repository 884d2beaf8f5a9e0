# SPDX-License-Identifier: Apache-2.0
"""Exactly one order for each event in a real Tryton, whose reference is not unique, while everything between fails.

The link is cut at random places; the server is killed again and again, and so is the agent's side.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from fedge_agent.durable.spool import Spool
from fedge_agent.types import AlertState
from support.cut_link import CutLink
from support.events import changed, make_event
from support.tryton import KEY, Tryton

EVENT = make_event("")

# What an agent's output thread does, as a process of its own that can be killed.
DELIVER = """
import json, sys, time
from pathlib import Path
from fedge_agent.outputs import host
from fedge_agent.outputs.registry import build
from fedge_agent.durable.spool import Spool
host.FIRST_WAIT_S, host.LONGEST_WAIT_S = 0.05, 0.5
folder = Path(sys.argv[1])
spool = Spool(folder / "spool.sqlite")
output = host.HostedOutput("cmms", build("cmms", json.loads(sys.argv[2]), str(folder / "agent.toml")), spool, folder)
output.start()
while spool.counts("cmms")["pending"]:
    time.sleep(0.05)
output.stop(10)
"""


class Plant:
    """A Tryton behind a bad link, and an agent's output on this side of it."""

    def __init__(self, folder: Path, orders: int, cut: float, settle: str) -> None:
        self.folder, self.rng = folder, random.Random(7)
        self.tryton = Tryton(folder / "tryton")
        self.tryton.start()
        self.link = CutLink(self.tryton.port, cut, seed=7)
        self.spool = Spool(folder / "spool.sqlite")
        (folder / "key").write_text(KEY)
        for i in range(orders):
            self.spool.put_event(["cmms"], changed(EVENT, key=f"gw:m:pump:{i}"), AlertState(i))
        url = f"http://127.0.0.1:{self.link.port}/mes"
        table = {"type": "mes", "preset": "tryton", "url": url, "token_file": "key", "settle": settle, "timeout": "20s"}
        self._command = [sys.executable, "-c", DELIVER, str(folder), json.dumps(table)]
        self.kills: Counter[str] = Counter()

    def run(self, agent_every: int, server_every: int, limit_s: float) -> None:
        """Deliver everything; about every so many orders kill the agent, or the server, at a random moment."""
        deadline = time.monotonic() + limit_s
        kill_server = self.waiting() - self.some(server_every)
        while self.waiting():
            assert time.monotonic() < deadline, self.spool.counts("cmms")
            with (self.folder / "agent.log").open("ab") as log:
                agent = subprocess.Popen(self._command, stderr=log)
            kill_agent = self.waiting() - self.some(agent_every)
            while agent.poll() is None and self.waiting() > max(0, kill_agent):
                if self.waiting() <= kill_server:
                    self.tryton.kill()
                    self.tryton.start()
                    self.kills["server"] += 1
                    kill_server = self.waiting() - self.some(server_every)
                time.sleep(self.rng.uniform(0, 0.04))
            self.kills["agent"] += agent.poll() is None and self.waiting() > 0
            agent.kill()
            agent.wait()

    def waiting(self) -> int:
        """Orders that are not acknowledged yet."""
        return self.spool.counts("cmms")["pending"]

    def some(self, mean: int) -> int:
        """A random number of orders."""
        return self.rng.randint(1, 2 * mean - 1)

    def end(self) -> None:
        """Stop the server and the link."""
        self.link.close()
        self.tryton.kill()


def exactly_once(folder: Path, orders: int, cut: float, settle: str, agent: int, server: int) -> Counter[str]:
    """Run a plant, assert that it has each order once, and return how many faults there were."""
    plant = Plant(folder, orders, cut, settle)
    try:
        plant.run(agent, server, limit_s=60 + 3 * orders)
        made = Counter(reference for _, reference, _ in plant.tryton.productions())
    finally:
        plant.end()
    assert plant.spool.counts("cmms") == {"pending": 0, "refused": 0}
    lost = [i for i in range(orders) if f"gw:m:pump:{i}" not in made]
    assert not lost and not {key: n for key, n in made.items() if n > 1}
    assert sum(made.values()) == orders
    return plant.kills + Counter(cuts=plant.link.cuts)


def test_orders_over_a_bad_link(tmp_path: Path) -> None:
    wrong = exactly_once(tmp_path, 16, 0.2, "1s", agent=6, server=8)
    assert wrong["agent"] and wrong["server"] and wrong["cuts"]


@pytest.mark.slow
def test_thousand_orders_while_everything_fails(tmp_path: Path) -> None:
    wrong = exactly_once(tmp_path, 1000, 0.15, "1s", agent=30, server=40)
    assert wrong["agent"] >= 10 and wrong["server"] >= 10 and wrong["cuts"] >= 100
