# SPDX-License-Identifier: Apache-2.0
"""Real processes: command lines as a user types them, an aggregator and agents killed at a dozen moments."""

from __future__ import annotations

import csv
import json
import random
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.programs import BIN, Programs, free_port

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(200, 20, 5), ("mean", "std", "slope"))


class Fleet(Programs):
    """An aggregator and agents that replay a CSV."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "model.onnx").write_bytes(zoo.autoencoder(CARD, 6, (4, 2)).SerializeToString())
        (folder / "agg.toml").write_text(
            f'[aggregator]\nstate = "{folder}/agg"\naddresses = ["127.0.0.1"]\nlisten = "127.0.0.1:{free_port()}"\n'
            'operator = "127.0.0.1:0"\n[federation.f]\nquorum = 2\ndeadline = "1s"\n'
        )
        rng = np.random.default_rng(0)
        with (folder / "data.csv").open("w") as file:
            writer = csv.writer(file)
            writer.writerow(["a", "b"])
            writer.writerows(rng.normal(size=(4000, 2)).round(4).tolist())

    def agent(self, name: str, *federations: str) -> None:
        (self.folder / f"{name}.toml").write_text(
            f"""
[agent]
name = "{name}"
state = "{self.folder / name}"
[source.csv]
type = "files"
path = "{self.folder / "data.csv"}"
rate_hz = 200.0
at_end = "repeat"
[model.f]
poll = "100ms"
training = {{ interval = "300ms", min_samples = 20, epochs = 1 }}
[asset.m]
baseline = 0
model = "f"
channels.a = {{ source = "csv", tag = "a" }}
channels.b = {{ source = "csv", tag = "b" }}
window = {{ max_hold = "1s", lateness = "20ms" }}
[output.events]
type = "log"
"""
        )
        config: list[str | Path] = ["--config", self.folder / f"{name}.toml"]
        members = [word for federation in federations or ("f",) for word in ("--federation", federation)]
        text = self.run("fedge-aggregator", "invite", name, *members, "--config", self.folder / "agg.toml")
        assert "joined" in self.run("fedge-agent", "join", text.strip(), *config)

    def is_beyond(self, release: int) -> bool:
        return self.release() > release

    def release(self) -> int:
        return int(self.status("agg")["federations"]["f"]["release"])

    def goes_away(self, name: str) -> int:
        """Kill the aggregator, and this agent with an update that could not be sent; the update's base."""
        for _ in range(20):
            self.wait(lambda: self._untrained(name), "a release that it has not trained on")
            self.kill("agg")
            self.wait(lambda: not self._untrained(name), "its training")
            update = self.status(name)["models"]["f"]["update"]
            if update["outcome"] == "waiting":
                self.kill(name)
                return int(update["base"])
            self.start("agg", "fedge-aggregator")  # it was quicker, and has sent
        raise AssertionError(f"{name} had always sent its update")

    def _untrained(self, name: str) -> bool:
        model = self.status(name)["models"]["f"]
        return bool((model["head"] or 0) > (model["update"] or {"base": 0})["base"])


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Fleet]:
    """Nothing runs yet."""
    made = Fleet(tmp_path)
    yield made
    made.end()


@pytest.fixture
def fleet(bare: Fleet) -> Fleet:
    """An aggregator and two agents."""
    model = bare.folder / "model.onnx"
    bare.run("fedge-aggregator", "model", "add", "f", model, "--config", bare.folder / "agg.toml")
    bare.start("agg", "fedge-aggregator")
    for name in ("one", "two"):
        bare.agent(name)
        bare.start(name)
    return bare


def test_a_federation_whose_model_comes_while_the_server_runs_is_shown_before_its_first_round(bare: Fleet) -> None:
    config: list[str | Path] = ["--config", bare.folder / "agg.toml"]
    bare.start("agg", "fedge-aggregator")
    assert "no federation has a model yet" in bare.run("fedge-aggregator", "status", *config)
    bare.run("fedge-aggregator", "model", "add", "f", bare.folder / "model.onnx", *config)
    shown = bare.run("fedge-aggregator", "status", *config)
    waits = next(line for line in shown.splitlines() if line.startswith("f: release 1, "))
    assert "no federation" not in shown and waits.partition("; ")[2], shown


