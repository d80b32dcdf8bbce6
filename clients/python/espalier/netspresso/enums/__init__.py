"""The words of NetsPresso's API that take part in compression, and the options, which NetsPresso 1.x has among them."""

from typing import NoReturn

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

# What the rest of NetsPresso needs.
OTHERS = frozenset(
    ("ConvertAction", "DeviceName", "DisplaySoftwareVersion", "EndPointProperty", "EnvironmentType", "ExperimentAction",
     "HardwareType", "LauncherTask", "MembershipType", "Module", "OnnxOperator", "Optimizer", "QuantizationMode",
     "QuantizationPrecision", "Runtime", "Scheduler", "ServiceCredit", "ServiceModule", "ServiceName", "ServiceTask",
     "SimilarityMetric", "SoftwareVersion", "TaskStatus", "TaskStatusForDisplay")
)  # fmt: skip


def __getattr__(name: str) -> NoReturn:
    if name in OTHERS:
        raise ImportError(f"{name} takes no part in compression: import it from netspresso.enums beside this")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
