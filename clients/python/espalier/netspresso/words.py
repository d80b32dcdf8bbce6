"""The words of NetsPresso's API that take part in compression. Members are strings, as there."""

from __future__ import annotations

from enum import Enum
from typing import Tuple


class Word(str, Enum):
    """A string with a name; what it is on the wire."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    @classmethod
    def values(cls) -> Tuple[str, ...]:
        return tuple(member.value for member in cls)


class CompressionMethod(Word):
    PR_L2 = "PR_L2"
    PR_GM = "PR_GM"
    PR_NN = "PR_NN"
    PR_SNP = "PR_SNP"
    PR_ID = "PR_ID"
    FD_TK = "FD_TK"
    FD_CP = "FD_CP"
    FD_SVD = "FD_SVD"
    # Espalier's own.
    PR_L1 = "PR_L1"
    PR_BN_L2 = "PR_BN_L2"
    PR_GROUP_L2 = "PR_GROUP_L2"
    PR_RANDOM = "PR_RANDOM"
    PR_REC = "PR_REC"


class RecommendationMethod(Word):
    SLAMP = "slamp"
    VBMF = "vbmf"


class Policy(Word):
    SUM = "sum"
    AVERAGE = "average"
    BACKWARD = "backward"


class GroupPolicy(Word):
    SUM = "sum"
    AVERAGE = "average"
    COUNT = "count"
    NONE = "none"


class LayerNorm(Word):
    NONE = "none"
    STANDARD_SCORE = "standard_score"
    TSS_NORM = "tss_norm"
    LINEAR_SCALING = "linear_scaling"
    SOFTMAX_NORM = "softmax_norm"


class StepOp(Word):
    ROUND_UP = "round_up"
    ROUND_DOWN = "round_down"
    ROUND = "round"
    NONE = "none"


class Framework(Word):
    TENSORFLOW_KERAS = "tensorflow_keras"
    TENSORFLOW = "saved_model"
    PYTORCH = "pytorch"
    ONNX = "onnx"


class Extension(Word):
    H5 = "h5"
    ZIP = "zip"
    PT = "pt"
    ONNX = "onnx"


class OriginFrom(Word):
    CUSTOM = "custom"
    NPMS = "npms"


class DataType(Word):
    FP32 = "FP32"
    FP16 = "FP16"
    INT8 = "INT8"
    NONE = ""


class TaskType(Word):
    TRAIN = "train"
    COMPRESS = "compress"
    CONVERT = "convert"
    QUANTIZE = "quantize"
    BENCHMARK = "benchmark"


class Status(Word):
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    STOPPED = "stopped"
    ERROR = "error"


class Task(Word):
    IMAGE_CLASSIFICATION = "classification"
    OBJECT_DETECTION = "detection"
    SEMANTIC_SEGMENTATION = "segmentation"