def test_agents_learn_together_and_everybody_says_so(fleet: Fleet) -> None:
    config: list[str | Path] = ["--config", fleet.folder / "agg.toml"]

    def rounds() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(fleet.run("fedge-aggregator", "rounds", "--json", *config))
        return found

    fleet.wait(lambda: sum(row.get("nodes") == 2 for row in rounds()) >= 2, "two rounds of both")  # one may come first
    fleet.wait(lambda: (fleet.status("one")["models"]["f"]["release"] or 0) >= 3, "the release to serve")
    status = fleet.status("one")
    assert status["latency"]["decisions"] > 10 and not any(status["lost"].values())
    assert rounds()[0]["release"] == 1
    nodes = json.loads(fleet.typed("fedge-aggregator", "nodes", "list", "--json", *config))
    assert [n["name"] for n in nodes] == ["one", "two"]
    assert json.loads(fleet.typed("fedge-aggregator", "model", "list", "--json", *config))[0]["parameters"] > 0
    assert "decisions" in fleet.told("one")
    assert "ok   source csv" in fleet.typed("fedge-agent", "check", "--config", fleet.folder / "one.toml")
    assert fleet.end() == [0, 0, 0]


def test_agent_goes_on_deciding_without_its_aggregator(fleet: Fleet) -> None:
    fleet.wait(lambda: (fleet.status("one")["models"]["f"]["release"] or 0) >= 1, "a release")
    fleet.kill("agg")
    before = fleet.status("one")["latency"]["decisions"]
    fleet.wait(lambda: not fleet.status("one")["models"]["f"]["reachable"], "the agent to notice")
    fleet.wait(lambda: fleet.status("one")["latency"]["decisions"] > before + 50, "decisions")
    assert "127.0.0.1" in fleet.status("one")["models"]["f"]["problem"]
    fleet.kill("one")
    fleet.start("one")  # starts from its own files, with nobody to ask
    fleet.wait(lambda: fleet.status("one")["latency"]["decisions"] > 10, "decisions after a restart")


def test_private_agent_stops_at_its_budget_and_a_kill_gives_none_back(fleet: Fleet) -> None:
    fleet.kill("two")
    path = fleet.folder / "two.toml"
    privacy = "privacy = { clip = 1.0, noise_multiplier = 4.0, epsilon = 4.0, delta = 1e-5 }"  # two updates
    path.write_text(path.read_text().replace("[model.f]", f"[model.f]\n{privacy}"))
    fleet.start("two")

    def budget() -> dict[str, Any]:
        found: dict[str, Any] = fleet.status("two")["models"]["f"]["privacy"]
        return found

    fleet.wait(lambda: budget()["stopped"], "the budget to be spent")
    spent = budget()
    assert spent["updates"] == 2 and 3 < spent["spent"] <= 4
    fleet.kill("two")
    fleet.start("two")
    fleet.wait(lambda: fleet.status("two")["latency"]["decisions"] > 30, "decisions")
    again = budget()
    assert (again["updates"], again["spent"], again["stopped"]) == (2, spent["spent"], spent["stopped"])
    config: list[str | Path] = ["--config", path]
    assert "STOPPED privacy budget spent" in fleet.told("two")
    assert "pay for 2 updates" in fleet.run("fedge-agent", "check", *config)
    assert "fedge_agent_privacy_updates_left" in fleet.text("two", "/metrics")


def test_revoked_node_is_out_and_the_rest_goes_on(fleet: Fleet) -> None:
    fleet.wait(lambda: fleet.release() >= 2, "a round")
    fleet.run("fedge-aggregator", "nodes", "revoke", "two", "--config", fleet.folder / "agg.toml")
    fleet.wait(lambda: "revoked" in (fleet.status("two")["models"]["f"]["problem"] or ""), "the node to report it")


