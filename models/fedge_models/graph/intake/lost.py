# SPDX-License-Identifier: Apache-2.0
"""Say which parameters of the network PyTorch's newer exporter left out of the file or computed further.

It folds what is constant: a factor of one or a bias of zero disappears, a normalised weight is stored as the result. So
a network that was not trained yet loses parameters, and a normalisation of a weight no longer holds in training.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..notes import note
from ..signature import PARAMETER
from .provenance import Origins

if TYPE_CHECKING:
    import onnx

NAMED = 8  # parameters that a note lists
HALF = re.compile("_(ih|hh)_")  # the biases of a recurrent layer, which ONNX keeps in one
FUNCTION = re.compile(r"(linalg_vector_norm|norm|softmax|softplus|sigmoid|tanh|exp|log|mv|pow|rsqrt|sqrt)(_\d+)?$")


def left_out(model: onnx.ModelProto, origin: Origins) -> list[str]:
    """Parameters of PyTorch that neither are tensors of the file, as it came, nor went into one."""
    stored = {t.name for t in model.graph.initializer}
    there = {*stored, *(n for name in origin.folded.keys() & stored for n in origin.folded[name])}
    return [n for n, kind in origin.kinds.items() if kind == PARAMETER and n not in there]


def computed(model: onnx.ModelProto, origin: Origins) -> list[str]:
    """Parameters of which the file holds a function."""
    found = []
    for tensor in model.graph.initializer:
        if any(FUNCTION.match(n) for n in origin.folded.get(tensor.name, [])):
            found += origin.parameters(tensor.name)
    return list(dict.fromkeys(found))


def note_lost(model: onnx.ModelProto, missing: list[str], functions: list[str]) -> bool:
    """Note what has no tensor of its name after all passes. Return whether there is any."""
    stored = {t.name for t in model.graph.initializer}
    gone = [n for n in missing if n not in stored and HALF.sub("_", n) not in stored]
    why = "as what changes nothing (zero, one), folded into others, or merged with equal ones that have no own name"
    keep = "to keep them, export with optimize=False"
    new = bool(gone) and note(model, f"not in the file: {_listed(gone)}: the exporter left them out, {why}; {keep}")
    text = (
        f"computed by the exporter: {_listed(functions)}: the file holds what a function (a normalisation) made of them"
    )
    return (bool(functions) and note(model, f"{text}, and trains that without it; {keep.replace('them', 'it')}")) or new


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
