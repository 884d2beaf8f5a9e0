# SPDX-License-Identifier: Apache-2.0
"""What flows through the agent, and the contracts of a Source and an Output.

Times are integer nanoseconds since the Unix epoch on the *source's* clock (a PLC's clock may be wrong; the agent
never compares it with its own), except ``received_ns``, which is ``time.monotonic_ns()`` of this process.
"""

from __future__ import annotations

import abc
import enum
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

import msgspec
import numpy as np
from fedge_models.system.structs import known
from numpy.typing import NDArray

Array = NDArray[np.float32]
Values = NDArray[Any]  # what was measured: float64, or float32 where nothing is lost by it
Pixels = NDArray[np.uint8]  # a picture: (height, width), or (height, width, 3) in red, green, blue


class Quality(enum.IntEnum):
    """Of one reading, from the source's own status code."""

    GOOD = 0
    UNCERTAIN = 1  # used, and counted
    BAD = 2  # never used: the channel has no value from here until the next good reading


class Reading(NamedTuple):
    """One value of one tag. A waveform block is a 1-d array of floats whose *last* sample was taken at `time_ns`; a
    picture is an array of bytes."""

    tag: str
    time_ns: int
    value: float | Values | Pixels | str
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
    inbox_row: int = 0  # 0: it is not in the inbox, and would not survive a kill
    unsure: frozenset[str] = frozenset()  # tags that may have changed before `alive_ns` without a reading
    # What the readings are stored in: to read it again gives them again. Empty: it has the same name every day. None:
    # they are of now, and come once.
    origin: str | None = None
    history: bool = False  # the source kept them, and sends them afterwards: of a time that may be decided on already


class Window(NamedTuple):
    """`length` samples of every channel of an asset on a fixed grid, oldest first."""

    asset: str
    end_ns: int  # source time of the last sample
    values: NDArray[Any]  # (channels, length) float64, NaN where no valid value is known; or a prepared picture
    missing: float  # fraction of the cells that are NaN
    label: float | str | tuple[float, ...] | None  # a state only where it was constant
    received_ns: int  # when the reading that completed the window arrived
    origin: str | None = None  # of the readings that completed it, as in `Batch`, where all its sources have one


@known
class Decision(msgspec.Struct, frozen=True):
    """What the model says of one window."""

    asset: str
    model: str
    release: int  # version that decided; 0: the model file as delivered
    time_ns: int  # end of the window
    # anomaly: mean squared reconstruction error; classify: 1 - P(normal label); multilabel: the largest ratio of a
    # label's probability to its limit; regress: see `serving`
    score: float
    threshold: float  # what `score` is compared with; inf while the site has none yet
    # classify: the most probable class; multilabel: every label above its limit, with ";" between them, or "normal";
    # anomaly: "normal", "anomaly" or (without a threshold) "unknown"; regress: the target in alarm
    label: str
    missing: float
    latency_s: float  # from `received_ns` to this decision
    channel: str = ""  # anomaly: the channel that is furthest from what is usual for it
    values: dict[str, float] = {}  # regress: each target's estimate, in its unit; multilabel: each label's probability
    bounds: dict[str, tuple[float, float]] = {}  # regress: between which it is, with the configured confidence
    hours_left: float | None = None  # regress: until a target reaches its alarm level; None: none is on its way there
    hours_left_at_least: float | None = None  # with the configured confidence
    context: dict[str, str] = {}  # what was made at the window's end: job, product, recipe, part, as configured
    provisional: bool = False  # the threshold was made before the machine's baseline was complete
    bounds_for: str = ""  # "new unit": the bounds hold for a run, day or machine with no data yet; or "same unit"
    learnt: float = 0.0  # the threshold before codes and a new run moved it; 0: it is not known, or was not learnt


