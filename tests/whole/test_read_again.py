# SPDX-License-Identifier: Apache-2.0
"""Rows that are read again after kill -9 add no sample, no label and no operation: with the real agent."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.databases import rows
from support.gateway import JOURNAL, Gateway

CARD = Card("anomaly", (Channel("temp"),), WindowSpec(1.0, 10, 10), ("mean", "std"))
BEGIN, STEP = datetime(2026, 3, 2, 6, tzinfo=timezone.utc), timedelta(seconds=1)
WINDOWS, KILLS = 240, 3
BASELINE_S = 1200


class Labelled(Gateway):
    """A machine whose logger also writes whether all is well; its baseline is half of what is written."""

    def __init__(self, folder: Path) -> None:
        config = f"""
[source.log]
type = "files"
path = "log.csv"
time_column = "time"
tail = true
start = "begin"
[model.m]
file = "model.onnx"
training = {{ min_samples = 20 }}
[asset.pump]
model = "m"
baseline = "{BASELINE_S}s"
channels.temp = {{ source = "log", tag = "temp" }}
label = {{ source = "log", tag = "state", map = {{ "0" = "normal", "1" = "anomaly" }} }}
{JOURNAL}
"""
        super().__init__(folder, "pump", config, zoo.autoencoder(CARD, 2, (1,)))
        self.samples, self.position = folder / "gw/samples.sqlite", folder / "gw/sources/log/position.json"

    def write(self, first: int, end: int) -> None:
        """Append the rows of these windows."""
        path = self.folder / "log.csv"
        begin = "" if path.exists() else "time,temp,state\n"
        with path.open("a") as file:
            file.write(begin + "".join(map(_row, range(10 * first, 10 * end))))

    def stored(self) -> int:
        return len(rows(self.samples, "SELECT 1 FROM samples")) if self.samples.exists() else 0

    def labels(self) -> dict[int, int | None]:
        """The label of each stored window, by its time."""
        return dict(rows(self.samples, "SELECT time_ns, y FROM samples"))

    def newest(self) -> int:
        """Which window the newest sample is of."""
        [(newest,)] = rows(self.samples, "SELECT max(time_ns) FROM samples")
        return round((newest / 1e9 - BEGIN.timestamp()) / 10)

    def assert_each_window_is_stored_once(self) -> None:
        assert rows(self.samples, "SELECT time_ns, count(*) FROM samples GROUP BY 1 HAVING count(*) > 1") == []
        [(covered,)] = rows(self.samples, "SELECT covered_ns FROM baselines")
        assert covered <= WINDOWS * 10 * 10**9


def _row(number: int) -> str:
    value = 20 + math.sin(number / 7) + random.Random(number).gauss(0, 0.2)
    return f"{(BEGIN + number * STEP).isoformat()},{value:.3f},{int(number % 500 >= 450)}\n"


@pytest.fixture
def labelled(tmp_path: Path) -> Iterator[Labelled]:
    made = Labelled(tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize("lost", ["nothing", "position", "position and inbox"])
def test_killed_again_and_again_each_window_is_one_sample(labelled: Labelled, lost: str) -> None:
    part, before = WINDOWS // (KILLS + 1), dict[int, int | None]()
    for kill in range(KILLS):
        labelled.write(kill * part, (kill + 1) * part)
        labelled.start("gw")
        labelled.wait(lambda: labelled.stored() >= (kill + 0.5) * part, "half of the part")  # noqa: B023  # at once
        labelled.kill("gw")
        before |= labelled.labels()
        if lost != "nothing":  # a copy of the folder that was made meanwhile, or a person who starts over
            labelled.position.unlink(missing_ok=True)
        for path in (labelled.folder / "gw").glob("inbox.sqlite*") if "inbox" in lost else ():
            path.unlink()
    labelled.write(KILLS * part, WINDOWS)
    labelled.start("gw")
    labelled.wait(lambda: labelled.newest() >= WINDOWS - 3, "the last windows")
    again = labelled.asset()["samples_repeated"]
    assert (again > part) == (lost != "nothing"), again
    labelled.kill("gw")
    labelled.assert_each_window_is_stored_once()
    cut = KILLS if lost == "nothing" else 0  # windows that a kill cut in two, where no row is read again
    assert WINDOWS - 3 - cut <= labelled.stored() <= WINDOWS
    after = labelled.labels()
    assert {time_ns: after[time_ns] for time_ns in before} == before
    assert None not in after.values() and sum(y == 1 for y in after.values()) >= 10
