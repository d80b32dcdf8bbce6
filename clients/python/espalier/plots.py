"""What sweeps and sensitivities look like in a notebook: what is left against what it is worth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from . import tables
from .display import PALETTE, STYLE, escape, listed, name, page, table

if TYPE_CHECKING:
    from .results import PredictedSensitivity
    from .sweeps import Sensitivity, SweepPoint

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 44
# Beside curves: names, as many as find room.
LEGEND_WIDTH, LEGEND_LINE = 320, 17
# What says how much goes, and so lies along a curve rather than telling curves apart.
AMOUNTS = ("recommendation_ratio", "target", "layers")


def sweep(points: Sequence[SweepPoint], metric_name: str = "metric", total: Optional[int] = None) -> str:
    """The trade-off, and the points as a table. With a `total`, of a sweep that still runs."""
    counted = f"{len(points)} points" if total is None else f"{len(points)} of {total} points"
    failed = sum(point.error is not None for point in points)
    head = f"Sweep <span class=soft>{counted}{f', {failed} failed' if failed else ''}</span>"
    metric = any(point.metric is not None for point in points)
    columns = tables.sweep_columns([point.parameters for point in points], metric)
    rows = [[escape(cell) for cell in tables.sweep_row(point, columns)] for point in points]
    titles = [metric_name if column == ">metric" else escape(column.lstrip(">")) for column in columns]
    return page(head, [], tradeoff(points, metric_name), table(titles, rows))


def tradeoff(points: Sequence[SweepPoint], metric_name: str) -> str:
    """A curve for each combination of the parameters that do not say how much goes."""
    metric = any(point.metric is not None for point in points)
    curves: Dict[str, List[Tuple[float, float, str]]] = {}
    for point in points:
        x, y = point.share("macs"), point.metric if metric else point.share("parameters")
        if x is None or y is None or not math.isfinite(y):
            continue
        rest = {key: value for key, value in point.parameters.items() if key not in AMOUNTS}
        title = ", ".join(tables.value(value) for value in rest.values())
        curves.setdefault(title, []).append((100 * x, y if metric else 100 * y, point.label()))
    if not curves:
        return ""
    every = [spot for curve in curves.values() for spot in curve]
    axis = Axis([x for x, _, _ in every], [y for _, y, _ in every])
    marks = axis.frame("% of the MACs left", metric_name if metric else "% of the parameters left")
    for number, (title, curve) in enumerate(curves.items()):
        colour = PALETTE[number % len(PALETTE)]
        curve.sort()
        line = " ".join(f"{axis.x(x):.1f},{axis.y(y):.1f}" for x, y, _ in curve)
        marks.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, label in curve:
            tip = f"<title>{escape(label)}: {x:.0f} % of the MACs, {y:.4g}</title>"
            marks.append(f'<circle cx="{axis.x(x):.1f}" cy="{axis.y(y):.1f}" r="4" fill="{colour}">{tip}</circle>')
    legend = "".join(
        f'<span style="color:{PALETTE[number % len(PALETTE)]};margin-right:18px">● {escape(title)}</span>'
        for number, title in enumerate(curves)
        if title
    )
    return f'<svg width="{WIDTH}" height="{HEIGHT}" font-size="11">{"".join(marks)}</svg><p class=note>{legend}</p>'


class Axis:
    """Where numbers lie on the plot, and ticks at round ones."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]):
        self._x, self._y = _limits(xs), _limits(ys)

    def x(self, value: float) -> float:
        low, high = self._x
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def frame(self, x_title: str, y_title: str) -> List[str]:
        marks: List[str] = []
        for value in _ticks(*self._y):
            y = self.y(value)
            marks.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="var(--line)"/>')
            marks.append(_text(LEFT - 8, y + 4, f"{value:g}", "end"))
        for value in _ticks(*self._x):
            marks.append(_text(self.x(value), HEIGHT - BOTTOM + 16, f"{value:g}", "middle"))
        marks.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title, "middle"))
        middle = (TOP + HEIGHT - BOTTOM) / 2
        marks.append(_text(14, middle, y_title, "middle", f' transform="rotate(-90 14 {middle})"'))
        return marks


