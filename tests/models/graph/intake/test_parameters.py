# SPDX-License-Identifier: Apache-2.0
"""What the card lists under `shared` stays one tensor for the readers of one parameter, and for no others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, check_gradient, run_ort, small

CARD = Card(
    "classify", tuple(Channel(c) for c in "abcdef"), WindowSpec(1, 1, 1), features=("mean",), labels=("x", "y", "z")
)
SIGNATURE, SCOPES = "pkg.torch.export.ExportedProgram.graph_signature", "pkg.torch.onnx.name_scopes"
STYLES = ("dynamo", "torchscript", "bare")


class Call(NamedTuple):
    """A node, with parameters by their true names."""

    op: str
    module: str
    inputs: list[str]
    output: str


class Net:
    """The calls of a network, whose parameters get values when they are first read."""

    def __init__(self, fresh: bool) -> None:
        self.fresh, self.rng = fresh, np.random.default_rng(3)
        self.calls: list[Call] = []
        self.params: dict[str, np.ndarray] = {}

    def add(self, op: str, module: str, *inputs: str) -> str:
        output = f"{module}:{len(self.calls)}"
        self.calls.append(Call(op, module, [*inputs], output))
        return output

    def layer(self, op: str, module: str, x: str, *roles: str) -> str:
        """Apply a layer; its parameters are `module.role`."""
        names = [f"{module}.{role}" for role in roles]
        for name in names:
            self.params.setdefault(name, self._value(name))
        return self.add(op, module, x, *names)

    def gemm(self, module: str, x: str) -> str:
        return self.layer("Gemm", module, x, "weight", "bias")

    def norm(self, module: str, x: str) -> str:
        return self.layer("LayerNormalization", module, x, "weight", "bias")

    def batch_norm(self, module: str, x: str) -> str:
        return self.layer("BatchNormalization", module, x, "weight", "bias", "running_mean", "running_var")

    def _value(self, name: str) -> np.ndarray:
        if name.endswith(".weight") and "norm" not in name and "slope" not in name:
            return (0.4 * self.rng.normal(size=(6, 6))).astype(np.float32)
        start = 0.25 if "slope" in name else float(not name.endswith(("bias", "mean")))
        drawn = 0.2 * self.rng.random(6) * (not self.fresh)
        return (start + drawn).astype(np.float32)


def siamese(net: Net) -> list[str]:
    def encoder(x: str) -> str:
        x = net.batch_norm("enc.norm0", x)
        x = net.batch_norm("enc.norm1", net.gemm("enc.first", x))
        return net.norm("enc.norm2", net.gemm("enc.last", net.add("Tanh", "enc.tanh", x)))

    net.add("Sub", "", encoder("x"), encoder("other"))
    return ["enc.*"]


def albert(net: Net) -> list[str]:
    x = "x"
    for _ in range(3):
        x = net.norm("b.norm1", net.add("Add", "b", x, net.gemm("b.attn.proj", x)))
        x = net.norm("b.norm2", net.add("Add", "b", x, net.add("Tanh", "b", net.gemm("b.linear", x))))
    return ["b.*"]


def pre_norm(net: Net) -> list[str]:
    x = "x"
    for _ in range(2):
        x = net.add("Add", "b", x, net.gemm("b.one", net.norm("b.norm1", x)))
        x = net.add("Add", "b", x, net.gemm("b.two", net.norm("b.norm2", x)))
    return ["b.*"]


def copied_layers(net: Net) -> list[str]:
    """An encoder of two layers that were copies of one, used for both halves."""

    def encoder(x: str) -> str:
        for i in range(2):
            x = net.norm(f"enc.layers.{i}.norm", net.gemm(f"enc.layers.{i}.linear", x))
        return x

    net.add("Sub", "", encoder("x"), encoder("other"))
    if net.fresh:
        net.params["enc.layers.1.linear.weight"] = net.params["enc.layers.0.linear.weight"]
    return ["enc.*"]


def heads(net: Net) -> list[str]:
    def head(x: str) -> str:
        for i in range(2):
            x = net.batch_norm(f"head.norm{i}", net.gemm(f"head.linear{i}", x))
            x = net.layer("PRelu", f"head.slope{i}", x, "weight")
        return x

    net.add("Add", "", head(net.gemm("left", "x")), head(net.gemm("right", "x")))
    return ["head.*"]


def cell(net: Net) -> list[str]:
    """Two kernels of one module, three times: the older exporter, too, numbers the calls."""
    h = "other"
    for _ in range(3):
        kernels = [("cell.ih", "x"), ("cell.hh", h)]
        for name in ("cell.ih", "cell.hh"):
            net.params.setdefault(f"{name}.weight", net._value(f"{name}.weight"))
            net.params.setdefault(f"{name}.bias", net._value(f"{name}.bias"))
        gates = [net.add("Gemm", "cell", x, f"{name}.weight", f"{name}.bias") for name, x in kernels]
        h = net.add("Tanh", "cell", net.add("Add", "cell", *gates))
    return ["cell.*"]


NETS: dict[str, Callable[[Net], list[str]]] = {
    f.__name__: f for f in (siamese, albert, pre_norm, copied_layers, heads, cell)
}


def exported(net: Net, style: str) -> onnx.ModelProto:
    """The file that an exporter writes, with equal tensors merged."""
    first: dict[bytes, str] = {}
    merged = {n: first.setdefault(v.tobytes(), n) for n, v in net.params.items()}
    short = {n: f"t{i}" for i, n in enumerate(net.params)} if style == "bare" else {}
    nodes = [N("Mul", ["x", "half"], ["other"])]
    calls: Counter[str] = Counter()
    for i, (op, module, inputs, output) in enumerate(net.calls):
        read = [n if style == "torchscript" else short.get(m := merged.get(n, n), m) for n in inputs]
        node = N(op, read, [output], **({"transB": 1} if op == "Gemm" else {}))
        if style == "dynamo":
            node.name = f"node_{i}"
            node.metadata_props.add(key=SCOPES, value=str(["", *([module] if module else []), f"{op}_{i}"]))
        elif style == "torchscript":
            used = f"{module}/{op}" if len(inputs) == 1 or op == "Add" else f"{module}{inputs[1:]}"
            path = module.replace(".", "/") + (f"_{calls[used]}" if calls[used] else "")
            calls[used] += 1
            node.name = f"/{path}/{op}_{i}".replace("//", "/")
        nodes.append(node)
    if style == "torchscript":
        nodes[:0] = [N("Identity", [m], [n]) for n, m in merged.items() if n != m]
    nodes.append(N("Gemm", [net.calls[-1].output, "out.weight"], ["y"], transB=1))
    tensors = {short.get(n, n): v for n, v in net.params.items() if merged[n] == n}
    tensors |= {"out.weight": net.rng.normal(size=(3, 6)).astype(np.float32), "half": np.array(0.5, np.float32)}
    model = small(nodes, tensors, (6,), (3,))
    if style == "torchscript":
        model.producer_name = "pytorch"
    if style == "dynamo":
        kinds = {n: "BUFFER" if "running" in n else "PARAMETER" for n in (*net.params, "out.weight")}
        lines = [f"p: {kind} target='{n}'" for n, kind in kinds.items()]
        model.graph.metadata_props.add(key=SIGNATURE, value="\n# inputs\n" + "\n".join(lines))
    return model


def taken(model: onnx.ModelProto, folder: Path, card: Card) -> onnx.ModelProto:
    write_card(model, card)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return onnx.ModelProto.FromString(data)


def tensors_of(model: onnx.ModelProto, net: Net) -> dict[str, set[str]]:
    """The tensors that the readers of each true parameter read."""
    made = {n.output[0]: n for n in model.graph.node}
    found: dict[str, set[str]] = {n: set() for n in net.params}
    for call in net.calls:
        for position, name in enumerate(call.inputs):
            if name in found:
                found[name].add(made[call.output].input[position])
    return found


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "trained"])
@pytest.mark.parametrize("name", NETS)
def test_each_parameter_of_a_shared_layer_is_one_tensor(name: str, fresh: bool, style: str, tmp_path: Path) -> None:
    net = Net(fresh)
    shared = NETS[name](net)
    model = exported(net, style)
    card = msgspec.structs.replace(CARD, shared=("*",) if style == "bare" else tuple(shared))
    data = taken(model, tmp_path, card)
    found = tensors_of(data, net)
    assert {n: len(of) for n, of in found.items()} == dict.fromkeys(net.params, 1), found
    if (name, fresh, style) != ("copied_layers", True, "bare"):  # nothing tells two copies of a layer apart there
        assert len(set().union(*found.values())) == len(net.params), found
    if style != "bare":
        assert set().union(*found.values()) == {*net.params}
    check_gradient(data, net.rng.normal(size=(5, 6)).astype(np.float32))
    x = net.rng.normal(size=(4, 6)).astype(np.float32)
    np.testing.assert_allclose(
        run_ort(data.SerializeToString(), x), run_ort(model.SerializeToString(), x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("style", ["dynamo", "torchscript"])
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "trained"])
@pytest.mark.parametrize("name", ["siamese", "albert", "heads"])
def test_what_a_note_asks_to_list_is_right(name: str, fresh: bool, style: str, tmp_path: Path) -> None:
    """Without a list, each use has a tensor of its own; with the lists of all notes, each parameter has one."""
    net = Net(fresh)
    NETS[name](net)
    model = exported(net, style)
    alone = taken(model, tmp_path, CARD)
    notes = TrainableGraph.load(alone.SerializeToString()).notes
    asked = [json.loads(n.split("shared = ")[1]) for n in notes if n.startswith("untied: ") and "shared = " in n]
    listed = tuple(dict.fromkeys(n for names in asked for n in names))
    several = {n for n, of in tensors_of(alone, net).items() if len(of) > 1}
    assert {n for n in several if "running" not in n} == {*listed}
    del model.metadata_props[:]
    again = taken(model, tmp_path, msgspec.structs.replace(CARD, shared=listed))
    assert all(len(of) == 1 for of in tensors_of(again, net).values())


def test_statistics_of_a_shared_layer_follow_every_use_of_it(tmp_path: Path) -> None:
    net = Net(fresh=True)
    net.add("Sub", "", *(net.batch_norm("enc.norm", x) for x in ("x", "other")))
    card = msgspec.structs.replace(CARD, shared=("enc.norm.weight",), batch_norm="updated")
    data = taken(exported(net, "dynamo"), tmp_path, card)
    graph, x = TrainableGraph.load(data.SerializeToString()), 3 + net.rng.normal(size=(16, 6)).astype(np.float32)
    graph.training(np.random.default_rng(0))
    graph.forward(x)
    moved = {t.name: t.of(graph.params) for t in graph.layout}
    assert {n for n in moved if "norm" in n} == {*net.params}
    mean = 0.9 * 0.1 * x.mean(0) + 0.1 * (x / 2).mean(0)
    np.testing.assert_allclose(moved["enc.norm.running_mean"], mean, rtol=1e-4)
    assert (moved["enc.norm.bias"] == 0).all() and (moved["enc.norm.weight"] == 1).all()


def test_vector_that_is_bias_and_mean_is_two_though_the_card_lists_it(tmp_path: Path) -> None:
    vector, ones = np.arange(6, dtype=np.float32), np.ones(6, np.float32)
    nodes = [N("BatchNormalization", ["x", "one", "v", "v", "var"], ["h"]),
             N("BatchNormalization", ["h", "one", "v", "v", "var"], ["n"]),
             N("Gemm", ["n", "w"], ["y"], transB=1)]  # fmt: skip
    tensors = {"one": 2 * ones, "v": vector, "var": ones, "w": np.eye(3, 6, dtype=np.float32)}
    data = taken(small(nodes, tensors, (6,), (3,)), tmp_path, msgspec.structs.replace(CARD, shared=("v",)))
    read = [n.input[2:4] for n in data.graph.node[:2]]
    assert read[0] == read[1] and len({*read[0]}) == 2


def one_for_two(net: Net, kept: str) -> onnx.ModelProto:
    """Two modules have one parameter, and a bias each; the file calls it as one of them does."""
    x = net.gemm("a", "x")
    net.params.setdefault("c.bias", net._value("c.bias"))
    net.add("Gemm", "c", net.add("Tanh", "", x), "a.weight", "c.bias")
    model = exported(net, "dynamo")
    model.graph.metadata_props[0].value += "\np: PARAMETER target='c.weight'"
    for node in model.graph.node:
        node.input[:] = [kept if n == "a.weight" else n for n in node.input]
    for tensor in model.graph.initializer:
        tensor.name = kept if tensor.name == "a.weight" else tensor.name
    return model


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "trained"])
@pytest.mark.parametrize("listed", ["a.weight", "c.weight", "a.*", "c.*"])
def test_parameter_of_two_modules_is_found_by_either_name(listed: str, fresh: bool, tmp_path: Path) -> None:
    """The newer exporter calls by its last name what was one in PyTorch, and by its first what was merged."""
    net = Net(fresh)
    data = taken(one_for_two(net, "c.weight"), tmp_path, msgspec.structs.replace(CARD, shared=(listed,)))
    found = tensors_of(data, net)
    assert (found["a.weight"], found["a.bias"], found["c.bias"]) == ({"c.weight"}, {"a.bias"}, {"c.bias"})
    assert not any("has no effect" in n for n in TrainableGraph.load(data.SerializeToString()).notes)


@pytest.mark.parametrize(("listed", "count"), [("a.weight", 1), ("a.*", 2), ("*", 2)])
def test_merged_parameter_of_two_modules_is_one_only_if_its_very_name_is_listed(
    listed: str, count: int, tmp_path: Path
) -> None:
    net = Net(fresh=False)
    data = taken(one_for_two(net, "a.weight"), tmp_path, msgspec.structs.replace(CARD, shared=(listed,)))
    assert len(tensors_of(data, net)["a.weight"]) == count


def test_shared_parameter_that_the_exporter_did_not_store_is_refused_in_these_words(tmp_path: Path) -> None:
    net = Net(fresh=False)
    model = one_for_two(net, "a.weight")
    model.graph.metadata_props[0].value += "\np: PARAMETER target='table.weight'"
    with pytest.raises(ModelError, match=r"'table\.weight', which .* several nodes read are a\.weight$"):
        taken(model, tmp_path, msgspec.structs.replace(CARD, shared=("table.weight",)))


@pytest.mark.parametrize(("modules", "listed", "count"), [
    (("a", "c"), "a.weight", 1), (("a", "c"), "a.*", 2), (("layers.0", "layers.1"), "layers.0.weight", 2),
    (("a", "a"), "a.*", 1),
])  # fmt: skip
def test_transposed_weight_without_a_name_is_known_by_its_module(
    modules: tuple[str, str], listed: str, count: int, tmp_path: Path
) -> None:
    """The older exporter computes one for each call, and merges equal ones under names that it numbers."""
    net, names = Net(fresh=False), ["onnx::MatMul_1", "onnx::MatMul_2"]
    net.params["onnx::MatMul_1"] = net._value("a.weight")
    nodes, given = [N("Identity", names[:1], names[1:])], "x"
    for i, module in enumerate(modules):
        path = module.replace(".", "/") + ("_1" if i and module == modules[0] else "")
        nodes += [N("MatMul", [given, names[i]], [f"m{i}"], name=f"/{path}/MatMul")]
        nodes += [N("Tanh", [f"m{i}"], [given := f"h{i}"], name=f"/Tanh_{i}")]
    nodes.append(N("Gemm", [given, "out.weight"], ["y"], transB=1, name="/out/Gemm"))
    out = net.rng.normal(size=(3, 6)).astype(np.float32)
    model = small(nodes, {**net.params, "out.weight": out}, (6,), (3,))
    model.producer_name = "pytorch"
    data = taken(model, tmp_path, msgspec.structs.replace(CARD, shared=(listed,)))
    assert len({n.input[1] for n in data.graph.node if n.op_type == "MatMul"}) == count


def test_note_says_that_only_places_tell(tmp_path: Path) -> None:
    net = Net(fresh=True)
    albert(net)
    notes = TrainableGraph.load(
        taken(exported(net, "bare"), tmp_path, msgspec.structs.replace(CARD, shared=("*",))).SerializeToString()
    ).notes
    assert any("read by 3 LayerNormalization and stays one tensor: by their places only" in n for n in notes)
    assert any("read by 3 Gemm and stays one tensor: the card alone says so" in n for n in notes)
