"""The answers, as plain records. Members that a newer server adds are kept in `raw` of the record they arrive in.

Every name is the wire's (protocol.md); sizes are in bytes, MACs are multiply-adds for one input of the stated shape.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Union


@dataclass(frozen=True)
class ModelFile:
    path: Path
    format: str
    size_bytes: int
    framework: Optional[str] = None
    opset: Optional[int] = None


@dataclass(frozen=True)
class Port:
    """A graph input or output. A symbolic dimension is its name, an unknown one None; so is an unknown shape."""

    name: str
    dtype: Optional[str] = None
    shape: Optional[List[Union[int, str, None]]] = None


@dataclass(frozen=True)
class RankLimits:
    """Which ranks a layer has under a method that decomposes it, [rank] or [in_rank, out_rank] each.

    At `full_rank` nothing is lost (FD_CP: the largest that may be given); up to `break_even_rank` parameters and MACs
    both fall, None where they never do.
    """

    method: str
    full_rank: List[int]
    break_even_rank: Optional[List[int]] = None


@dataclass(frozen=True)
class Layer:
    """A node with parameters that one would prune. `channels` is [in, out]."""

    name: str
    op: str
    parameter: str
    channels: List[int]
    parameters: int
    macs: int
    methods: List[str]
    kernel: Optional[List[int]] = None
    groups: Optional[int] = None
    # By method that decomposes it.
    decomposition: List[RankLimits] = field(default_factory=list)
    # The coupled group of its output channels, and why they cannot be pruned, if they cannot.
    group: Optional[int] = None
    reason: Optional[str] = None
    # Where these are of several groups, the others.
    other_groups: List[int] = field(default_factory=list)
    # The other layers whose output channels go with its own, and what can be removed or why nothing can.
    coupled_with: List[str] = field(default_factory=list)
    explanation: str = ""


@dataclass(frozen=True)
class Group:
    """Channels that can only be removed together, and the layers they run through."""

    id: int
    size: int
    prunable: bool
    layers: List[str]
    name: Optional[str] = None
    balance: Optional[Dict[str, Any]] = None
    reason: Optional[str] = None
    # Output channels of the first layer that its `size` units stand for.
    channels: Optional[int] = None


@dataclass(frozen=True)
class AssumedLength:
    """The length that an open dimension was given for counting."""

    symbol: str
    length: int


@dataclass(frozen=True)
class Inspection:
    model: ModelFile
    cached: bool
    inputs: List[Port]
    outputs: List[Port]
    parameters: int
    macs: int
    layers: List[Layer]
    groups: List[Group]
    assumed_lengths: List[AssumedLength] = field(default_factory=list)
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def _repr_html_(self) -> str:
        from . import display  # only where notebooks ask

        return display.inspection(self)


@dataclass(frozen=True)
class Ranks:
    """The ranks of a layer, [rank] or [in_rank, out_rank] each, and what those kept lose.

    `full`: where nothing is lost; `vbmf`: VBMF's estimate; `calibrated`: that after ratio, minimum and step, where they
    were asked for; `kept`: the layer's, None where it stays. `relative_error` is that of the weight, `output_error`
    that of what the layer computes on a dataset, as far as singular values tell: for FD_TK an upper bound and an
    estimate. `ReplacedLayer` has them as measured.
    """

    full: List[int]
    vbmf: Optional[List[int]] = None
    calibrated: Optional[List[int]] = None
    kept: Optional[List[int]] = None
    relative_error: Optional[float] = None
    output_error: Optional[float] = None


@dataclass(frozen=True)
class LayerSetting:
    """What is done to one layer; `use` says whether it is.

    `values` is [ratio], channel indices for PR_ID, [in_rank, out_rank] for FD_TK, [rank] for FD_SVD and FD_CP.
    `channels` is the daemon's to tell: of one's own settings it stays empty.
    """

    name: str
    values: List[float]
    channels: List[int] = field(default_factory=list)
    use: bool = True
    # With group policy `count`, the share of channels that is marked so that `values` go.
    marked: Optional[float] = None
    # The ratio that a recommendation called for before alignment, minimum and limits.
    requested: Optional[float] = None
    # Of decompositions.
    ranks: Optional[Ranks] = None
    # With a dataset: what those that read these channels, or the layer itself if it is decomposed, will lose of what
    # they compute after the best refit, relative.
    predicted_error: Optional[float] = None
    # Where no method was named for all: the one of this layer and, if it was chosen, what it saves by the target's
    # measure, and why.
    method: Optional[str] = None
    saved: Optional[Dict[str, int]] = None
    reason: Optional[str] = None

    def to_json(self) -> Dict[str, Any]:
        entry: Dict[str, Any] = {"name": self.name, "values": self.values, "use": self.use}
        given = {"channels": self.channels or None, "marked": self.marked, "method": self.method}
        return {**entry, **{name: value for name, value in given.items() if value is not None}}


@dataclass(frozen=True)
class SkippedLayer:
    name: str
    reason: str


@dataclass(frozen=True)
class Trial:
    """What was tried where no method was named: with which methods, and the measured error of the outputs, relative."""

    methods: List[str]
    error: float


@dataclass(frozen=True)
class Size:
    parameters: int
    macs: int
    size_bytes: int


@dataclass(frozen=True)
class Estimate:
    original: Size
    compressed: Size


@dataclass(frozen=True)
class Recommendation:
    available_layers: List[LayerSetting]
    skipped: List[SkippedLayer]
    estimate: Estimate
    # Shares of the channels: `achieved_ratio` differs where steps, minima or blocks stood in the way.
    requested_ratio: Optional[float] = None
    achieved_ratio: Optional[float] = None
    # What was asked for, {"ratio"} or the target, and what became of it: the ratio, and the shares that are left.
    requested: Optional[Dict[str, float]] = None
    achieved: Optional[Dict[str, float]] = None
    # With a dataset: the root of the sum of the layers' squares, as if they were independent.
    predicted_error: Optional[float] = None
    # Where no method was named.
    trials: List[Trial] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def chooses_methods(self) -> bool:
        """Whether methods were chosen, layer by layer."""
        return any(layer.method is not None for layer in self.available_layers)

    def _repr_html_(self) -> str:
        from . import display  # only where notebooks ask

        return display.recommendation(self)


@dataclass(frozen=True)
class GroupSensitivity:
    """By ratio, what the layers that read a group's channels would lose of what they compute, after the best refit of
    their weights: root mean square, relative."""

    name: str
    channels: int
    predicted_errors: List[float]


@dataclass(frozen=True)
class PredictedSensitivity:
    """What each group would lose if it alone were pruned by each of `ratios`, as measured on a dataset."""

    ratios: List[float]
    groups: List[GroupSensitivity]
    skipped: List[SkippedLayer]
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def table(self) -> str:
        from . import tables

        return tables.predicted_sensitivity(self)

    def plot(self, path: Union[str, "os.PathLike[str]", None] = None) -> str:
        """A curve for every group, error against ratio, as SVG; written to `path`, if there is one."""
        from . import plots

        drawn = plots.error_curves(self)
        if path is not None:
            Path(path).write_text(drawn, encoding="utf-8")
        return drawn

    def _repr_html_(self) -> str:
        from . import plots

        return plots.predicted_sensitivity(self)


@dataclass(frozen=True)
class RemovedSlices:
    """Slices taken from one stored tensor along one axis, in the original numbering."""

    parameter: str
    axis: int
    indices: Optional[List[int]] = None
    indices_per_group: Optional[List[List[int]]] = None

    def to_json(self) -> Dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class CopiedVector:
    """A place that read a vector shared with others and now reads a copy of its own, without `indices`."""

    parameter: str
    node: str
    input: int
    axis: int
    indices: List[int]

    def to_json(self) -> Dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class NewLayer:
    name: str
    op: str
    parameter: str
    shape: List[int]


@dataclass(frozen=True)
class ReplacedLayer:
    """A layer whose place the layers `by` take, in execution order; `ranks` as in `values`.

    `relative_error` is the distance of the factors' product from the weight, `output_error` that of what the layer
    computes on a dataset: shares of the whole, as measured.
    """

    layer: str
    parameter: str
    method: str
    ranks: List[int]
    by: List[NewLayer]
    relative_error: float
    output_error: Optional[float] = None

    def to_json(self) -> Dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class AdjustedParameter:
    """A parameter whose numbers were changed on purpose; it takes the place of `original`, if there was one. With a
    `factor`, all that is left of it was multiplied by that."""

    layer: str
    parameter: str
    reason: str
    original: Optional[str] = None
    factor: Optional[float] = None

    def to_json(self) -> Dict[str, Any]:
        entry = dataclasses.asdict(self)
        if self.factor is None:
            del entry["factor"]
        return entry


@dataclass(frozen=True)
class Approximation:
    """An operator that takes statistics across channels of which some were removed, or that was decomposed."""

    name: str
    op: str
    reason: str


@dataclass(frozen=True)
class Twin:
    """The comparison with the original in which those operators see only what stays, or decomposed layers have the
    products of their factors as weights; "exact" or "failed"."""

    status: str
    max_abs_error: Optional[float] = None
    max_rel_error: Optional[float] = None


@dataclass(frozen=True)
class Verification:
    """`status`: "exact", "approximate", "failed" or "skipped"; `reason` says why it is not exact.

    Errors are distances from the original with the removed channels silenced (of a decomposition from the original as
    it is), relative ones in units of the largest magnitude of the output; up to `tolerance` they count as rounding.
    """

    status: str
    certificate: Any = None
    approximations: List[Approximation] = field(default_factory=list)
    max_abs_error: Optional[float] = None
    max_rel_error: Optional[float] = None
    twin: Optional[Twin] = None
    tolerance: Optional[float] = None
    noise: Optional[float] = None
    # How many were fed, and how many a dataset holds.
    samples: Optional[int] = None
    samples_given: Optional[int] = None
    reason: Optional[str] = None
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class RefittedLayer:
    """How the fit of one layer came out, on the inputs that chose its ridge: None where its old weight stays."""

    name: str
    positions: int
    ridge: Optional[float] = None
    error_before: Optional[float] = None
    error_after: Optional[float] = None


@dataclass(frozen=True)
class Reconstruction:
    """What fitting weights anew came to. Errors are of the model's outputs on `held_out` inputs, relative
    to the original's; `kept` is false where the new weights were no better and the old ones stayed. `normalizations` of
    them store statistics that were measured anew."""

    method: str
    samples: int
    held_out: int
    kept: bool
    normalizations: int = 0
    error_before: Optional[float] = None
    error_after: Optional[float] = None
    layers: List[RefittedLayer] = field(default_factory=list)
    # Weighted layers that were not fitted.
    skipped: List[SkippedLayer] = field(default_factory=list)
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Compression:
    original: Size
    compressed: Size
    layers: List[LayerSetting]
    removed: List[RemovedSlices]
    skipped: List[SkippedLayer]
    verification: Verification
    # None for a dry run.
    output_path: Optional[Path] = None
    copied: List[CopiedVector] = field(default_factory=list)
    replaced: List[ReplacedLayer] = field(default_factory=list)
    adjusted: List[AdjustedParameter] = field(default_factory=list)
    reconstruction: Optional[Reconstruction] = None
    warnings: List[str] = field(default_factory=list)
    # As in `Recommendation`; None where the request named layers.
    requested: Optional[Dict[str, float]] = None
    achieved: Optional[Dict[str, float]] = None
    # Where no method was named.
    trials: List[Trial] = field(default_factory=list)
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def _repr_html_(self) -> str:
        from . import display  # only where notebooks ask

        return display.compression(self)


@dataclass(frozen=True)
class CachedModel:
    """A model that the server holds in memory; `bytes` is all of it, `derived_bytes` what was computed from it."""

    path: Path
    format: str
    bytes: int
    derived_bytes: int
    hits: int
    in_use: int
    raw: Dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
