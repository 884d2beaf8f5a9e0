# SPDX-License-Identifier: Apache-2.0
"""Make a graph without branches, loops and lists of one that has them, as far as shapes and constants decide them.

PyTorch writes a Loop for a `for` in a scripted module and a Scan for `scan`, tf2onnx writes a Loop for the recurrent
layers of Keras. A loop whose steps are known to be so many becomes these steps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ...protos import messages
from ..card import Card
from ..notes import note
from ..refusals import refuse
from .branches import without_branches
from .compare import check_same, copied, outcomes, trial
from .float32 import graphs
from .lists import LISTS, without_lists
from .pruning import prune
from .runtime import Opened, Values
from .subgraphs import ENDLESS
from .trip_counts import UNKNOWN, body, trips
from .unroll import Unrolled

if TYPE_CHECKING:
    import onnx

REPLACED = ("If", *ENDLESS, *LISTS)
MOST_NODES = 8192  # that the steps of all loops may have together; a window is shorter, or its layer is one node


def without_control_flow(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Replace branches, loops and lists in place. Return whether there were any that could be.

    Raises ModelError for a loop whose steps are too many, or are counted by what is measured.
    """
    if not _has(model.graph, REPLACED):
        return False
    _check_size(model.graph, where)
    feeds, found, loops = trial(model, card), False, list[str]()
    endless = _has(model.graph, ENDLESS)  # such a file is not run before it is known how often
    before = copied(model) if endless else outcomes(model, feeds)
    while (
        without_branches(model, card, where)
        or without_lists(model, card, where)
        or _without_loop(model, card, where, loops)
    ):
        found = True
    if loops:
        kinds = ", ".join(f"{loops.count(k)} {k}" for k in dict.fromkeys(loops))
        note(model, f"loops: {kinds} became the steps that it always has: {len(model.graph.node)} nodes in all")
    if found and not _has(model.graph, REPLACED):  # else it is refused; and each loop is known to end
        prune(model.graph)
        same = outcomes(before, feeds) if isinstance(before, messages().ModelProto) else before
        check_same(same, outcomes(model, feeds), "what replaces its branches, loops and lists", where)
    if any(n.op_type == "If" for n in model.graph.node):
        _check_runs(model, feeds or [], where)
    return found


def _check_runs(model: onnx.ModelProto, feeds: Sequence[Values], where: str) -> None:
    """Raise ModelError where nodes do not fit each other: that is then why nothing tells which branch runs."""
    for each in feeds if not _has(model.graph, ENDLESS) else ():
        Opened(model, where).run(each)


def _check_size(graph: onnx.GraphProto, where: str) -> None:
    """Refuse branches and loops that hold very many nodes: to look at each of them again and again takes minutes."""
    size = sum(len(inner.node) for inner in graphs(graph)) - len(graph.node)
    if size > MOST_NODES:
        node = next(n for n in graph.node if any(a.HasField("g") for a in n.attribute))
        refuse("large graphs", where, name=node.name or node.op_type, op=node.op_type, size=size, most=MOST_NODES)


def _has(graph: onnx.GraphProto, kinds: Collection[str]) -> bool:
    return any(n.op_type in kinds for inner in graphs(graph) for n in inner.node)


def _without_loop(model: onnx.ModelProto, card: Card, where: str, loops: list[str]) -> bool:
    """Replace the first loop by its steps, in place, and add its operator to `loops`. Return whether there was one."""
    graph = model.graph
    at = next((i for i, n in enumerate(graph.node) if n.op_type in ENDLESS and not n.domain), None)
    if at is None:
        return False
    node = copied(graph.node[at])
    size = max(1, sum(len(g.node) for g in graphs(body(node))))
    name, most = node.name or node.op_type, max(0, MOST_NODES - len(graph.node)) // size
    found = trips(model, node, card, most)
    if found.steps < 0 and found is not UNKNOWN:
        refuse("loop", where, name=name, op=node.op_type, why=found.why)
    if found.steps > most:
        refuse("long loop", where, name=name, op=node.op_type, size=size, most=MOST_NODES)
    if found.steps < 0 or (not found.steps and (node.op_type == "Scan" or any(node.output[len(node.input) - 2 :]))):
        return False  # nothing tells how often, or it gives nothing: it is refused
    made = Unrolled(model, node, found.steps, at).nodes
    nodes = [copied(n) for n in graph.node]
    del graph.node[:]
    graph.node.extend([*nodes[:at], *made, *nodes[at + 1 :]])
    loops.append(node.op_type)
    return True
