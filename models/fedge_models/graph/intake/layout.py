# SPDX-License-Identifier: Apache-2.0
"""Feed a graph as a gateway does: windows (channels, time), pictures (colours, height, width), whatever it takes.

Keras, `batch_first` layers and Transformers take (time, channels); Keras' pictures have the colours last. The card says
how many channels and samples there are, so the layout is recognised, dimensions that the exporter left open are fixed,
and a Transpose or Reshape is put in front. So a site standardises each channel, never each moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...errors import ModelError
from ...protos import tensor
from ..array_labels import unnamed
from ..card import Card
from ..notes import note, notes
from .axes import time_first
from .inputs import JOINED
from .runtime import EITHER, dims, single_input, window_shape

if TYPE_CHECKING:
    import onnx

TURNED = "fedge.turned"  # the name of the Transpose, by which `shapes` knows that outputs are to be turned back
PLACEHOLDER = (
    "the card names one channel and a shorter window: it trains from arrays, and no gateway can feed it until the card "
    "lists its channels or features"
)
DOUBT = "layout: as many samples as channels"  # how the note began that was written before the card could say it


class Form(NamedTuple):
    """A layout that a graph may take: its dimensions after the batch, and how to come there from a gateway's."""

    shape: tuple[int, ...]
    perm: tuple[int, ...] = ()  # of a Transpose, with the batch
    words: str = ""
    batch: int = 0  # the dimension that holds the samples


