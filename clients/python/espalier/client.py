"""The client: the server's methods as typed calls.

    with espalier.connect() as client:
        recommendation = client.recommend("model.onnx", recommendation_ratio=0.3)
        client.compress("model.onnx", "smaller.onnx", layers=recommendation.available_layers)

Each method waits for its answer; its `start_` twin returns the `Call` at once, to be awaited or cancelled. Relative
paths are taken from this process's working directory. All of it may be used from any number of threads.
"""

from __future__ import annotations

import functools
import os
import sys
import urllib.parse
import weakref
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type, TypedDict, TypeVar, Union

from .connection import Call, Connection, ProgressCallback
from .errors import ProtocolError
from .results import CachedModel, Compression, Inspection, LayerSetting, Recommendation, Verification, decode
from .transport import ChildProcess, Command, UnixSocket, find_server

Path = Union[str, "os.PathLike[str]"]
# By input name, or as on the wire: [{"name"?, "shape", "dtype"?}] or [{"name"?, "batch", "channel", "dimension"}].
InputShapes = Union[Mapping[str, Sequence[int]], Sequence[Mapping[str, Any]]]
Record = TypeVar("Record")

VERSION = "0.1.0"
PROTOCOL_VERSION = "1.0"
START_SECONDS = 30.0


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
    "FD_TK", "FD_SVD", "FD_CP",
)  # fmt: skip


