# SPDX-License-Identifier: Apache-2.0
"""Ask people about the stored window whose label is worth most (`label_worth`), when a question is due.

In the thread of the model, so that no decision waits. Windows that an event asks about already are left out, and those
near an earlier question: one episode, one question. A machine that was asked about lately comes after the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from fedge_models.errors import StorageError
from fedge_models.graph.card import NONE, Card
from fedge_models.system import times
from fedge_models.training import objective
from fedge_models.training.calibration import Calibration, LabelCalibration
from fedge_models.training.outliers import finite_rows
from numpy.typing import NDArray

from ..samples.event_book import EventBook
from ..samples.label_values import accepted_values
from ..samples.question import OPEN, Question, key_of
from ..samples.question_book import QuestionBook
from ..samples.store import Kind, SampleStore
from ..types import Array
from . import label_worth
from .label_worth import Worth
from .local_model import LocalModel
from .mixture import Blend, outputs
from .serving import Serving

LOOK_S = 60.0  # between two looks for a window to ask about
RECENT_NS = times.DAY_NS  # windows that people still remember
MOST = 2000  # windows that are looked at
EPISODE_SPANS, EPISODE_NS = 10, 600 * 10**9  # windows or time around a question that belong to the same episode
FEWEST = 20  # windows before the first question: of fewer, none is unlike the others
LEAST = 0.05  # a window that is worth less is no question
ASKED_BEFORE_NS = 7 * times.DAY_NS  # how long a machine that was asked about comes after the others


Limits = Callable[[str, Serving, NDArray[np.int64]], NDArray[np.float64]]


def learnt_limits(asset: str, serving: Serving, ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """The learnt limit of an asset, for each of its windows (n,)."""
    return np.full(len(ends), serving.limit(asset).score)


class Window(NamedTuple):
    """A stored window without a label."""

    asset: str
    end_ns: int
    span_ns: int
    part: str


class Asker:
    """Asks for model `name` of a gateway.

    events: whose windows are asked about already; limits: what the scores that a serving gives stored windows of an
    asset are compared with (n,), by the ends of the windows, however its learnt limit was moved.
    """

    def __init__(
        self,
        gateway: str,
        name: str,
        samples: SampleStore,
        questions: QuestionBook,
        events: EventBook | None,
        limits: Limits | None = None,
    ) -> None:
        self._gateway, self._name = gateway, name
        self._samples, self._questions, self._events = samples, questions, events
        self._limits_of = limits or learnt_limits
        self._looked = -LOOK_S

    def look(self, model: LocalModel, now: float) -> None:
        """Ask what is worth most, if a question is due; `now`: monotonic s."""
        if now - self._looked < LOOK_S or self._questions.asks(self._name).a_day <= 0:
            return
        if model.serving is None or (found := self._samples.all_collected(self._name)) < FEWEST:
            waits = "the model does not decide yet" if model.serving is None else f"{found} of {FEWEST} windows yet"
            self._questions.note(self._name, waits)
            return
        self._looked = now
        try:
            note = self._ask(model)
        except StorageError as e:
            note = str(e)
        self._questions.note(self._name, note)

    def _ask(self, model: LocalModel) -> str:
        """Ask, or return why not."""
        graph, serving, blend = model.graph, model.serving, model.blend
        if graph is None or serving is None or blend is None:
            return "the model does not decide yet"
        if len(graph.card.measured) > 1 and graph.card.task == "regress":
            return f"the model learns from {accepted_values(graph.card).removeprefix('nothing: ')}"
        newest = self._samples.newest(self._name)
        if (why := self._questions.why_not_now(self._name, newest)) is not None:
            return why
        kind: Kind = np.float32 if graph.card.image is None else np.uint8
        most = label_worth.most_windows(graph.input_shape, MOST)
        waiting = {(q.asset, q.end_ns) for q in self._questions.of(self._name) if q.state == OPEN}
        since = min([newest - RECENT_NS, *(end for _, end in waiting)])
        x, found = self._samples.unlabelled(self._name, graph.input_shape, since, most, kind)
        windows, sound = [Window(*row) for row in found], finite_rows(x)
        recent = np.array([w.end_ns >= newest - RECENT_NS for w in windows], np.bool_)
        if graph.card.task == "anomaly":  # without a limit, nobody knows what is near to it
            recent &= np.isfinite(self._limits(serving, windows))
            if len(x) and not recent.any():
                return "its machines have no limit yet"
        keep = sound & recent & self._may_be_asked(windows)
        if not keep.any():
            return "no stored window of the last day is without a label, event or question" if len(x) else NO_WINDOWS
        asked = np.array([(w.asset, w.end_ns) in waiting for w in windows], np.bool_)
        known = self._samples.labelled(self._name, graph.input_shape, most, kind)
        known = np.concatenate([known[finite_rows(known)], x[sound & asked]])  # as if they were answered
        chosen = [w for w, k in zip(windows, keep.tolist(), strict=True) if k]
        return self._best(blend, serving, x[keep], known, chosen, newest)

    def _best(self, blend: Blend, serving: Serving, x: Array, known: Array, windows: list[Window], newest: int) -> str:
        """Ask about the best of windows x (n, *shape); known: those that have a label. None is standardised yet."""
        seen = Seen(blend, serving.scale(x), self._limits(serving, windows), serving.calibration)
        worth = seen.worth(serving.scale(known))
        total = worth.total() / (1.0 + self._asked_lately(windows, newest))
        best = int(np.argmax(total))
        if total[best] < LEAST:
            return "no window is worth a question: the model is sure, and knows the like"
        window, card = windows[best], blend.card
        asked = Question(
            id=0,
            key=key_of(self._gateway, self._name, window.asset, window.end_ns),
            model=self._name,
            asset=window.asset,
            start_ns=max(0, window.end_ns - window.span_ns),
            end_ns=window.end_ns,
            part=window.part,
            label=seen.label(best),
            says=seen.says(best),
            reason=worth.reason(best),
            why=_why(worth, best, seen),
            answers=accepted_values(card),
            release=serving.release,
            asked_ns=newest,
        )
        self._questions.ask(asked)
        return "its next question is not due yet"

    def _limits(self, serving: Serving, windows: Sequence[Window]) -> NDArray[np.float64]:
        """What the score of each window (n,) is compared with."""
        assets, ends = np.array([w.asset for w in windows]), np.array([w.end_ns for w in windows], np.int64)
        found = np.full(len(windows), np.nan)
        for asset in {w.asset for w in windows}:
            own = assets == asset
            found[own] = self._limits_of(asset, serving, ends[own])
        return found

    def _asked_lately(self, windows: Sequence[Window], newest: int) -> NDArray[np.float64]:
        """How many questions each window's machine got lately."""
        lately = Counter(q.asset for q in self._questions.of(self._name) if newest - q.asked_ns < ASKED_BEFORE_NS)
        return np.array([lately[w.asset] for w in windows], np.float64)

    def _may_be_asked(self, windows: Sequence[Window]) -> NDArray[np.bool_]:
        """Which windows (n,) neither an event nor an earlier question asks about."""
        taken: dict[str, list[tuple[int, int]]] = {}
        for asset in {w.asset for w in windows}:
            oldest = min(w.end_ns - w.span_ns for w in windows if w.asset == asset)
            taken[asset] = [] if self._events is None else self._events.alert_spans(asset, oldest)
        for q in self._questions.of(self._name):
            around = max(EPISODE_SPANS * (q.end_ns - q.start_ns), EPISODE_NS)
            if q.asset in taken:
                taken[q.asset].append((q.start_ns - around, q.end_ns + around))
        return np.array(
            [not any(a <= w.end_ns and w.end_ns - w.span_ns <= b for a, b in taken[w.asset]) for w in windows], np.bool_
        )


