"""The bridge for people who hold a torch.nn.Module: `compress` it, or prune it by the plan of a `compress` reply.

    smaller = espalier.torch.compress(network, images, recommendation_ratio=0.5)
    optimizer = torch.optim.SGD(smaller.module.parameters(), lr=0.01)

PyTorch is imported here and nowhere else in this package.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as _error:
    raise ImportError("espalier.torch needs PyTorch: pip install torch, or pip install 'espalier[torch]'") from _error

from .bridge import Compressed, compress
from .errors import ExportFailed, ForwardMismatch, PlanMismatch
from .plan import apply_plan

__all__ = ["Compressed", "ExportFailed", "ForwardMismatch", "PlanMismatch", "apply_plan", "compress"]
