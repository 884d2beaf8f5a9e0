"""What flows through the agent, and the contracts of a Source and an Output.

Times are integer nanoseconds since the Unix epoch on the *source's* clock (a PLC's clock may be wrong; the agent
never compares it with its own), except ``received_ns``, which is ``time.monotonic_ns()`` of this process.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from fedge_models.system.structs import known
from numpy.typing import NDArray

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]  # a picture: (height, width), or (height, width, 3) in red, green, blue


class Quality(enum.IntEnum):
    """Of one reading, from the source's own status code."""

    GOOD = 0
    UNCERTAIN = 1  # used, and counted
    BAD = 2  # never used: the channel has no value from here until the next good reading


class Reading(NamedTuple):
    """One value of one tag. A waveform block is a 1-d float32 array whose *last* sample was taken at `time_ns`; a
    picture is an array of bytes."""

    tag: str
    time_ns: int
    value: float | Array | Pixels | str
    quality: Quality = Quality.GOOD


class Batch(NamedTuple):
    """What a source hands over at once, in source time order per tag."""

    source: str
    readings: Sequence[Reading]
    # OPC UA and the like send a value only when it changes. Until this source time, every tag with no newer reading
    # is known to be unchanged; None: nothing is known beyond the readings themselves.
    alive_ns: int | None
    received_ns: int
    # The first of a new connection: whatever was known of the source ended with its last batch.
    fresh: bool = False
    kept: int = 0  # its row in the inbox; 0: it is kept nowhere


class Window(NamedTuple):
    """`length` samples of every channel of an asset on a fixed grid, oldest first."""

    asset: str
    end_ns: int  # source time of the last sample
    values: NDArray[Any]  # (channels, length) float32, NaN where no valid value is known; or a prepared picture
    missing: float  # fraction of the cells that are NaN
    label: float | str | tuple[float, ...] | None  # a state only where it was constant
    received_ns: int  # when the reading that completed the window arrived


@known
class Decision(msgspec.Struct, frozen=True):
    """What the model says of one window."""

    asset: str
    model: str
    release: int  # version that decided; 0: the model file as delivered
    time_ns: int  # end of the window
    score: float  # anomaly: mean squared reconstruction error; classify: 1 - P(normal label); regress: see `inference`
    threshold: float  # what `score` is compared with; inf while the site has none yet
    label: str  # classify: the most probable class; anomaly: "normal" or "anomaly"; regress: the target in alarm
    missing: float
    latency_s: float  # from `received_ns` to this decision
    channel: str = ""  # anomaly: the channel that is furthest from what is usual for it
    values: dict[str, float] = {}  # regress: each target's estimate, in its unit
    bounds: dict[str, tuple[float, float]] = {}  # regress: between which it is, with the configured confidence
    hours_left: float | None = None  # regress: until a target reaches its alarm level; None: none is on its way there
    hours_left_at_least: float | None = None  # with the configured confidence
    context: dict[str, str] = {}  # what was made at the window's end: job, product, recipe, part, as configured


@known
class Event(msgspec.Struct, frozen=True):
    """A change of an asset's alert: opened, raised while open, cleared. `key` is the same for all and never reused."""

    key: str  # "gateway:model:asset:number", the idempotency key of whatever is made of it
    state: str  # "opened" | "raised" (the severity rose) | "cleared"
    asset: str
    model: str
    release: int
    time_ns: int
    score: float  # worst so far
    threshold: float
    label: str
    channel: str = ""  # of the decision that made this event
    values: dict[str, float] = {}
    hours_left: float | None = None
    hours_left_at_least: float | None = None
    context: dict[str, str] = {}
    severity: str = "low"  # "low" | "medium" | "high": the highest so far, from score and persistence
    since_ns: int = 0  # end of the first window of those in a row that made this event; 0: not known


SEVERITIES = ("low", "medium", "high")  # of an event