@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_kills_lose_nothing_and_reuse_no_sequence(fleet: Fleet, kills: int) -> None:
    rng, last, sequences = random.Random(0), 0, {"one": 0, "two": 0}
    victims = rng.sample(["agg", "one", "two"] * (kills // 3), kills)
    for i, victim in enumerate(victims):
        fleet.wait(partial(fleet.is_beyond, last), f"a round after kill {i}")
        time.sleep(rng.random())  # the random moment is the point
        last = fleet.release()
        fleet.kill(victim)
        with closing(sqlite3.connect(fleet.folder / "agg/aggregator.sqlite")) as db:
            assert db.execute("SELECT max(version) FROM releases").fetchone()[0] >= last
            for node, number in db.execute("SELECT node, sequence FROM sequences"):
                assert number >= sequences[node]
                sequences[node] = number
        fleet.start(victim, "fedge-aggregator" if victim == "agg" else "fedge-agent")
    fleet.wait(lambda: fleet.release() > last, "the last round")
    with closing(sqlite3.connect(fleet.folder / "agg/aggregator.sqlite")) as db:
        versions = [v for (v,) in db.execute("SELECT version FROM releases ORDER BY version")]
    assert versions == list(range(1, len(versions) + 1))


@pytest.fixture
def asynchronous(bare: Fleet) -> Fleet:
    """An aggregator with a buffer of two, and three agents."""
    path = bare.folder / "agg.toml"
    keys = 'mode = "asynchronous"\nbuffer = 2\nmax_staleness = 5000\nquorum = 2\nhistory = 2\n'
    path.write_text(path.read_text().replace("quorum = 2\n", keys))
    bare.run("fedge-aggregator", "model", "add", "f", bare.folder / "model.onnx", "--config", path)
    bare.start("agg", "fedge-aggregator")
    for name in ("one", "two", "three"):
        bare.agent(name)
        bare.start(name)
    return bare


def counted(fleet: Fleet) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(node, base) of every update that was acknowledged, and of every one that is in a release or still open."""
    with closing(sqlite3.connect(fleet.folder / "agg/aggregator.sqlite")) as db:
        acknowledged = db.execute("SELECT node, release FROM audit WHERE what = 'update'").fetchall()
        there = db.execute("SELECT node, base FROM updates").fetchall()
        for version, details in db.execute("SELECT version, details FROM releases"):
            nodes = json.loads(details).get("nodes", {})
            there += [(name, version - 1 - node["staleness"]) for name, node in nodes.items()]
    return sorted(acknowledged), sorted(there)


@pytest.mark.parametrize("kills", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_asynchronous_kills_lose_and_double_no_update(asynchronous: Fleet, kills: int) -> None:
    fleet, rng = asynchronous, random.Random(1)
    for i in range(kills):
        last = fleet.release()
        fleet.wait(partial(fleet.is_beyond, last + 1), f"releases after kill {i}")
        time.sleep(rng.random() / 2)  # the random moment is the point
        victim = "agg" if i % 2 == 0 else rng.choice(["one", "two", "three"])
        fleet.kill(victim)
        acknowledged, there = counted(fleet) if victim == "agg" else ([], [])
        assert acknowledged == there and len(set(there)) == len(there)
        fleet.start(victim, "fedge-aggregator" if victim == "agg" else "fedge-agent")
    fleet.kill("agg")
    acknowledged, there = counted(fleet)
    assert acknowledged == there and len(there) > 2 * kills


def test_gateway_that_was_away_counts_with_its_staleness(asynchronous: Fleet) -> None:
    fleet = asynchronous
    fleet.wait(lambda: fleet.release() >= 3, "releases")
    base = fleet.goes_away("three")
    fleet.start("agg", "fedge-aggregator")
    fleet.wait(lambda: fleet.release() >= base + 4, "releases without it")
    fleet.start("three")
    config: list[str | Path] = ["--config", fleet.folder / "agg.toml"]

    def late() -> bool:
        rows = json.loads(fleet.run("fedge-aggregator", "audit", "--json", "--what", "update", *config))
        return any(row["node"] == "three" and row["release"] == base for row in rows)

    fleet.wait(late, "its old update to be admitted")
    goal = fleet.release() + 1
    fleet.wait(lambda: fleet.release() > goal, "it to be in a release")
    assert ("three", base) in counted(fleet)[1]
    assert "asynchronous" in fleet.run("fedge-aggregator", "status", *config)


def test_agents_that_are_not_asked_train_nothing(bare: Fleet) -> None:
    path = bare.folder / "agg.toml"
    path.write_text(path.read_text().replace("quorum = 2\n", "quorum = 1\nshare = 0.4\nmargin = 0.0\n"))
    path.write_text(path.read_text().replace('deadline = "1s"', 'deadline = "1h"'))  # the share alone ends a round
    bare.run("fedge-aggregator", "model", "add", "f", bare.folder / "model.onnx", "--config", path)
    bare.start("agg", "fedge-aggregator")
    for name in ("one", "two", "three"):
        bare.agent(name)
        bare.start(name)
    bare.wait(lambda: len(bare.status("agg")["federations"]["f"]["active"]) == 3, "all three to be active")
    goal = bare.release() + 6
    bare.wait(lambda: bare.release() >= goal, "rounds of some")
    rows = json.loads(bare.run("fedge-aggregator", "rounds", "--json", "--config", path))
    assert {row["nodes"] for row in rows[-6:-1]} == {2.0}  # two fifths of three, rounded up
    refused = bare.run("fedge-aggregator", "audit", "--what", "refusal", "--config", path)
    assert "is not asked" not in refused
    bare.wait(lambda: "not asked to train" in bare.told("one"), "its status to say so")


def test_refused_update_is_explained_to_the_gateways_operator(fleet: Fleet) -> None:
    config = fleet.folder / "agg.toml"
    fleet.wait(lambda: fleet.release() >= 2, "a round")
    fleet.goes_away("two")
    config.write_text(config.read_text().replace("quorum = 2", "quorum = 1"))  # so that the other goes on alone
    fleet.start("agg", "fedge-aggregator")
    goal = fleet.release() + 1
    fleet.wait(lambda: fleet.release() > goal, "releases without it")
    path = fleet.folder / "two.toml"
    path.write_text(path.read_text().replace("min_samples = 20", "min_samples = 20000"))  # what comes of it stays
    fleet.start("two")
    fleet.wait(lambda: fleet.status("two")["models"]["f"]["update"]["outcome"] != "waiting", "an answer")
    assert "is not open: release" in fleet.told("two")
    refused = fleet.run("fedge-aggregator", "audit", "--what", "refusal", "--config", config)
    assert "of node two is not open: release" in refused


def test_two_federations_side_by_side_one_of_them_on_raw_windows_behind_a_frozen_trunk(bare: Fleet) -> None:
    fleet, tmp_path = bare, bare.folder
    raw = Card("classify", CARD.channels, WindowSpec(200, 32, 8), (), ("slow", "fast"), "slow")
    (tmp_path / "raw.onnx").write_bytes(zoo.cnn1d(raw, (4, 4), (5, 3)).SerializeToString())
    with (tmp_path / "agg.toml").open("a") as file:
        file.write("[federation.g]\nquorum = 1\n")
    config: list[str | Path] = ["--config", tmp_path / "agg.toml"]
    fleet.run("fedge-aggregator", "model", "add", "f", tmp_path / "model.onnx", *config)
    tail = ["--trainable", "conv1.*,head.*"]
    printed = fleet.run("fedge-aggregator", "model", "add", "g", tmp_path / "raw.onnx", *tail, *config)
    assert f"{4 * 4 * 3 + 4 + 4 * 2 + 2} trainable parameters" in printed
    t = np.arange(4000)
    fast = t // 400 % 2
    wave = np.sin(2 * np.pi * t * np.where(fast, 0.2, 0.02))
    rows = [f"{a:.4f},{-a:.4f},{label}" for a, label in zip(wave, fast, strict=True)]
    (tmp_path / "data.csv").write_text("\n".join(["a,b,fast", *rows]) + "\n")
    fleet.start("agg", "fedge-aggregator")
    fleet.agent("one", "f", "g")
    with (tmp_path / "one.toml").open("a") as file:
        file.write(
            """
[model.g]
poll = "100ms"
training = { interval = "300ms", min_samples = 40, learning_rate = 0.02 }
[asset.wave]
model = "g"
channels.a = { source = "csv", tag = "a" }
channels.b = { source = "csv", tag = "b" }
label = { source = "csv", tag = "fast" }
window = { max_hold = "1s", lateness = "20ms" }
"""
        )
    fleet.start("one")

    def right() -> float:
        """How much of the newest 200 labelled windows, two of each speed, it got right."""
        page = [d for d in fleet.page("one", "/decisions")["wave"] if d["actual"] is not None][-200:]
        return sum(d["label"] == raw.labels[d["actual"]] for d in page) / 200

    fleet.wait(lambda: right() > 0.9, "the second federation to learn")
    releases = {name: f["release"] for name, f in fleet.status("agg")["federations"].items()}
    assert min(releases.values()) > 1, releases
    assert fleet.end() == [0, 0]


def test_gateway_that_only_decides_needs_no_labels_and_no_aggregator(bare: Fleet) -> None:
    alone, tmp_path = bare, bare.folder
    card = Card("classify", CARD.channels, CARD.window, CARD.features, ("ok", "worn"), "ok")
    (tmp_path / "model.onnx").write_bytes(zoo.mlp(card, 6, (4,)).SerializeToString())
    rows = np.random.default_rng(0).normal(size=(1000, 2)).round(4)
    (tmp_path / "data.csv").write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in rows))
    (tmp_path / "gw.toml").write_text(
        """
[agent]
name = "gw"
state = "gw"
[source.csv]
type = "files"
path = "data.csv"
rate_hz = 200.0
at_end = "repeat"
[model.f]
file = "model.onnx"
training = { min_samples = 150 }
[asset.m]
baseline = 0
model = "f"
channels.a = { source = "csv", tag = "a" }
channels.b = { source = "csv", tag = "b" }
[output.events]
type = "log"
"""
    )
    printed = alone.run("fedge-agent", "check", "--config", tmp_path / "gw.toml")
    assert "ok   model f: learns alone" in printed and "ok   aggregator" not in printed
    alone.start("gw")
    waits = "model f: waits for 150 windows, to learn what is usual at this site (has "
    alone.wait(lambda: waits in alone.told("gw"), "what it waits for")
    alone.wait(lambda: alone.status("gw")["latency"]["decisions"] > 5, "decisions")
    status = alone.status("gw")
    assert status["models"]["f"]["waits_for"] is None and status["assets"]["m"]["last"]["label"] in ("ok", "worn")
    assert alone.end() == [0]


def test_errors_are_one_line_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[agent]\nname = "a"\nstat = "/tmp/x"\n')
    done = subprocess.run(
        [BIN / "fedge-agent", "check", "--config", tmp_path / "bad.toml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "did you mean 'state'" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run(
        [BIN / "fedge-agent", "status", "--config", tmp_path / "none.toml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_init_writes_what_check_can_read(tmp_path: Path) -> None:
    for program in ("fedge-agent", "fedge-aggregator"):
        command: list[str | Path] = [BIN / program, "init", "--config", tmp_path / f"{program}.toml"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "written" in done.stdout
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert again.returncode == 1 and "was left as it is" in again.stderr
