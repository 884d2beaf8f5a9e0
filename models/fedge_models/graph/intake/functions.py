# SPDX-License-Identifier: Apache-2.0
"""Put the nodes of a file's own functions in the place of their calls: PyTorch and onnxscript write such files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ModelError, first_line
from ..card import Card

if TYPE_CHECKING:
    import onnx


def without_functions(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Inline every function in place. Return whether there was any. Raises ModelError where that cannot be done."""
    if not model.functions:
        return False
    from onnx import inliner

    try:
        made = inliner.inline_local_functions(model)
    except Exception as e:  # the inliner raises RuntimeError and exceptions of its own
        raise ModelError(
            f"{where}: its own functions cannot be put in the place of their calls: {first_line(e)}"
        ) from e
    model.CopyFrom(made)
    return True
