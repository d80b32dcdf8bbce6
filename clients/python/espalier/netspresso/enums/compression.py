"""See `espalier.netspresso.words`."""

from ..words import CompressionMethod, GroupPolicy, LayerNorm, Policy, RecommendationMethod, StepOp

__all__ = ["CompressionMethod", "GroupPolicy", "LayerNorm", "Policy", "RecommendationMethod", "StepOp"]