NO_WINDOWS = (
    "no window without a label is stored: of an asset with label tags they are stored only with label.late = DURATION"
)


class Seen:
    """What the model, and each of the two that make it, say of standardised windows x (n, *shape)."""

    def __init__(
        self,
        blend: Blend,
        x: Array,
        limits: NDArray[np.float64],
        calibration: Calibration | LabelCalibration | None = None,
    ) -> None:
        """limits: what the scores of each window's machine are compared with (n,); calibration: that of decisions."""
        self._card, self._x, self._limits = blend.card, x, limits
        release, own = blend.release, blend.own
        self._release = label_worth.says(blend.card, outputs(blend.graph, release, x), x)
        self._own = None if own is None else label_worth.says(blend.card, outputs(blend.graph, own, x), x)
        gives = blend.predict(x)
        if calibration is not None:
            gives = calibration.applied(gives).astype(np.float32)
        self._mixed = label_worth.says(self._card, gives, x)

    def worth(self, known: Array) -> Worth:
        """What the label of each window is worth; known: windows whose label is known, standardised."""
        return Worth(
            label_worth.uncertain(self._card, self._mixed, self._limits),
            label_worth.novel(self._x, known),
            label_worth.disagreeing(self._card, self._own, self._release),
        )

    def label(self, i: int) -> str:
        """The label of a window."""
        return _label(self._card, self._mixed[i], self._limits[i])

    def says(self, i: int) -> str:
        """What the model says of a window, with its doubt."""
        return _says(self._card, self._mixed[i], self._limits[i])

    def apart(self, i: int) -> str:
        """What each of the two says of a window; empty where one decides alone."""
        if self._own is None:
            return ""
        own, release = (_says(self._card, said[i], self._limits[i]) for said in (self._own, self._release))
        return f"this site's own model says {own}, the release {release}"


def _why(worth: Worth, i: int, seen: Seen) -> str:
    """Why a window is asked about, in words."""
    said = [
        f"the model is uncertain ({worth.uncertain[i]:.2f} of 1)",
        f"it is unlike what has a label ({worth.novel[i]:.2f} of 1)",
        f"{seen.apart(i)} ({worth.disagreeing[i]:.2f} of 1)",
    ]
    first = label_worth.REASONS.index(worth.reason(i))
    others = [k for k in range(3) if k != first and worth[k][i] >= 0.5]
    return ", and ".join([said[first], *(said[k] for k in others)])


def _label(card: Card, said: Array, limit: float) -> str:
    if card.task == "classify":
        return card.labels[int(said.argmax())]
    if card.task == "multilabel":
        return ";".join(n for n, p, least in zip(card.labels, said, card.limits, strict=True) if p > least) or NONE
    if card.task == "anomaly":
        return ("anomaly" if said > limit else "normal") if np.isfinite(limit) else "unknown"
    return card.targets[0].name if card.targets else "estimate"


def _says(card: Card, said: Array, limit: float) -> str:
    if card.task == "classify":
        first = np.argsort(-said)[:2]
        return ", ".join(f"{card.labels[int(k)]} {float(said[k]):.2f}" for k in first)
    if card.task == "multilabel":
        parts = (f"{n} {p:.2f} of {least:g}" for n, p, least in zip(card.labels, said, card.limits, strict=True))
        return f"{_label(card, said, limit)} ({', '.join(parts)})"
    if card.task == "anomaly":
        return f"{_label(card, said, limit)}, score {float(said):.3g}" + (
            f" of {limit:.3g}" if np.isfinite(limit) else " without a limit"
        )
    value = float(objective.unscaled(card, said[None]).ravel()[0])
    unit = card.targets[0].unit if card.targets else ""
    return f"{_label(card, said, limit)} {value:.4g} {unit}".strip()