@known
class Event(msgspec.Struct, frozen=True):
    """A change of an asset's alert: opened, raised while open, cleared."""

    # "gateway:model:asset:name" (`event_names`): the same from opened to cleared, and when the same rows are read
    # again; never used for another event. An idempotency key.
    key: str
    state: str  # "opened" | "raised" (the severity rose) | "cleared"
    decision: Decision  # the one that made this event
    worst: float  # score since the event was opened
    severity: str = "low"  # "low" | "medium" | "high": the highest so far, from score and persistence
    since_ns: int = 0  # end of the first window of those in a row that made this event; 0: not known
    # "alert"; SILENT: the machine decided, and does so no more (opened), or again (cleared); DRIFT: its inputs are
    # outside what was learnt, or its run is unlike those of its limit (opened), or no more (cleared); QUESTION:
    # somebody is asked what a window was (opened), and need not answer any more (cleared).
    kind: str = "alert"
    reason: str = ""  # SILENT: why, in words; DRIFT: what; QUESTION: the question
    beside: bool = False  # another alert (or drift) of the asset is open: of now, or of a history sent afterwards
    moved: float = 0.0  # DRIFT of inputs: how far the channel is outside what was learnt, in its usual spreads

    @property
    def alert(self) -> bool:
        """Whether the asset is in alarm after this event; one that is silent, or drifts, may be, or not."""
        return self.kind == ALERT and (self.state != "cleared" or self.beside)

    @property
    def lane(self) -> str:
        """Among which events it keeps its order: an alarm waits for no question about the same machine."""
        return f"{self.decision.asset} ({QUESTION})" if self.kind == QUESTION else self.decision.asset

    @property
    def silent(self) -> bool:
        """Whether the asset is silent after this event."""
        return self.kind == SILENT and self.state != "cleared"

    @property
    def drifts(self) -> bool:
        """Whether the asset's inputs, or its run, are unlike what was learnt after this event."""
        return self.kind == DRIFT and (self.state != "cleared" or self.beside)


ALERT = "alert"  # kind of an event
# The same, and how the last part of its key begins; of the first two, the label of its decision.
SILENT, DRIFT, QUESTION = "silent", "drift", "question"


def kind_of(key: str) -> str:
    """Kind of the event with this key."""
    name = key.rpartition(":")[2]
    return next((kind for kind in (SILENT, DRIFT, QUESTION) if name.startswith(f"{kind}-")), ALERT)


SEVERITIES = ("low", "medium", "high")  # of an event


@known
class AlertState(msgspec.Struct, frozen=True):
    """State of an asset's alert that must survive a restart, so that kill -9 neither repeats nor forgets an event."""

    number: int = 0  # of the last event
    opened: bool = False
    worst: float = 0.0  # highest score of the open event
    opened_ns: int = 0  # source time of the last opening; 0: never, or the clock was set back since
    severity: int = 0  # of the open event, an index of SEVERITIES
    time_ns: int = 0  # end of the newest window that this state includes
    above: int = 0  # consecutive windows above the limit
    below: int = 0  # consecutive windows below it
    above_ns: int = 0  # end of the first window of those above
    below_ns: int = 0  # end of the first window of those below
    run: str = ""  # the start of the agent that opened the last event, as its key names it
    name: str = ""  # of the last event in its key, where it follows from what was read (`event_names`)
    above_name: str = ""  # that of the event that the windows above the limit would open
    labels: str = ""  # multilabel: those that the open event names
    lasted_ns: int = 0  # how long the last event was open, once it is over; 0: not known


@known
class SilenceState(msgspec.Struct, frozen=True):
    """State of an asset's silence that must survive a restart: kill -9 neither repeats nor forgets its event."""

    number: int = 0  # of the last event
    opened: bool = False
    decided: bool = False  # it decided since this was first stored: only then it can fall silent
    silent_s: float = 0.0  # how long it has been silent while the gateway ran, s
    time_ns: int = 0  # end of the last window that was decided on
    model: str = ""  # that decided on it
    release: int = 0
    run: str = ""  # the start of the agent that opened the last event, as its key names it


@known
class UnlikeState(msgspec.Struct, frozen=True):
    """State of the event that an asset's run is unlike those its limit was made from."""

    number: int = 0  # of the last event
    opened: bool = False
    since_ns: int = 0  # end of the first window of that run
    time_ns: int = 0  # end of the window that opened or ended it
    reason: str = ""
    run: str = ""  # the start of the agent that opened it, as its key names it