class Client:
    """One session with a server.

    Without arguments the server is started as a child (`server`, else the environment's ESPALIER_SERVER, else
    `espalierd` beside this package or on PATH) and ends with this object. `server` may be a command with arguments.
    With `pipe`, the running server that listens on that Unix socket is used, and left running.
    """

    def __init__(
        self,
        server: Optional[Command] = None,
        *,
        pipe: Optional[Path] = None,
        initialization_options: Optional[Mapping[str, Any]] = None,
        start_timeout: float = START_SECONDS,
    ):
        if server is not None and pipe is not None:
            raise ValueError("either a server to start or the pipe of a running one, not both")
        transport = UnixSocket(os.fspath(pipe)) if pipe is not None else ChildProcess(find_server(server))
        self._connection = Connection(transport)
        # Also at interpreter exit; the connection must not know this object, or it would never be collected.
        weakref.finalize(self, self._connection.close)
        params: Dict[str, Any] = {
            "processId": transport.process_id,
            "clientInfo": {"name": "espalier-python", "version": VERSION},
            "capabilities": {},
            "protocolVersion": PROTOCOL_VERSION,
        }
        # The packages of this Python may hold ONNX Runtime, which the server needs to run models.
        params["initializationOptions"] = {"python": _absolute(sys.prefix), **(initialization_options or {})}
        try:
            answer = self._connection.start("initialize", params, _object).result(start_timeout)
        except BaseException:
            self.close()
            raise
        self._connection.notify("initialized", {})
        self.server_info: Dict[str, Any] = answer.get("serverInfo", {})
        self.capabilities: Dict[str, Any] = answer.get("capabilities", {})

    def close(self) -> None:
        """Ends the session, and with it a server that was started for it. Calls still running fail."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def inspect(
        self,
        model: Path,
        *,
        input_shapes: Optional[InputShapes] = None,
        progress: Optional[ProgressCallback] = None,
        timeout: Optional[float] = None,
    ) -> Inspection:
        """What the model consists of: sizes, layers, and which channels must be removed together."""
        return self.start_inspect(model, input_shapes=input_shapes, progress=progress).result(timeout)

    def start_inspect(
        self,
        model: Path,
        *,
        input_shapes: Optional[InputShapes] = None,
        progress: Optional[ProgressCallback] = None,
    ) -> Call[Inspection]:
        params = {"model": _absolute(model), "input_shapes": _shapes(input_shapes)}
        return self._start("inspect", params, Inspection, progress)

    def recommend(
        self,
        model: Path,
        *,
        recommendation_ratio: Optional[float] = None,
        target: Optional[Target] = None,
        compression_method: str = "PR_L2",
        recommendation_method: Optional[str] = None,
        options: Optional[Options] = None,
        input_shapes: Optional[InputShapes] = None,
        dataset_path: Optional[Path] = None,
        progress: Optional[ProgressCallback] = None,
        timeout: Optional[float] = None,
    ) -> Recommendation:
        """How much to take from each layer so that `recommendation_ratio` of all channels go, or `target` is left.

        For a decomposition (FD_*), which ranks to give each layer: VBMF's, moved by a ratio from -1 to 1, or those that
        leave a `target`. Writes nothing. PR_NN and PR_SNP measure on the samples at `dataset_path`; decompositions
        weigh errors by them.
        """
        return self.start_recommend(
            model,
            recommendation_ratio=recommendation_ratio,
            target=target,
            compression_method=compression_method,
            recommendation_method=recommendation_method,
            options=options,
            input_shapes=input_shapes,
            dataset_path=dataset_path,
            progress=progress,
        ).result(timeout)

    def start_recommend(
        self,
        model: Path,
        *,
        recommendation_ratio: Optional[float] = None,
        target: Optional[Target] = None,
        compression_method: str = "PR_L2",
        recommendation_method: Optional[str] = None,
        options: Optional[Options] = None,
        input_shapes: Optional[InputShapes] = None,
        dataset_path: Optional[Path] = None,
        progress: Optional[ProgressCallback] = None,
    ) -> Call[Recommendation]:
        if (recommendation_ratio is None) == (target is None):
            raise ValueError("recommend takes either recommendation_ratio or target")
        params = {
            "model": _absolute(model),
            "compression_method": compression_method,
            "recommendation_method": recommendation_method or _recommender(compression_method),
            "recommendation_ratio": recommendation_ratio,
            "target": target,
            "options": options,
            "input_shapes": _shapes(input_shapes),
            "dataset_path": None if dataset_path is None else _absolute(dataset_path),
        }
        return self._start("recommend", params, Recommendation, progress)

    def compress(
        self,
        model: Path,
        output_path: Path,
        *,
        recommendation_ratio: Optional[float] = None,
        target: Optional[Target] = None,
        layers: Optional[Sequence[LayerSetting]] = None,
        compression_method: str = "PR_L2",
        recommendation_method: Optional[str] = None,
        options: Optional[Options] = None,
        input_shapes: Optional[InputShapes] = None,
        overwrite: bool = False,
        dry_run: bool = False,
        verify: bool = False,
        dataset_path: Optional[Path] = None,
        onnx_output_path: Optional[Path] = None,
        progress: Optional[ProgressCallback] = None,
        timeout: Optional[float] = None,
    ) -> Compression:
        """Writes a smaller model to `output_path`: by a ratio, a target, or `layers` as `recommend` gave or chosen.

        With `verify` the file is run before it gets its name, on the first samples of the dataset at `dataset_path`
        or on numbers made up, and not written if it does not compute what it must (kind `verify.failed`). PR_NN and
        PR_SNP measure on that dataset too, and decompositions weigh errors by it. A PyTorch model is written as ONNX
        besides, to `onnx_output_path`.
        """
        return self.start_compress(
            model,
            output_path,
            recommendation_ratio=recommendation_ratio,
            target=target,
            layers=layers,
            compression_method=compression_method,
            recommendation_method=recommendation_method,
            options=options,
            input_shapes=input_shapes,
            overwrite=overwrite,
            dry_run=dry_run,
            verify=verify,
            dataset_path=dataset_path,
            onnx_output_path=onnx_output_path,
            progress=progress,
        ).result(timeout)

    def start_compress(
        self,
        model: Path,
        output_path: Path,
        *,
        recommendation_ratio: Optional[float] = None,
        target: Optional[Target] = None,
        layers: Optional[Sequence[LayerSetting]] = None,
        compression_method: str = "PR_L2",
        recommendation_method: Optional[str] = None,
        options: Optional[Options] = None,
        input_shapes: Optional[InputShapes] = None,
        overwrite: bool = False,
        dry_run: bool = False,
        verify: bool = False,
        dataset_path: Optional[Path] = None,
        onnx_output_path: Optional[Path] = None,
        progress: Optional[ProgressCallback] = None,
    ) -> Call[Compression]:
        if [recommendation_ratio, target, layers].count(None) != 2:
            raise ValueError("compress takes either recommendation_ratio, target or layers")
        params: Dict[str, Any] = {
            "model": _absolute(model),
            "compression_method": compression_method,
            "options": options,
            "input_shapes": _shapes(input_shapes),
            "output_path": _absolute(output_path),
            "overwrite": overwrite or None,
            "dry_run": dry_run or None,
            "verify": verify or None,
            "dataset_path": None if dataset_path is None else _absolute(dataset_path),
            "onnx_output_path": None if onnx_output_path is None else _absolute(onnx_output_path),
        }
        if layers is not None:
            params["layers"] = [layer.to_json() for layer in layers]
        else:
            params["recommendation_method"] = recommendation_method or _recommender(compression_method)
            params["recommendation_ratio"] = recommendation_ratio
            params["target"] = target
        return self._start("compress", params, Compression, progress)

    def verify(
        self,
        model: Path,
        compressed: Path,
        compression: Compression,
        *,
        dataset_path: Optional[Path] = None,
        input_shapes: Optional[InputShapes] = None,
        progress: Optional[ProgressCallback] = None,
        timeout: Optional[float] = None,
    ) -> Verification:
        """Whether the file `compressed` is what `compression` made of the model, found out by running both.

        `compression` is what `compress` answered when it wrote the file.
        """
        return self.start_verify(
            model, compressed, compression, dataset_path=dataset_path, input_shapes=input_shapes, progress=progress
        ).result(timeout)

    def start_verify(
        self,
        model: Path,
        compressed: Path,
        compression: Compression,
        *,
        dataset_path: Optional[Path] = None,
        input_shapes: Optional[InputShapes] = None,
        progress: Optional[ProgressCallback] = None,
    ) -> Call[Verification]:
        params: Dict[str, Any] = {
            "model": _absolute(model),
            "compressed": _absolute(compressed),
            "removed": [entry.to_json() for entry in compression.removed],
            "copied": [entry.to_json() for entry in compression.copied],
            "replaced": [entry.to_json() for entry in compression.replaced] or None,
            "adjusted": [entry.to_json() for entry in compression.adjusted] or None,
            "dataset_path": None if dataset_path is None else _absolute(dataset_path),
            "input_shapes": _shapes(input_shapes),
        }
        return self._start("verify", params, Verification, progress)

    def models(self) -> List[CachedModel]:
        """What the server holds in memory."""
        return self._connection.start("models", None, _cached_models).result()

    def release(self, model: Optional[Path] = None) -> List[str]:
        """Drops one model from the server's memory, or all; the paths of those dropped."""
        params = {} if model is None else {"model": _absolute(model)}
        return self._connection.start("release", params, _object).result().get("released", [])

    def ping(self, timeout: Optional[float] = None) -> None:
        """Returns once the server has answered."""
        self._connection.start("ping", None, lambda _: None).result(timeout)

    def _start(
        self, method: str, params: Dict[str, Any], record: Type[Record], progress: Optional[ProgressCallback]
    ) -> Call[Record]:
        given = {name: value for name, value in params.items() if value is not None}
        return self._connection.start(method, given, functools.partial(decode, record), progress)


def connect(server: Optional[Command] = None, **arguments: Any) -> Client:
    """A `Client`, which see; for `with espalier.connect() as client:`."""
    return Client(server, **arguments)


def _recommender(compression_method: str) -> str:
    """The recommendation method that goes with a compression method."""
    return "VBMF" if compression_method.upper().startswith("FD_") else "SLAMP"


def _absolute(path: Path) -> str:
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


def _shapes(shapes: Optional[InputShapes]) -> Optional[List[Dict[str, Any]]]:
    if shapes is None:
        return None
    if isinstance(shapes, Mapping):
        return [{"name": name, "shape": list(shape)} for name, shape in shapes.items()]
    return [dict(shape) for shape in shapes]


def _object(answer: Any) -> Dict[str, Any]:
    if not isinstance(answer, dict):
        raise ProtocolError(f"expected an object, found {answer!r:.60}")
    return answer


def _cached_models(answer: Any) -> List[CachedModel]:
    return [decode(CachedModel, entry) for entry in _object(answer).get("models", [])]
