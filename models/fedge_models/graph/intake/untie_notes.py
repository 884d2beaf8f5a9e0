# SPDX-License-Identifier: Apache-2.0
"""Say what was untied, what stays one tensor and why, and what the card lists in vain."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NoReturn

from ...errors import ModelError
from ...system.choices import hint
from ..card import Card
from ..notes import note, notes
from ..onnx_file import MAX_MODEL_BYTES
from ..signature import kinds
from .layers import module
from .loops import Reader
from .parameters import Parameter

if TYPE_CHECKING:
    import onnx

STATISTICS = (3, 4)  # inputs of BatchNormalization
PLACES = ": by their places only, because no node tells its module"
ALONE = ": the card alone says so, because no node tells its module"
ONE_LAYER = "layer "  # how the key of readers begins that are unlike operators of one module
PARTS = "parts "  # and of those that take different parts of a tensor there
NAMED = 6  # copies that a note names


def why(keys: set[str], listed: Parameter | None, readers: list[Reader]) -> str:
    """Say why readers stay together: the keys of their loops, and the parameter that the card lists."""
    if listed:
        told = listed.certain or all(module(r.node) for r in readers)
        return "" if told else ALONE if listed.name else PLACES
    if "" in keys:
        return ""
    if any(k.startswith(PARTS) for k in keys):
        return ": they take different parts of it"
    return ": unlike operators of one layer" if any(k.startswith(ONE_LAYER) for k in keys) else ": an unrolled loop"


def say_idle(model: onnx.ModelProto, card: Card, several: set[str]) -> bool:
    """Note each glob under `shared` that nothing came of; return whether there is one.

    several: what parameters with more than one reader are called.
    """
    names = [*several, *(n.split()[1] for n in notes(model) if n.startswith(("shared: ", "untied: ")))]
    new = False
    for glob in card.shared:
        if not any(fnmatchcase(name, glob) for name in names):
            text = f"shared: {glob!r} has no effect, because the file stores a tensor of its own for each reader"
            new = note(model, text) or new
    return new


def say(
    model: onnx.ModelProto, source: str, found: list[Reader], made: list[str], unlisted: list[Parameter], listed: bool
) -> None:
    """Note what was untied; copies of BatchNormalization's statistics are no question for anybody.

    unlisted: parameters that the card does not list. listed: whether it lists others.
    """
    more = f" and {len(made) - NAMED} more" if len(made) > NAMED else ""
    text = f"untied: {source} was one tensor for {who(found)}; copies: {', '.join(made[:NAMED])}{more}"
    if names := _in_question(source, found, unlisted):
        quoted = ", ".join(f'"{n}"' for n in names)
        text += f"; if they are one on purpose, list it on the card: shared = [{quoted}]"
    elif listed:
        text += "; the card lists it under shared, which keeps together what reads one parameter, and these are several"
    note(model, text)


def _in_question(source: str, found: list[Reader], unlisted: list[Parameter]) -> list[str]:
    """What may be one on purpose: a parameter with several readers, or readers that nothing tells apart."""
    several = [p for p in unlisted if len(p.readers) > 1 and found[p.readers[0]].norm_input not in STATISTICS]
    if any(p.name for p in several):
        return [*dict.fromkeys(p.name for p in several if p.name)]
    places = [(found[i].node.op_type, module(found[i].node)) for p in unlisted for i in p.readers
              if not found[i].of_batch_norm]  # fmt: skip
    doubt = any(len({*of}) < len(of) for of in zip(*places, strict=True))  # one operator twice, or one module
    return [source] if doubt and not all(p.certain for p in unlisted) else []


def who(found: list[Reader]) -> str:
    """Count the readers by their operators."""
    kinds = [r.node.op_type for r in found]
    return ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))


def refuse_copies(source: str, found: list[Reader], where: str) -> NoReturn:
    """Raise ModelError for more copies than a model may hold."""
    raise ModelError(
        f"{where}: {source} is one tensor for {who(found)}, and with a copy for each the file would have more than "
        f'{MAX_MODEL_BYTES:,} bytes. If they are one on purpose, list it on the card: shared = ["{source}"]'
    )


def check_listed(model: onnx.ModelProto, card: Card, names: set[str], several: list[str], where: str) -> None:
    """Raise ModelError for what the card lists under `shared` and is none of the names.

    several: tensors that more than one node reads.
    """
    for glob in card.shared:
        if any(fnmatchcase(n, glob) for n in names):
            continue
        what = f"which is no tensor of the file; {hint(glob, names)}"
        if glob in kinds(model):
            listed = ", ".join(n for n in several if n in kinds(model)) or "none"
            what = "which the exporter left out, or stored under the name of a parameter that is one with it. "
            what += f"List that: the parameters that several nodes read are {listed}"
        raise ModelError(f"{where}: card: shared lists {glob!r}, {what}")