def as_a_gateway_feeds(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Put in front what turns a gateway's samples into what the graph takes, in place. Return whether it changed.

    Raises ModelError when the card and the input do not agree.
    """
    given, wanted = single_input(model), window_shape(card)
    if given is None:
        return False
    if wanted is None:
        return _check_features(model, given, card, where)
    declared = dims(given)
    if not declared and wanted[1:] == (1,) and _reads_rows(model, given.name):
        return _fix(given, declared, wanted[:1])
    form = _form(model, given, declared, card, wanted, where)
    if form is None:
        return _refuse(declared, card, wanted, where) and note(model, PLACEHOLDER)
    if form.shape == wanted and not form.perm and not form.batch:
        return _fix(given, declared, wanted)
    _turn(model, given, declared, form, wanted)
    note(model, f"layout: the graph takes {form.words}; samples {wanted} are turned in front of it")
    return True


def _reads_rows(model: onnx.ModelProto, name: str) -> bool:
    """Whether a layer that takes rows only reads the input, whose shape the file does not say."""
    return any(n.op_type == "Gemm" and n.input[0] == name for n in model.graph.node)


def _was_laid_out(model: onnx.ModelProto) -> bool:
    """Whether the input was made here, or the file was taken in before: then it takes a gateway's windows."""
    return any(n.name == TURNED for n in model.graph.node) or any(n.startswith((DOUBT, JOINED)) for n in notes(model))


def _form(
    model: onnx.ModelProto,
    given: onnx.ValueInfoProto,
    declared: tuple[int, ...],
    card: Card,
    wanted: tuple[int, ...],
    where: str,
) -> Form | None:
    """The layout that fits what the input declares. Raises ModelError when two fit, and nothing tells which."""
    if not declared:
        return Form(wanted)  # it says nothing of its shape
    found = [f for f in _forms(card, wanted) if not f.batch and _fits(declared[1:], f.shape)]
    turned = next((f for f in found if f.perm and card.image is None), None)
    if turned is not None and not found[0].perm and not _was_laid_out(model):
        return turned if _is_time_first(model, given, found[0], card, wanted, where) else found[0]
    if found:
        return found[0]
    sequence = (f for f in _forms(card, wanted) if f.batch == 1 and len(declared) == 3)
    return next((f for f in sequence if declared[1] in (0, 1) and _fits((declared[0], declared[2]), f.shape)), None)


def _is_time_first(
    model: onnx.ModelProto, given: onnx.ValueInfoProto, plain: Form, card: Card, wanted: tuple[int, ...], where: str
) -> bool:
    """Whether a graph that may take either layout takes (time, channels): the card says it, or the graph shows it.

    plain: the layout (channels, time) of its dimensions. Raises ModelError when there are as many samples as channels,
    and neither does.
    """
    if card.layout is not None:
        return card.layout == "time_first"
    shown = time_first(model, given.name, plain.shape, wanted)
    if shown is None and wanted[0] == wanted[1] and wanted[0] > 1:
        raise ModelError(f"{where}: {EITHER.format(name=given.name, shape=_words(plain.shape))}")
    return bool(shown)


def _fits(declared: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(declared) == len(shape) and all(d in (0, n) for d, n in zip(declared, shape, strict=True))


def _forms(card: Card, wanted: tuple[int, ...]) -> Iterator[Form]:
    """Layouts of the same values, the gateway's own first."""
    yield Form(wanted)
    if card.image is not None:
        colours, height, width = wanted
        yield Form((height, width, colours), (0, 2, 3, 1), "pictures (height, width, colours)")
        if colours == 1:
            yield Form((height, width), (), "pictures (height, width)")
        return
    channels, time = wanted
    yield Form((time, channels), (0, 2, 1), "windows (time, channels)")
    if channels == 1 and time > 1:
        yield Form((time,), (), "windows (time)")
    if time == 1 and any(c.condition is not None for c in card.input_channels):  # conditions are found in windows
        yield Form((channels,), (), "rows (channels)")
    for words, shape in (("(1, channels, time)", (1, channels, time)), ("(channels, 1, time)", (channels, 1, time))):
        yield Form(shape, (), f"windows {words}")
    yield Form((channels, time, 1), (), "windows (channels, time, 1)")
    for words, shape in (("(1, time, channels)", (1, time, channels)), ("(time, channels, 1)", (time, channels, 1))):
        yield Form(shape, (0, 2, 1), f"windows {words}")
    if time > 1:
        yield Form((time, channels), (2, 0, 1), "sequences (time, batch, channels)", 1)


def _fix(given: onnx.ValueInfoProto, declared: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Declare the dimensions after the batch. Return whether one was open."""
    if declared[1:] == wanted:
        return False
    _declare(given, declared[0] if declared else 0, wanted)
    return True


def _declare(given: onnx.ValueInfoProto, batch: int, shape: tuple[int, ...]) -> None:
    dim = given.type.tensor_type.shape.dim
    del dim[:]
    for size in (batch or "n", *shape):
        dim.add(**{"dim_param" if isinstance(size, str) else "dim_value": size})


def _turn(
    model: onnx.ModelProto, given: onnx.ValueInfoProto, declared: tuple[int, ...], form: Form, wanted: tuple[int, ...]
) -> None:
    """Put the nodes in front. The input keeps its name."""
    from onnx import helper

    name, nodes = given.name, []
    inner, last = f"{name}.laid", name
    for node in model.graph.node:
        for position, read in enumerate(node.input):
            if read == name:
                node.input[position] = inner
    shaped = len(form.shape) != len(wanted)
    if form.perm:
        made = f"{name}.turned" if shaped else inner
        nodes.append(helper.make_node("Transpose", [last], [made], name=TURNED, perm=form.perm))
        last = made
    if shaped:
        model.graph.initializer.append(tensor("fedge.form", np.array([-1, *form.shape], np.int64)))
        nodes.append(helper.make_node("Reshape", [last, "fedge.form"], [inner], name="fedge.laid"))
    rest = [type(n).FromString(n.SerializeToString()) for n in model.graph.node]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend([*nodes, *rest])
    _declare(given, declared[form.batch], wanted)


def _check_features(model: onnx.ModelProto, given: onnx.ValueInfoProto, card: Card, where: str) -> bool:
    """Hold the input against the number of features, as far as their names tell it: `bands:8` gives eight."""
    counts = [f.partition(":")[2] for f in card.features]
    channels, numbers = len(card.input_channels) - card.numbers, card.numbers
    wanted = channels * sum(int(c) if c.isdigit() else 1 for c in counts) + numbers
    declared = dims(given)
    if len(declared) == 2 and declared[1] in (0, wanted):
        return _fix(given, declared, (wanted,))
    if not declared:
        return _fix(given, declared, (wanted,))
    more = f" and {numbers} numbers a window" if numbers else ""
    raise ModelError(
        f"{where}: the input {given.name!r} takes {_words(declared[1:])}, but {len(card.features)} features of "
        f"{channels} channels{more} on the card give {_words((wanted,))}; change the card's features or channels"
    )


def check_fed(card: Card, shape: tuple[int, ...], outputs: tuple[int, ...], where: str) -> None:
    """Raise ModelError when a gateway with the card's channels and window gives something else than samples (*shape),
    or can measure no targets for what the graph gives, (*outputs).

    For a federation, whose gateways must be able to feed and train the model.
    """
    wanted = window_shape(card)
    if wanted is not None and shape != wanted and _refuse((0, *shape), card, wanted, where):
        raise ModelError(f"{where}: the input takes {_words(shape)} for a sample, but {PLACEHOLDER}")
    if text := unnamed(card, outputs):
        raise ModelError(f"{where}: {text}")


def _refuse(declared: tuple[int, ...], card: Card, wanted: tuple[int, ...], where: str) -> bool:
    """Raise ModelError, unless the card only holds the place of one that describes the input: return whether it does.

    A table's columns are one value a channel; a gateway gives them without the dimension of time.
    """
    inner = declared[1:]
    if card.image is None and (inner == (len(card.input_channels),) and card.window.length == 1):
        return False
    if card.image is None and _is_placeholder(inner, card):
        return True
    if card.image is not None:
        what = "pictures (colours, height, width)"
    else:
        what = f"windows of {len(card.input_channels)} channels and {card.window.length} samples"
    raise ModelError(
        f"{where}: the input takes {_words(inner)} for a sample, but the card gives {what}, {_words(wanted)}; "
        "change the card's channels or window, or export for them"
    )


def _is_placeholder(inner: tuple[int, ...], card: Card) -> bool:
    """Whether the card names one channel for rows of many values: such a model is trained from a file of arrays."""
    return (
        len(card.input_channels) == 1 and 1 not in inner and 0 not in inner and int(np.prod(inner)) > card.window.length
    )


def _words(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(str(n) if n else "any" for n in shape) + ("," if len(shape) == 1 else "") + ")"
