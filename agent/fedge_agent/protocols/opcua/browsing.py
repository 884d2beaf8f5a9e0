# SPDX-License-Identifier: Apache-2.0
"""Resolve tags to nodes: paths and patterns of thousands of tags together, within the server's limits per call.

Each level of all paths is one walk: the nodes that any tag passes are browsed together, in chunks of the server's
MaxNodesPerBrowse, and no node twice. The server resolves paths from the root (TranslateBrowsePathsToNodeIds).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fedge_models.errors import ConfigError
from fedge_models.system.choices import near_names

from .calls import Limits, in_parts
from .tags import EXPECTED, Element, Tag, path_text

SHOWN = 5  # names in a problem
EXPLAINED = 10  # problems that list similar names: comparing takes time, and nobody reads a hundred
MAX_CHILDREN = 100_000  # of one node
MAX_CALLS = 10_000  # for the children of one node: a server may go on for ever with nothing


class Child(NamedTuple):
    """A node below another."""

    id: Any  # NodeId
    space: int
    name: str
    variable: bool


class Browser:
    """Finds nodes over one connection, and caches what it has browsed."""

    def __init__(self, client: Any, limit: Limits) -> None:
        self._client, self._limit = client, limit
        self._children: dict[Any, list[Child]] = {}
        self._spaces: list[str] | None = None
        self._explained = 0

    async def resolve(self, tags: Sequence[Tag]) -> dict[str, Any]:
        """Map each tag's text to its NodeId, or to a problem (str)."""
        found: dict[str, Any] = {}
        for tag in tags:
            if tag.node:
                found[tag.text] = await self._node_id(tag)
        await self._translate([t for t in tags if t.exact], found)
        for tag, nodes in (await self._walk([t for t in tags if t.path and not t.exact])).items():
            found[tag.text] = _only(tag, nodes) or await self._no_node(tag)
        return found

    async def children(self, nodes: Iterable[Any]) -> dict[Any, list[Child]]:
        """The objects and variables below each node, with their names."""
        wanted = list(dict.fromkeys(nodes))
        new = [node for node in wanted if node not in self._children]
        found = await in_parts(new, self._limit.browse, self._browse)
        self._children.update(zip(new, found, strict=True))
        return {node: self._children[node] for node in wanted}

    async def near(self, tag: Tag) -> str:
        """The end of a message about a missing node: similar node ids; "" after the first few messages."""
        if self._explained >= EXPLAINED:
            return ""
        self._explained += 1
        own = await self._node_id(tag) if tag.node else None
        names = [c.id.to_string() for c in await self._own_nodes() if c.id != own]
        close = near_names(tag.node or tag.text, names, 3)
        return f"; the server has: {', '.join(close)}" if close else "; it has nothing similar"

    async def _own_nodes(self) -> list[Child]:
        """Nodes outside the standard's namespace, level by level, up to a bound."""
        from asyncua import ua

        level, found = [ua.NodeId(ua.ObjectIds.ObjectsFolder)], dict[Any, Child]()
        while level and len(found) < 3000:
            below = [c for some in (await self.children(level)).values() for c in some if c.id.NamespaceIndex]
            level = [c.id for c in below if c.id not in found]
            found |= {c.id: c for c in below}
        return list(found.values())

    async def _node_id(self, tag: Tag) -> Any:
        """Parse a node id, or return a problem (str) if the server lacks the namespace of ``nsu=``."""
        from asyncua import ua

        text = tag.node
        if text.startswith("nsu="):
            uri, _, rest = text[4:].partition(";")
            if self._spaces is None:
                self._spaces = await self._client.get_namespace_array()
            if uri not in self._spaces:
                return f"tag {tag.text}: the server has no namespace {uri!r}; it has: {', '.join(self._spaces)}"
            text = f"ns={self._spaces.index(uri)};{rest}"
        try:
            return ua.NodeId.from_string(text)
        except (ua.UaError, ValueError) as e:
            raise ConfigError(f"tag {tag.text!r} is not a node id; expected e.g. {EXPECTED}") from e

    async def _translate(self, tags: list[Tag], found: dict[str, Any]) -> None:
        from asyncua import ua

        async def one(part: Sequence[Tag]) -> Any:
            return await self._client.uaclient.translate_browsepaths_to_nodeids([_browse_path(ua, t) for t in part])

        for tag, result in zip(tags, await in_parts(tags, self._limit.translate, one), strict=True):
            nodes = [target.TargetId for target in result.Targets or []]
            if not nodes or not result.StatusCode.is_good():
                found[tag.text] = f"tag {tag.text}: {result.StatusCode.name}; is there no such path?"
            elif len(nodes) > 1:
                names = ", ".join(n.to_string() for n in nodes[:SHOWN])
                found[tag.text] = f"tag {tag.text}: {len(nodes)} nodes have this path ({names}); give a node id"
            else:
                found[tag.text] = ua.NodeId(nodes[0].Identifier, nodes[0].NamespaceIndex)

    async def _walk(self, tags: list[Tag]) -> dict[Tag, list[tuple[Any, tuple[tuple[int, str], ...]]]]:
        """Tag -> its nodes, with their paths from Objects."""
        from asyncua import ua

        start = ua.NodeId(ua.ObjectIds.ObjectsFolder)
        at: dict[Tag, list[tuple[Any, tuple[tuple[int, str], ...]]]] = {tag: [(start, ())] for tag in tags}
        for depth in range(max((len(t.path) for t in tags), default=0)):
            moving = [t for t in tags if len(t.path) > depth]
            below = await self.children(node for t in moving for node, _ in at[t])
            named = {node: _by_name(children) for node, children in below.items()}
            for tag in moving:
                step = tag.path[depth]
                at[tag] = [
                    (child.id, (*path, (child.space, child.name)))
                    for node, path in at[tag]
                    for child in (below[node] if step.wild else named[node].get(step.name, ()))
                    if step.fits(child.space, child.name)
                ]
        return at

    async def _no_node(self, tag: Tag) -> str:
        """The problem of a path without a node: its first unknown name and, for the first few, the known ones."""
        last, (before,) = 0, (await self._walk([tag._replace(path=())])).values()
        for last in range(len(tag.path)):
            (at,) = (await self._walk([tag._replace(path=tag.path[: last + 1])])).values()
            if not at:
                break
            before = at
        where = path_text(((0, "Objects"), *before[0][1]))
        text = f"tag {tag.text}: nothing is called {tag.path[last].name!r} in {where}"
        if self._explained >= EXPLAINED:
            return text
        self._explained += 1
        wanted, below = tag.path[last], await self.children(n for n, _ in before)
        names = sorted({_named(c, wanted) for some in below.values() for c in some})
        near = near_names(wanted.name, names, SHOWN) or names[:SHOWN]
        return f"{text}; there is: {', '.join(near) or 'nothing'}"

    async def _browse(self, nodes: Sequence[Any]) -> list[list[Child]]:
        """Browse nodes in one call with its continuations; one by one if the server has no continuation point."""
        from asyncua import ua

        asked = ua.BrowseParameters()
        asked.View = ua.ViewDescription()
        asked.RequestedMaxReferencesPerNode = 0
        asked.NodesToBrowse = [_browse_description(ua, node) for node in nodes]
        results = await self._client.uaclient.browse(asked)
        found: list[list[Child]] = []
        for node, result in zip(nodes, results, strict=True):
            if result.StatusCode.name == "BadNoContinuationPoints" and len(nodes) > 1:
                found += await self._browse([node])
                continue
            found.append([_child(ua, r) for r in await self._continued(ua, result)])
        return found

    async def _continued(self, ua: Any, result: Any) -> list[Any]:
        """All references of a result, in as many calls as needed."""
        references = list(result.References or [])
        for _ in range(MAX_CALLS):
            if not result.ContinuationPoint or len(references) >= MAX_CHILDREN:
                break
            more = ua.BrowseNextParameters()
            more.ContinuationPoints, more.ReleaseContinuationPoints = [result.ContinuationPoint], False
            (result,) = await self._client.uaclient.browse_next(more)
            references += result.References or []
        return references


