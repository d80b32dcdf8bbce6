"""Layers that a decomposition put in a layer's place, built for an eager module: a Sequential of their own kind.

Kernel, stride, padding and dilation are the layer's, along each axis on the part that has the layer's kernel there; on
the first part of the main kernel where the layer's is 1.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Dict, List, Mapping, Tuple

import torch
from torch import nn

from ..results import AdjustedParameter, ReplacedLayer
from .errors import PlanMismatch
from .modules import is_transposed_linear

State = Mapping[str, torch.Tensor]


def build(
    module: nn.Module, replaced: ReplacedLayer, adjusted: List[AdjustedParameter], state: State
) -> Tuple[nn.Module, str, nn.Module]:
    """Parent, attribute and the layers to put there. `state`: the state dict of the compressed file."""
    path, _, ending = replaced.parameter.rpartition(".")
    try:
        layer: Any = module.get_submodule(path)
        parent = module.get_submodule(path.rpartition(".")[0])
    except AttributeError:
        raise PlanMismatch(f"the plan replaces {path!r}, which is no module here") from None
    factors = []
    for part in replaced.by:
        if part.parameter not in state:
            raise PlanMismatch(f"the compressed state has no {part.parameter!r}, a factor of {path!r}")
        factors.append(state[part.parameter])
    bias = layer._parameters.get("bias")
    for entry in adjusted:
        if entry.layer == replaced.layer:
            if entry.parameter not in state:
                raise PlanMismatch(f"the compressed state has no {entry.parameter!r}, the bias of {path!r}")
            bias = nn.Parameter(state[entry.parameter].detach().clone(), layer.weight.requires_grad)
    is_convolution = isinstance(layer, nn.modules.conv._ConvNd)
    is_known = type(layer) is nn.Linear or is_convolution or is_transposed_linear(layer)
    if ending != "weight" or not is_known or isinstance(parent, nn.MultiheadAttention):
        raise PlanMismatch(f"{path!r} is a {type(layer).__name__}, whose place no other layers can take in this module")
    parts = _convolutions(layer, factors) if is_convolution else _linears(layer, factors)
    for part, factor in zip(parts, factors):
        part.weight = nn.Parameter(factor.detach().clone().to(layer.weight.device), layer.weight.requires_grad)
    parts[-1].register_parameter("bias", bias)
    # The names of the compressed file, so that its state dict loads.
    names = [part.parameter.rpartition(".")[0].rpartition(".")[2] for part in replaced.by]
    if len(set(names)) != len(names):
        names = [str(index) for index in range(len(parts))]
    made = nn.Sequential(OrderedDict(zip(names, parts)))
    made.train(layer.training)
    return parent, path.rpartition(".")[2], made


def _linears(layer: Any, factors: List[torch.Tensor]) -> List[Any]:
    # A transposed one (transformers' Conv1D) becomes two of its own kind.
    if is_transposed_linear(layer):
        return [type(layer)(factor.shape[1], factor.shape[0]) for factor in factors]
    return [nn.Linear(factor.shape[1], factor.shape[0], bias=False, device="meta") for factor in factors]


def _convolutions(layer: Any, factors: List[torch.Tensor]) -> List[Any]:
    kernels = [tuple(factor.shape[2:]) for factor in factors]
    # The first part with as large a kernel as any takes what the layer does along axes on which its kernel is 1 long.
    main = max(range(len(factors)), key=lambda index: (max(kernels[index]), -index))
    parts = []
    channels = layer.in_channels
    for index, (factor, kernel) in enumerate(zip(factors, kernels)):
        settings: Dict[str, Any] = {}
        for name, neutral in (("stride", 1), ("padding", 0), ("dilation", 1), ("output_padding", 0)):
            whole = getattr(layer, name)
            if isinstance(whole, str):
                settings[name] = whole if max(kernel) > 1 else 0
                continue
            takes = [k > 1 or (full == 1 and index == main) for k, full in zip(kernel, layer.kernel_size)]
            settings[name] = tuple(value if taken else neutral for value, taken in zip(whole, takes))
        if layer.transposed:
            groups = channels // factor.shape[0] if factor.shape[0] else 1
            outputs = factor.shape[1] * max(groups, 1)
        else:
            settings.pop("output_padding")
            groups, outputs = channels // factor.shape[1], factor.shape[0]
        padding_mode = layer.padding_mode if max(kernel) > 1 else "zeros"
        kind = _kind(layer)
        parts.append(
            kind(channels, outputs, kernel, groups=max(groups, 1), bias=False, padding_mode=padding_mode, device="meta",
                 **settings)
        )  # fmt: skip
        if tuple(parts[-1].weight.shape) != tuple(factor.shape):
            raise PlanMismatch(f"a factor of shape {tuple(factor.shape)} fits no convolution of {channels} channels")
        channels = outputs
    return parts


def _kind(layer: Any) -> Any:
    """torch.nn's class of a layer that may be of a subclass."""
    classes = [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
    return next(kind for kind in classes if isinstance(layer, kind))
