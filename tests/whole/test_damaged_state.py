# SPDX-License-Identifier: Apache-2.0
"""Every file that a real agent leaves in its state folder, damaged in several ways: it starts, decides and says so."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from support.mes_plant import Plant

SETTLED = 10  # decisions after which what is wrong has shown
HOW: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "garbage": lambda data, rng: rng.randbytes(max(100, len(data))),
    "empty": lambda data, rng: b"",
    "half": lambda data, rng: data[: len(data) // 2],
    "a flipped bit": lambda data, rng: flipped(data, rng, 1),
    "twenty flipped bits": lambda data, rng: flipped(data, rng, 20),
    "a page": lambda data, rng: data[:4096] + rng.randbytes(4096) + data[8192:] if len(data) > 8192 else b"\0" * 64,
}
SAID = ("spool.sqlite", "inbox.sqlite", "samples.sqlite", "outputs/mes.sqlite")  # when they are no database any more


def flipped(data: bytes, rng: random.Random, count: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    (tmp_path / "disk").mkdir()
    made = Plant(tmp_path, tmp_path / "disk")
    made.start("gw")
    made.wait_for_orders(1)
    made.kill("gw")
    shutil.copytree(made.state, tmp_path / "as it was")
    yield made
    made.end()


def files(plant: Plant) -> list[str]:
    """All files of the state folder but the logs of databases, which are damaged with them."""
    before = plant.folder / "as it was"
    found = (str(p.relative_to(before)) for p in before.rglob("*") if p.is_file())
    return sorted(name for name in found if not name.endswith(("-wal", "-shm")))


def damage(plant: Plant, names: list[str], how: str, rng: random.Random) -> None:
    """Have the state folder as it was, but for these files; their logs are gone."""
    shutil.rmtree(plant.state)
    shutil.copytree(plant.folder / "as it was", plant.state)
    for name in names:
        path = plant.state / name
        path.write_bytes(HOW[how](path.read_bytes(), rng))
        for log in ("-wal", "-shm"):
            path.with_name(path.name + log).unlink(missing_ok=True)


def decides(plant: Plant, damaged: Collection[str] = ()) -> list[str]:
    """Start the agent, wait for decisions and for words about these files; return what `status` says is damaged."""
    log = plant.folder / "gw.log"
    log.unlink(missing_ok=True)
    plant.start("gw")
    plant.wait(lambda: plant.status("gw")["latency"]["decisions"] > SETTLED, "decisions")
    names = {Path(name).name for name in damaged}
    plant.wait(lambda: all(f"{name} was damaged" in str(plant.storage()["damaged"]) for name in names), str(names))
    said: list[str] = plant.storage()["damaged"]
    assert not plant.storage()["problems"]
    plant.kill("gw")
    assert "Traceback" not in log.read_text(), log.read_text()[-3000:]
    return said


def test_all_files_are_garbage_and_it_decides_and_orders_come(plant: Plant) -> None:
    damage(plant, files(plant), "garbage", random.Random(0))
    decides(plant, SAID)
    before = set(plant.orders())
    plant.start("gw")
    plant.wait_for_orders(1)
    plant.check_orders()
    assert before < set(plant.orders())


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_each_file_is_damaged_and_it_decides(plant: Plant, how: str) -> None:
    rng = random.Random(how)
    for name in files(plant):
        damage(plant, [name], how, rng)
        said = decides(plant, [name] if how == "garbage" and name in SAID else [])
        assert len(said) <= 1, (name, said)
        (plant.folder / "gw.log").unlink()
