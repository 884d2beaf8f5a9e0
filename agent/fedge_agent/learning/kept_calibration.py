# SPDX-License-Identifier: Apache-2.0
"""The calibration of probabilities, kept for as long as what decides stays, so that lost samples do not end it."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import cbor2
import numpy as np
from fedge_models.errors import StorageError, WireError
from fedge_models.messages.cbor import decode_cbor
from fedge_models.training.calibration import FLATTEST, LARGEST, STEEPEST, Calibration, LabelCalibration

from ..durable.releases import ChainStore
from ..samples.units import Summary
from .calibrate import Calibrated, Judged, calibrate
from .mixture import Blend
from .training import Data


class KeptCalibration:
    """The calibration of one model."""

    def __init__(self, chain: ChainStore) -> None:
        self._chain = chain

    def of(self, blend: Blend, held: Data, learnt: Data, judged_by: Summary, made_for: bytes) -> Calibrated | None:
        """Return what held-back samples show, or what they showed for the same model (`made_for`) if they are too few
        now; None for a task without probabilities."""
        found = calibrate(blend, held, learnt, judged_by)
        if found is None or found.judged is not None:
            if found is not None:
                self._keep(found, made_for)
            return found
        kept = decode(self._chain.load_calibration(), made_for, len(blend.card.labels))
        return found if kept is None else kept

    def _keep(self, found: Calibrated, made_for: bytes) -> None:
        data = encode(found, made_for)
        if data != self._chain.load_calibration():
            with suppress(StorageError):  # it decides nevertheless
                self._chain.save_calibration(data)


def encode(found: Calibrated, made_for: bytes) -> bytes:
    """The bytes to store."""
    how = None if found.calibration is None else _stored(found.calibration)
    judged = None if found.judged is None else [*found.judged.log_loss, *found.judged.error]
    return cbor2.dumps([made_for, how, found.why, found.samples, found.units, judged])


def decode(data: bytes | None, made_for: bytes, classes: int) -> Calibrated | None:
    """Read a stored calibration; None when there is none for this model, or it cannot be read."""
    try:
        made, how, why, samples, units, judged = decode_cbor(data or b"\x80", "calibration.cbor")
        values = [float(v) for v in judged]
        worth = Judged((values[0], values[1]), (values[2], values[3]))
        found = None if how is None else _read(how)
    except (WireError, ValueError, TypeError, IndexError):
        return None
    if made != made_for or (found is not None and not _is_sound(found, classes)) or not all(map(math.isfinite, values)):
        return None
    return Calibrated(found, str(why), int(samples), int(units), worth)


def _stored(found: Calibration | LabelCalibration) -> list[Any]:
    """Slope and biases; of labels that may hold together, a slope of each."""
    slopes = found.slopes.tolist() if isinstance(found, LabelCalibration) else found.slope
    return [slopes, found.biases.tolist()]


def _read(how: list[Any]) -> Calibration | LabelCalibration:
    """As `_stored`. Raises ValueError or TypeError."""
    slopes, biases = np.array(how[0], np.float64), np.array(how[1], np.float64)
    return LabelCalibration(slopes, biases) if slopes.ndim else Calibration(float(slopes), biases)


def _is_sound(found: Calibration | LabelCalibration, classes: int) -> bool:
    """Whether a fit can have led to it."""
    if isinstance(found, LabelCalibration):
        slopes, most = found.slopes, 2 * LARGEST
    else:
        slopes, most = np.full(classes, found.slope), LARGEST
    sized = found.biases.shape == slopes.shape == (classes,) and ((slopes >= FLATTEST) & (slopes <= STEEPEST)).all()
    return bool(sized and (np.abs(found.biases) <= most).all())
