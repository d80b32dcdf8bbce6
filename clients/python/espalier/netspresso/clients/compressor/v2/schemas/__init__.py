"""See `espalier.netspresso.schemas`."""

from .....schemas import (
    InputLayer,
    Layer,
    ModelBase,
    ModelDetail,
    ModelStatus,
    Options,
    OptionsBase,
    RecommendationOptions,
    ResponseCompression,
    ResponseSelectMethod,
)

__all__ = [
    "InputLayer", "Layer", "ModelBase", "ModelDetail", "ModelStatus", "Options", "OptionsBase", "RecommendationOptions",
    "ResponseCompression", "ResponseSelectMethod",
]  # fmt: skip
