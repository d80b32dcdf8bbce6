"""Results as aligned text, for terminals."""

from __future__ import annotations

from typing import Iterable, List, Sequence

from .results import Inspection, Recommendation


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns under their titles. A title that starts with ">" sets its column flush right."""
    titles = [column.lstrip(">") for column in columns]
    lines = [titles, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    rule = ["─" * width for width in widths]
    aligned = [
        "  ".join(
            cell.rjust(width) if column.startswith(">") else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns)
        ).rstrip()
        for line in [lines[0], rule, *lines[1:]]
    ]
    return "\n".join(aligned)


def change(before: int, after: int) -> str:
    """`after` with its distance from `before`: "41,200 (-31.0 %)"."""
    return f"{after:,} ({100 * (after - before) / before:+.1f} %)" if before else f"{after:,}"


def inspection(report: Inspection) -> str:
    """The layers, one a line, and under them why some cannot be pruned."""
    rows: List[Sequence[object]] = []
    for layer in report.layers:
        kernel = "×".join(map(str, layer.kernel or []))
        if layer.groups is not None and layer.groups > 1:
            kernel += f" /{layer.groups}"
        group = "" if layer.group is None else layer.group
        channels = " → ".join(map(str, layer.channels))
        prunable = "yes" if layer.reason is None else "no"
        sizes = (f"{layer.parameters:,}", f"{layer.macs:,}")
        rows.append((layer.name, layer.op, channels, kernel, *sizes, group, prunable))
    columns = ("layer", "op", ">channels", "kernel", ">parameters", ">MACs", ">group", "prunable")
    reasons = [f"{layer.name}: {layer.reason}" for layer in report.layers if layer.reason is not None]
    return "\n".join([table(columns, rows), *([""] if reasons else []), *reasons])


def recommendation(report: Recommendation) -> str:
    rows = []
    for layer in report.available_layers:
        values = ", ".join(f"{value:.3g}" for value in layer.values[:8]) + (", …" if len(layer.values) > 8 else "")
        rows.append((layer.name, ", ".join(map(str, layer.channels)), values, "" if layer.use else "no"))
    return table(("layer", ">channels", ">values", "used"), rows)
