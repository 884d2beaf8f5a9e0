# SPDX-License-Identifier: Apache-2.0
"""Put the nodes of a file's own functions in the place of their calls: PyTorch and onnxscript write such files.

A function may have the name of an operator. Then ONNX leaves open which of the two runs: ONNX Runtime runs its own
operator, other tools the function. Such a file is taken when both give the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ModelError, first_line
from ..card import Card
from ..refusals import refuse
from .compare import differing, outcomes, trial

if TYPE_CHECKING:
    import onnx


OWN = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")  # domains of which ONNX Runtime has operators


def without_functions(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Inline every function in place. Return whether there was any.

    Raises ModelError where that cannot be done, or a function gives something else than the operator of its name.
    """
    if not model.functions:
        return False
    from onnx import inliner

    doubled = [f"{f.domain}.{f.name}".lstrip(".") for f in model.functions if f.domain in OWN]
    feeds = trial(model, card) if doubled else None
    before = outcomes(model, feeds)
    try:
        made = inliner.inline_local_functions(model)
    except Exception as e:  # the inliner raises RuntimeError and exceptions of its own
        raise ModelError(
            f"{where}: its own functions cannot be put in the place of their calls: {first_line(e)}"
        ) from e
    model.CopyFrom(made)
    if doubled and differing(before, outcomes(model, feeds)) is not None:
        refuse("function", where, names=", ".join(map(repr, doubled)))
    return True
