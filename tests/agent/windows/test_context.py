# SPDX-License-Identifier: Apache-2.0
"""What a machine was making: context at a window's end, on decisions and samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedge_agent.config.schema import AssetConfig, LabelConfig, ModelConfig, TagConfig, Training, When
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.machines.asset import Asset
from fedge_agent.machines.routing import Routes
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Event, Quality, Reading
from fedge_agent.windows.context import MAX_CHARACTERS, Context, plain
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system.settings import Seconds
from support.databases import rows

S = 1_000_000_000
T0 = 1_700_000_000 * S
CARD = Card("anomaly", (Channel("a"),), WindowSpec(1, 4, 2), ("mean", "std"))


def tag(name: str, source: str = "plc") -> TagConfig:
    return TagConfig(source=source, tag=name)


def observe(context: Context, name: str, at: float, value: object, source: str = "plc", bad: bool = False) -> None:
    quality = Quality.BAD if bad else Quality.GOOD
    context.take(Batch(source, [Reading(name, T0 + round(at * S), value, quality)], None, 0))  # type: ignore[arg-type]


def test_a_value_holds_from_its_time_until_the_next() -> None:
    context = Context({"job": tag("j"), "part": tag("p", "line")})
    observe(context, "j", 0, "J1")
    observe(context, "p", 5, 4711.0, "line")
    observe(context, "j", 10, "J2")
    observe(context, "p", 3, "elsewhere", "plc")  # a tag of another source
    assert context.at(T0 - 1) == {"job": "", "part": ""}
    first = context.at(T0 + 5 * S)
    assert first == {"job": "J1", "part": "4711"}
    assert context.at(T0 + 9 * S) is first  # nothing is made again while nothing changes
    assert context.at(T0 + 10 * S) == {"job": "J2", "part": "4711"}
    assert first["job"] == "J1"  # decisions keep theirs
    observe(context, "j", 11, "", bad=True)
    assert context.at(T0 + 11 * S)["job"] == ""


def test_what_was_last_reported_outlives_a_restart(tmp_path: Path) -> None:
    config = AssetConfig(model="m", channels={"a": tag("a")}, context={"job": tag("j")})
    before = Press(tmp_path, config)
    before.run(0, 40, job="J1")
    mark = before.asset.checkpoint()
    before.close()
    after = Press(tmp_path, config)
    after.asset.resume(mark)
    after.part.model.rescale()
    after.run(40, 60)
    assert {d["context"]["job"] for d in after.asset.recent()} == {"J1"}
    after.close()


def test_tags_of_several_sources_come_in_any_order() -> None:
    context = Context({"job": tag("j"), "part": tag("p", "line")})
    observe(context, "j", 10, "J2")
    observe(context, "p", 5, "A", "line")
    assert context.at(T0 + 5 * S) == {"job": "", "part": "A"}
    assert context.at(T0 + 10 * S) == {"job": "J2", "part": "A"}


def test_a_clock_that_is_set_back() -> None:
    context = Context({"job": tag("j")})
    observe(context, "j", 3600, "ahead")
    observe(context, "j", 10, "J1")
    assert context.at(T0 + 20 * S) == {"job": "J1"}
    assert context.at(T0 + 3600 * S) == {"job": "J1"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4711.0, "4711"), (4711, "4711"), (0.5, "0.5"), (1e15 + 1, "1000000000000001"), (1e300, "1e+300"), (-3.0, "-3"),
        (" A 1 ", "A 1"), ("", ""), ("ü" * MAX_CHARACTERS, "ü" * MAX_CHARACTERS), ("'; DROP TABLE", "'; DROP TABLE"),
        ("x" * (MAX_CHARACTERS + 1), None), ("a\nb", None), ("a\0b", None), ("\x1b[31m", None), ("\u202eabc", None),
        (float("nan"), None), (float("inf"), None), (np.zeros(3), None), (None, None), ({"a": 1}, None),
    ],
)  # fmt: skip
def test_values_are_short_printed_text_or_unknown(value: object, text: str | None) -> None:
    assert plain(value) == text
    context = Context({"job": tag("j")})
    observe(context, "j", 0, "before")
    observe(context, "j", 1, value)
    assert context.at(T0 + S) == {"job": text or ""} and context.refused == (text is None)


class Press:
    """One machine with a model file, no aggregator."""

    def __init__(self, folder: Path, config: AssetConfig) -> None:
        (folder / "m.onnx").write_bytes(zoo.autoencoder(CARD, 2, (2,)).SerializeToString())
        self.events: list[Event] = []
        self.samples, self.spool = SampleStore(folder / "samples.sqlite", {"m": 1000}), Spool(folder / "spool.sqlite")
        model = ModelConfig(file=folder / "m.onnx", training=Training(min_samples=4))
        self.part = Participant(
            "m", model, folder / "models", self.samples, self.spool, None, None, lambda *_: None,
            lambda _: False,
        )  # fmt: skip
        self.part.restore()
        self.routes = Routes({"plc": None}, {"press": config})
        self.asset = Asset(
            "gw", "press", config, self.part, self.samples, Latency(), AlertState(), lambda e, _: self.events.append(e)
        )

    def run(self, first: int, last: int, level: float = 0.0, job: str | None = None) -> None:
        for t in range(first, last):
            readings = [Reading("a", T0 + t * S, level + t % 3)]
            if job is not None and t == first:
                readings = [Reading("j", T0 + t * S, job), *readings]
            for part in self.routes.divide(Batch("plc", readings, None, 0)):
                self.asset.push(part.windows, part.context)
        self.samples.flush()

    def close(self) -> None:
        self.samples.stop()
        self.spool.close()


def test_decisions_events_and_samples_have_their_context(tmp_path: Path) -> None:
    config = AssetConfig(
        model="m", channels={"a": tag("a")}, context={"job": tag("j"), "part": tag("j")}, when=When(for_windows=1)
    )
    press = Press(tmp_path, config)
    press.run(0, 40, job="J1")
    press.part.model.rescale()
    press.run(40, 60, job="J2")
    press.run(60, 80, level=1e6, job="J3")
    jobs = {d["time_ns"]: d["context"]["job"] for d in press.asset.recent()}
    assert {jobs[T0 + t * S] for t in range(41, 60, 2)} == {"J2"} and jobs[T0 + 61 * S] == "J3"
    assert press.events[0].state == "opened" and press.events[0].decision.context == {"job": "J3", "part": "J3"}
    stored = rows(tmp_path / "samples.sqlite", "SELECT part, time_ns, span_ns FROM samples ORDER BY id")
    assert {p for p, *_ in stored} == {"J1", "J2", "J3"} and {s for *_, s in stored} == {4 * S}
    press.close()


@pytest.mark.parametrize(
    ("label", "stored"),
    [
        (None, True),  # none is expected
        (LabelConfig(map={"NFF": "normal"}), True),
        (LabelConfig(source="plc", tag="l"), False),
        (LabelConfig(source="plc", tag="l", late=Seconds(3600)), True),
        (LabelConfig(late=Seconds(3600)), True),
    ],
)
def test_windows_without_a_label_are_stored_when_none_is_expected_or_it_may_be_late(
    tmp_path: Path, label: LabelConfig | None, stored: bool
) -> None:
    press = Press(tmp_path, AssetConfig(model="m", channels={"a": tag("a")}, label=label))
    press.run(0, 40)
    assert (press.samples.total.get("m", 0) > 0) == stored
    assert press.asset.config.labelled == (label is not None and (bool(label.source) or label.late is not None))
    press.close()