@known
class DriftState(msgspec.Struct, frozen=True):
    """State of the drift of an asset's inputs that must survive a restart: kill -9 neither repeats nor forgets it."""

    number: int = 0  # of the last event
    opened: bool = False
    since_ns: int = 0  # source time of the first block outside, of the open event
    time_ns: int = 0  # end of the newest window that this state includes
    reason: str = ""  # of the open event
    channel: str = ""  # furthest outside
    moved: float = 0.0
    run: str = ""  # the start of the agent that opened the last event, as its key names it
    low: list[float] = []  # range of blocks that was accepted as normal (`learning.reference`): (2, columns), in a row
    high: list[float] = []
    unlike: UnlikeState = UnlikeState()


EventState = AlertState | SilenceState | DriftState  # what an event leads to; stored with it


class Label(NamedTuple):
    """What is known of an asset for a span of source time, however late it became known.

    It applies to the windows that lie in the span or, where the span is shorter than a window, to those that hold it.
    """

    asset: str
    start_ns: int  # source time, both ends included
    end_ns: int
    # A label name of the card (multilabel: several, with ";" between them), or what the asset's `label.map` turns into
    # one; regress: the target.
    value: str | float
    origin: str  # whose word it is, the most believed first: "hand", "inspection", "mes", "plc"
    part: str = ""  # of the windows, ending in the span, while this was the asset's `context.part`


class SourceHost(Protocol):
    """What the host offers a running source. Thread-safe; only `store` blocks."""

    stop: threading.Event  # set: return from run() within a second

    def emit(
        self,
        readings: Sequence[Reading],
        alive_ns: int | None = None,
        unsure: frozenset[str] = frozenset(),
        origin: str | None = None,
        history: bool = False,
    ) -> None:
        """Hand over readings. When the agent cannot keep up, the oldest batch is dropped and counted.

        unsure: the tags of which `alive_ns` says nothing. origin, history: as in `Batch`.
        """

    def store(
        self,
        readings: Sequence[Reading],
        alive_ns: int | None = None,
        receipts: Sequence[bytes] = (),
        continued: bool = False,
        origin: str | None = None,
    ) -> None:
        """Hand over readings that survive kill -9 once this returns: acknowledge their messages then.

        Waits for the disk, and while the agent cannot keep up. When the disk accepts nothing, the readings are handed
        over nevertheless, and a problem is stated.

        receipts: identify the messages when they are sent again. continued: this connection resumes the last one, with
        nothing lost between them. origin: as in `Batch`.
        """

    def receipts(self) -> list[bytes]:
        """Receipts of the newest messages that were stored, oldest first, those of earlier processes too."""

    def problem(self, subject: str, text: str | None) -> None:
        """State (or with None: withdraw) a problem in the operator's words, shown in `status` under `subject`."""

    def note(self, subject: str, text: str | None) -> None:
        """State (or with None: withdraw) what a person should know although it costs nothing; shown in `status`."""

    def about(self, tags: Sequence[str]) -> str:
        """Tags as a message names them: with asset and channel, five at most, then how many more there are."""

    def count(self, what: str, by: int = 1, example: str = "") -> None:
        """Count input that could not be used, by what was wrong with it; shown in `status` with the last example."""

    def held(self) -> bool:
        """Whether to read no further for now (`Source.can_wait`): a machine could not decide yet on what comes."""

    def waiting(self) -> int:
        """Batches of all sources that wait for the agent; a source of large values limits them."""

    @property
    def folder(self) -> Path:
        """A folder of this source's own that outlives a restart."""


class Plugin:
    """What sources and outputs have in common: `config.plugins` builds ``Class(name, Config)`` from a table."""

    Config: ClassVar[type[msgspec.Struct]]  # the keys of the table besides `type`
    claims: Sequence[
        str
    ] = ()  # what nothing else of this gateway may have: files that it writes, names at brokers, targets
    reads: Sequence[str] = ()  # files that it reads
    KEEPS_STATE: ClassVar[bool] = False  # built as ``Class(name, Config, state)``, with the agent's state folder


