"""Many compressions of one model, compared: `espalier.sweep`, and `espalier.sensitivity` on top of it.

A point that fails is a result like any other, with its error. On this machine the daemon loads the model once and takes
several points at a time; with `on=` the same points run on a Dask cluster, one daemon for each worker (see `clusters`).
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
import pathlib
import sys
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Union

from . import tables
from .client import Client
from .errors import ServerError, ServerStopped
from .progress import is_notebook
from .requests import PathLike, absolute
from .results import LayerSetting, Size

# What is tried: values by name, in all combinations, or the points themselves.
Grid = Union[Mapping[str, Sequence[Any]], Sequence[Mapping[str, Any]]]
# What a compressed file is worth, found out by the caller's own means.
Evaluate = Callable[[pathlib.Path], float]

# Parameters of `compress` that a point may set; all other names are options.
PARAMETERS = frozenset(
    ("recommendation_ratio", "target", "layers", "compression_method", "recommendation_method", "dataset_path",
     "input_shapes", "reconstruct", "verify")
)  # fmt: skip


@dataclass(frozen=True)
class SweepPoint:
    """One point and what came of it. Where `error` is set, the rest is None; `error_kind` is the daemon's."""

    parameters: Dict[str, Any]
    original: Optional[Size] = None
    compressed: Optional[Size] = None
    # What `evaluate` said.
    metric: Optional[float] = None
    verification: Optional[str] = None
    output_path: Optional[pathlib.Path] = None
    seconds: Optional[float] = None
    error: Optional[str] = None
    error_kind: Optional[str] = None

    def share(self, member: str) -> Optional[float]:
        """What is left of "macs", "parameters" or "size_bytes"."""
        if self.original is None or self.compressed is None or not getattr(self.original, member):
            return None
        return float(getattr(self.compressed, member) / getattr(self.original, member))

    def label(self) -> str:
        return ", ".join(f"{name}={tables.value(value)}" for name, value in self.parameters.items())

    def row(self) -> Dict[str, Any]:
        """As one flat record, for tables."""
        flat: Dict[str, Any] = dict(self.parameters)
        for member in ("parameters", "macs", "size_bytes"):
            flat[member] = None if self.compressed is None else getattr(self.compressed, member)
            flat[f"{member}_left"] = self.share(member)
        for name in ("metric", "verification", "output_path", "seconds", "error", "error_kind"):
            flat[name] = getattr(self, name)
        return flat


class Sweep(List[SweepPoint]):
    """The points in the grid's order. A notebook shows what is left against what it is worth, `metric_name`."""

    def __init__(self, points: Iterable[SweepPoint] = (), metric_name: str = "metric"):
        super().__init__(points)
        self.metric_name = metric_name

    @property
    def failed(self) -> List[SweepPoint]:
        return [point for point in self if point.error is not None]

    def to_dataframe(self) -> Any:
        """A pandas.DataFrame, one row a point."""
        try:
            pandas: Any = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError("to_dataframe needs pandas: pip install pandas") from error
        return pandas.DataFrame([point.row() for point in self])

    def table(self) -> str:
        return tables.sweep(self)

    def _repr_html_(self) -> str:
        from . import plots

        return plots.sweep(self, self.metric_name)


def points_of(grid: Grid) -> List[Dict[str, Any]]:
    """The grid's points, in order: the last name varies fastest."""
    if isinstance(grid, Mapping):
        for name, values in grid.items():
            if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence):
                raise TypeError(f"the grid's {name!r} is a list of values to try, not {values!r}")
        return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    return [dict(point) for point in grid]


def sweep(
    model: PathLike,
    grid: Grid,
    *,
    output_dir: Optional[PathLike] = None,
    evaluate: Optional[Evaluate] = None,
    overwrite: bool = False,
    on: Any = None,
    client: Optional[Client] = None,
    show: Optional[bool] = None,
    timeout: Optional[float] = None,
    **fixed: Any,
) -> Sweep:
    """Compresses `model` at every point of `grid`, and compares.

    `grid` holds lists of values by name, such as {"compression_method": ["PR_L2", "PR_GM"], "recommendation_ratio":
    [0.3, 0.5]}, whose combinations are the points; or is a list of points. Names are parameters of `Client.compress`
    or options; `fixed` ones hold for all points. `evaluate` gets the path of each compressed file and gives its worth.

    Files go to `output_dir`; without one they are gone once they have been evaluated, and not written at all where
    nothing is. `client` is the daemon to work with (by default the shared one if it runs), `on` a dask.distributed
    client, cluster or scheduler address instead: then the model, datasets and `output_dir` are paths on storage that
    all workers share, and `evaluate` runs there. `show`: a table that grows as points come in; by default in terminals
    and notebooks. After `timeout` seconds a point fails.
    """
    points = points_of(grid)
    tasks = [
        Task(absolute(model), point, {**fixed, **point}, output, evaluate, timeout)
        for point, output in zip(points, _outputs(model, len(points), output_dir, overwrite))
    ]
    found: Dict[int, SweepPoint] = {}
    metric_name = getattr(evaluate, "__name__", "metric").strip("<>").replace("lambda", "metric").replace("_", " ")
    board = _board(show, points, metric_name)
    for index, point in _run_on(on, tasks) if on is not None else _run_here(client, tasks):
        found[index] = point
        board(found)
    return Sweep((found[index] for index in range(len(tasks))), metric_name)


