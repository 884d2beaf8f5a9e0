# SPDX-License-Identifier: Apache-2.0
"""Memory is lent once at a time, and lent again as soon as nobody refers to it."""

from __future__ import annotations

import tracemalloc

import numpy as np
from fedge_models.ops.workspace import SMALL, Workspace
from support.graphs import N, load, normal, small

ROWS = (SMALL, 3)


def test_what_is_referred_to_is_not_lent_again() -> None:
    memory = Workspace()
    held = [memory.array(ROWS, np.float32) for _ in range(4)]
    for i, array in enumerate(held):
        array.fill(i)
    view, closure = held.pop(0)[5:7].T, held.pop(0).max
    memory.array(ROWS, np.float32).fill(9)
    assert view.min() == view.max() == 0 and closure() == 1
    assert [a.max() for a in held] == [2, 3]


def test_what_nobody_refers_to_is_lent_again() -> None:
    memory = Workspace()
    places = set()
    for _ in range(5):
        array = memory.array(ROWS, np.float32)
        places.add(array.ctypes.data)
        del array
    assert len(places) == 1
    other = memory.array((SMALL * 2,), np.float32)  # smaller, and of another shape
    assert {other.ctypes.data} == places
    assert memory.array((SMALL,), np.uint8).ctypes.data not in places


def test_memory_of_small_arrays_is_not_shared() -> None:
    memory = Workspace()
    assert not np.shares_memory(memory.array((3,), np.float32), memory.array((3,), np.float32))


def test_like_has_the_layout_of_its_model() -> None:
    memory, x = Workspace(), np.zeros((40, 30, 20), np.float32)
    for model in (x, x.transpose(2, 0, 1), x[:, ::2], np.broadcast_to(x[:1], (40, 30, 20))):
        made = memory.like(model)
        assert made.shape == model.shape and made.size * 4 == made.nbytes
    assert memory.like(x.transpose(2, 0, 1)).transpose(1, 2, 0).flags.c_contiguous
    assert memory.like(x, np.bool_).dtype == np.bool_


def test_a_deep_network_holds_its_activations_once_and_few_gradients() -> None:
    """Ten layers of 3 MiB each: with windows and a gradient for each layer it would be ten times 15 MiB."""
    layers = range(10)
    nodes = [N("Conv", [f"h{i}", f"w{i}"], [f"h{i + 1}"], pads=[1, 1]) for i in layers]
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    weights = {f"w{i}": normal(16, 1 if i == 0 else 16, 3) for i in layers}
    graph, x = load(small(nodes, weights, (1, 1600), (16, 1600))), normal(32, 1, 1600)
    tracemalloc.start()
    try:
        for _ in range(2):
            graph.backward(np.ones_like(graph.forward(x)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 16 * 1600 * 32 * 4


def test_what_only_later_nodes_read_is_given_up_after_the_last() -> None:
    """A sum keeps nothing: both of its terms are free once it has run, before the backward pass."""
    nodes = [N("Conv", ["x", "w"], ["a"], pads=[1, 1])]
    for i in range(8):
        nodes.append(N("Add", ["a" if i == 0 else f"s{i}", "a" if i == 0 else f"s{i}"], [f"s{i + 1}"]))
    nodes[-1].output[0] = "y"
    graph, x = load(small(nodes, {"w": normal(16, 1, 3)}, (1, 1600), (16, 1600))), normal(32, 1, 1600)
    tracemalloc.start()
    try:
        y = graph.forward(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * y.nbytes