class Source(Plugin, abc.ABC):
    """Reads tags. Built from its config table by the registry; small, because the host does the rest.

    The host guarantees: `run` is called in a thread of its own. When it raises RetryError (connection lost, data too
    old), the host counts it, backs off with jitter and calls `run` again, which starts with a fresh connection. Any
    other exception is logged with its traceback and handled alike; it never stops another source. Tags are unique.
    """

    @property
    def can_wait(self) -> bool:
        """Whether what it reads is stored where it comes from: it waits there while `SourceHost.held`."""
        return False

    @abc.abstractmethod
    def run(self, tags: Sequence[str], host: SourceHost) -> None:
        """Connect, deliver the tags until `host.stop`. Raises RetryError, or ConfigError when retrying is pointless."""

    def leave_no_trace(self) -> None:  # most sources only read
        """Change nothing at the other end, and disturb no running agent: `start --once` only looks. Before `run`."""

    @abc.abstractmethod
    def check(self, tags: Sequence[str]) -> list[str]:
        """Try the connection and each tag without side effects; problems in the operator's words, [] when fine."""

    seen: Mapping[str, Reading] = MappingProxyType({})  # tag -> a value that `check` read, as `run` would deliver it
    # What `check` read, as `run` would deliver it at the configured pace, without the source's name. Empty: the pace is
    # not known before it runs.
    trial: Sequence[Batch] = ()
    newest: Sequence[Batch] = ()  # the same of the end of a long past that `run` begins with; empty: not another trial
    span_ns: tuple[int, int] | None = None  # times of the first and the last of a past that `run` begins with, if known
    remarks: Sequence[str] = ()  # what `check` says of what works


class Receipt(NamedTuple):
    """What came of an event at a target that did not refuse it."""

    reference: str = ""  # the target's own name for it, such as a work order's id; shown in `fedge-agent order list`
    skipped: str = ""  # why there was nothing to send; empty: it was sent, and the target answered


class Output(Plugin, abc.ABC):
    """Delivers events. Hooks that an output does not need do nothing.

    The host guarantees: one thread per output calls everything but `status` and `preview`. Events of one asset come in
    order; one that cannot be delivered holds up no other asset. Each event is stored durably before `deliver` sees it,
    and comes at least once, with the same `key` each time. "cleared" comes only if an earlier event of its key was
    delivered. After RetryError the host backs off with jitter, without end; after ConflictError, and any exception that
    is not a FedgeError, for a limited number of tries. Then, and after RefusedError, the event is set aside, counted
    and shown in `status`.
    """

    shows_decisions: bool = False  # whether `show` is called
    answers: Sequence[str] = ()  # labels that somebody at its target can answer a question with; without, it gets none
    remark: str = ""  # what `check` says of a configuration that works, but could be surer
    poll: float | None = None  # seconds between two calls of `collect`; None: it is not called

    @property
    def storage_problem(self) -> str | None:
        """Why its own state in `folder` is not written at the moment; None when it is, or there is none."""
        return None

    def begin(self, folder: Path) -> None:
        """Prepare, before anything else is called; `folder` is for the output's own state. Called again after
        RetryError."""

    @abc.abstractmethod
    def deliver(self, event: Event) -> Receipt | None:
        """Deliver one event or raise RetryError (try again) or RefusedError (never again). None is `Receipt()`."""

    def preview(self, event: Event) -> dict[str, Any]:
        """What `deliver` would send, without secrets, for a person to read. Sends nothing; called on an output that was
        never begun."""
        return {}

    def show(self, decision: Decision) -> None:
        """Show the newest decision of an asset, at most ten times a second, while no event waits. Older ones are
        skipped. Raises like `deliver`."""

    def collect(self) -> Iterator[Label]:
        """Labels that became known at the target. A label is stored durably before the next one is asked for."""
        return iter(())

    def rest(self) -> None:
        """Let go of what need not stay open: nothing is due for the moment. Called about once a second then."""

    def end(self) -> None:
        """Let go of the target, after the last call of all others."""

    def status(self) -> dict[str, Any]:
        """Figures for the status page. Called from any thread."""
        return {}

    @abc.abstractmethod
    def check(self) -> list[str]:
        """Try the target without side effects; problems in the operator's words, [] when fine."""


Table = dict[str, Any]  # one table of the configuration, before its type is known
