"""Results as aligned text, for terminals."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Callable, Iterable, List, Mapping, Optional, Sequence, Set

from .results import (
    CachedModel,
    Inspection,
    LayerSetting,
    PredictedSensitivity,
    Recommendation,
    Reconstruction,
    ReplacedLayer,
    SkippedLayer,
    Trial,
)

if TYPE_CHECKING:
    from .sweeps import SweepPoint


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


def decompositions(report: Inspection) -> str:
    """The layers that can be decomposed, one a line and method; empty where there are none."""
    rows = [
        (layer.name, limits.method, ranks(limits.full_rank), ranks(limits.break_even_rank))
        for layer in report.layers
        for limits in layer.decomposition
    ]
    return table(("layer", "method", ">full rank", ">cheaper up to"), rows) if rows else ""


def recommendation(report: Recommendation) -> str:
    if any(layer.ranks for layer in report.available_layers) and not report.chooses_methods:
        return _rank_recommendation(report)
    rows = []
    for layer in report.available_layers:
        values = ", ".join(f"{value:.3g}" for value in layer.values[:8]) + (", …" if len(layer.values) > 8 else "")
        channels, used = " → ".join(map(str, layer.channels)), "yes" if layer.use else "no"
        rows.append((layer.name, layer.method or "", channels, values, _share(layer.predicted_error), used))
    columns = ("layer", "method", ">channels", ">values", ">predicted error", "used")
    meaning = "values: the share of channels that goes" + (", or the ranks (FD_*)" if report.chooses_methods else "")
    return "\n\n".join(filter(None, [_without_empty(columns, rows), meaning, _trials(report.trials)]))


def _trials(trials: Sequence[Trial]) -> str:
    """What was tried where methods were to be chosen, best first."""
    rows = [(" + ".join(trial.methods), f"{trial.error:.3f}") for trial in sorted(trials, key=lambda each: each.error)]
    return table(("tried on held-out samples", ">error of outputs"), rows) if rows else ""


def predicted_sensitivity(report: PredictedSensitivity) -> str:
    """The groups, one a line, and what each would lose at each ratio."""
    columns = ("group", ">channels", *(f">−{100 * ratio:g} %" for ratio in report.ratios))
    rows = [
        (group.name, group.channels, *(f"{error:.3f}" for error in group.predicted_errors)) for group in report.groups
    ]
    return "\n\n".join(filter(None, [table(columns, rows), skipped(report.skipped)]))


def _rank_recommendation(report: Recommendation) -> str:
    """Ranks and what they lose, and under them why some layers stay."""
    rows = [_rank_row(layer) for layer in report.available_layers]
    columns = ("layer", ">channels", ">full rank", ">VBMF", ">rank", ">weight error", ">output error")
    return "\n\n".join(filter(None, [_without_empty(columns, rows), skipped(report.skipped)]))


def _rank_row(layer: LayerSetting) -> List[str]:
    found = layer.ranks
    start = [layer.name, " → ".join(map(str, layer.channels))]
    if found is None:
        return [*start, "", "", ranks(None), "", ""]
    # One rank's errors are known beforehand; of two, those of weights are bounds, those of outputs estimates.
    marks = ("≤ ", "≈ ") if len(found.full) > 1 else ("", "")
    errors = [_share(error, mark) for error, mark in zip((found.relative_error, found.output_error), marks)]
    return [*start, *map(ranks, (found.full, found.vbmf, found.kept)), *errors]


def skipped(layers: Sequence[SkippedLayer]) -> str:
    """Why layers stay as they are: each reason, how many layers it is that of, and one of them with the particulars."""
    counts = Counter(layer.reason.partition(":")[0] for layer in layers)
    example = {layer.reason.partition(":")[0]: layer for layer in reversed(layers)}
    rows = [(code, count, f"{example[code].name}{_sentence(example[code])}") for code, count in counts.most_common()]
    return table(("left as it is", ">layers", "such as"), rows) if rows else ""


def replacements(layers: Sequence[ReplacedLayer]) -> str:
    """The layers that were decomposed, and what took their places."""
    rows = []
    for layer in layers:
        shapes = "  ".join("×".join(map(str, part.shape)) for part in layer.by)
        errors = [_share(layer.relative_error), _share(layer.output_error)]
        rows.append([layer.layer, ranks(layer.ranks), shapes, *errors])
    return _without_empty(("replaced", ">rank", "by weights", ">weight error", ">output error"), rows)


def reconstruction(found: Reconstruction) -> str:
    """What fitting weights anew came to, as a sentence."""
    how = f"{found.method} on {found.samples} samples" if found.samples else found.method
    if not found.kept:
        return f"not refitted: {how} brought the outputs no nearer to the original's"
    if found.error_before is None or found.error_after is None:
        return f"refitted: {how}"
    return (
        f"refitted: {how}, of which {found.held_out} only judge: there the outputs miss the original's by "
        f"{found.error_after:.2g} instead of {found.error_before:.2g}"
    )


def _without_empty(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of the columns that hold anything."""
    used = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    return table([columns[index] for index in used], [[row[index] for index in used] for row in rows])


