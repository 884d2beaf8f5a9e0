# SPDX-License-Identifier: Apache-2.0
"""The configuration of a MES: its address, who we are there, and a table for each request."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from fedge_models.system.settings import Positive, Seconds

from ...protocols.http.settings import Target

Severity = Literal["low", "medium", "high"]


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One request, and JSON pointers (RFC 6901) to the parts of its answer."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    url: str = ""  # appended to the output's, unless it has a scheme of its own
    query: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    body: Any = None
    error: str | None = None  # pointer; a value there is an error, whatever the HTTP status
    accept: str | None = None  # pattern; an answer in which it is found is a success, any other is none
    rows: str | None = None  # find: pointer to the list of found orders
    key: str | None = None  # find: pointer within a row to our reference
    match: str = "{key}"  # find: our reference; rows with another one are not ours
    id: str | None = None  # pointer to the order's id, within a row or in create's answer
    code: str | None = None  # status: pointer to the state or closing code
    save: dict[str, str] = {}  # name -> pointer: what the next step may use as {saved.name}
    then: Step | None = None  # escalate and clear: the next step


class MesConfig(Target, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[output.X] type = "mes"``; texts in urls, queries and bodies may hold {key}, {asset}, {score} and so on."""

    preset: str = "generic"  # fills the steps that are not given here
    format: Literal["template", "b2mml"] = "template"  # b2mml: create's body is a B2MML-JSON work request
    severity: Severity = "low"  # least severity of an event with an order
    find: Step | None = None  # before each create: is there an order with this key?
    token: Step | None = None  # a create-once address, for `create` to use as {token}
    create: Step | None = None
    silent: Step | None = None  # instead of `create`, for a machine that is silent; default: as create
    ask: Step | None = None  # instead of `create`, for a question about a window; default: as create
    questions: bool = True  # make an order for each question, if closing codes are read: the code is the answer
    drift: Step | None = None  # instead of `create`, for a machine whose inputs drift; default: as create
    escalate: Step | None = None  # when the event's severity rises
    clear: Step | None = None  # when the condition clears
    status: Step | None = None  # reads the closing code
    closing: dict[str, str] = msgspec.field(
        default_factory=dict
    )  # closing code -> label; any other code means that the order is still open
    poll: Positive = Positive(60)  # how often to ask for closing codes
    transient: str = (  # refusals, and errors inside a success, that may heal
        r"(?i)\b(dead)?lock|busy|concurren|time.?out|timed out|try again|unavailable|mismatch|been modified"
    )
    settle: Seconds = Seconds(10)  # how long the target may work on a create without an answer
