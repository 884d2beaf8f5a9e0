# SPDX-License-Identifier: Apache-2.0
"""Say which parameters of the network PyTorch's newer exporter left out of the file or computed further.

It folds what is constant: a factor of one or a bias of zero disappears, a normalised weight is stored as the result. So
a network that was not trained yet loses parameters, and a normalisation of a weight no longer holds in training.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...protos import FLOAT
from ..notes import note
from ..signature import PARAMETER, PYTORCH
from .first_steps import is_first_step
from .provenance import Origins

if TYPE_CHECKING:
    import onnx

NAMED = 8  # parameters that a note lists
HALF = re.compile("_(ih|hh)_")  # the biases of a recurrent layer, which ONNX keeps in one
TOKEN = re.compile(r"[\w.]+")  # a name of PyTorch inside one that another tool made of it
QUANTISED = re.compile(r"(_(transposed|quantized))+$", re.IGNORECASE)
STATISTICS = ("running_mean", "running_var")
OLDER = re.compile(r"onnx::(?!MatMul|LSTM|GRU|RNN|PRelu|Expand)\w+$")  # not what is only laid out in another way


def left_out(model: onnx.ModelProto, origin: Origins) -> list[str]:
    """Parameters of PyTorch that neither are tensors of the file, as it came, nor went into one.

    So are the statistics of a BatchNorm without scale and bias, of which nothing else would tell that it was folded.
    """
    stored = {t.name for t in model.graph.initializer}
    there = {*stored, *(n for name in origin.folded.keys() & stored for n in origin.folded[name])}
    there |= {n for name in stored for n in _names_within(name)}
    bare = [n for n in origin.kinds if n.endswith(STATISTICS) and f"{n.rpartition('.')[0]}.weight" not in origin.kinds]
    return [n for n, kind in origin.kinds.items() if (kind == PARAMETER or n in bare) and n not in there]


def _names_within(name: str) -> set[str]:
    """Names of PyTorch that a name may hold, if a tool put something around it: a prefix, `_quantized`."""
    found = TOKEN.findall(name)
    return {*found, *(QUANTISED.sub("", n) for n in found)}


def computed(model: onnx.ModelProto, origin: Origins) -> list[str]:
    """Parameters of which the file holds a function."""
    made = [t.name for t in model.graph.initializer if origin.operation(t.name) and not is_first_step(t)]
    return list(dict.fromkeys(n for name in made for n in origin.parameters(name)))


def perhaps_computed(model: onnx.ModelProto, origin: Origins) -> list[str]:
    """Tensors that PyTorch's older exporter computed; it does not say from what, nor how."""
    if origin.kinds or model.producer_name != PYTORCH:
        return []
    return [t.name for t in model.graph.initializer if t.data_type == FLOAT and OLDER.match(t.name)]


def note_perhaps(model: onnx.ModelProto, names: list[str]) -> bool:
    """Note what may be a function of parameters. Return whether there is any."""
    text = f"perhaps computed by the exporter: {_listed(names)}: PyTorch's older exporter calls so what it made of "
    text += (
        "parameters or constants. A function of a parameter (a product, a normalisation, a folded BatchNorm) trains "
    )
    return bool(names) and note(model, f"{text}as its result; to keep it, export with do_constant_folding=False")


def note_lost(model: onnx.ModelProto, missing: list[str], functions: list[str]) -> bool:
    """Note what has no tensor of its name after all passes. Return whether there is any."""
    stored = {t.name for t in model.graph.initializer}
    gone = [n for n in missing if n not in stored and HALF.sub("_", n) not in stored]
    why = "as what changes nothing (zero, one), folded into others, or merged with equal ones that have no own name"
    keep = "to keep them, export with optimize=False"
    new = bool(gone) and note(model, f"not in the file: {_listed(gone)}: the exporter left them out, {why}; {keep}")
    text = (
        f"computed by the exporter: {_listed(functions)}: the file holds what a function (a normalisation, a product) "
        "made of them"
    )
    return (
        bool(functions)
        and note(model, f"{text}, and trains that without it, single numbers not at all; {keep.replace('them', 'it')}")
    ) or new


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
