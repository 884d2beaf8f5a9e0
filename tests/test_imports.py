"""Who may import whom (docs/architecture.md), read from the source with `ast`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.paths import ROOT

ROOMS = {
    "fedge_models": ROOT / "models/fedge_models",
    "fedge_agent": ROOT / "agent/fedge_agent",
    "fedge_aggregator": ROOT / "aggregator/fedge_aggregator",
    "fedge_fleet": ROOT / "fleet/fedge_fleet",
}
ALLOWED = {
    "fedge_models": {"fedge_models"},
    "fedge_agent": {"fedge_agent", "fedge_models"},
    "fedge_aggregator": {"fedge_aggregator", "fedge_models"},
    "fedge_fleet": set(ROOMS),
}
HEAVY = {"asyncua", "onnx", "onnxruntime", "paho"}  # paid for only by those who use them
ENDS = [*(ROOMS["fedge_agent"] / "sources").rglob("*.py"), *(ROOMS["fedge_agent"] / "outputs").rglob("*.py")]


def modules(package: str) -> list[Path]:
    return sorted(ROOMS[package].rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Absolute dotted names of everything the file imports, relative imports resolved."""
    package = next(p for p, folder in ROOMS.items() if folder in path.parents)
    parents = [package, *path.relative_to(ROOMS[package]).parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{stem}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_what_they_may(package: str) -> None:
    assert modules(package)
    for path in modules(package):
        rooms = {name.split(".")[0] for name in imported(path)} & set(ROOMS)
        assert rooms <= ALLOWED[package], f"{path} imports {rooms - ALLOWED[package]}"


@pytest.mark.parametrize("package", ROOMS)
def test_heavy_libraries_are_imported_where_they_are_used(package: str) -> None:
    for path in modules(package):
        top = ast.parse(path.read_text()).body
        names = {a.name for n in top if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module or "" for n in top if isinstance(n, ast.ImportFrom) and not n.level}
        heavy = {name.split(".")[0] for name in names} & HEAVY
        assert not heavy, f"{path} imports {heavy} at the top"


def test_sources_and_outputs_know_only_the_contracts() -> None:
    allowed = (
        "fedge_agent.types",
        "fedge_agent.protocols.mqtt",
        "fedge_agent.protocols.opcua",
        "fedge_agent.windows.pictures",
        "fedge_agent.protocols",
        "fedge_agent.protocols.sparkplug",
        "fedge_agent.protocols.http",
        "fedge_agent.windows.pictures",
        "fedge_models.errors",
        "fedge_models.system.files",
        "fedge_models.system.settings",
        "fedge_models.system.structs",
        "fedge_models.system",
    )
    plumbing = {"registry.py", "host.py", "__init__.py"}
    for path in ENDS:
        if path.name in plumbing:
            continue
        ours = {name for name in imported(path) if name.split(".")[0] in ROOMS}
        mates = f"fedge_agent.{'sources' if 'sources' in path.parts else 'outputs'}."
        strangers = {name for name in ours if not name.startswith((*allowed, mates))}
        assert not strangers, f"{path} imports {strangers}"


@pytest.mark.parametrize("package", ["fedge_agent", "fedge_aggregator"])
def test_only_app_knows_everyone(package: str) -> None:
    for path in modules(package):
        if path.name in {"app.py", "cli.py", "main.py"}:
            continue
        assert f"{package}.app" not in {name.rsplit(".", 1)[0] for name in imported(path)} | imported(path), path
