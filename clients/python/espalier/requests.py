"""What can be asked of the server: each function checks its arguments and makes the `Request` that says so on the wire.

The clients take their methods from here, names, types and descriptions included: the one that waits, the one that
returns a `Call`, and the one that is awaited. Relative paths are taken from this process's working directory.

All of them take `progress` and `timeout`. `progress`: a callable that gets each `Progress`, True for a bar, False for
nothing; without it the client decides. After `timeout` seconds the request is cancelled and `CallTimeout` raised.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import urllib.parse
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Type, TypedDict, TypeVar, Union

from .connection import ProgressOption, Request
from .decoding import decode, local_path
from .errors import ProtocolError
from .results import (
    CachedModel,
    Compression,
    GroupSensitivity,
    Inspection,
    LayerSetting,
    PredictedSensitivity,
    Recommendation,
    Verification,
)

PathLike = Union[str, "os.PathLike[str]"]
# By input name, or as on the wire: [{"name"?, "shape", "dtype"?}] or [{"name"?, "batch", "channel", "dimension"}].
InputShapes = Union[Mapping[str, Sequence[int]], Sequence[Mapping[str, Any]]]
# What is done to layers: as `recommend` gave it or chosen, or values by layer's name.
Layers = Union[Sequence[LayerSetting], Mapping[str, Union[float, Sequence[float]]]]
Record = TypeVar("Record")


class Options(TypedDict, total=False):
    """What `options` may hold; protocol.md says what each means and its default.

    Decompositions (FD_*) mind the first six, where ranks are recommended, and pruning all but `zero_rank`. What a
    method does not mind has no effect.
    """

    # Recommended ranks, and numbers of kept channels, become multiples of it: 1 for ranks, 2 for channels unless given.
    step_size: int
    # "none", "round", "round_up", "round_down": how they do.
    step_op: str
    # No rank is recommended, and no layer gets narrower, below it.
    min_num_of_value: int
    # Names or globs of the layers that may be compressed, and of those that must not.
    include: List[str]
    exclude: List[str]
    # Layers in which VBMF finds nothing but noise: "skip" leaves them alone, "clamp" decomposes them.
    zero_rank: str

    policy: str
    layer_norm: str
    group_policy: str
    reshape_channel_axis: int
    reverse: bool
    scope: str
    allocation: str
    max_layer_ratio: float
    exact_only: bool
    seed: int
    snp_gamma: float
    index_base: int


# What is to be left, as a share of the original: {"parameters": 0.5}, {"macs": 0.5} or {"size_bytes": 0.5}. Of
# decompositions also {"energy": 0.9}: what every layer keeps at least of its squared norm, with a dataset of that of
# its output.
Target = Mapping[str, float]
# What decides which channels matter least, and how layers are decomposed; protocol.md says what each means.
COMPRESSION_METHODS = (
    "PR_L2", "PR_GM", "PR_NN", "PR_SNP", "PR_ID", "PR_L1", "PR_BN_L2", "PR_GROUP_L2", "PR_RANDOM",
    "PR_REC", "FD_TK", "FD_SVD", "FD_CP",
)  # fmt: skip


def inspect(
    model: PathLike,
    *,
    input_shapes: Optional[InputShapes] = None,
    progress: ProgressOption = None,
    timeout: Optional[float] = None,
) -> Request[Inspection]:
    """What the model consists of: sizes, layers, and which channels must be removed together."""
    params = {"model": absolute(model), "input_shapes": _shapes(input_shapes)}
    return _request("inspect", params, Inspection, progress, timeout)


def recommend(
    model: PathLike,
    *,
    recommendation_ratio: Optional[float] = None,
    target: Optional[Target] = None,
    compression_method: Optional[str] = "PR_L2",
    recommendation_method: Optional[str] = None,
    options: Optional[Options] = None,
    input_shapes: Optional[InputShapes] = None,
    dataset_path: Optional[PathLike] = None,
    reconstruct: Optional[str] = None,
    progress: ProgressOption = None,
    timeout: Optional[float] = None,
) -> Request[Recommendation]:
    """How much to take from each layer so that `recommendation_ratio` of all channels go, or `target` is left.

    For a decomposition (FD_*), which ranks to give each layer: VBMF's, moved by a ratio from -1 to 1, or those that
    leave a `target`. With the method "automatic" (or None) and a `target` on sizes, channels and ranks are chosen
    together, layer by layer, as `compress` would with the same `reconstruct`. Writes nothing. PR_NN, PR_SNP and PR_REC
    measure on the samples at `dataset_path`; decompositions weigh errors by them; and with them `predicted_error` says
    beforehand what each layer will lose.
    """
    if (recommendation_ratio is None) == (target is None):
        raise ValueError("recommend takes either recommendation_ratio or target")
    method = _method(compression_method, target is not None)
    params = {
        "model": absolute(model),
        "compression_method": method,
        "recommendation_method": recommendation_method or _recommender(method),
        "recommendation_ratio": recommendation_ratio,
        "target": target,
        "options": options,
        "input_shapes": _shapes(input_shapes),
        "dataset_path": _optional(dataset_path),
        "reconstruct": reconstruct,
    }
    return _request("recommend", params, Recommendation, progress, timeout)


def sensitivity(
    model: PathLike,
    dataset_path: PathLike,
    *,
    ratios: Optional[Sequence[float]] = None,
    on_group: Optional[Callable[[GroupSensitivity], None]] = None,
    options: Optional[Options] = None,
    input_shapes: Optional[InputShapes] = None,
    progress: ProgressOption = None,
    timeout: Optional[float] = None,
) -> Request[PredictedSensitivity]:
    """What each group of channels would cost at each of `ratios` (0.1 to 0.9), measured on a few hundred samples
    without labels, before anything is removed.

    `on_group` gets each group as soon as it is known, in the order of the result. The daemon keeps what it measured:
    asked again on the same data, also for other ratios or by `recommend` with PR_REC, it answers at once.
    """
    params = {
        "model": absolute(model),
        "dataset_path": absolute(dataset_path),
        "ratios": None if ratios is None else list(ratios),
        "options": options,
        "input_shapes": _shapes(input_shapes),
    }
    request = _request("sensitivity", params, PredictedSensitivity, progress, timeout)
    if on_group is None:
        return request
    listener = on_group
    return dataclasses.replace(
        request, streamed="groups", on_part=lambda part: listener(decode(GroupSensitivity, part))
    )


def compress(
    model: PathLike,
    output_path: Optional[PathLike] = None,
    *,
    recommendation_ratio: Optional[float] = None,
    target: Optional[Target] = None,
    layers: Optional[Layers] = None,
    compression_method: Optional[str] = "PR_L2",
    recommendation_method: Optional[str] = None,
    options: Optional[Options] = None,
    input_shapes: Optional[InputShapes] = None,
    overwrite: bool = False,
    dry_run: bool = False,
    verify: bool = False,
    dataset_path: Optional[PathLike] = None,
    reconstruct: Optional[str] = None,
    onnx_output_path: Optional[PathLike] = None,
    progress: ProgressOption = None,
    timeout: Optional[float] = None,
) -> Request[Compression]:
    """Writes a smaller model to `output_path`: by a ratio, a target, or `layers` as `recommend` gave or chosen, such as
    {"conv1": 0.25}, of PR_ID {"conv1": [0, 5, 7]}, of FD_TK {"conv1": [16, 24]}.

    With a `target` on sizes ({"macs": 0.5}, "parameters" or "size_bytes") and the `compression_method` "automatic" (or
    None), pruning and decomposition are chosen layer by layer; give a `dataset_path`, with which that does far better.
    The `available_layers` of such a recommendation are taken as `layers` with the same method, changed or not.

    With `verify` the file is run before it gets its name, on the first samples of the dataset at `dataset_path`
    or on numbers made up, and not written if it does not compute what it must (kind `verify.failed`). PR_NN and
    PR_SNP measure on that dataset too, and decompositions weigh errors by it. With `reconstruct="least_squares"` the
    weights that are left are fitted to that dataset, without labels or training, so that the model computes what the
    original does: ask for it whenever there are a few hundred inputs ("bias" needs none). A PyTorch model is written
    as ONNX besides, to `onnx_output_path`. A `dry_run` decides and proves everything, writes nothing and needs no path.
    """
    if [recommendation_ratio, target, layers].count(None) != 2:
        raise ValueError("compress takes either recommendation_ratio, target or layers")
    if output_path is None and not dry_run:
        raise ValueError("compress takes the output_path to write to, or dry_run=True")
    method = _method(compression_method, target is not None or layers is not None)
    params: Dict[str, Any] = {
        "model": absolute(model),
        "compression_method": method,
        "options": options,
        "input_shapes": _shapes(input_shapes),
        "output_path": _optional(output_path),
        "overwrite": overwrite or None,
        "dry_run": dry_run or None,
        "verify": verify or None,
        "dataset_path": _optional(dataset_path),
        "reconstruct": reconstruct,
        "onnx_output_path": _optional(onnx_output_path),
    }
    if layers is not None:
        params["layers"] = [layer.to_json() for layer in _settings(layers)]
    else:
        params["recommendation_method"] = recommendation_method or _recommender(method)
        params["recommendation_ratio"] = recommendation_ratio
        params["target"] = target
    return _request("compress", params, Compression, progress, timeout, writes=not dry_run)


def verify(
    model: PathLike,
    compressed: PathLike,
    compression: Compression,
    *,
    dataset_path: Optional[PathLike] = None,
    input_shapes: Optional[InputShapes] = None,
    progress: ProgressOption = None,
    timeout: Optional[float] = None,
) -> Request[Verification]:
    """Whether the file `compressed` is what `compression` made of the model, found out by running both.

    `compression` is what `compress` answered when it wrote the file.
    """
    params: Dict[str, Any] = {
        "model": absolute(model),
        "compressed": absolute(compressed),
        "removed": [entry.to_json() for entry in compression.removed],
        "copied": [entry.to_json() for entry in compression.copied],
        "replaced": [entry.to_json() for entry in compression.replaced] or None,
        "adjusted": [entry.to_json() for entry in compression.adjusted] or None,
        "dataset_path": _optional(dataset_path),
        "input_shapes": _shapes(input_shapes),
    }
    return _request("verify", params, Verification, progress, timeout)


def models(timeout: Optional[float] = None) -> Request[List[CachedModel]]:
    """What the server holds in memory."""
    return Request("models", None, _cached_models, timeout=timeout)


def release(model: Optional[PathLike] = None, timeout: Optional[float] = None) -> Request[List[pathlib.Path]]:
    """Drops one model from the server's memory, or all; the paths of those dropped."""
    params = {} if model is None else {"model": absolute(model)}
    return Request("release", params, _released, timeout=timeout)


