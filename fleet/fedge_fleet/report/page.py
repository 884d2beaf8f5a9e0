# SPDX-License-Identifier: Apache-2.0
"""The whole page: title, answers first, then charts and tables, with its style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Protocol

from .tables import Cell, Table


class Block(Protocol):
    """A part of the page."""

    def html(self) -> str:
        """The part; empty if there is nothing to show."""


@dataclass
class Promise:
    """One line of the demo's summary."""

    text: str
    measured: str
    kept: bool


@dataclass
class Report:
    """The contents of the page."""

    title: str
    blocks: Sequence[Block]
    promises: Sequence[Promise] = ()
    answers: Sequence[tuple[str, str]] = ()  # questions of the reader, and what the figures say
    under: str = ""  # a line below the title
    tables: list[Table] = field(init=False)

    def __post_init__(self) -> None:
        self.tables = [block for block in self.blocks if isinstance(block, Table)]


# Colours: Okabe & Ito, distinguishable by everybody; lighter ones where the page is dark.
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #5b6470; --line: #d5dae0; --panel: #f4f6f8;
--c0: #0072b2; --c1: #c24f00; --c2: #00805c; --c3: #a8487f; --c4: #8a6100; --good: #00704f; --bad: #b3400a;
--goodback: #d9f0e6; --badback: #fbe1d4; --weakback: #eef0f2 }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ed; --soft: #a2abb6; --line: #39414b;
--panel: #1d232a; --c0: #56b4e9; --c1: #f0914a; --c2: #3cc79b; --c3: #e29bc4; --c4: #e6b84d; --good: #4ad0a2;
--bad: #ff9a66; --goodback: #123a2d; --badback: #472313; --weakback: #262d35 } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
background: var(--paper); color: var(--ink) }
h1 { font-size: 1.55rem; line-height: 1.25; margin: 0 } h2 { font-size: 1.15rem; margin: 0 0 .3rem }
.under { color: var(--soft); margin: .2rem 0 1.2rem } figure, section { margin: 2.2rem 0 }
dl { background: var(--panel); border-radius: .5rem; padding: 1rem 1.2rem; margin: 1.2rem 0 }
dt { font-weight: 600; margin-top: .8rem } dt:first-child { margin-top: 0 } dd { margin: .1rem 0 0 }
figcaption, .unit { color: var(--soft); font-size: .88rem; max-width: 48rem } .unit { margin: 0 0 .6rem }
figcaption { margin-top: .5rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .32rem .45rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th { color: var(--soft); font-weight: 600 } th:first-child, td:first-child { text-align: left }
.words td { white-space: normal } .words th, .words td { text-align: left; vertical-align: top }
td.good { background: var(--goodback) } td.bad { background: var(--badback); font-weight: 600 }
td.weak { background: var(--weakback) } .kept { color: var(--good); font-weight: bold }
.broken { color: var(--bad); font-weight: bold } ul { padding-left: 1.2rem; max-width: 48rem }
details { margin: 2.2rem 0 } summary { font-size: 1.15rem; font-weight: 600; cursor: pointer }
.legend { margin: .2rem 0 .8rem; font-size: .88rem; color: var(--soft) }
.legend span { display: inline-block; margin-right: 1.1rem; white-space: nowrap }
.legend svg { vertical-align: -3px; margin-right: .35rem }
.legend i { display: inline-block; width: 1.3rem; border-top: 3px solid; vertical-align: middle; margin-right: .35rem }
.legend .dashed i { border-top-style: dashed } .legend .dotted i { border-top-style: dotted }
.narrow { display: none; margin-top: 2.6rem }
.chart { display: block; overflow: visible }
.chart.lines { width: calc(100% - var(--left) - var(--right)); margin: 0 var(--right) 46px var(--left);
max-width: 44rem }
.chart.dots { width: calc(100% - 24px); margin: 14px 12px 48px; max-width: 50rem } .chart svg { overflow: visible }
text { fill: var(--ink); font: 12.5px system-ui, sans-serif } text.tick, text.axis, text.base { fill: var(--soft) }
text.row { font-weight: 600 } text.remark { font-variant-numeric: tabular-nums } text.remark.good { fill: var(--good) }
text.remark.bad { fill: var(--bad) }
text.base, text.row { paint-order: stroke; stroke: var(--paper); stroke-width: 4px }
line.grid { stroke: var(--line) } line.axis { stroke: var(--soft) }
line.base { stroke: var(--soft); stroke-dasharray: 2 3; stroke-width: 1.4 } rect.band { fill: var(--bad); opacity: .18 }
polyline { fill: none; stroke-width: 2.2; vector-effect: non-scaling-stroke; stroke-linejoin: round }
polyline.dashed { stroke-dasharray: 6 5 }
line.span { stroke: var(--soft); stroke-width: 4; stroke-opacity: .45 }
line.span.good { stroke: var(--good); stroke-opacity: .8 } line.span.bad { stroke: var(--bad); stroke-opacity: .8 }
line.error { stroke: var(--ink); stroke-width: 1.2 } line.tickmark { stroke: var(--c3); stroke-width: 3 }
circle.full { fill: var(--c0) } circle.open { fill: var(--paper); stroke: var(--c1); stroke-width: 2.5 }
path.cross { stroke: var(--bad); stroke-width: 2.6; fill: none }
polyline.c0 { stroke: var(--c0) } polyline.c1 { stroke: var(--c1) } polyline.c2 { stroke: var(--c2) }
polyline.c3 { stroke: var(--c3) } polyline.c4 { stroke: var(--c4) }
text.name.c0 { fill: var(--c0) } text.name.c1 { fill: var(--c1) } text.name.c2 { fill: var(--c2) }
text.name.c3 { fill: var(--c3) } text.name.c4 { fill: var(--c4) }
.c0 i { border-color: var(--c0) } .c1 i { border-color: var(--c1) } .c2 i { border-color: var(--c2) }
.c3 i { border-color: var(--c3) } .c4 i { border-color: var(--c4) }
@media (max-width: 36rem) { body { margin: 1rem auto } .chart.lines { --right: 8px !important }
text.name { display: none }
.narrow { display: block } dl { padding: .8rem } h1 { font-size: 1.3rem } }
"""


def render(report: Report) -> str:
    """Return the page."""
    kept, broken = Cell("kept", "kept"), Cell("NOT KEPT", "broken")
    rows: list[list[str | Cell]] = [[p.text, p.measured, kept if p.kept else broken] for p in report.promises]
    answers = "".join(f"<dt>{escape(q)}</dt><dd>{escape(a)}</dd>" for q, a in report.answers)
    parts = [f"<p class='under'>{escape(report.under)}</p>" if report.under else ""]
    parts += [
        f"<dl>{answers}</dl>" if answers else "",
        Table("Promises", ["promise", "measured", "kept?"], rows, words=True).html(),
    ]
    parts += [block.html() for block in report.blocks]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(report.title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(report.title)}</h1>{''.join(parts)}</body></html>\n"
    )