def sensitivity(found: Sensitivity) -> str:
    """One row a group, one cell a ratio: the redder, the more is lost."""
    lost = [found.baseline - metric for row in found.metrics.values() for metric in row if metric is not None]
    most = max([abs(loss) for loss in lost], default=0.0)
    rows = []
    for group, metrics in found.metrics.items():
        cells = [name(group)]
        for metric in metrics:
            if metric is None:
                cells.append('<td class="number soft">failed</td>')
                continue
            share = max(0.0, (found.baseline - metric) / most) if most else 0.0
            style = f"background:rgba(228,87,86,{0.85 * share:.2f});padding:0 12px;min-width:64px"
            cells.append(f'<td class=number style="{style}">{metric:.4g}</td>')
        rows.append(cells)
    measured = f"{escape(found.points.metric_name)} {found.baseline:.4g} as it is"
    head = f"Sensitivity of {escape(found.model.name)} <span class=soft>{measured}</span>"
    told = "what is measured when this group alone loses so many of its channels. The redder, the more is lost."
    note = f"<p class=note>Each cell: {told}</p>"
    return page(head, [], table(("group", *(f"−{100 * ratio:g} %" for ratio in found.ratios)), rows), note)


def predicted_sensitivity(found: PredictedSensitivity) -> str:
    """The curves, and one row a group, one cell a ratio: the redder, the more is lost."""
    rows = []
    for group in found.groups:
        cells = [name(group.name), str(group.channels)]
        for error in group.predicted_errors:
            style = f"background:rgba(228,87,86,{0.85 * min(1.0, error):.2f});padding:0 12px;min-width:48px"
            cells.append(f'<td class=number style="{style}">{error:.3f}</td>')
        rows.append(cells)
    head = "Sensitivity <span class=soft>predicted, nothing is removed yet</span>"
    told = (
        "what the layers that read a group's channels lose of what they compute when it alone loses so many of them, "
        "after the best refit (reconstruct). The redder, the more is lost."
    )
    columns = ("group", "channels", *(f"−{100 * ratio:g} %" for ratio in found.ratios))
    note = f"<p class=note>Each cell: {told}</p>"
    return page(head, [], error_curves(found), table(columns, rows), note, listed("left as they are", found.skipped))


def error_curves(found: PredictedSensitivity) -> str:
    """SVG: a curve for each group, and the names of those that lose the most; all say theirs when pointed at."""
    if not found.groups or not found.ratios:
        return ""
    ratios = sorted(range(len(found.ratios)), key=lambda index: found.ratios[index])
    every = [error for group in found.groups for error in group.predicted_errors]
    axis = Axis([0.0, *(100 * ratio for ratio in found.ratios)], [0.0, *every])
    marks = axis.frame("% of a group's channels gone", "error of the layers that read them")
    worst_first = sorted(found.groups, key=lambda group: -max(group.predicted_errors))
    places = (HEIGHT - TOP - BOTTOM) // LEGEND_LINE
    for number, group in enumerate(worst_first):
        spots = [(0.0, 0.0), *((100 * found.ratios[index], group.predicted_errors[index]) for index in ratios)]
        line = " ".join(f"{axis.x(x):.1f},{axis.y(y):.1f}" for x, y in spots)
        colour = PALETTE[number % len(PALETTE)]
        tip = f"<title>{escape(group.name)}</title>"
        marks.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2">{tip}</polyline>')
        if number < places:
            y = TOP + (number + 1.5) * LEGEND_LINE
            marks.append(f'<circle cx="{WIDTH + 12}" cy="{y - 4:.1f}" r="4" fill="{colour}"/>')
            marks.append(_text(WIDTH + 24, y, _end(group.name), "start"))
    more = f", and {len(worst_first) - places} more" if len(worst_first) > places else ""
    marks.append(_text(WIDTH + 8, TOP + 4, f"groups of channels, the worst first{more}", "start"))
    size = f'width="{WIDTH + LEGEND_WIDTH}" height="{HEIGHT}" font-size="11"'
    # By itself it is a file like any other, with the colours of a page.
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="espalier" {size}>{STYLE}{"".join(marks)}</svg>'


def _end(name: str) -> str:
    """What tells names apart is their end."""
    return name if len(name) <= 46 else f"…{name[-45:]}"


def _limits(values: Sequence[float]) -> Tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> List[float]:
    """Round numbers within, four to eight of them."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= 8)
    first = math.ceil(low / step)
    return [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]


def _text(x: float, y: float, text: Any, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="var(--soft)"{more}>{escape(str(text))}</text>'