def ping(timeout: Optional[float] = None) -> Request[None]:
    """Returns once the server has answered."""
    return Request("ping", None, _nothing, timeout=timeout)


def stop_server(timeout: Optional[float] = None) -> Request[None]:
    """Ends a server that listens on a socket, for all its clients. One started for this client ends with `close`."""
    return Request("daemon/stop", None, _nothing, timeout=timeout, writes=True)


def _request(
    method: str,
    params: Mapping[str, Any],
    record: Type[Record],
    progress: ProgressOption,
    timeout: Optional[float],
    writes: bool = False,
) -> Request[Record]:
    given = {name: value for name, value in params.items() if value is not None}
    return Request(method, given, functools.partial(decode, record), progress, timeout, writes)


def _method(compression_method: Optional[str], says_what: bool) -> Optional[str]:
    """The method as the wire has it: none where the daemon is to choose, or where every layer names its own."""
    if compression_method is not None and compression_method.lower() != "automatic":
        return compression_method
    if not says_what:
        raise ValueError(
            'the method "automatic" takes a target, the size to reach, such as macs 0.5, or layers, each with its method'
        )
    return None


def _recommender(compression_method: Optional[str]) -> Optional[str]:
    """The recommendation method that goes with a compression method."""
    if compression_method is None:
        return None
    return "VBMF" if compression_method.upper().startswith("FD_") else "SLAMP"


