# SPDX-License-Identifier: Apache-2.0
"""What a power cut costs, measured on a real file system: nothing that was acknowledged, and samples since a sync."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fedge_agent.durable.inbox import Inbox
from fedge_agent.durable.spool import Spool
from fedge_agent.samples import tables
from support.disks import PowerCutDisk

WRITER = """
import sys
from pathlib import Path
import numpy as np
from fedge_agent.durable.inbox import Inbox
from fedge_agent.durable.spool import Spool
from fedge_agent.samples import store
from fedge_agent.samples.sample_table import Sample
from fedge_agent.types import AlertState, Decision, Event, Reading
from fedge_models.system import files
folder = Path(sys.argv[1])
spool, inbox = Spool(folder / "spool.sqlite"), Inbox(folder / "inbox.sqlite", 1 << 24, 1e9)
samples, decision = store.SampleStore(folder / "samples.sqlite", {}), Decision("p", "m", 1, 0, 1.0, 1.0, "", 0.0, 0.0)
for i in range(40):
    spool.put_event(["mes"], Event(f"k{i}", "opened", decision, 1.0), AlertState(i))
    inbox.store("s", [Reading("t", i, 1.0)])
    files.write(folder / "release", b"%d" % i)
    samples.put(Sample("m", "p", i, np.zeros(4, np.float32), None, False))
    samples.flush()
    if i == 19:
        samples.tables.sync()
    print(i, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def disk_with_power(tmp_path: Path) -> Iterator[PowerCutDisk]:
    with PowerCutDisk(tmp_path / "disk") as made:
        yield made


@pytest.mark.slow
def test_a_power_cut_costs_nothing_that_was_acknowledged_and_samples_since_the_last_sync(
    disk_with_power: PowerCutDisk,
) -> None:
    folder = disk_with_power.folder
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    while writer.stdout.readline() != "39\n":
        assert writer.poll() is None
    disk_with_power.cut(writer)
    with closing(Spool(folder / "spool.sqlite")) as spool:
        assert spool.counts("mes")["pending"] == 40 and spool.alert_state("p").number == 39
    with closing(Inbox(folder / "inbox.sqlite", 1 << 24, 1e9)) as inbox:
        assert [b.readings[0].time_ns for b in inbox.replay()] == [*range(40)]
    assert (folder / "release").read_bytes() == b"39"
    with closing(tables.open_tables(folder / tables.SAMPLES_FILE, "samples", "NORMAL")) as stored:
        found = [time_ns for (time_ns,) in stored.rows("SELECT time_ns FROM samples ORDER BY id")]
    assert found[:20] == [*range(20)]
