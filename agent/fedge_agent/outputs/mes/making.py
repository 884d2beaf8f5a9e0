# SPDX-License-Identifier: Apache-2.0
"""Make the order of an event exactly once: search for it, create it, and search again after an answer that says little.

Promises: an order is recorded before it is sent; after a create without an answer nothing is sent until the target has
had time to finish (`settle`, from the start of this process if the create was sent before that); a conflict is an order
that is there only when it is found, or the target says so.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from fedge_models.errors import ConflictError, RefusedError, RetryError, UnclearError
from fedge_models.system.addresses import shown

from ... import placeholders
from ...protocols.http import client, pointer
from ...protocols.http.ids import is_id
from ...protocols.http.pages import PageError
from ...types import DRIFT, QUESTION, SILENT, Event
from .. import event_fields
from .ages import Ages
from .caller import Caller
from .orders import Order, Orders
from .settings import MesConfig, Step

logger = logging.getLogger(__name__)

NO_SEARCH = "an order may have been made; give find, so that it is searched before another try"
CONFLICTS = 3  # answers 409 to a create, without a search, before the order is taken to be there


class Maker:
    """Makes the orders of one output."""

    def __init__(self, name: str, config: MesConfig, caller: Caller, orders: Orders) -> None:
        self._name, self._config, self._caller, self._orders = name, config, caller, orders
        self._asked = Ages(time.monotonic, time.time)  # creates without an answer
        self._conflicts: dict[str, int] = {}  # key -> answers 409 to its create

    @property
    def target(self) -> str:
        """The address that orders are sent to."""
        return self._caller.url(self._config.create or Step())

    @property
    def _where(self) -> str:
        """The same for messages."""
        return shown(self.target)

    def make(self, event: Event, order: Order) -> None:
        """Find the event's order, or create it. Raises RetryError, RefusedError."""
        known, order = event_fields.values(event), self._without_a_foreign_token(order)
        if self._config.find:
            self._wait_for_the_last(order)
            if ids := self.find(known):
                self._note_made(order, ids[0])
                return
        held = order.token
        if self._config.token:
            known["token"] = held or self._new_token(event, self._config.token, known)
        try:
            id_ = self._create(event, known)
        except ConflictError as e:
            self._orders.not_made(event.key)
            id_ = self._after_a_conflict(event, known, e)
        except RetryError as e:
            if e.nothing_done:  # else an order may have been made: it is searched for once the target has settled
                self._orders.not_made(event.key)
            else:
                self._asked.note(event.key)  # from now on nobody waits for it
            raise
        except RefusedError:
            self._orders.not_made(event.key)
            if held is None:
                raise
            id_ = self._after_a_spent_token(event, known)
        self._note_made(order, id_)

    def create_of(self, event: Event) -> Step | None:
        """The request for a new order: a silent machine, a drift of inputs, and a question may have their own."""
        own = {SILENT: self._config.silent, QUESTION: self._config.ask, DRIFT: self._config.drift}
        return own.get(event.kind) or self._config.create

    def _create(self, event: Event, known: dict[str, Any]) -> Any:
        step = self.create_of(event)
        assert step is not None
        try:
            answer = self._caller.ask(step, known, event.key, before=lambda: self._note_asked(event.key))
        except PageError as e:
            if self._config.find:
                raise
            raise UnclearError(f"{e}; {NO_SEARCH}") from e  # each further try may make a further order
        if step.id is None:
            self._caller.prove(step, answer, known)
            return event.key
        id_ = pointer.find(answer.data, step.id)
        if not is_id(id_):
            raise UnclearError(
                f"{self._where}: expected an id at {step.id!r} of the answer, got {str(answer.data)[:200]}"
            )
        return id_

    def _after_a_conflict(self, event: Event, known: dict[str, Any], error: ConflictError) -> Any:
        """The id of an order that is there already. Raises the conflict when it is about something else.

        A target without a search says so, or goes on to say 409 to the same key.
        """
        if self._config.find:
            if ids := self.find(known):
                return ids[0]
            raise error
        if not error.exists:
            raise error
        count = self._conflicts[event.key] = self._conflicts.get(event.key, 0) + 1
        if count <= CONFLICTS and not client.EXISTS.search(str(error)):
            raise error
        del self._conflicts[event.key]
        return event.key

    def _wait_for_the_last(self, order: Order) -> None:
        """Raise RetryError while the target may still work on a create without an answer."""
        settle = float(self._config.settle)
        if order.asked is not None and order.token is None and self._asked.at_least(order.key) < settle:
            raise RetryError(f"{order.key}: a create had no answer; the order is searched again {settle:g} s after it")

    def _note_made(self, order: Order, id_: Any) -> None:
        self._orders.made(order.key, id_, doubtful=order.asked is not None)
        self._asked.forget(order.key)

    def _note_asked(self, key: str) -> None:
        self._asked.note(key)
        self._orders.asking(key, time.time())

    def _without_a_foreign_token(self, order: Order) -> Order:
        """The order without a create-once address of another origin, from before `url` changed."""
        if order.token is None or self._caller.owns(order.token):
            return order
        self._orders.hold_token(order.key, None)
        return order._replace(token=None)

    def _new_token(self, event: Event, step: Step, known: dict[str, Any]) -> str:
        token = pointer.find(self._read(step, known, event.key).data, step.id or "")
        if not isinstance(token, str):
            raise RetryError(f"{self._where}: expected a create-once address at {step.id!r} of the answer")
        self._orders.hold_token(event.key, self._caller.own(token))
        return token

    def _after_a_spent_token(self, event: Event, known: dict[str, Any]) -> Any:
        """A used create-once address is refused: the order exists, or the address has expired."""
        if ids := self.find(known):
            return ids[0]
        self._orders.hold_token(event.key, None)
        raise RetryError(f"{self._where}: a create-once address has expired unused; the next attempt gets another")

    def _read(self, step: Step, known: dict[str, Any], key: str) -> client.Answer:
        """Send a step that makes nothing: however often it is sent, it does no harm."""
        try:
            return self._caller.ask(step, known, key)
        except UnclearError as e:
            raise RetryError(str(e), True) from e

    def find(self, known: dict[str, Any]) -> list[Any]:
        """Ids of the orders that carry the event's key, oldest first; more than one is reported."""
        step = self._config.find
        assert step is not None
        answer = self._read(step, known, "")
        rows = pointer.find(answer.data, step.rows or "")
        if not isinstance(rows, list):
            raise RetryError(f"{self._where}: expected a list at {step.rows or ''!r}, got {str(answer.data)[:200]}")
        wanted = placeholders.fill(step.match, known)
        rows = [row for row in rows if step.key is None or pointer.find(row, step.key) == wanted]
        ids = [pointer.find(row, step.id or "/id") for row in rows]
        if any(isinstance(i, bool) or not isinstance(i, (int, str)) for i in ids):
            raise RetryError(f"{self._where}: expected an id at {step.id!r} of each row, got {str(rows)[:200]}")
        if len(ids) > 1:
            logger.error("output %s: %s has %d orders: %s; close all but one", self._name, known["key"], len(ids), ids)
            self._orders.duplicate(known["key"], ids)
        return sorted(ids, key=lambda i: (isinstance(i, str), len(str(i)), i))
