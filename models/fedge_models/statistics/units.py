# SPDX-License-Identifier: Apache-2.0
"""Guess what makes a channel differ from the others': another unit, another sign, a sensor that does not move.

Only a guess that explains the level and the spread alike is given, and only where the channel is far from the others
as it is. What is given is a question to a person; nothing is corrected.
"""

from __future__ import annotations

from typing import NamedTuple

FAR = 3.0  # widths of the others' range
CLOSE = 1.0  # widths of it within which a converted median must lie
ALIKE = 5.0  # by which factor the converted spread may differ

Three = tuple[float, float, float]  # quantiles 10 %, 50 %, 90 %


class Conversion(NamedTuple):
    """A way in which readings come out otherwise: what should have been read is ``value * factor + offset``."""

    factor: float
    offset: float
    words: str
    temperature: bool = False


CONVERSIONS = (  # the first that explains it is given, so the commonest come first
    Conversion(1e3, 0.0, "1,000 times too small: is it read in kilo-units (kW for W, bar for mbar)?"),
    Conversion(1e-3, 0.0, "1,000 times too large: is it read in milli-units (mA for A, mbar for bar)?"),
    Conversion(1.0, 273.15, "273 below: is it in °C where the others are in K?", True),
    Conversion(1.0, -273.15, "273 above: is it in K where the others are in °C?", True),
    Conversion(5 / 9, -32 * 5 / 9, "as if it were in °F where the others are in °C", True),
    Conversion(9 / 5, 32.0, "as if it were in °C where the others are in °F", True),
    Conversion(5 / 9, 459.67 * 5 / 9, "as if it were in °F where the others are in K", True),
    Conversion(9 / 5, -459.67, "as if it were in K where the others are in °F", True),
    Conversion(1e-5, 0.0, "100,000 times too large: is it in Pa where the others are in bar?"),
    Conversion(1e5, 0.0, "100,000 times too small: is it in bar where the others are in Pa?"),
    Conversion(0.1, 0.0, "10 times too large: does the PLC give tenths as integers?"),
    Conversion(10.0, 0.0, "10 times too small: does the PLC give tenths as integers at the others?"),
    Conversion(0.01, 0.0, "100 times too large: is it in per cent, or hundredths as integers?"),
    Conversion(100.0, 0.0, "100 times too small: is it a fraction where the others are in per cent?"),
    Conversion(60.0, 0.0, "60 times too small: is it per second (Hz) where the others are per minute (rpm)?"),
    Conversion(1 / 60, 0.0, "60 times too large: is it per minute (rpm) where the others are per second (Hz)?"),
    Conversion(1 / 14.5038, 0.0, "14.5 times too large: is it in psi where the others are in bar?"),
    Conversion(14.5038, 0.0, "14.5 times too small: is it in bar where the others are in psi?"),
    Conversion(3.6, 0.0, "3.6 times too small: is it in m/s where the others are in km/h, or l/s for m³/h?"),
    Conversion(1 / 3.6, 0.0, "3.6 times too large: is it in km/h where the others are in m/s, or m³/h for l/s?"),
    Conversion(1e-6, 0.0, "1,000,000 times too large: is it in micro-units, or W for MW?"),
    Conversion(1e6, 0.0, "1,000,000 times too small: is it in mega-units, or A for µA?"),
    Conversion(-1.0, 0.0, "with the sign turned: is the sensor mounted or wired the other way round?"),
)
CONSTANT = "constant here, while it varies at the others: is the sensor dead, or its tag the wrong one?"
TEMPERATURES = ("k", "c", "f", "°c", "°f", "degc", "degf", "kelvin", "celsius", "fahrenheit")


def guess(own: Three, others: Three, unit: str = "") -> str | None:
    """What would make one's own quantiles those of the others; None where nothing known does, or nothing has to.

    unit: the channel's on the model card; °C, °F and K are guessed only where it is one of them, or not given.
    """
    if not is_far(own, others):
        return None
    known = unit.strip().lower()
    for way in CONVERSIONS:
        if way.temperature and known and known not in TEMPERATURES:
            continue
        low, middle, high = sorted(value * way.factor + way.offset for value in own)
        if fits((low, middle, high), others):
            return way.words
    return None


def is_far(own: Three, others: Three) -> bool:
    """Whether a median lies further from the others' range than several widths of it."""
    low, _, high = others
    width = _width(others)
    return own[1] < low - FAR * width or own[1] > high + FAR * width


def fits(own: Three, others: Three) -> bool:
    """Whether level and spread are about those of the others."""
    low, _, high = others
    width = _width(others)
    if not low - CLOSE * width <= own[1] <= high + CLOSE * width:
        return False
    spread = own[2] - own[0]
    return spread <= ALIKE * width and width <= ALIKE * max(spread, 0.0)


def _width(others: Three) -> float:
    """The width of a range; of none, a thousandth of its level."""
    low, middle, high = others
    return max(high - low, 1e-3 * abs(middle), 1e-30)