@known
class AlertState(msgspec.Struct, frozen=True):
    """State of an asset's alert that must survive a restart, so that kill -9 neither repeats nor forgets an event."""

    number: int = 0  # of the last event
    opened: bool = False
    opened_at: float = 0.0  # Unix time of the last opening, s; 0: never
    worst: float = 0.0  # highest score of the open event
    opened_ns: int = 0  # source time of the last opening
    severity: int = 0  # of the open event, an index of SEVERITIES
    time_ns: int = 0  # end of the newest window that this state includes
    above: int = 0  # consecutive windows above the limit
    below: int = 0  # consecutive windows below it
    above_ns: int = 0  # end of the first window of those above
    below_ns: int = 0  # end of the first window of those below


class Label(NamedTuple):
    """What became known of an asset for a span of source time, however late. Kept and joined by `labels.LabelBook`.

    It is of the windows that lie in the span or, where the span is the shorter one, that the span lies in.
    """

    asset: str
    start_ns: int  # source time, both ends included
    end_ns: int
    value: str | float  # a label name of the card, or what the asset's `label.map` turns into one; regress: the target
    origin: str  # whose word it is, the most believed first: "hand", "inspection", "mes", "plc"
    part: str = ""  # of the windows, ending in the span, while this was the asset's `context.part`


class SourceHost(Protocol):
    """What the host gives a running source. Thread-safe, never blocks."""

    stop: threading.Event  # set: return from run() within a second

    def emit(self, readings: Sequence[Reading], alive_ns: int | None = None) -> None:
        """Hand over readings. When the agent cannot keep up the oldest batch is dropped and counted."""

    def keep(
        self,
        readings: Sequence[Reading],
        alive_ns: int | None = None,
        receipts: Sequence[bytes] = (),
        continued: bool = False,
    ) -> None:
        """Hand over readings that survive kill -9 once this returns: then acknowledge them. Waits for the disk, and
        while the agent cannot keep up. When the disk takes nothing it hands them over all the same, and says so.

        `receipts`: by which their messages are known when they are sent again; `continued`: this connection goes on
        where the last one ended, with nothing lost between them.
        """

    def receipts(self) -> list[bytes]:
        """Receipts of the newest messages that were kept, oldest first, those of earlier processes too."""

    def problem(self, subject: str, text: str | None) -> None:
        """State (or with None: withdraw) a problem in the operator's words, shown in `status` under `subject`."""

    def count(self, what: str, by: int = 1) -> None:
        """Count input that could not be used, by what was wrong with it; shown in `status`."""

    def waiting(self) -> int:
        """Batches, of all sources, that the agent has not yet taken in: a source of large values waits for fewer."""

    @property
    def folder(self) -> Path:
        """A folder of this source's own that outlives a restart."""


class Source(Protocol):
    """Reads tags. Built from its config table by the registry; small, because the host does the rest.

    The host guarantees: run() is called in a thread of its own; when it raises RetryError (connection lost, data too
    old) the host counts, backs off with jitter and calls run() again, which starts with a fresh connection; any other
    exception is logged with its traceback and treated alike, and never stops another source. Tags are unique.
    """

    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """Connect, deliver the tags until `host.stop`. Raises RetryError, or ConfigError when retrying is pointless."""

    def check(self, tags: Sequence[str]) -> list[str]:
        """Try the connection and each tag without side effects; problems in the operator's words, [] when fine."""


class Output(Protocol):
    """Delivers events. The host guarantees: one thread per output, events of one asset in order, each event spooled
    durably before deliver() sees it, at least once, with the same `key` each time; back-off with jitter after
    RetryError, for ever; after RefusedError the event is set aside, counted and shown in `status`.

    An output may also have, and the host then calls, in the output's own thread unless said otherwise:
    ``begin(folder)`` before anything else, with a folder of the state to keep things in (again after RetryError);
    ``collect() -> Iterator[Label]`` every ``poll`` seconds while nothing waits: what became known at the target; a
    label is kept durably before the next one is asked for; ``show(decision)`` while nothing waits: the newest decision
    of an asset, at most ten times a second, older ones being passed over; ``end()`` when all is over; ``status() ->
    dict`` in any thread, for the status page.
    """

    def deliver(self, event: Event) -> None:
        """Deliver one event or raise RetryError (try again) or RefusedError (never again)."""

    def check(self) -> list[str]:
        """Try the target without side effects; problems in the operator's words, [] when fine."""


Table = dict[str, Any]  # one table of the configuration, before its type is known