def _only(tag: Tag, nodes: list[tuple[Any, tuple[tuple[int, str], ...]]]) -> Any:
    """The one node, a problem (str) if there are several, or None."""
    if len({node for node, _ in nodes}) <= 1:
        return nodes[0][0] if nodes else None
    paths = sorted(path_text(((0, "Objects"), *path)) for _, path in nodes)
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"tag {tag.text}: fits {len(paths)} nodes; name one of: {', '.join(paths[:SHOWN])}{more}"


def _named(child: Child, wanted: Element) -> str:
    """A child's name, with its namespace where the wanted name differs by nothing else."""
    return f"{child.space}:{path_text([(0, child.name)])[1:]}" if child.name == wanted.name else child.name


def _by_name(children: list[Child]) -> dict[str, list[Child]]:
    """Index children by name: comparing thousands of tags with thousands of names would take long."""
    found: dict[str, list[Child]] = {}
    for child in children:
        found.setdefault(child.name, []).append(child)
    return found


def _browse_path(ua: Any, tag: Tag) -> Any:
    path = ua.BrowsePath()
    path.StartingNode = ua.NodeId(ua.ObjectIds.RootFolder)
    for step in tag.path:
        element = ua.RelativePathElement()
        element.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
        element.IsInverse, element.IncludeSubtypes = False, True
        element.TargetName = ua.QualifiedName(step.name, step.space or 0)
        path.RelativePath.Elements.append(element)
    return path


def _browse_description(ua: Any, node: Any) -> Any:
    asked = ua.BrowseDescription()
    asked.NodeId, asked.BrowseDirection = node, ua.BrowseDirection.Forward
    asked.ReferenceTypeId, asked.IncludeSubtypes = ua.NodeId(ua.ObjectIds.HierarchicalReferences), True
    asked.NodeClassMask = ua.NodeClass.Object | ua.NodeClass.Variable
    asked.ResultMask = ua.BrowseResultMask.BrowseName | ua.BrowseResultMask.NodeClass
    return asked


def _child(ua: Any, reference: Any) -> Child:
    target, name = reference.NodeId, reference.BrowseName
    node = ua.NodeId(target.Identifier, target.NamespaceIndex)
    return Child(node, name.NamespaceIndex, name.Name or "", reference.NodeClass == ua.NodeClass.Variable)
