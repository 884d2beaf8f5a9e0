# SPDX-License-Identifier: Apache-2.0
"""Say it where a file gives the same for all samples that are tried: then no check of its results sees anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ..closeness import differ
from ..notes import note
from .runtime import Opened

if TYPE_CHECKING:
    import onnx

UNSEEN = (
    "check: it gives {what} for all samples that were tried (normal values, positive and large ones), so nothing shows "
    "whether it decides on each sample by itself. Look at what it gives for measured values"
)
SAME, NO_NUMBER = "the same", "infinity or NaN"


def note_unseen(
    model: onnx.ModelProto, opened: Opened, found: NDArray[Any], others: Iterable[dict[str, NDArray[Any]]]
) -> bool:
    """Note that the only output, `found` for some samples, is the same for these and for the others.

    Return whether it is noted newly.
    """
    if differ(found):
        return False
    finite, name = bool(np.isfinite(found).any()), model.graph.output[0].name
    for feeds in others:
        try:
            made = opened.run(feeds)[name]
        except ModelError:  # it takes no such values
            continue
        if differ(made):
            return False
        finite = finite or bool(np.isfinite(made).any())
    return note(model, UNSEEN.format(what=SAME if finite else NO_NUMBER))
