# SPDX-License-Identifier: Apache-2.0
"""Whatever a running agent counts as lost, late, refused or left out is in the text of `status`, too."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.cli.status_lines import lines
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.programs import Programs

CONFIG = """
[agent]
name = "gw"
state = "gw"
[source.s]
type = "files"
path = "d.csv"
[model.m]
file = "m.onnx"
[asset.a]
model = "m"
channels.temp = { source = "s", tag = "temp" }
[output.o]
type = "log"
"""
USED = {"readings", "windows", "uncertain", "history"}  # counters of an asset that count no loss
OF_ASSETS = (
    *(
        "windows_undefined",
        "windows_undecided",
        "windows_waiting",
        "unjudged",
        "alarms_held",
        "windows_thinned",
        "samples_crowded",
    ),
    "samples_repeated",
)
OF_OUTPUTS = ("refused", "skipped", "withheld", "overflowed", "pending")
MANY = 7777


@pytest.fixture(scope="module")
def status(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The status of a real agent."""
    folder = tmp_path_factory.mktemp("agent")
    card = Card("anomaly", (Channel("temp"),), WindowSpec(1.0, 10, 5))
    (folder / "m.onnx").write_bytes(zoo.autoencoder(card, [1, 10], (2,)).SerializeToString())
    (folder / "d.csv").write_text("temp\n" + "20\n" * 50)
    (folder / "gw.toml").write_text(CONFIG)
    programs = Programs(folder)
    programs.start("gw")
    programs.wait(lambda: "late" in programs.status("gw")["assets"]["a"]["counters"], "its windows")
    yield programs.status("gw")
    assert programs.end() == [0]


def losses(status: dict[str, Any]) -> list[tuple[str, ...]]:
    """Where the status counts what is lost."""
    counters = status["assets"]["a"]["counters"]
    made: list[tuple[str, ...]] = [("assets", "a", "counters", kind) for kind in counters if kind not in USED]
    made += [("assets", "a", kind) for kind in OF_ASSETS]
    made += [("outputs", "o", kind) for kind in OF_OUTPUTS]
    made += [("lost", kind) for kind in status["lost"]]
    made += [("labels", "a", k) for k, n in status["labels"]["a"].items() if isinstance(n, int)]
    made += [("sources", "s", "counts", "anything"), ("inbox", "unreadable"), ("inbox", "set_aside")]
    return [
        *made,
        ("event_book", "trimmed"),
        ("models", "m", "left_out"),
        ("models", "m", "samples_before"),
        ("models", "m", "samples_without_label"),
        ("models", "m", "decided_by_one"),
    ]


def test_each_loss_is_in_the_text(status: dict[str, Any]) -> None:
    found = losses(status)
    assert len(found) > 25 and ("assets", "a", "counters", "late") in found and ("lost", "samples") in found
    missing = []
    for path in found:
        table = copy.deepcopy(status)
        place: Any = table
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = MANY
        text = "\n".join(map(str, lines(table, Path("gw.toml"))))
        if not any(number in text for number in (str(MANY), f"{MANY:,}")):
            missing.append(path)
    assert missing == []


def test_nothing_is_lost_at_the_start(status: dict[str, Any]) -> None:
    text = "\n".join(map(str, lines(status, Path("gw.toml"))))
    assert "LOST" not in text and "not stored" not in text


def test_what_becomes_of_tensors_that_stay_here_is_said(status: dict[str, Any]) -> None:
    table, said = copy.deepcopy(status), []
    for value in (None, "offered", "private", "incomplete", "not allowed", "untrained"):
        table["models"]["m"] |= {"start_value": value, "release": 7, "waits_for": None}
        said.append("\n".join(map(str, lines(table, Path("gw.toml")))))
    assert "the start of new sites" not in said[0]
    assert ", offers its own tensors as the start of new sites," in said[1]
    assert ", offers none of its own tensors as the start of new sites, as privacy is set," in said[2]
    assert ", offers none of its own tensors as the start of new sites, as it has not met every class," in said[3]
    assert "; the model asks sites for a start value of its local tensors" in said[4]
    assert "this gateway does not offer its own: offer_start is false" in said[4]
    assert ", has offered none of its own tensors as the start of new sites since the agent was started," in said[5]


def test_a_refused_release_is_in_the_text_and_a_problem_where_it_lasts(status: dict[str, Any]) -> None:
    table = copy.deepcopy(status)
    text = "refused release 36: held-back loss 0.067 against 0.053 of release 33, which remains in service; 3 in a row"
    for problem in (None, text):
        table["models"]["m"] |= {"refused": {"text": text}, "problem": problem, "release": 33, "waits_for": None}
        [line] = [found for found in lines(table, Path("gw.toml")) if found.text.startswith("model m")]
        assert str(line).count(text) == 1 and line.problems == ((problem,) if problem else ())


def test_what_the_own_model_knows_nothing_of_is_named(status: dict[str, Any]) -> None:
    table = copy.deepcopy(status)
    left = {"broken": 1.0, "worn": 0.05}
    table["models"]["m"] |= {"own_share": 1.0, "left_to_release": left, "release": 7, "waits_for": None}
    text = "\n".join(map(str, lines(table, Path("gw.toml"))))
    said = "broken, worn (with 5% of its weight: the release reports it in samples of other labels) left to the release"
    assert f"clearly worse here, {said} for want of samples" in text
