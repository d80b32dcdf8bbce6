"""The metadata of a compression: what was asked, what came of it, and how large both models are.

Sizes are in MiB and `flops` twice the multiply-adds, as NetsPresso gives them. Members that only NetsPresso's service
can fill (devices, training) are there and empty.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from ..words import DataType, Status, TaskType


@dataclass
class InputShape:
    batch: Optional[int] = 1
    channel: Optional[int] = 3
    dimension: List[int] = field(default_factory=list)


@dataclass
class ModelInfo:
    task: str = ""
    model: str = ""
    dataset: str = ""
    data_type: DataType = DataType.FP32
    framework: str = ""
    input_shapes: List[Any] = field(default_factory=list)


@dataclass
class TrainingInfo:
    epochs: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    optimizer: str = ""
    scheduler: str = ""


@dataclass
class CompressionInfo:
    method: str = ""
    ratio: Union[float, str] = 0.0
    options: Optional[Dict[str, Any]] = None
    layers: List[Dict[str, Any]] = field(default_factory=list)


@dataclass
class Model:
    size: float = 0
    flops: float = 0
    number_of_parameters: int = 0
    trainable_parameters: int = 0
    non_trainable_parameters: int = 0
    number_of_layers: Optional[int] = None
    model_id: str = ""


@dataclass
class Results:
    original_model: Model = field(default_factory=Model)
    compressed_model: Model = field(default_factory=Model)


@dataclass
class ExceptionDetail:
    """Of what the daemon refused, `error_code` is the stable kind."""

    data: Optional[Dict[str, Any]] = None
    error_code: str = ""
    name: str = ""
    message: str = ""


@dataclass
class CompressorMetadata:
    status: Status = Status.IN_PROGRESS
    error_detail: ExceptionDetail = field(default_factory=ExceptionDetail)
    task_type: TaskType = TaskType.COMPRESS
    input_model_path: str = ""
    compressed_model_path: str = ""
    compressed_onnx_model_path: str = ""
    is_retrainable: bool = False
    model_info: ModelInfo = field(default_factory=ModelInfo)
    training_info: TrainingInfo = field(default_factory=TrainingInfo)
    compression_info: CompressionInfo = field(default_factory=CompressionInfo)
    results: Results = field(default_factory=Results)
    available_options: List[Any] = field(default_factory=list)
    available_devices: List[Any] = field(default_factory=list)
    training_result: Dict[str, Any] = field(default_factory=dict)

    def asdict(self) -> Dict[str, Any]:
        plain: Dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def save(self, folder: Path, file_name: str = "metadata") -> None:
        (folder / f"{file_name}.json").write_text(json.dumps(self.asdict(), indent=4))
