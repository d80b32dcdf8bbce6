"""Results as notebooks show them: HTML with inline SVG, one piece each, that needs nothing from anywhere.

Colours follow the notebook's theme (Jupyter's, VS Code's, else the system's). Everything that comes from a file is
escaped. Lengths in pixels.
"""

from __future__ import annotations

import html
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence

from . import tables
from .results import Compression, Group, Inspection, Layer, LayerSetting, Recommendation, Size, SkippedLayer

# Told apart in both themes, and by most of the colour-blind, in this order.
PALETTE = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#d4a72c")
ROW = 24
LANE = 15
DOT = 4.5

LIGHT = "--ink:#1f2328;--soft:#656d76;--line:#d8dee4;--track:#e7ebef;--bar:#4c78a8;--good:#1a7f37;--bad:#cf222e"
DARK = "--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--track:#2f353d;--bar:#6ea0d6;--good:#3fb950;--bad:#f85149"
STYLE = f"""<style>
.espalier{{{LIGHT};color:var(--ink);max-width:980px;
  font:13px/1.4 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}}
@media (prefers-color-scheme:dark){{.espalier{{{DARK}}}}}
[data-jp-theme-light="true"] .espalier,.vscode-light .espalier,html[data-theme="light"] .espalier{{{LIGHT}}}
[data-jp-theme-light="false"] .espalier,.vscode-dark .espalier,html[data-theme="dark"] .espalier{{{DARK}}}
.espalier .head{{font-size:15px;font-weight:600;margin:0 0 2px}}
.espalier .soft{{color:var(--soft);font-weight:400}}
.espalier .cards{{display:flex;flex-wrap:wrap;gap:10px 28px;margin:8px 0 12px}}
.espalier .card b{{display:block;font-size:17px;font-variant-numeric:tabular-nums}}
.espalier .scroll{{max-height:560px;overflow:auto}}
.espalier table{{border-collapse:collapse;border:0;margin:0 0 10px;width:auto;font-size:12px;color:inherit}}
.espalier table tr{{background:none!important;border:0}}
.espalier table th,.espalier table td{{text-align:left!important;border:0;white-space:nowrap}}
.espalier table th{{font-weight:400;color:var(--soft);padding:2px 14px 4px 0}}
.espalier table td{{padding:0 14px 0 0;height:{ROW}px;line-height:{ROW}px;vertical-align:middle}}
.espalier td.name{{max-width:290px;overflow:hidden;text-overflow:ellipsis;direction:rtl;text-align:left!important}}
.espalier td.name bdi{{direction:ltr}}
.espalier td.number{{font-variant-numeric:tabular-nums}}
.espalier td svg{{display:block}}
.espalier .track{{position:relative;height:12px;border-radius:3px;background:var(--track);overflow:hidden}}
.espalier .track i{{display:block;height:100%;background:var(--bar);border-radius:3px}}
.espalier .note{{color:var(--soft);margin:8px 0;font-size:12px}}
.espalier summary{{cursor:pointer;color:var(--soft);margin-top:8px;font-size:12px}}
.espalier li{{font-size:12px}}
.espalier .good{{color:var(--good)}} .espalier .bad{{color:var(--bad)}}
</style>"""


def inspection(report: Inspection) -> str:
    """The layers from input to output, what each costs, and on rails which must lose channels together."""
    prunable = sum(group.prunable for group in report.groups)
    made = " · ".join(filter(None, [report.model.format, report.model.framework]))
    head = f"{escape(report.model.path.name)} <span class=soft>{escape(made)}</span>"
    cards = [
        ("parameters", f"{report.parameters:,}"),
        ("MACs", f"{report.macs:,}"),
        ("on disk", size(report.model.size_bytes)),
        ("layers", str(len(report.layers))),
        ("groups that can be pruned", f"{prunable} of {len(report.groups)}"),
    ]
    rails = Rails(report)
    most_macs = max((layer.macs for layer in report.layers), default=0)
    most_parameters = max((layer.parameters for layer in report.layers), default=0)
    rows = [
        [
            name(layer.name, layer.explanation),
            escape(f"{layer.op} {'×'.join(map(str, layer.kernel or []))}{grouped(layer)}"),
            f"{layer.channels[0]} → {layer.channels[1]}" if len(layer.channels) == 2 else str(layer.channels),
            rails.cell(index),
            bar(layer.macs, most_macs, 120),
            f"{layer.macs:,}",
            bar(layer.parameters, most_parameters, 90),
            f"{layer.parameters:,}",
        ]
        for index, layer in enumerate(report.layers)
    ]
    columns = ("layer", "operator", "channels", "pruned together", "MACs", "", "parameters", "")
    note = (
        "● on one line: these channels can only be removed together. "
        "○ these channels cannot be removed; point at a dot or a name to read why."
    )
    reasons = [SkippedLayer(layer.name, layer.reason) for layer in report.layers if layer.reason is not None]
    return page(head, cards, table(columns, rows), f"<p class=note>{note}</p>", listed("cannot be pruned", reasons))


