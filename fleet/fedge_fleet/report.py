# SPDX-License-Identifier: Apache-2.0
"""The report of a demo or a simulation: one HTML file with plots as inline SVG. It loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # Okabe & Ito: distinguishable by everybody
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 240, 48, 28


@dataclass
class Promise:
    """One line of the summary."""

    text: str
    measured: str
    kept: bool


@dataclass
class Line:
    """One line of a plot."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass
class Plot:
    """A line plot; `bands` are shaded spans of x."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    bands: Sequence[tuple[float, float]] = field(default_factory=list)


@dataclass
class Report:
    """The contents of the page."""

    title: str
    promises: list[Promise]
    tables: list[tuple[str, list[str], list[list[str]]]]  # (title, header, rows)
    plots: list[Plot]


STYLE = """
:root { color-scheme: light dark; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .4rem; border-bottom: 1px solid var(--line); text-align: right }
th:first-child, td:first-child { text-align: left }
svg { width: 100%; height: auto; max-width: 40rem } svg text { fill: currentColor; font: 11px system-ui, sans-serif }
.legend span { display: inline-block; margin-right: 1rem } .legend i { display: inline-block; width: 1.2rem; height: 0;
border-top: 3px solid; vertical-align: middle; margin-right: .3rem }
.kept { color: #009e73; font-weight: bold } .broken { color: #d55e00; font-weight: bold }
"""


def render(report: Report) -> str:
    """Return the page."""
    rows = [[p.text, p.measured, "kept" if p.kept else "NOT KEPT"] for p in report.promises]
    parts = [_table("Promises", ["promise", "measured", ""], rows)] if rows else []
    parts += [_table(*table) for table in report.tables]
    parts += [_figure(plot) for plot in report.plots]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(report.title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(report.title)}</h1>{''.join(parts)}</body></html>"
    )


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th scope='col'>{escape(h)}</th>" for h in header)
    body = "".join(f"<tr>{''.join(_cell(c) for c in row)}</tr>" for row in rows)
    return (
        f"<h2>{escape(title)}</h2><div class='scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    kind = {"kept": " class='kept'", "NOT KEPT": " class='broken'"}.get(text, "")
    return f"<td{kind}>{escape(text)}</td>"


def _figure(plot: Plot) -> str:
    points = [p for line in plot.lines for p in line.points]
    if not points:
        return ""
    x0, x1 = min(p[0] for p in points), max(p[0] for p in points)
    y0, y1 = min(0.0, *(p[1] for p in points)), max(p[1] for p in points) * 1.05 or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x0) / ((x1 - x0) or 1) * (WIDTH - LEFT - 8)
        return round(across, 1), round(8 + (1 - (y - y0) / ((y1 - y0) or 1)) * (HEIGHT - BOTTOM - 8), 1)

    shapes = [_axes(plot, (x0, x1), (y0, y1))]
    for start, stop in plot.bands:
        left, right = at(max(start, x0), y0)[0], at(min(stop, x1), y0)[0]
        if right > left:
            shapes.append(
                f"<rect x='{left}' y='8' width='{right - left:.1f}' height='{HEIGHT - BOTTOM - 8}' "
                "fill='#d55e00' fill-opacity='.18'/>"
            )
    for i, line in enumerate(plot.lines):
        path = " ".join(f"{a},{b}" for a, b in (at(x, y) for x, y in line.points))
        dash = " stroke-dasharray='5 4'" if line.dashed else ""
        colour = COLOURS[i % len(COLOURS)]
        shapes.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.8'{dash}/>")
    legend = "".join(
        f"<span><i style='border-color:{COLOURS[i % len(COLOURS)]};"
        f"border-style:{'dashed' if line.dashed else 'solid'}'></i>{escape(line.name)}</span>"
        for i, line in enumerate(plot.lines)
    )
    title = escape(plot.title)
    return (
        f"<h2>{title}</h2><svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{title}'>"
        f"{''.join(shapes)}</svg><p class='legend'>{legend}</p>"
    )


def _axes(plot: Plot, xs: tuple[float, float], ys: tuple[float, float]) -> str:
    low, right = HEIGHT - BOTTOM, WIDTH - 8
    lines = f"<path d='M{LEFT} 8V{low}H{right}' fill='none' stroke='currentColor' stroke-opacity='.4'/>"
    marks = [
        f"<text x='{LEFT - 4}' y='14' text-anchor='end'>{ys[1]:.3g}</text>",
        f"<text x='{LEFT - 4}' y='{low}' text-anchor='end'>{ys[0]:.3g}</text>",
        f"<text x='{LEFT}' y='{HEIGHT - 12}'>{xs[0]:.3g}</text>",
        f"<text x='{right}' y='{HEIGHT - 12}' text-anchor='end'>{xs[1]:.3g}</text>",
        f"<text x='{(LEFT + right) / 2}' y='{HEIGHT - 12}' text-anchor='middle'>{escape(plot.x)}</text>",
        f"<text x='{LEFT + 6}' y='18'>{escape(plot.y)}</text>",
    ]
    return lines + "".join(marks)
