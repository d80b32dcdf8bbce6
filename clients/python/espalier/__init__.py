"""Client of espalierd, the daemon that prunes and decomposes trained neural networks. See `connect` and `Client`."""

from .aio import AsyncClient
from .client import Client, connect
from .connection import Call, Progress, ProgressCallback
from .errors import (
    CallTimeout,
    Cancelled,
    EspalierError,
    InvalidParams,
    ProtocolError,
    ServerError,
    ServerNotFound,
    ServerStopped,
)
from .requests import COMPRESSION_METHODS, InputShapes, Options, Target
from .results import (
    AdjustedParameter,
    Approximation,
    AssumedLength,
    CachedModel,
    Compression,
    CopiedVector,
    Estimate,
    Group,
    GroupSensitivity,
    Inspection,
    Layer,
    LayerSetting,
    ModelFile,
    NewLayer,
    Port,
    PredictedSensitivity,
    RankLimits,
    Ranks,
    Recommendation,
    Reconstruction,
    RefittedLayer,
    RemovedSlices,
    ReplacedLayer,
    Size,
    SkippedLayer,
    Twin,
    Verification,
)
from .sweeps import Sensitivity, Sweep, SweepPoint, sensitivity, sweep

__all__ = [
    "AdjustedParameter",
    "Approximation",
    "AssumedLength",
    "AsyncClient",
    "COMPRESSION_METHODS",
    "CachedModel",
    "Call",
    "CallTimeout",
    "Cancelled",
    "Client",
    "Compression",
    "CopiedVector",
    "EspalierError",
    "Estimate",
    "Group",
    "GroupSensitivity",
    "InputShapes",
    "Inspection",
    "InvalidParams",
    "Layer",
    "LayerSetting",
    "ModelFile",
    "NewLayer",
    "Options",
    "Port",
    "PredictedSensitivity",
    "Progress",
    "ProgressCallback",
    "ProtocolError",
    "RankLimits",
    "Ranks",
    "Recommendation",
    "Reconstruction",
    "RefittedLayer",
    "RemovedSlices",
    "ReplacedLayer",
    "Sensitivity",
    "ServerError",
    "ServerNotFound",
    "ServerStopped",
    "Size",
    "SkippedLayer",
    "Sweep",
    "SweepPoint",
    "Target",
    "Twin",
    "Verification",
    "connect",
    "sensitivity",
    "sweep",
]


def load_ipython_extension(ipython: object) -> None:
    """What `%load_ext espalier` does in a notebook: see `espalier.notebook`."""
    from . import notebook

    notebook.load(ipython)
