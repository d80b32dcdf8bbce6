"""The words of NetsPresso's API that take part in compression, and the options, which NetsPresso 1.x has among them."""

from ..schemas import Options
from ..words import (
    CompressionMethod,
    DataType,
    Extension,
    Framework,
    GroupPolicy,
    LayerNorm,
    OriginFrom,
    Policy,
    RecommendationMethod,
    Status,
    StepOp,
    Task,
    TaskType,
)

__all__ = [
    "CompressionMethod", "DataType", "Extension", "Framework", "GroupPolicy", "LayerNorm", "Options", "OriginFrom",
    "Policy", "RecommendationMethod", "Status", "StepOp", "Task", "TaskType",
]  # fmt: skip
