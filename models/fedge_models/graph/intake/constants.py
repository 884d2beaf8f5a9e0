# SPDX-License-Identifier: Apache-2.0
"""Find initializers that no exporter would call a parameter, so that the pattern `*` leaves them as they are.

Exporters store everything that is constant in the same place: weights, but also the factors of a scaler, Fourier and
cosine matrices, filter banks, tables of positions and masks. They are known by where they are read and what they hold.
The names go onto the card (`constants`), so that both ends leave out the same; an exact name trains one all the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ...protos import FLOAT
from ...system.choices import hint
from ..card import Card
from ..nodes import carrying, laid_out_statistics, running_statistics
from ..notes import note
from ..onnx_file import array
from ..signature import ATTRIBUTE, IN_CODE, PARAMETER, PYTORCH, kinds, single_parameters
from .epsilons import epsilons
from .first_states import STATE, first_states
from .known_filters import are_distances, are_symmetric, are_wavelets, is_window
from .known_values import are_positions, are_rotations, are_waves, is_filter_bank, is_mask, is_ramp, may_turn
from .means import MEAN, written_means
from .own_scaling import LEARNERS, PREPARED, SCALER, prepared
from .preparation import ELEMENTWISE, Preparation
from .provenance import bare_norms, marks
from .standing_alone import standing_alone
from .straight_through import trained_by_nothing, unreached
from .unscaling import Behind

if TYPE_CHECKING:
    import onnx

MATRICES = {"MatMul": (0, 1), "Gemm": (1,), "Conv": (1,), "Einsum": (0, 1)}  # where a Fourier matrix may be read
LAID_OUT = (
    "Cast",
    "Expand",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
ROTATING = ("Mul", "RotaryEmbedding", "Where")
BESIDE = 64  # tables in front of a sine's, among which its cosine's is looked for
NAMED = 8  # tensors that a note lists
LISTED = "listed on the card"
GUESS = "this is a guess from its values and place, and no pattern trains it; if it is a parameter: trainable = '*,{}'"
MADE_UP = "a scale or shift that an exporter made up for a GroupNorm"
WEIGHTS = {("Conv", 1), ("ConvTranspose", 1), ("Gemm", 1), ("MatMul", 1)}
NOTHING = "nothing but NaN, the other branch of a choice"
LAYERS = re.compile(r"(^|[._])(weight|bias)(_|$|\.)")  # as PyTorch's own layers call their parameters
STEPS = "calibrator_y"  # how skl2onnx calls those of an isotonic calibration
VARIABLE = re.compile(r"ReadVariableOp|onnx::")  # of TensorFlow; what PyTorch's older exporter computed
OF_CODE = "a constant of the code, as the exporter names it"
OPERAND = re.compile(r"/(x|y|Const(_\d+)?|Rsqrt)(:\d+)?$")  # of what is no variable: mul/y:0, batchnorm/Rsqrt:0
TENSORFLOW = "tf2onnx"
EPSILON = "an epsilon, which keeps a root, a logarithm or a divisor away from zero"


def constants(model: onnx.ModelProto, card: Card, where: str) -> dict[str, str]:
    """Return the names of initializers that are no parameters, with what each is; a note says so.

    Raises ModelError when the card lists one that is not there, and for an isotonic calibration.
    """
    names = {t.name for t in model.graph.initializer}
    if missing := [n for n in card.constants if n not in names]:
        at = f"{where}: card: constants lists {missing[0]!r}, which is no tensor of the file"
        raise ModelError(f"{at}; {hint(missing[0], names)}")
    _check_steps(model, card, where)
    singles, of_pytorch = single_parameters(model), kinds(model)
    stored = {t.name: t for t in model.graph.initializer if t.data_type == FLOAT and (len(t.dims) or t.name in singles)}
    found: dict[str, str] = {n: LISTED for n in card.constants if n in stored}
    for name, what in _seen(model, stored, where):
        if found.get(name) == LISTED and what in (SCALER, PREPARED):
            found[name] = what  # also where the card of an earlier taking in lists it: no site may scale once more
        if name not in found and not _is_of_parameter(name, of_pytorch):
            found[name] = what
            certain = what in (MADE_UP, NOTHING, OF_CODE)
            end = "patterns leave it out, its exact name trains it" if certain else GUESS.format(name)
            note(model, f"not a parameter: {name} is {what}; {end}")
    marked = marks(model) | bare_norms(model, of_pytorch)
    marked = {n: what for n, what in marked.items() if n in stored and n not in found}
    if not of_pytorch:
        _say_unknown(model, stored.keys() - found.keys() - marked.keys())
    if several := {n: what for n, what in marked.items() if prod(stored[n].dims) > 1}:
        note(model, f"not parameters: {_listed(several)}; patterns leave them out, an exact name trains one")
    found |= marked
    cancelled = unreached(model)
    found |= {n: "reached by no gradient" for n in stored if n in cancelled and n not in found}
    _say_unreached(model, [n for n, what in found.items() if n in cancelled], of_pytorch)
    return {t.name: found[t.name] for t in model.graph.initializer if t.name in found}


def _is_of_parameter(name: str, of_pytorch: dict[str, str]) -> bool:
    """Whether PyTorch calls a tensor a parameter, or it is a function of one: `gate.sigmoid`."""
    return any(of_pytorch.get(n) == PARAMETER for n in (name, name.rpartition(".")[0]))


def _say_unreached(model: onnx.ModelProto, names: list[str], of_pytorch: dict[str, str]) -> None:
    """Note parameters that no gradient reaches, by cancelling or because a step is behind each."""
    if names := [*dict.fromkeys([*names, *trained_by_nothing(model, of_pytorch, PARAMETER)])]:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        why = "behind them the graph rounds, compares or takes an index, and ONNX has no straight-through estimator"
        text = f"no gradient reaches {', '.join(names[:NAMED])}{more}: {why}"
        note(model, f"{text} (detach). They are not trained: export the network without the step, and train that")


def _check_steps(model: onnx.ModelProto, card: Card, where: str) -> None:
    """Raise ModelError for an isotonic calibration of scikit-learn: only its steps would train, not the classifier."""
    steps = [t.name for t in model.graph.initializer if t.name.startswith(STEPS)]
    if steps and model.producer_name in LEARNERS and not {*card.trainable.split(",")} & {*steps}:
        raise ModelError(
            f"{where}: is calibrated isotonically: no gradient passes the steps, so nothing in front of "
            "them is trained. Calibrate with method='sigmoid', or not at all, which training does not need"
        )


def _say_unknown(model: onnx.ModelProto, trained: set[str]) -> None:
    """Note which tensors `*` trains that may be buffers, as far as their names tell, and which single numbers not."""
    carried = carrying(model)
    ordered = [t for t in model.graph.initializer if t.data_type == FLOAT and t.name in carried]
    statistics = running_statistics(model) | laid_out_statistics(model)
    if model.producer_name == PYTORCH:
        names = [t.name for t in ordered if t.name in trained - statistics and ATTRIBUTE.match(t.name)]
        alone = standing_alone(model.graph)
        if unsure := [n for n in names if n in alone or not LAYERS.search(n)]:
            more = f" and {len(unsure) - NAMED} more" if len(unsure) > NAMED else ""
            text = "train as parameters; this exporter does not tell buffers from them: list a buffer under constants"
            note(model, f"by its name alone: {', '.join(unsure[:NAMED])}{more} {text} on the card, or use dynamo=True")
    singles = [t.name for t in ordered if prod(t.dims) == 1 and t.name not in trained and VARIABLE.search(t.name)]
    if singles:
        note(model, f"single numbers: no pattern trains {', '.join(singles[:NAMED])}; an exact name trains one")


def _listed(reasons: dict[str, str]) -> str:
    """Names of tensors by what the exporter says of them."""
    texts = []
    for what in dict.fromkeys(reasons.values()):
        names = [n for n, w in reasons.items() if w == what]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        texts.append(f"{', '.join(names[:NAMED])}{more} ({what})")
    return ", ".join(texts)


def _seen(model: onnx.ModelProto, stored: dict[str, onnx.TensorProto], where: str) -> Iterator[tuple[str, str]]:
    yield from ((n, PREPARED) for n in prepared(model, stored))
    yield from ((n, EPSILON) for n in sorted(epsilons(model.graph) & stored.keys()))
    yield from ((n, STATE) for n in first_states(model, stored))
    tables = {*[*_tables(model, stored, where)]}
    yield from tables
    found = [*Preparation(model, stored, {n for n, _ in tables}, lambda n: _values(n, stored[n], where)).found()]
    yield from found
    yield from ((n, MEAN) for n in written_means(model.graph, stored) if made_up(n))
    behind = Behind(model, stored)
    yield from (*behind.unscalers({n.rpartition(".")[2] for n, _ in found if "." in n}), *behind.inside())
    in_code = {TENSORFLOW: OPERAND, PYTORCH: IN_CODE}.get(model.producer_name)
    yield from ((n, OF_CODE) for n in stored if in_code is not None and in_code.search(n))


def _tables(model: onnx.ModelProto, stored: dict[str, onnx.TensorProto], where: str) -> Iterator[tuple[str, str]]:
    """Each tensor that its values and the nodes that read it tell."""
    reads = _readers(model.graph)
    multiplied: list[tuple[str, NDArray[Any]]] = []
    for name, tensor in stored.items():
        nodes = reads.get(name, [])
        values = _values(name, tensor, where) if nodes else None
        if values is not None and np.isnan(values).any():
            yield name, NOTHING
            continue
        if values is None or not values.ndim or _has_bias(name, [n for n, _ in nodes], stored):
            continue
        if what := next(_kinds(name, values, nodes), ""):
            yield name, what
        if values.ndim > 1 and all(n.op_type in ROTATING for n, _ in nodes) and may_turn(values):
            near = multiplied[-BESIDE:]
            partners = [other for other, table in near if are_rotations(table, values)]
            yield from ((n, "a table of rotations") for n in (*partners, *([name] if partners else [])))
            multiplied.append((name, values))


def _readers(graph: onnx.GraphProto) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
    """The nodes that read each stored tensor, and by which input; also through nodes that only lay it out."""
    found: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    fixed, same = {t.name for t in graph.initializer}, dict[str, str]()
    for node in graph.node:
        given = [n for n in node.input if n]
        if node.op_type == "Constant" or (given and fixed.issuperset(given)):
            fixed.update(node.output)
        if node.op_type in LAID_OUT and given and fixed.issuperset(given):
            same |= dict.fromkeys(node.output, same.get(given[0], given[0]))
            continue
        for position, name in enumerate(node.input):
            found.setdefault(same.get(name, name), []).append((node, position))
    return found


def _values(name: str, tensor: onnx.TensorProto, where: str) -> NDArray[Any] | None:
    try:
        return array(name, tensor, where, finite=False)
    except ModelError:  # it is refused where it is trained
        return None


def _has_bias(name: str, nodes: list[onnx.NodeProto], stored: Collection[str]) -> bool:
    """Whether a layer reads a tensor as its weight beside its own bias, which no Fourier matrix or filter bank has."""
    stem = name.removesuffix(".weight")
    return stem != name and f"{stem}.bias" in stored and all(f"{stem}.bias" in n.input for n in nodes)


def _kinds(name: str, values: NDArray[Any], nodes: list[tuple[onnx.NodeProto, int]]) -> Iterator[str]:
    operators = {n.op_type for n, _ in nodes}
    if operators == {"STFT"}:
        yield "a window of STFT"
    if operators <= {"Add", "Mul", "Where"} and is_mask(values, operators):
        yield "a mask"
    if operators <= {"Add", "Concat", "Mul"} and are_positions(values):
        yield "a table of positions"
    if operators <= {*ELEMENTWISE, "Where"} and are_distances(values):
        yield "a table of distances between positions"
    if operators <= {*ELEMENTWISE, "Concat", "Einsum", "MatMul"} and is_ramp(values):
        yield "a ramp, as of indices or frequencies"
    if operators == {"Mul"} and is_window(values):
        yield "a window"
    if operators == {"InstanceNormalization"} and made_up(name) and np.ptp(values) == 0:
        yield MADE_UP
    if values.ndim >= 2 and all(i in MATRICES.get(n.op_type, ()) for n, i in nodes):
        if are_waves(values):
            yield "a Fourier or cosine matrix"
        if is_filter_bank(values):
            yield "a filter bank or a selection"
        if not _is_layers(name, nodes) and (are_symmetric(values) or are_wavelets(values)):
            yield "a bank of fixed filters"


def _is_layers(name: str, nodes: list[tuple[onnx.NodeProto, int]]) -> bool:
    """Whether a tensor is called as the weight of a layer of PyTorch, and each reader is such a layer."""
    return name.endswith(".weight") and all((n.op_type, i) in WEIGHTS for n, i in nodes)


def made_up(name: str) -> bool:
    """Whether an exporter made the name up, so that no user's own module has such a tensor."""
    return any(c in name for c in ":/") or name.startswith(("val_", "const", "_tensor", "lifted", "fedge."))
