# SPDX-License-Identifier: Apache-2.0
"""Guess what makes a channel differ from the others': another unit, another sign, a sensor that does not move.

Only a guess that explains the level and the spread alike is given, and only where the channel is far from the others
as it is. What is given is a question to a person; nothing is corrected.
"""

from __future__ import annotations

import math
from typing import NamedTuple

CLOSE = 1.0  # spans of the others beyond which a converted median must not lie
ALIKE = 10.0  # by which factor the converted spread may differ

Three = tuple[float, float, float]  # quantiles 10 %, 50 %, 90 %


class Conversion(NamedTuple):
    """A way in which readings come out otherwise: what should have been read is ``value * factor + offset``."""

    factor: float
    offset: float
    words: str
    of: tuple[str, ...] = ()  # units on the card with which it is thinkable, in small letters; empty: any
    rare: float = 0.0  # how much worse it may fit and still be passed over for a commoner one


TEMPERATURES = ("k", "c", "f", "°c", "°f", "degc", "degf", "kelvin", "celsius", "fahrenheit")
PRESSURES = ("bar", "mbar", "pa", "hpa", "kpa", "mpa", "psi", "psig", "barg", "bara")
RATES = ("rpm", "1/min", "min-1", "u/min", "hz", "1/s", "l/min", "l/s", "m3/min", "m³/min")
FLOWS = ("km/h", "m/s", "m3/h", "m³/h", "l/s", "kg/h", "kg/s", "t/h")
RARE = 0.3
CONVERSIONS = (
    Conversion(1e3, 0.0, "1,000 times too small: is it read in kilo-units (kW for W, bar for mbar)?"),
    Conversion(1e-3, 0.0, "1,000 times too large: is it read in milli-units (mA for A, mbar for bar)?"),
    Conversion(0.1, 0.0, "10 times too large: does the PLC give tenths as integers?"),
    Conversion(10.0, 0.0, "10 times too small: does the PLC give tenths as integers at the others?"),
    Conversion(1.0, 273.15, "273 below: is it in °C where the others are in K?", TEMPERATURES),
    Conversion(1.0, -273.15, "273 above: is it in K where the others are in °C?", TEMPERATURES),
    Conversion(5 / 9, -32 * 5 / 9, "as if it were in °F where the others are in °C", TEMPERATURES),
    Conversion(9 / 5, 32.0, "as if it were in °C where the others are in °F", TEMPERATURES),
    Conversion(5 / 9, 459.67 * 5 / 9, "as if it were in °F where the others are in K", TEMPERATURES),
    Conversion(9 / 5, -459.67, "as if it were in K where the others are in °F", TEMPERATURES),
    Conversion(-1.0, 0.0, "with the sign turned: is the sensor mounted or wired the other way round?", (), RARE),
    Conversion(0.01, 0.0, "100 times too large: is it in per cent, or hundredths as integers?", (), RARE),
    Conversion(100.0, 0.0, "100 times too small: is it a fraction where the others are in per cent?", (), RARE),
    Conversion(1e-5, 0.0, "100,000 times too large: is it in Pa where the others are in bar?", PRESSURES, RARE),
    Conversion(1e5, 0.0, "100,000 times too small: is it in bar where the others are in Pa?", PRESSURES, RARE),
    Conversion(1 / 14.5038, 0.0, "14.5 times too large: is it in psi where the others are in bar?", PRESSURES, RARE),
    Conversion(14.5038, 0.0, "14.5 times too small: is it in bar where the others are in psi?", PRESSURES, RARE),
    Conversion(60.0, 0.0, "60 times too small: is it per second (Hz) where the others are per minute?", RATES, RARE),
    Conversion(1 / 60, 0.0, "60 times too large: is it per minute where the others are per second (Hz)?", RATES, RARE),
    Conversion(3.6, 0.0, "3.6 times too small: is it in m/s where the others are in km/h?", FLOWS, RARE),
    Conversion(1 / 3.6, 0.0, "3.6 times too large: is it in km/h where the others are in m/s?", FLOWS, RARE),
    Conversion(1e-6, 0.0, "1,000,000 times too large: is it in micro-units, or W for MW?", (), RARE),
    Conversion(1e6, 0.0, "1,000,000 times too small: is it in mega-units, or A for µA?", (), RARE),
)
CONSTANT = "constant here, while it varies at the others: is the sensor dead, or its tag the wrong one?"


class Others(NamedTuple):
    """Where a channel lies at other sites."""

    lowest: float  # of the published medians
    middle: float
    highest: float
    spread: float  # usual, from the 10 % to the 90 % quantile

    @property
    def span(self) -> float:
        """Of medians and readings together; of a channel that does not vary, a thousandth of its level."""
        return max(self.highest - self.lowest, self.spread, 1e-3 * abs(self.middle), 1e-30)


def guess(own: Three, others: Others, unit: str = "") -> str | None:
    """What would make one's own quantiles those of the others; None where nothing known does, or nothing has to.

    unit: the channel's on the model card: °C for K is guessed only of a temperature, or where none is given.
    """
    known = unit.strip().lower()
    fitting = []
    for way in CONVERSIONS:
        if way.of and known and known not in way.of:
            continue
        low, middle, high = sorted(value * way.factor + way.offset for value in own)
        if fits((low, middle, high), others):
            fitting.append((misfit((low, middle, high), others) + way.rare, way.words))
    return min(fitting)[1] if fitting else None


def fits(own: Three, others: Others) -> bool:
    """Whether level and spread are about those of the others."""
    if not others.lowest - CLOSE * others.span <= own[1] <= others.highest + CLOSE * others.span:
        return False
    spread = max(own[2] - own[0], 1e-30)
    return not others.spread or 1 / ALIKE <= spread / others.spread <= ALIKE


def misfit(own: Three, others: Others) -> float:
    """How badly level and spread fit; the conversion with the least is the most likely one."""
    ratio = max(own[2] - own[0], 1e-30) / max(others.spread, 1e-30)
    return abs(own[1] - others.middle) / others.span + (abs(math.log10(ratio)) if others.spread else 0.0)