def ranks(values: Optional[Sequence[int]]) -> str:
    """The rank, or the ranks of inputs and outputs; "–" where there is none."""
    return "–" if values is None else ", ".join(map(str, values))


def _share(value: Optional[float], mark: str = "") -> str:
    """A relative error. A bound of 1 tells nothing."""
    return "" if value is None or (mark and value >= 1) else f"{mark}{value:.3f}"


def _sentence(layer: SkippedLayer) -> str:
    """What a reason says behind its code."""
    sentence = layer.reason.partition(":")[2]
    return f":{sentence}" if sentence else ""


def sweep(points: Sequence[SweepPoint]) -> str:
    """The points of a sweep, one a line."""
    columns = sweep_columns([point.parameters for point in points], any(point.metric is not None for point in points))
    return table(columns, [sweep_row(point, columns) for point in points])


def sweep_columns(parameters: Sequence[Mapping[str, Any]], metric: bool) -> List[str]:
    names = list(dict.fromkeys(name for point in parameters for name in point))
    return [*names, ">parameters", ">MACs", ">bytes", *([">metric"] if metric else []), "outcome"]


def sweep_row(point: SweepPoint, columns: Sequence[str]) -> List[str]:
    names = columns[: columns.index(">parameters")]
    cells = [value(point.parameters.get(name)) for name in names]
    for member in ("parameters", "macs", "size_bytes"):
        share = point.share(member)
        cells.append("" if share is None else f"{getattr(point.compressed, member):,} ({100 * share:.0f} %)")
    if ">metric" in columns:
        cells.append("" if point.metric is None else f"{point.metric:.4g}")
    return [*cells, outcome(point)]


def outcome(point: SweepPoint) -> str:
    """How a point was proved, or why it failed."""
    if point.error is not None:
        reason = point.error.splitlines()[0]
        return "failed: " + (reason if len(reason) <= 96 else reason[:95] + "…")
    proofs = {"skipped": "certified", "exact": "verified", "approximate": "verified, approximate"}
    return proofs.get(point.verification or "", point.verification or "")


def growing(parameters: Sequence[Mapping[str, Any]]) -> Callable[[Mapping[int, SweepPoint]], None]:
    """Prints the header at once, and each point as it comes in."""
    columns = sweep_columns(parameters, True)
    widths = [max(len(column.lstrip(">")), 10) for column in columns]
    for index, column in enumerate(columns[:-5]):
        widths[index] = max([widths[index], *(len(value(point.get(column))) for point in parameters)])
    widths[-5:-2] = [19, 19, 19]
    shown: Set[int] = set()

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if column.startswith(">") else cell.ljust(width)
            for cell, width, column in zip(cells, widths, columns)
        )
        return "  ".join(aligned).rstrip()

    print(line([column.lstrip(">") for column in columns]))
    print("  ".join("─" * width for width in widths), flush=True)

    def update(found: Mapping[int, SweepPoint]) -> None:
        for index in found.keys() - shown:
            print(line(sweep_row(found[index], columns)), flush=True)
            shown.add(index)

    return update


def cached(models: Sequence[CachedModel]) -> str:
    """What a daemon holds in memory."""
    rows = [(model.path, model.format, f"{model.bytes:,}", f"{model.hits:,}", model.in_use or "") for model in models]
    return table(("model", "format", ">bytes", ">hits", ">in use"), rows)


def value(given: Any) -> str:
    """A parameter's value, short."""
    if given is None:
        return ""
    if isinstance(given, dict):
        return ", ".join(f"{name}={value(each)}" for name, each in given.items())
    if isinstance(given, (list, tuple)):
        return ", ".join(map(value, given))
    if isinstance(given, LayerSetting):
        return f"{given.name} {value(given.values)}"
    return f"{given:g}" if isinstance(given, float) else str(given)
