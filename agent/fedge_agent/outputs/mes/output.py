# SPDX-License-Identifier: Apache-2.0
"""Turn events into work orders of a MES or CMMS: find or create an order, add notes, read it back when closed.

An order is a *request or draft*: an edge model does not release work. Promises: exactly one order per event, as long as
there is one writer (`writer`). The event's key is the order's reference. An order is searched before it is created;
after a create without an answer it is searched again, once the target has had time to finish (`settle`). If the target
offers create-once addresses (`token`), the same address is used again instead.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from fedge_models.errors import RefusedError, RetryError, UnreachableError

from ...protocols.http import auth, client, pointer
from ...types import DRIFT, QUESTION, SILENT, Decision, Event, Label, Output, Receipt, kind_of
from .. import event_fields
from . import presets
from .ages import Ages
from .caller import Caller
from .making import Maker
from .orders import Order, Orders
from .settings import MesConfig, Step
from .writer import Writer, target_claim

logger = logging.getLogger(__name__)

LEVELS = ("low", "medium", "high")
LOOKS = 50  # orders asked about in one poll
LONGEST_OPEN_S = 30 * 86400.0  # a label of an alarm that never cleared is of no longer time
PROBE = Event("fedge:check", "opened", Decision("fedge", "check", 0, 0, 0.0, 0.0, "check", 0.0, 0.0), worst=0.0)
_NEEDS_A_PERSON = re.compile(r": status (401|403|404): ")  # to renew a key, give a right, correct url


class MesOutput(Output):
    """Makes an order for each event, adds notes when the condition changes, reads the closing code."""

    Config = MesConfig

    def __init__(self, name: str, config: MesConfig) -> None:
        where = f"output.{name}"
        self._name, self._config = name, presets.complete(config, where)
        self._caller = Caller(self._config, where)
        self._orders = Orders(None)
        self._noticed = Ages(time.monotonic, time.time)
        self._maker = Maker(name, self._config, self._caller, self._orders)
        self._writer = Writer(None, self._maker.target)
        self.poll = float(config.poll)
        self.claims = [target_claim(self._maker.target)]
        self.remark = "; ".join(filter(None, (_what_is_a_proof(self._config.create), _what_is_not_found(self._config))))
        self._flaw = _why_never_closed(self._config, where) or _why_empty(self._config, where)
        self._asks_not = _why_asks_not(self._config)
        self.answers = () if self._asks_not else tuple(self._config.closing.values())

    @property
    def storage_problem(self) -> str | None:
        """Why orders are held in memory."""
        return self._orders.problem

    def begin(self, folder: Path) -> None:
        """Store orders in `folder`, and allow no second writer for the target there."""
        if self._flaw:
            logger.error("%s", self._flaw)
        self._orders.close()
        self._orders = Orders(folder / f"{self._name}.sqlite")
        self._maker = Maker(self._name, self._config, self._caller, self._orders)
        self._writer = Writer(folder, self._maker.target)

    def end(self) -> None:
        """Release the target."""
        self._caller.close()
        self._writer.release()
        self._orders.close()

    def deliver(self, event: Event) -> Receipt:
        """Find or create the order, escalate it, or add that the condition cleared. Raises RetryError, RefusedError."""
        try:
            return self._deliver(event)
        except RetryError as e:
            if _NEEDS_A_PERSON.search(str(e)):
                e.args = (f"{e} (orders wait meanwhile)",)
            raise

    def _deliver(self, event: Event) -> Receipt:
        self._writer.hold()
        if event.kind == QUESTION:
            return self._ask(event)
        if event.state == "cleared":
            return self._clear(event)
        order = self._notice(event)
        if LEVELS.index(event.severity) < LEVELS.index(self._config.severity):
            return Receipt(skipped=f"its severity {event.severity} is below {self._config.severity}")
        if order.id is None:
            self._maker.make(event, order)
        elif event.state == "raised":
            return self._add(self._config.escalate, "escalate", event, order.id, f":{event_fields.step_key(event)}")
        return self._receipt(event)

    def preview(self, event: Event) -> dict[str, Any]:
        """The request for the event, and the search before it, without secrets."""
        event = self._worded(event)
        known, create = {**event_fields.values(event), "id": "{id}"}, self._maker.create_of(event)
        if event.state == "cleared":
            return self._preview(self._config.clear, "clear", known, ":cleared")
        if event.state == "raised":
            raised = self._preview(self._config.escalate, "escalate", known, f":{event_fields.step_key(event)}")
            return {"if there is an order": raised, "else": self._preview(create, "create", known)}
        steps = {"find": self._config.find, "create": create}
        return {name: self._preview(step, name, known) for name, step in steps.items() if step is not None}

    def collect(self) -> Iterator[Label]:
        """Labels from closing codes. A label counts as stored when the next one is asked for. Raises RetryError."""
        self._writer.hold()
        for order in self._orders.doubtful(LOOKS):
            self._look_again(order)
        if self._config.status is None or not self._config.status.code:
            return
        problem: RetryError | None = None
        for order in self._orders.due(LOOKS):
            try:
                label = self._closed(order)
            except UnreachableError:
                raise
            except RetryError as e:  # of this order only: go on with the others
                problem = e
                continue
            if label is not None:
                yield label
                self._done(order)
        if problem is not None:
            raise problem

    def check(self) -> list[str]:
        """Connect, and search for an order that does not exist. Nothing is created."""
        if self._flaw:
            return [f"output {self._name}: {self._flaw}"]
        try:
            auth.try_secrets(self._config)
            if self._config.find:
                self._maker.find(event_fields.values(PROBE))
            else:
                with client.connected(self._maker.target, self._config):
                    pass
        except (RetryError, RefusedError) as e:
            return [f"output {self._name}: {e}"]
        finally:
            self._caller.close()
        return []

    def rest(self) -> None:
        """Close connections that were idle for too long."""
        self._caller.rest()

    def status(self) -> dict[str, Any]:
        """Number of orders, their states at the target, duplicates; why it makes none for questions ("": it does)."""
        found = {**self._orders.status(), "asks_not": self._asks_not}
        return {**found, **({"problem": self._flaw} if self._flaw else {})}

    def _notice(self, event: Event) -> Order:
        if (order := self._orders.get(event.key)) is not None:
            return order
        self._noticed.note(event.key)
        since_ns = event.since_ns or event.decision.time_ns
        return self._orders.notice(event.key, event.decision.asset, since_ns, time.time())

    def _ask(self, event: Event) -> Receipt:
        """Find or create the order of a question, or add to it that it needs no answer any more."""
        order = self._orders.get(event.key)
        if event.state != "cleared":
            order = self._notice(event)
            self._orders.cleared(event.key, event.decision.time_ns)  # its window has ended
            if order.id is None:
                self._maker.make(self._worded(event), order)
            return self._receipt(event)
        if order is None or order.id is None:
            return Receipt(skipped="there is no order")
        if order.code in self._config.closing:
            return Receipt(skipped="the order is closed, and its code was the answer")
        self._done(order)
        return self._add(self._config.clear, "clear", event, order.id, ":cleared")

    def _worded(self, event: Event) -> Event:
        """A question with the closing codes that answer it."""
        if event.kind != QUESTION or event.state == "cleared":
            return event
        codes = ", ".join(f"{code!r} ({label})" for code, label in self._config.closing.items())
        text = f"{event.reason}. Close this order with the code of what it was: {codes}"
        return msgspec.structs.replace(event, reason=text)

    # after

    def _clear(self, event: Event) -> Receipt:
        order = self._orders.get(event.key)
        known = event_fields.values(event)
        if order is not None and order.cleared_ns == _over(event):
            return Receipt(skipped="the order says so already: the same rows were read again")
        if order is not None and order.id is not None:
            id_ = order.id
        else:
            ids = self._maker.find(known) if self._config.find and (order is None or order.asked is not None) else []
            if not ids and (order is not None or self._config.find):
                self._orders.cleared(event.key, _over(event))
                return Receipt(skipped="there is no order: its severity was too low, or a person deleted it")
            id_ = ids[0] if ids else event.key
        receipt = self._add(self._config.clear, "clear", event, id_, ":cleared")
        self._orders.cleared(event.key, _over(event))
        return receipt

    def _add(self, step: Step | None, name: str, event: Event, id_: Any, suffix: str) -> Receipt:
        """Add something to the order, if there is a step for it."""
        if step is None:
            return Receipt(skipped=f"there is no step {name!r}")
        if not self._caller.chain(step, {**event_fields.values(event), "id": id_}, event.key + suffix):
            return Receipt(skipped=f"the order {id_} was deleted")
        return Receipt(str(id_))

    def _receipt(self, event: Event) -> Receipt:
        order = self._orders.get(event.key)
        return Receipt("" if order is None or order.id in (None, event.key) else str(order.id))

    def _preview(self, step: Step | None, name: str, known: dict[str, Any], suffix: str = "") -> dict[str, Any]:
        key = known["key"] + suffix if name != "find" else ""
        return {"nothing": f"there is no step {name!r}"} if step is None else self._caller.preview(step, known, key)

    def _look_again(self, order: Order) -> None:
        """Search for a second order, after a create had no answer."""
        if self._config.find:
            self._maker.find({**event_fields.values(PROBE), "key": order.key, "asset": order.asset})
        self._orders.sure(order.key)

    def _closed(self, order: Order) -> Label | None:
        step = self._config.status
        assert step is not None and step.code is not None
        known = {"id": order.id, "key": order.key, "asset": order.asset}
        try:
            answer = self._caller.ask(step, known, "", may_be_gone=True)
        except RefusedError as e:
            logger.error("output %s: %s: its state cannot be read: %s", self._name, order.key, e)
            self._done(order)
            return None
        if answer.status == client.GONE:
            self._orders.seen(order.key, "gone")
            self._done(order)
            return None
        code = pointer.find(answer.data, step.code)
        text = str(code) if isinstance(code, (str, int)) else None
        if text is not None and text != order.code:
            self._orders.seen(order.key, text)
        if text is None or text not in self._config.closing:
            return None
        if kind_of(order.key) in (SILENT, DRIFT):  # there are no windows to label
            self._done(order)
            return None
        # A false alarm may never clear: then the label ends now, in source time.
        open_s = min(self._noticed.about(order.key, order.noticed), LONGEST_OPEN_S)
        end = order.cleared_ns or order.opened_ns + round(open_s * 1e9)
        return Label(order.asset, order.opened_ns, end, self._config.closing[text], "mes")

    def _done(self, order: Order) -> None:
        self._orders.done(order.key)
        self._noticed.forget(order.key)


def _why_asks_not(config: MesConfig) -> str:
    """Why there are no orders for questions; empty: there are."""
    if not config.questions:
        return "questions = false"
    if not config.closing or config.status is None or not config.status.code:
        return "nobody could answer: no closing codes are read; give closing, and status with code"
    return ""


def _why_never_closed(config: MesConfig, where: str) -> str | None:
    """What is wrong with closing codes that nothing reads."""
    if not config.closing or (config.status is not None and config.status.code):
        return None
    return (
        f"{where}.closing: no step reads the closing codes, so there will be no labels; give {where}.status with code"
    )


def _why_empty(config: MesConfig, where: str) -> str | None:
    """What is wrong with orders that say nothing."""
    create = config.create
    if create is None or create.method == "GET" or create.body is not None or create.query:
        return None
    return f"{where}.create has no body, so orders would be empty; give {where}.create.body, or leave the step out"


def _what_is_a_proof(create: Step | None) -> str:
    """What to know when nothing says how the answer to a create tells a refusal from an acceptance."""
    if create is None or any(way is not None for way in (create.id, create.error, create.accept)):
        return ""
    return (
        "it may not tell a refusal from an acceptance, because create has neither id nor error nor accept: an order "
        "counts as made when the answer is empty, has the status 201, 202 or 204, or holds an id, and else is set aside"
    )


def _what_is_not_found(config: MesConfig) -> str:
    """What to know when an order does not carry what it is searched by."""
    if config.find is None or "{key}" not in config.find.match:
        return ""
    steps = {"create": config.create, "silent": config.silent, "drift": config.drift}
    blind = [n for n, s in steps.items() if s is not None and "{key}" not in str((s.url, s.query, s.headers, s.body))]
    if not blind or "{key}" in str(config.headers):
        return ""
    return (
        f"find cannot find an order, because {blind[0]} does not send {{key}}, which find searches by: after an answer "
        f"that was lost, a second order is made; put {{key}} into {blind[0]}.body"
    )


def _over(event: Event) -> int:
    """End of the condition: just before the first window that was normal again."""
    return event.since_ns - 1 if event.since_ns else event.decision.time_ns
