# SPDX-License-Identifier: Apache-2.0
"""The channels of a card: measured ones, and those that formulas derive from them.

A formula reads what was measured, in its unit: before `centre` and `scale`, and after gaps were bridged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from ..errors import ConfigError, ModelError
from ..system import settings
from ..system.quoting import quote
from ..system.structs import known
from .derive.compiled import compiled
from .derive.plan import Formula, plan

MAX_CELLS = 1 << 24  # values, also in between, that the formulas of a window hold as float64

Positive = Annotated[float, Meta(gt=0)]


@known
class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measured quantity, by the name that the gateway's ``channels.<name>`` uses.

    With ``centre`` and ``scale`` it enters as ``(value - centre) / scale`` at every site. Without them, each site uses
    the statistics of its own samples. The first preserves differences between sites that matter (a current, an ambient
    temperature); the second removes those that do not (the mounting of a sensor).
    """

    name: str
    unit: str = ""
    centre: float | None = None
    scale: Positive | None = None
    condition: Positive | None = None  # values closer than this are one operating condition (`standardise`)
    input: bool = True  # false: only formulas read it


@known
class Derived(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A derived channel with more than its formula; the other keys are those of a channel."""

    formula: str
    unit: str = ""
    centre: float | None = None
    scale: Positive | None = None
    condition: Positive | None = None
    input: bool = True  # false: only other formulas read it

    def channel(self, name: str) -> Channel:
        """The channel that it is for the graph's input."""
        return Channel(name, self.unit, self.centre, self.scale, self.condition, self.input)


Derive = Mapping[str, str | Derived]


def derived(name: str, given: object) -> str | Derived:
    """A derived channel as Python gives it: a formula, a `Derived`, or a table of its keys. Raises ModelError."""
    if isinstance(given, (str, Derived)):
        return given
    if not isinstance(given, Mapping):
        expected = "expected a formula as text, Derived(formula, ...), or a table of its keys"
        raise ModelError(f"card: key 'derive.{name}': {expected}, got {quote(given)}")
    try:
        return settings.convert(dict(given), Derived, "card", f"derive.{name}")
    except ConfigError as e:
        raise ModelError(str(e)) from None


def formula_of(given: str | Derived) -> str:
    """The text of a formula."""
    return given if isinstance(given, str) else given.formula


def shown(given: str | Derived) -> str:
    """The text of a formula for people, on one line."""
    return " ".join(formula_of(given).split())


def with_formulas(derive: Derive, names: Iterable[str]) -> tuple[str, ...]:
    """Derived channels as a message names them: "power_W = torque_Nm * speed_rpm"."""
    return tuple(f"{name} = {shown(derive[name])}" for name in names)


def dependants(planned: Iterable[Formula]) -> dict[str, tuple[str, ...]]:
    """The derived channels that depend on each measured one."""
    found: dict[str, tuple[str, ...]] = {}
    for formula in planned:
        for name in formula.measured:
            found[name] = (*found.get(name, ()), formula.name)
    return found


def is_input(given: str | Derived) -> bool:
    """Whether a derived channel is part of the graph's input."""
    return isinstance(given, str) or given.input


def formulas(channels: Sequence[Channel], derive: Derive) -> tuple[Formula, ...]:
    """The derived channels in an order in which they can be computed. Raises ModelError naming one."""
    if not derive:
        return ()
    return plan(tuple(c.name for c in channels), tuple((name, formula_of(d)) for name, d in derive.items()))


def input_channels(channels: Sequence[Channel], derive: Derive) -> tuple[Channel, ...]:
    """The channels of the graph's input: measured ones, derived ones, and last those that are one number a window."""
    taken = tuple(c for c in channels if c.input)
    if not derive:
        return taken
    window = {f.name: f.window for f in formulas(channels, derive)}
    names = sorted((n for n, d in derive.items() if is_input(d)), key=window.__getitem__)
    return (*taken, *(_channel(name, derive[name]) for name in names))


def channel_labels(channels: Sequence[Channel], derive: Derive) -> tuple[str, ...]:
    """The input's channels for people: a derived one with those that it is computed of, which a person can look at."""
    order = [c.name for c in channels]
    of = {f.name: ", ".join(sorted(f.measured, key=order.index)) for f in formulas(channels, derive)}
    return tuple(f"{c.name} of {of[c.name]}" if c.name in of else c.name for c in input_channels(channels, derive))


def _channel(name: str, given: str | Derived) -> Channel:
    return Channel(name) if isinstance(given, str) else given.channel(name)


def channel_problems(channels: Sequence[Channel], derive: Derive, length: int) -> list[tuple[bool, str]]:
    """What may be wrong with the formulas and what they read: (whether it is, words); length: of a window."""
    names = [c.name for c in channels]
    if not derive:
        idle = [c.name for c in channels if not c.input]
        return [(bool(idle), f"channels {idle}: input is false, and no formula reads them")]
    try:
        planned = formulas(channels, derive)
        cells = sum(compiled(names, planned).registers) * length
    except ModelError as e:
        return [(True, str(e))]
    return _problems(channels, derive, planned, length, cells)


def _problems(
    channels: Sequence[Channel], derive: Derive, planned: Sequence[Formula], length: int, cells: int
) -> list[tuple[bool, str]]:
    read = {name for formula in planned for name in formula.reads}
    every = [*channels, *(_channel(name, d) for name, d in derive.items())]
    idle = [c.name for c in every if not c.input and c.name not in read]
    scaled = [c.name for c in every if not c.input and (c.centre, c.scale, c.condition) != (None, None, None)]
    short = [(f.name, f.samples) for f in planned if f.samples > length]
    return [
        (bool(idle), f"channels {idle}: input is false, and no formula reads them"),
        (bool(scaled), f"channels {scaled}: input is false; centre, scale and condition are for the graph's input"),
        (
            bool(short),
            f"derive.{short[0][0]}: needs windows of {short[0][1]} samples or more, window.length is {length}"
            if short
            else "",
        ),
        (
            cells > MAX_CELLS,
            f"derive: the formulas hold {cells:,} values of a window of {length:,} samples, at most {MAX_CELLS:,} fit",
        ),
    ]
