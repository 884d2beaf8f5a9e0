# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the floors of the house (docs/developers/architecture.md), read from the source with `ast`.

A late import counts like any other: it saves memory, it does not hide a circle.
"""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support.paths import ROOT

PACKAGES = {
    "fedge_models": ROOT / "models/fedge_models",
    "fedge_agent": ROOT / "agent/fedge_agent",
    "fedge_aggregator": ROOT / "aggregator/fedge_aggregator",
    "fedge_fleet": ROOT / "fleet/fedge_fleet",
}
ALLOWED = {
    "fedge_models": {"fedge_models"},
    "fedge_agent": {"fedge_agent", "fedge_models"},
    "fedge_aggregator": {"fedge_aggregator", "fedge_models"},
    "fedge_fleet": set(PACKAGES),
}
# Each room imports only from the rooms before it in this list. A room is a folder, or a file beside the folders.
FLOORS = {
    "fedge_models": (
        "errors",
        "protos",
        "system",
        "ops",
        "graph",
        "statistics",
        "messages",
        "training",
        "privacy",
        "model",
    ),
    "fedge_agent": (
        *(
            "types",
            "figures",
            "placeholders",
            "health",
            "protocols",
            "config",
            "durable",
            "windows",
            "samples",
            "learning",
            "federation",
        ),
        *("machines", "sources", "outputs", "overview", "app", "cli"),
    ),
    "fedge_aggregator": (
        *("rounds", "config", "metrics", "authority", "store", "federation", "gateway_api", "app", "cli"),
    ),
    "fedge_fleet": ("report", "data", "machines", "simulate", "demo", "rehearse", "cli"),
}
# Rooms in rooms that know nothing of each other, but for those they name.
NEIGHBOURS = {
    "fedge_agent.protocols": {
        "csv": set(),
        "http": {"tls"},
        "mqtt": {"tls"},
        "opcua": set(),
        "sparkplug": {"mqtt"},
        "tls": set(),
    },
    "fedge_aggregator.rounds": {
        "rules": set(),
        "engine": {"rules"},
        "trust": {"engine"},
        "round": set(),
        "contribution": {"round"},
        "central_privacy": {"engine"},
        "server_optimizers": set(),
        "start_value": {"engine"},
        "average": {"rules", "engine", "trust", "contribution", "central_privacy", "server_optimizers", "start_value"},
    },
}
HEAVY = {"asyncua", "onnx", "onnxruntime", "paho"}  # paid for only by those who use them
CONTRACTS = (  # all that a source or an output may know of the rest
    "fedge_agent.types",
    "fedge_agent.figures",
    "fedge_agent.placeholders",
    "fedge_agent.protocols",
    "fedge_agent.windows.pictures",
    "fedge_agent.windows.decoding",
    "fedge_models.errors",
    "fedge_models.system",
)


def name_of(path: Path, package: str) -> str:
    parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
    return ".".join([package, *parts]).removesuffix(".__init__")


@cache
def modules() -> dict[str, Path]:
    return {name_of(path, p): path for p, folder in PACKAGES.items() for path in sorted(folder.rglob("*.py"))}


@cache
def imported(module: str) -> frozenset[str]:
    """Absolute dotted names of everything a module imports, relative imports resolved."""
    path = modules()[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{stem}.{alias.name}" for alias in node.names}
    return frozenset(names)


def ours(module: str) -> set[str]:
    """The modules of ours that a module imports."""
    found = set()
    for name in imported(module):
        target = name if name in modules() else name.rpartition(".")[0]
        if target in modules() and target != module:
            found.add(target)
    return found


def room(module: str) -> str:
    return module.split(".")[1]


def inside(package: str) -> list[str]:
    return [m for m in modules() if m.startswith(f"{package}.")]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for module in inside(package):
        packages = {target.split(".")[0] for target in ours(module)}
        assert packages <= ALLOWED[package], f"{module} imports {packages - ALLOWED[package]}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_in_a_room_and_every_room_is_there(package: str) -> None:
    assert {room(m) for m in inside(package)} == set(FLOORS[package])


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_only_from_the_rooms_above(package: str) -> None:
    floors = FLOORS[package]
    wrong = [
        f"{module} imports {target}"
        for module in inside(package)
        for target in ours(module)
        if target.startswith(f"{package}.") and floors.index(room(target)) > floors.index(room(module))
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    try:
        TopologicalSorter({m: ours(m) & set(inside(package)) for m in inside(package)}).prepare()
    except CycleError as e:
        pytest.fail(f"a circle: {' <- '.join(e.args[1])}")


@pytest.mark.parametrize("parent", NEIGHBOURS)
def test_neighbours_know_nothing_of_each_other(parent: str) -> None:
    known = NEIGHBOURS[parent]
    for module in modules():
        if module.startswith(f"{parent}."):
            own = module.removeprefix(f"{parent}.").split(".")[0]
            mates = {t.removeprefix(f"{parent}.").split(".")[0] for t in ours(module) if t.startswith(f"{parent}.")}
            assert mates <= {own, *known[own]}, f"{module} imports {mates}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_begins_with_its_sentence(package: str) -> None:
    """What the room promises, and what it leaves to others; docs/developers/architecture.md is drawn from these."""
    for module, path in modules().items():
        if module.startswith(package) and (path.name == "__init__.py" or module.count(".") == 1):
            sentence = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
            assert sentence.rstrip().endswith("."), f"{path} does not begin with a sentence"


@pytest.mark.parametrize("package", PACKAGES)
def test_heavy_libraries_are_imported_where_they_are_used(package: str) -> None:
    for module in inside(package):
        top = ast.parse(modules()[module].read_text()).body
        names = {a.name for n in top if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module or "" for n in top if isinstance(n, ast.ImportFrom) and not n.level}
        heavy = {name.split(".")[0] for name in names} & HEAVY
        assert not heavy, f"{module} imports {heavy} at the top"


def test_sources_and_outputs_know_only_the_contracts() -> None:
    plumbing = {"registry", "host", "host_status"}
    for module in modules():
        parts = module.split(".")
        if parts[1:2] not in (["sources"], ["outputs"]) or len(parts) < 3 or parts[2] in plumbing:
            continue
        strangers = {t for t in ours(module) if not t.startswith((*CONTRACTS, ".".join(parts[:2])))}
        assert not strangers, f"{module} imports {strangers}"


@pytest.mark.parametrize("package", ["fedge_agent", "fedge_aggregator"])
def test_only_the_commands_know_the_app(package: str) -> None:
    """`app.py` is the only file that knows everyone: whoever imported it would know everyone, too."""
    for module in inside(package):
        assert f"{package}.app" not in ours(module) or room(module) == "cli", module
