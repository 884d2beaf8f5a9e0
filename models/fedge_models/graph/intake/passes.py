# SPDX-License-Identifier: Apache-2.0
"""The passes that make an exported file whole, in their order. Each is a file of its own.

A pass changes the model in place, so that it computes the same in a form that serves and trains here, and returns
whether it changed anything. It raises ModelError, beginning with `where`, for a file that nothing can be made of. The
result must depend on the file and the card only: both ends hash it. A file that a pass has made is left alone by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ...errors import ModelError
from ..card import Card
from ..nodes import TROUBLE
from ..notes import notes
from .batch import any_batch
from .control_flow import without_control_flow
from .counts import check_count
from .dimensions import known_dimensions
from .explicit_pads import explicit_pads
from .first_steps import mark_first_steps, tie_first_steps
from .fitted import check_fitted
from .float32 import to_float32
from .float_input import float_input
from .functions import without_functions
from .group_norm import group_norm
from .inputs import join_inputs
from .kind import check_kind
from .label_logits import label_logits
from .label_outputs import join_labels
from .layout import as_a_gateway_feeds
from .learners import without_ml
from .lost import computed, left_out, note_lost, note_perhaps, perhaps_computed
from .names import own_names
from .one_bias import one_bias
from .one_output import one_output
from .opset import newer_opset
from .order import in_order
from .outputs import choose_output
from .provenance import mark_constants, origins
from .quantised import dequantise
from .randomness import check_random
from .readable_names import readable_names
from .rejoined import rejoin
from .shapes import output_shape, own_dimension
from .stated_opsets import stated_opsets
from .stored import as_initializers
from .time_leading import time_leading
from .training_mode import for_serving
from .transposed import tie_transposed
from .untie import untie
from .vectors import without_vectors

if TYPE_CHECKING:
    import onnx

Step: TypeAlias = "Callable[[onnx.ModelProto, Card, str], bool]"
FIRST: tuple[Step, ...] = (
    check_count,
    readable_names,
    check_fitted,
    known_dimensions,
    in_order,
    as_initializers,
    stated_opsets,
    without_functions,
    without_control_flow,
    check_kind,
)
# Between the two: names, which nodes and what the exporter wrote tell only as long as the graph is as it came.
CONVERTING: tuple[Step, ...] = (
    join_labels,
    choose_output,
    check_random,
    without_ml,
    newer_opset,
    group_norm,
    to_float32,
    dequantise,
)
# Names again, of the tensors that a conversion has made.
PASSES: tuple[Step, ...] = (
    join_inputs,
    float_input,
    time_leading,
    for_serving,
    as_a_gateway_feeds,
    explicit_pads,
    without_vectors,
    any_batch,
    own_dimension,
    tie_transposed,
    untie,
    tie_first_steps,
    one_bias,
    one_output,
    label_logits,
    output_shape,
)


def run(model: onnx.ModelProto, card: Card, where: str) -> tuple[bool, Card]:
    """Run every pass in its order. Return whether one changed anything, and the card with the names of the result.

    Raises ModelError.
    """
    changed = False
    try:
        for made in FIRST:
            changed = made(model, card, where) or changed
        origin = origins(model)
        mark_constants(model, origin)
        mark_first_steps(model, origin)
        changed = rejoin(model, origin) or changed
        first = not notes(model)  # else it was taken in before
        missing, functions = (left_out(model, origin), computed(model, origin)) if first else ([], [])
        perhaps = perhaps_computed(model, origin) if first else []
        for passes in (CONVERTING, PASSES):
            card, named = own_names(model, card, origin)
            changed = changed or named
            for made in passes:
                changed = made(model, card, where) or changed
        changed = note_perhaps(model, perhaps) or changed
        changed = note_lost(model, missing, functions) or changed
    except (*TROUBLE, StopIteration) as e:  # a node without its inputs, and what else no exporter writes
        what = f"its nodes and tensors do not fit each other ({type(e).__name__}: {e})"
        raise ModelError(f"{where}: not a valid ONNX model: {what}. Export it again") from e
    return changed, card
