"""What goes into and comes out of the compressor's steps: options, layers, models, compressions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Union, cast

from ..requests import Options as WireOptions
from .words import CompressionMethod, GroupPolicy, LayerNorm, Policy, StepOp, Word
from .exceptions import NotValidChannelAxisRangeException

# NetsPresso 1.x says [""] where there is nothing.
Value = Union[int, float, str]


@dataclass
class OptionsBase:
    reshape_channel_axis: int = -1

    def __post_init__(self) -> None:
        if self.reshape_channel_axis not in (0, 1, -1, -2):
            raise NotValidChannelAxisRangeException(self.reshape_channel_axis)


@dataclass
class Options(OptionsBase):
    policy: Policy = Policy.AVERAGE
    layer_norm: LayerNorm = LayerNorm.STANDARD_SCORE
    group_policy: GroupPolicy = GroupPolicy.AVERAGE
    step_size: int = 2
    step_op: StepOp = StepOp.ROUND
    reverse: bool = False

    def to_wire(self) -> WireOptions:
        members = dataclasses.asdict(self)
        words = {name: value.value if isinstance(value, Word) else value for name, value in members.items()}
        return cast(WireOptions, words)


@dataclass
class RecommendationOptions(Options):
    min_num_of_value: int = 8


@dataclass
class Layer:
    """A group of channels that go together, under the name of one of its layers; of FD_* a layer.

    Fill `values`: [ratio], channel numbers for PR_ID, [in_rank, out_rank] for FD_TK, [rank] for FD_SVD and FD_CP. What
    is left empty stays as it is.
    """

    use: bool = False
    name: str = "input"
    channels: List[int] = field(default_factory=list)
    values: List[Value] = field(default_factory=list)


AvailableLayer = Layer


@dataclass
class InputLayer:
    name: Optional[str] = None
    batch: Optional[int] = 1
    channel: Optional[int] = None
    dimension: Optional[List[int]] = None

    @classmethod
    def of(cls, shape: Mapping[str, Any]) -> InputLayer:
        return cls(**{name: shape[name] for name in ("name", "batch", "channel", "dimension") if name in shape})


@dataclass
class ModelDetail:
    """`flops` is twice the multiply-adds. All parameters count as trainable: a file does not say which are."""

    data_type: Optional[str] = None
    ai_model_format: Optional[str] = None
    framework: Optional[str] = None
    flops: float = 0
    trainable_parameters: int = 0
    non_trainable_parameters: int = 0
    number_of_layers: Optional[int] = None
    graph_info: Optional[Dict[str, Any]] = None
    input_layers: List[InputLayer] = field(default_factory=list)


@dataclass
class ModelStatus:
    is_deleted: bool = False
    is_convertible: bool = False
    is_quantizable: bool = False
    is_compressible: bool = False
    is_benchmarkable: bool = False
    is_uploaded: bool = False


@dataclass
class ModelBase:
    """A model that the compressor knows: a file of this machine. NetsPresso 1.x calls some members otherwise."""

    user_id: str
    ai_model_id: str
    uploaded_file_name: str
    file_size_in_mb: float
    md5_checksum: Optional[str]
    bucket_name: Optional[str]
    object_path: str
    task: str
    display_name: str
    error_log: Optional[str]
    status: ModelStatus
    detail: ModelDetail

    @property
    def model_id(self) -> str:
        return self.ai_model_id

    @property
    def model_name(self) -> str:
        return self.display_name

    @property
    def model_size(self) -> float:
        return self.file_size_in_mb

    @property
    def framework(self) -> Optional[str]:
        return self.detail.framework

    @property
    def flops(self) -> float:
        return self.detail.flops

    @property
    def trainable_parameters(self) -> int:
        return self.detail.trainable_parameters

    @property
    def non_trainable_parameters(self) -> int:
        return self.detail.non_trainable_parameters

    @property
    def number_of_layers(self) -> Optional[int]:
        return self.detail.number_of_layers

    @property
    def input_shapes(self) -> List[InputLayer]:
        return self.detail.input_layers


@dataclass
class ResponseSelectMethod:
    """A method chosen for a model, and the layers whose `values` are to be filled."""

    input_model_id: str
    compression_method: CompressionMethod
    options: Options
    available_layers: List[Layer]

    @property
    def original_model_id(self) -> str:
        return self.input_model_id


CompressionInfo = ResponseSelectMethod


@dataclass
class ResponseCompression:
    """A compression that was carried out; `input_model_id` is the compressed model, as there."""

    compression_id: str
    compression_method: CompressionMethod
    is_completed: bool
    is_deleted: bool
    input_model_id: str
    original_model_id: str
    user_id: str
    available_layers: List[Layer]
    options: Dict[str, Any]

    @property
    def compressed_model_id(self) -> str:
        return self.input_model_id