def absolute(path: PathLike) -> str:
    """The path as the wire wants it: absolute, and a file URI where its bytes are no UTF-8."""
    text = os.fspath(path)
    if text.startswith("file:"):
        return text
    text = os.path.join(os.getcwd(), text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "file://" + urllib.parse.quote(os.fsencode(text))
    return text


def _optional(path: Optional[PathLike]) -> Optional[str]:
    return None if path is None else absolute(path)


def _settings(layers: Layers) -> Sequence[LayerSetting]:
    if not isinstance(layers, Mapping):
        return layers
    return [
        LayerSetting(name, [values] if isinstance(values, (int, float)) else list(values))
        for name, values in layers.items()
    ]


def _shapes(shapes: Optional[InputShapes]) -> Optional[List[Dict[str, Any]]]:
    if shapes is None:
        return None
    if isinstance(shapes, Mapping):
        return [{"name": name, "shape": list(shape)} for name, shape in shapes.items()]
    return [dict(shape) for shape in shapes]


def _member(answer: Any, name: str) -> List[Any]:
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise ProtocolError(f"expected an object with a list {name!r}, found {answer!r:.60}")
    return found


def _cached_models(answer: Any) -> List[CachedModel]:
    return [decode(CachedModel, entry) for entry in _member(answer, "models")]


def _released(answer: Any) -> List[pathlib.Path]:
    return [local_path(path) for path in _member(answer, "released")]


def _nothing(answer: Any) -> None:
    return None