def recommendation(report: Recommendation) -> str:
    """What each group or layer would keep, and what that leaves of the model."""
    head = "Recommendation <span class=soft>nothing is written yet</span>"
    body = settings(report.available_layers)
    sizes = comparison(report.estimate.original, report.estimate.compressed)
    return page(head, [], sizes, body, warned(report.warnings), listed("left as they are", report.skipped))


def compression(report: Compression) -> str:
    """What was taken from each group or layer, what became of the model, and how it was proved."""
    path = report.output_path
    where = "dry run, nothing written" if path is None else escape(path.name)
    head = f'Compressed <span class=soft title="{escape(str(path or ""))}">{where}</span>'
    sizes = comparison(report.original, report.compressed)
    body = replaced(report) if report.replaced else settings(report.layers)
    pruned = [layer for layer in report.layers if layer.method is not None and layer.ranks is None]
    if report.replaced and pruned:
        body = settings(pruned) + body
    told = verdict(report) + refit(report) + warned(report.warnings)
    return page(head, [], sizes, body, told, listed("left as they are", report.skipped))


# Parts


def escape(text: str) -> str:
    return html.escape(text, quote=True)


def page(head: str, cards: Sequence[Sequence[str]], *parts: str) -> str:
    shown = "".join(f"<div class=card><b>{value}</b><span class=soft>{title}</span></div>" for title, value in cards)
    shown = f"<div class=cards>{shown}</div>" if shown else ""
    return f"<div class=espalier>{STYLE}<p class=head>{head}</p>{shown}{''.join(parts)}</div>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML; one that begins with "<td" brings its own."""
    titles = "".join(f"<th>{title}</th>" for title in columns)
    lines = (
        "<tr>" + "".join(cell if cell.startswith("<td") else f"<td class=number>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<div class=scroll><table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def name(text: str, explanation: str = "") -> str:
    """A layer's name, shortened at its beginning where it is too long: what tells layers apart is the end."""
    tip = escape(f"{text}\n{explanation}".strip())
    return f'<td class=name title="{tip}"><bdi>{escape(text)}</bdi></td>'


def bar(value: float, most: float, width: int, colour: str = "var(--bar)") -> str:
    """A share of the largest, on a track as long as it."""
    share = 100 * value / most if most else 0
    style = f"width:{share:.1f}%;background:{colour}"
    return f'<td><div class=track style="width:{width}px"><i style="{style}"></i></div></td>'


def kept_bar(kept: float, whole: float, most: float, width: int = 260) -> str:
    """What stays of a layer's channels: the track is as long as the layer was wide."""
    length = max(2.0, width * whole / most) if most else 0
    share = 100 * kept / whole if whole else 0
    return f'<td><div class=track style="width:{length:.0f}px"><i style="width:{share:.1f}%"></i></div></td>'


def comparison(before: Size, after: Size) -> str:
    """Parameters, multiply-adds and bytes, before and after."""
    rows = []
    for title, member, shown in (
        ("parameters", "parameters", count),
        ("MACs", "macs", count),
        ("bytes", "size_bytes", size),
    ):
        old, new = getattr(before, member), getattr(after, member)
        change = f"<b>{100 * (new - old) / old:+.1f} %</b>" if old else ""
        rows.append([title, kept_bar(new, old, old, 200), f"{shown(old)} → {shown(new)}", change])
    return table(("", "what is left", "", ""), rows)


def settings(layers: Sequence[LayerSetting]) -> str:
    """One row per group or layer: channels, or ranks, before and after."""
    rows: List[List[str]] = []
    most = max((part.whole for layer in layers for part in what_stays(layer)), default=0)
    for layer in layers:
        for index, part in enumerate(what_stays(layer)):
            change = "<span class=soft>stays</span>"
            if part.kept != part.whole:
                change = f"{100 * (part.kept - part.whole) / part.whole:+.0f} %"
            numbers = f"{part.whole:g} → {part.kept:g}"
            title = "" if index else name(layer.name)
            rows.append([title, part.of, kept_bar(part.kept, part.whole, most), numbers, change])
    kind = "layer" if any(layer.ranks for layer in layers) else "group"
    return table((kind, "", "what stays of it", "", ""), rows) if rows else ""


class Stays(NamedTuple):
    """How much there was of something, and how much is left."""

    of: str
    whole: float
    kept: float


def what_stays(layer: LayerSetting) -> List[Stays]:
    ranks = layer.ranks
    if ranks is not None:
        kept = ranks.kept or ranks.full
        names = ("ranks in", "ranks out") if len(ranks.full) == 2 else ("rank",)
        return [Stays(name, whole, left) for name, whole, left in zip(names, ranks.full, kept)]
    whole = layer.channels[0] if layer.channels else 0
    if not layer.values or not layer.use:
        return [Stays("channels", whole, whole)]
    if all(isinstance(value, int) for value in layer.values):
        return [Stays("channels", whole, whole - len(layer.values))]
    return [Stays("channels", whole, whole - round(layer.values[0] * whole))]


def replaced(report: Compression) -> str:
    """The layers that were decomposed, and the thin ones in their places."""
    rows = []
    for layer in report.replaced:
        shapes = " · ".join("×".join(map(str, part.shape)) for part in layer.by)
        error = layer.output_error if layer.output_error is not None else layer.relative_error
        ranks = ", ".join(map(str, layer.ranks))
        share = bar(error, 1, 120, "var(--bad)")
        rows.append([name(layer.layer), layer.method, ranks, escape(shapes), share, f"{error:.3f}"])
    measured = any(layer.output_error is not None for layer in report.replaced)
    title = "error of its output" if measured else "error of its weight"
    return table(("layer", "by", "rank", "weights", title, ""), rows)


def verdict(report: Compression) -> str:
    found = report.verification
    words = {
        "exact": ("good", "✓ verified: computes what the original does without the removed channels"),
        "approximate": (
            "good",
            "✓ verified against its twin; outputs differ from the original's as the method implies",
        ),
        "failed": ("bad", "✗ failed"),
        "skipped": ("soft", "✓ certified: all pieces fit together; not run (verify=True runs it)"),
    }
    kind, text = words.get(found.status, ("soft", escape(found.status)))
    error = f", largest relative error {found.max_rel_error:.2g}" if found.max_rel_error is not None else ""
    return f"<p class={kind}>{text}{error}</p>"


def refit(report: Compression) -> str:
    """What fitting weights anew came to."""
    if report.reconstruction is None:
        return ""
    kind, mark = ("good", "✓ ") if report.reconstruction.kept else ("soft", "")
    return f"<p class={kind}>{mark}{escape(tables.reconstruction(report.reconstruction))}</p>"


def warned(warnings: Sequence[str]) -> str:
    return "".join(f"<p class='note bad'>{escape(warning)}</p>" for warning in warnings)


def listed(title: str, layers: Sequence[SkippedLayer]) -> str:
    if not layers:
        return ""
    items = "".join(f"<li><b>{escape(layer.name)}</b> {escape(layer.reason)}</li>" for layer in layers)
    return f"<details><summary>{len(layers)} {title}</summary><ul>{items}</ul></details>"


def grouped(layer: Layer) -> str:
    return f" /{layer.groups}" if layer.groups is not None and layer.groups > 1 else ""


def count(number: int) -> str:
    return f"{number:,}"


def size(number: int) -> str:
    """Bytes for people."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number} B"


class Rails:
    """A line for every group that several layers share, from its first layer to its last; lines that would cross each
    other in one lane lie in lanes beside one another.
    """

    def __init__(self, report: Inspection):
        self._layers = report.layers
        self._groups: Dict[int, Group] = {group.id: group for group in report.groups}
        rows: Dict[int, List[int]] = {}
        for index, layer in enumerate(report.layers):
            for group in self._of(layer):
                rows.setdefault(group.id, []).append(index)
        self._rows = rows
        self._lane: Dict[int, int] = {}
        ends: List[int] = []
        for identifier, members in sorted(rows.items(), key=lambda item: (item[1][0], -item[1][-1])):
            free = next((lane for lane, end in enumerate(ends) if end < members[0]), len(ends))
            ends[free : free + 1] = [members[-1]]
            self._lane[identifier] = free
        self._width = LANE * max(len(ends), 1) + 4

    def _of(self, layer: Layer) -> List[Group]:
        identifiers = [layer.group, *layer.other_groups]
        return [self._groups[each] for each in identifiers if each is not None and each in self._groups]

    def cell(self, index: int) -> str:
        marks: List[str] = []
        for identifier, rows in self._rows.items():
            x = LANE * self._lane[identifier] + LANE / 2
            group = self._groups[identifier]
            colour = PALETTE[identifier % len(PALETTE)] if group.prunable else "var(--soft)"
            if rows[0] <= index <= rows[-1] and rows[0] != rows[-1]:
                top, bottom = (ROW / 2 if index == rows[0] else 0), (ROW / 2 if index == rows[-1] else ROW)
                marks.append(f'<path d="M{x} {top}V{bottom}" stroke="{colour}" stroke-width="2.5"/>')
            if index in rows:
                marks.append(self._dot(x, colour, group.prunable, self._tip(group)))
        layer = self._layers[index]
        if not self._of(layer):
            x = self._width - LANE / 2 if marks else LANE / 2
            marks.append(self._dot(x, "var(--soft)", False, layer.reason))
        return f'<td><svg width="{self._width}" height="{ROW}">{"".join(marks)}</svg></td>'

    def _tip(self, group: Group) -> str:
        told = f"{group.channels or group.size} channels of {', '.join(group.layers)}"
        return told if group.prunable else f"{told}: {group.reason}"

    @staticmethod
    def _dot(x: float, colour: str, filled: bool, tip: Optional[str]) -> str:
        fill = colour if filled else "none"
        title = f"<title>{escape(tip)}</title>" if tip else ""
        return (
            f'<circle cx="{x}" cy="{ROW / 2}" r="{DOT}" fill="{fill}" stroke="{colour}" stroke-width="1.5" '
            f'pointer-events="all">{title}</circle>'
        )
