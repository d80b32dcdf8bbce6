"""NetsPresso's compressor, step by step as there, with a daemon on this machine in the service's place.

"Uploading" a model is inspecting its file. Results go where NetsPresso puts them: a folder of their own below
`output_dir` (numbered if it exists), with the model, a copy of PyTorch models as ONNX, and `metadata.json`.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ..client import Client
from ..errors import EspalierError, ServerError
from ..requests import PathLike
from ..results import Compression, Inspection, LayerSetting
from .words import CompressionMethod, Framework, RecommendationMethod, Status
from .exceptions import (
    EmptyCompressionParamsException,
    NotFillInputLayersException,
    NotValidInputModelPath,
    NotValidSlampRatioException,
    NotValidVbmfRatioException,
    PyNPException,
    UnknownModelException,
)
from .metadata.compressor import CompressorMetadata, ExceptionDetail, Model
from .schemas import (
    InputLayer,
    Layer,
    ModelBase,
    ModelDetail,
    ModelStatus,
    Options,
    RecommendationOptions,
    ResponseCompression,
    ResponseSelectMethod,
)

log = logging.getLogger("espalier.netspresso")

Shapes = Sequence[Mapping[str, Any]]
MEBIBYTE = 1 << 20
FRAMEWORKS = {"onnx": Framework.ONNX, "torch": Framework.PYTORCH, "keras": Framework.TENSORFLOW_KERAS}


@dataclasses.dataclass
class _Known:
    """A model that was uploaded or made here, and where it is."""

    model: ModelBase
    path: Path
    input_shapes: Optional[List[Dict[str, Any]]]


class CompressorV2:
    def __init__(self, client: Client):
        self._client = client
        self._models: Dict[str, _Known] = {}
        self._compressions: Dict[str, ResponseCompression] = {}
        self._datasets: Dict[str, PathLike] = {}

    # Models

    def upload_model(
        self,
        input_model_path: PathLike,
        input_shapes: Optional[Shapes] = None,
        framework: Framework = Framework.PYTORCH,
    ) -> ModelBase:
        """Makes a model known and looks into it. What format it is in, the file says; `framework` is ignored."""
        path = Path(input_model_path)
        if not path.is_file():
            raise NotValidInputModelPath(path)
        shapes = [dict(shape) for shape in input_shapes] if input_shapes else None
        try:
            report = self._client.inspect(path, input_shapes=shapes)
        except ServerError as error:
            if error.kind == "model.inputShapes" and shapes is None:
                raise NotFillInputLayersException() from error
            raise
        known = self._keep(path, report, shapes)
        log.info("Upload model successfully. Model ID: %s", known.model.ai_model_id)
        return known.model

    def get_model(self, model_id: str) -> ModelBase:
        return self._known(model_id).model

    def download_model(self, model_id: str, local_path: PathLike) -> None:
        """Copies the model's file."""
        shutil.copyfile(self._known(model_id).path, local_path)

    def delete_model(self, model_id: str, recursive: bool = False) -> None:
        """Forgets a model, and with `recursive` those made of it. Files stay."""
        self._known(model_id)
        made = [each for each in self._compressions.values() if each.original_model_id == model_id]
        if made and not recursive:
            log.warning("The model has compressed models; set recursive=True to forget them, too.")
            return
        for identifier in [model_id, *(each.input_model_id for each in made)]:
            self._models.pop(identifier, None)

    # Compressions

    def select_compression_method(
        self, model_id: str, compression_method: CompressionMethod, options: Optional[Options] = None
    ) -> ResponseSelectMethod:
        """The layers that a method can be applied to, with `values` to be filled in."""
        known, options = self._known(model_id), options or Options()
        method = CompressionMethod(compression_method)
        if method.value.startswith("FD_"):
            report = self._client.inspect(known.path, input_shapes=known.input_shapes)
            layers = [
                Layer(name=layer.name, channels=list(layer.channels))
                for layer in report.layers
                if any(limits.method == method.value for limits in layer.decomposition)
            ]
        else:
            # Which channels go together depends on options, not on the method or the ratio.
            advice = self._client.recommend(
                known.path, recommendation_ratio=0.5, options=options.to_wire(), input_shapes=known.input_shapes
            )
            layers = [Layer(name=layer.name, channels=list(layer.channels)) for layer in advice.available_layers]
        return ResponseSelectMethod(model_id, method, options, layers)

    def get_compression(self, compression_id: str) -> ResponseCompression:
        try:
            return self._compressions[compression_id]
        except KeyError:
            raise UnknownModelException("compression", compression_id) from None

    def upload_dataset(self, compression_id: str, dataset_path: PathLike) -> None:
        """Names the samples for a compression; `dataset_path` of the methods that compress does the same at once."""
        self._datasets[compression_id] = dataset_path

    def compress_model(
        self, compression: ResponseSelectMethod, output_dir: PathLike, dataset_path: Optional[PathLike] = None
    ) -> Any:
        """Compresses the layers of `compression` that have values."""
        method, options = CompressionMethod(compression.compression_method), compression.options

        def carry_out(work: _Work) -> Compression:
            for layer in compression.available_layers:
                layer.use = any(value != "" for value in layer.values)
            layers = [
                LayerSetting(layer.name, [value for value in layer.values if not isinstance(value, str)])
                for layer in compression.available_layers
                if layer.use
            ]
            if not layers:
                raise EmptyCompressionParamsException()
            return self._client.compress(
                layers=layers,
                compression_method=method.value,
                options=options.to_wire(),
                dataset_path=dataset_path,
                **work.paths(),
            )

        return self._work(output_dir, method, "", options, lambda: self._known(compression.input_model_id), carry_out)

    def recommendation_compression(
        self,
        compression_method: CompressionMethod,
        recommendation_method: RecommendationMethod,
        recommendation_ratio: float,
        input_model_path: PathLike,
        output_dir: PathLike,
        input_shapes: Optional[Shapes] = None,
        framework: Framework = Framework.PYTORCH,
        options: Optional[Options] = None,
        dataset_path: Optional[PathLike] = None,
    ) -> Any:
        """Compresses a model as its weights recommend: SLAMP's share of the channels, or VBMF's ranks."""
        method, recommender = CompressionMethod(compression_method), RecommendationMethod(recommendation_method)
        chosen = options or RecommendationOptions()

        def carry_out(work: _Work) -> Compression:
            if recommender is RecommendationMethod.SLAMP and not 0 < recommendation_ratio < 1:
                raise NotValidSlampRatioException(recommendation_ratio)
            if recommender is RecommendationMethod.VBMF and not -1 <= recommendation_ratio <= 1:
                raise NotValidVbmfRatioException(recommendation_ratio)
            return self._client.compress(
                recommendation_ratio=recommendation_ratio,
                compression_method=method.value,
                recommendation_method=recommender.value,
                options=chosen.to_wire(),
                dataset_path=dataset_path,
                **work.paths(),
            )

        def upload() -> _Known:
            return self._known(self.upload_model(input_model_path, input_shapes, framework).ai_model_id)

        return self._work(output_dir, method, recommendation_ratio, chosen, upload, carry_out)

    def automatic_compression(
        self,
        input_model_path: PathLike,
        output_dir: PathLike,
        input_shapes: Optional[Shapes] = None,
        framework: Framework = Framework.PYTORCH,
        compression_ratio: float = 0.5,
    ) -> Any:
        """Prunes by PR_L2 and SLAMP at `compression_ratio`, with default options."""
        return self.recommendation_compression(
            CompressionMethod.PR_L2,
            RecommendationMethod.SLAMP,
            compression_ratio,
            input_model_path,
            output_dir,
            input_shapes,
            framework,
        )

    # What they share

    def _finish(self, metadata: CompressorMetadata, error: Optional[BaseException]) -> Any:
        """The answer of a method that compresses: metadata in any case, whose `status` says how it went."""
        return metadata

    def _work(
        self,
        output_dir: PathLike,
        method: CompressionMethod,
        ratio: Any,
        options: Options,
        find: Callable[[], _Known],
        carry_out: Callable[[_Work], Compression],
    ) -> Any:
        folder = _unique_folder(Path(output_dir))
        metadata = CompressorMetadata()
        metadata.compression_info.method, metadata.compression_info.ratio = method.value, ratio
        metadata.compression_info.options = dict(options.to_wire())
        metadata.save(folder)
        error: Optional[BaseException] = None
        try:
            known = find()
            metadata.input_model_path = known.path.resolve().as_posix()
            metadata.model_info.framework = known.model.detail.framework or ""
            metadata.model_info.input_shapes = [_shape(layer) for layer in known.model.detail.input_layers]
            work = _Work(known, folder)
            log.info("Compressing model...")
            made = carry_out(work)
            compressed = self._keep(work.output, self._client.inspect(work.output, input_shapes=known.input_shapes),
                                    known.input_shapes)  # fmt: skip
            self._record(method, options, known, compressed, made)
            metadata.compressed_model_path = work.output.as_posix()
            if work.onnx.exists():
                metadata.compressed_onnx_model_path = work.onnx.as_posix()
            metadata.compression_info.layers = [_layer(layer) for layer in made.layers]
            metadata.results.original_model = _model(known.model)
            metadata.results.compressed_model = _model(compressed.model)
            metadata.status = Status.COMPLETED
            log.info("Compress model successfully. Compressed Model ID: %s", compressed.model.ai_model_id)
        except (EspalierError, PyNPException) as caught:
            error, metadata.status = caught, Status.ERROR
            metadata.error_detail = _detail(caught)
            log.error("Compress model failed. Error: %s", caught)
        except KeyboardInterrupt as caught:
            error, metadata.status = caught, Status.STOPPED
            log.error("The compression was interrupted by the user.")
        metadata.save(folder)
        return self._finish(metadata, error)

    def _record(
        self, method: CompressionMethod, options: Options, known: _Known, compressed: _Known, made: Compression
    ) -> None:
        identifier = str(uuid.uuid4())
        layers = [Layer(layer.use, layer.name, list(layer.channels), list(layer.values)) for layer in made.layers]
        self._compressions[identifier] = ResponseCompression(
            identifier, method, True, False, compressed.model.ai_model_id, known.model.ai_model_id, "", layers,
            dict(options.to_wire()),
        )  # fmt: skip

    def _known(self, model_id: str) -> _Known:
        try:
            return self._models[model_id]
        except KeyError:
            raise UnknownModelException("model", model_id) from None

    def _keep(self, path: Path, report: Inspection, shapes: Optional[List[Dict[str, Any]]]) -> _Known:
        format_family = report.model.format.partition(".")[0]
        framework = FRAMEWORKS.get(format_family)
        detail = ModelDetail(
            data_type="FP32" if all(port.dtype == "float32" for port in report.inputs) else None,
            ai_model_format=path.suffix.lstrip("."),
            framework=framework.value if framework else format_family,
            flops=2 * report.macs,
            trainable_parameters=report.parameters,
            number_of_layers=len(report.layers),
            input_layers=[InputLayer.of(shape) for shape in shapes] if shapes else _declared(report),
        )
        model = ModelBase(
            user_id="",
            ai_model_id=str(uuid.uuid4()),
            uploaded_file_name=path.name,
            file_size_in_mb=report.model.size_bytes / MEBIBYTE,
            md5_checksum=None,
            bucket_name=None,
            object_path=str(path),
            task="",
            display_name=path.stem,
            error_log=None,
            status=ModelStatus(is_compressible=any(group.prunable for group in report.groups), is_uploaded=True),
            detail=detail,
        )
        known = _Known(model, path, shapes)
        self._models[model.ai_model_id] = known
        return known