@dataclass(frozen=True)
class Task:
    """One point on its way to wherever it runs; can be pickled if `evaluate` can."""

    model: str
    parameters: Dict[str, Any]
    arguments: Dict[str, Any]
    output: Optional[str]
    evaluate: Optional[Evaluate]
    timeout: Optional[float]

    def run(self, client: Client) -> SweepPoint:
        started = time.monotonic()
        try:
            try:
                point = self._compressed(client)
            except ServerStopped:
                # Perhaps another point's doing. The files are this sweep's own: what may be there may be written again.
                point = self._compressed(client)
        except Exception as error:
            # What is wrong with one point, or with what `evaluate` makes of it, is no reason to lose the others.
            kind = error.kind if isinstance(error, ServerError) else type(error).__name__
            return SweepPoint(self.parameters, error=str(error), error_kind=kind)
        return dataclasses.replace(point, seconds=time.monotonic() - started)

    def _compressed(self, client: Client) -> SweepPoint:
        with tempfile.TemporaryDirectory(prefix="espalier-") as folder:
            return self._compressed_in(client, pathlib.Path(folder))

    def _compressed_in(self, client: Client, scratch: pathlib.Path) -> SweepPoint:
        given = {name: value for name, value in self.arguments.items() if name in PARAMETERS}
        options = {name: value for name, value in self.arguments.items() if name not in PARAMETERS | {"options"}}
        given["options"] = {**self.arguments.get("options", {}), **options} or None
        kept = self.output
        output = kept if kept or not self.evaluate else str(scratch / f"compressed{pathlib.Path(self.model).suffix}")
        # What was there before the sweep has been looked for; what is there now is of a worker that died.
        made = client.compress(
            self.model,
            output,
            dry_run=output is None,
            overwrite=output is not None,
            progress=False,
            timeout=self.timeout,
            **given,
        )
        metric = float(self.evaluate(pathlib.Path(output))) if self.evaluate is not None and output else None
        path = pathlib.Path(kept) if kept else None
        return SweepPoint(self.parameters, made.original, made.compressed, metric, made.verification.status, path)


def _outputs(model: PathLike, count: int, output_dir: Optional[PathLike], overwrite: bool) -> List[Optional[str]]:
    if output_dir is None:
        return [None] * count
    folder, stem = pathlib.Path(absolute(output_dir)), pathlib.Path(model)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem.stem}-{index:0{len(str(count - 1))}d}{stem.suffix}" for index in range(count)]
    present = [path for path in paths if path.exists()]
    if present and not overwrite:
        raise FileExistsError(f"{present[0]} is there already; choose another output_dir, or overwrite=True")
    return [str(path) for path in paths]


def _run_here(client: Optional[Client], tasks: Sequence[Task]) -> Iterator[Any]:
    own = None if client is not None else Client(daemon="running")
    daemon = client if client is not None else own
    assert daemon is not None
    try:
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="espalier-sweep") as pool:
            waiting: Dict["Future[SweepPoint]", int] = {
                pool.submit(task.run, daemon): index for index, task in enumerate(tasks)
            }
            try:
                while waiting:
                    for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                        yield waiting.pop(done), done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        if own is not None:
            own.close()


def _run_on(cluster: Any, tasks: Sequence[Task]) -> Iterator[Any]:
    from . import clusters

    return clusters.run(cluster, tasks)


def _board(
    show: Optional[bool], points: Sequence[Mapping[str, Any]], metric_name: str
) -> Callable[[Mapping[int, SweepPoint]], None]:
    """What shows the points that have come in."""
    if show is False or (show is None and not is_notebook() and not sys.stdout.isatty()):
        return lambda found: None
    return _notebook_board(len(points), metric_name) if is_notebook() else tables.growing(points)


def _notebook_board(count: int, metric_name: str) -> Callable[[Mapping[int, SweepPoint]], None]:
    from . import plots

    screen: Any = importlib.import_module("IPython.display")
    handle = screen.display(screen.HTML(""), display_id=True)

    def update(found: Mapping[int, SweepPoint]) -> None:
        done = len(found) == count
        # The finished table is the cell's value, and shown as such.
        shown = plots.sweep([found[index] for index in sorted(found)], metric_name, total=count)
        handle.update(screen.HTML("" if done else shown))

    return update


@dataclass(frozen=True)
class Sensitivity:
    """What the model is worth when one group alone loses a share of its channels: `metrics[group][ratio index]`."""

    model: pathlib.Path
    baseline: float
    ratios: List[float]
    metrics: Dict[str, List[Optional[float]]]
    points: Sweep = field(repr=False, default_factory=Sweep)

    def _repr_html_(self) -> str:
        from . import plots

        return plots.sensitivity(self)


def sensitivity(
    model: PathLike,
    evaluate: Evaluate,
    *,
    ratios: Sequence[float] = (0.25, 0.5, 0.75),
    client: Optional[Client] = None,
    on: Any = None,
    show: Optional[bool] = None,
    **fixed: Any,
) -> Sensitivity:
    """Prunes one group of channels after the other, by each of `ratios`, and finds out what that costs.

    The rest is as of `sweep`. What matters little alone may matter much together with others.
    """
    own = client if client is not None else Client(daemon="running")
    try:
        shapes = fixed.get("input_shapes")
        listed = own.recommend(model, recommendation_ratio=0.5, input_shapes=shapes, progress=False).available_layers
        points = [
            {"group": layer.name, "ratio": ratio, "layers": [LayerSetting(layer.name, [ratio])]}
            for layer in listed
            for ratio in ratios
        ]
        grid = [{"layers": point["layers"]} for point in points]
        found = sweep(model, grid, evaluate=evaluate, client=own, on=on, show=show, **fixed)
    finally:
        if client is None:
            own.close()
    metrics: Dict[str, List[Optional[float]]] = {}
    for point, result in zip(points, found):
        metrics.setdefault(str(point["group"]), []).append(result.metric)
    path = pathlib.Path(model)
    return Sensitivity(path, float(evaluate(path)), list(ratios), metrics, found)
