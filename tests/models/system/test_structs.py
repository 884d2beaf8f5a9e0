# SPDX-License-Identifier: Apache-2.0
"""A trap: two threads that decode a Struct for the first time together crash the interpreter (msgspec 0.22)."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import fedge_agent
import fedge_aggregator
import fedge_models
import msgspec
from fedge_models.system import structs

# Configuration is decoded by the main thread alone, before there is another; a rule's under its federation's lock.
SETTINGS = {
    "fedge_agent.config.schema",
    "fedge_agent.outputs.mes.settings",
    "fedge_agent.protocols.http.settings",
    "fedge_aggregator.config.schema",
    "fedge_models.privacy.budget",
    "fedge_aggregator.rounds.rules",
    "fedge_aggregator.rounds.server_optimizers",
    "fedge_fleet",
}

FIRST_DECODE = """
import sys, threading
from fedge_models.graph.card import Card, Channel, WindowSpec, decode_card, encode_card
card = Card("classify", (Channel("a"),), WindowSpec(10, 24, 8), ("mean",), labels=("ok", "bad"), normal="ok")
text = encode_card(card)
gate = threading.Barrier(8)
def decode():
    gate.wait()
    decode_card(text)
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=decode) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def ours(struct: type) -> Iterator[type]:
    """Every Struct that fedge defines."""
    inner: type
    for inner in struct.__subclasses__():
        if inner.__module__.startswith("fedge_"):
            yield inner
        yield from ours(inner)


def test_structs_that_threads_decode_are_known_to_msgspec() -> None:
    for package in (fedge_models, fedge_agent, fedge_aggregator):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    decoded = {
        s
        for s in ours(msgspec.Struct)
        if not s.__module__.startswith(tuple(SETTINGS)) and not s.__name__.endswith("Config")
    }
    assert len(decoded) > 10
    assert decoded <= structs.KNOWN, f"decorate with fedge_models.system.structs.known: {decoded - structs.KNOWN}"


def test_threads_may_decode_a_card_for_the_first_time_together() -> None:
    for _ in range(4):
        done = subprocess.run([sys.executable, "-c", FIRST_DECODE], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