class Compressor(CompressorV2):
    """The compressor of NetsPresso 1.1 to 1.13: dictionaries for results, exceptions, None when interrupted."""

    def _finish(self, metadata: CompressorMetadata, error: Optional[BaseException]) -> Any:
        if isinstance(error, Exception):
            raise error
        return None if error is not None else metadata.asdict()


class _Work:
    """Where a compression reads and writes. A PyTorch model is written as ONNX besides, as NetsPresso does."""

    def __init__(self, known: _Known, folder: Path):
        self.known = known
        self.output = folder.resolve() / (folder.name + known.path.suffix)
        self.onnx = self.output.with_suffix(".onnx")

    def paths(self) -> Dict[str, Any]:
        pytorch = self.known.model.detail.framework == Framework.PYTORCH.value
        return {
            "model": self.known.path,
            "output_path": self.output,
            "input_shapes": self.known.input_shapes,
            "onnx_output_path": self.onnx if pytorch else None,
        }


def _unique_folder(wanted: Path) -> Path:
    """Makes the folder; beside one that exists, `name (1)`, `name (2)`, ..."""
    folder, count = wanted, 0
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            count += 1
            folder = wanted.with_name(f"{wanted.name} ({count})")


def _declared(report: Inspection) -> List[InputLayer]:
    """The inputs' shapes as the file has them, where they are of NetsPresso's form."""
    layers: List[InputLayer] = []
    for port in report.inputs:
        shape = port.shape or []
        known = [length if isinstance(length, int) else None for length in shape]
        if len(shape) >= 2:
            layers.append(
                InputLayer(port.name, known[0], known[1], [length for length in known[2:] if length is not None])
            )
    return layers


def _shape(layer: InputLayer) -> Dict[str, Any]:
    return {"batch": layer.batch, "channel": layer.channel, "dimension": layer.dimension}


def _layer(setting: LayerSetting) -> Dict[str, Any]:
    return {"use": setting.use, "name": setting.name, "channels": setting.channels, "values": setting.values}


def _model(model: ModelBase) -> Model:
    detail = model.detail
    return Model(
        size=model.file_size_in_mb,
        flops=detail.flops,
        number_of_parameters=detail.trainable_parameters + detail.non_trainable_parameters,
        trainable_parameters=detail.trainable_parameters,
        non_trainable_parameters=detail.non_trainable_parameters,
        number_of_layers=detail.number_of_layers,
        model_id=model.ai_model_id,
    )


def _detail(error: Exception) -> ExceptionDetail:
    if isinstance(error, ServerError):
        return ExceptionDetail(dict(error.data), error.kind or str(error.code), type(error).__name__, error.message)
    if isinstance(error, PyNPException):
        return ExceptionDetail(None, "", type(error).__name__, error.message)
    return ExceptionDetail(None, "", type(error).__name__, str(error))
