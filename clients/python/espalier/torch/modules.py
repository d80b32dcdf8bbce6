"""What modules remember of their tensors' shapes: the attributes of torch.nn's own layers, read off the new shapes.

Invariant: nothing here changes a module; what is returned is the attributes to set.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

import torch
from torch import nn

from .errors import PlanMismatch
from .slices import Cut

Settings = Dict[str, Any]


def settings(module: nn.Module, path: str, cuts: Mapping[str, Cut]) -> Settings:
    """New values of a layer's attributes; `cuts` by the layer's own names of its tensors ("weight")."""
    if isinstance(module, nn.MultiheadAttention):
        raise PlanMismatch(
            f"{path!r} is a MultiheadAttention, whose forward knows one width for all of it; exclude it "
            f'(options={{"exclude": ["{path}*"]}}) or take the module of the compressed file'
        )
    hidden = {"weight_g", "weight_v", "weight_orig"} & (module._parameters.keys() | module._buffers.keys())
    if hidden:
        raise PlanMismatch(
            f"the weight of {path!r} is computed from {', '.join(sorted(hidden))}: remove the reparametrization first "
            "(torch.nn.utils.remove_weight_norm, torch.nn.utils.prune.remove)"
        )
    found: Settings = {}
    for kind, rule in _RULES:
        if isinstance(module, kind):
            found = rule(module, path, cuts)
            break
    else:
        if "weight" in cuts and is_transposed_linear(module):
            found = dict(zip(("nx", "nf"), cuts["weight"].shape()))
        elif "weight" in cuts and isinstance(vars(module).get("normalized_shape"), tuple):
            found = {"normalized_shape": cuts["weight"].shape()}
    return {name: value for name, value in found.items() if name in vars(module) and getattr(module, name) != value}


def is_transposed_linear(module: nn.Module) -> bool:
    """Is it transformers' linear layer, whose weight is (inputs, outputs)?"""
    return type(module).__name__ == "Conv1D" and {"nf", "nx"} <= vars(module).keys()


def blocks_left(kept: torch.Tensor, blocks: int, path: str) -> int:
    """How many of as many equal blocks still have rows; those that do must have equally many."""
    counts = kept.reshape(blocks, -1).sum(1)
    left = counts[counts > 0]
    if len(set(left.tolist())) > 1:
        raise PlanMismatch(f"the plan leaves the groups of {path!r} different widths: {left.tolist()}")
    return len(left)


def _convolution(module: Any, path: str, cuts: Mapping[str, Cut]) -> Settings:
    cut = cuts.get("weight")
    if cut is None:
        return {}
    groups = blocks_left(cut.rows[0], module.groups, path) if 0 in cut.rows else module.groups
    first, second = cut.shape()[0], cut.shape()[1] * groups
    inputs, outputs = (first, second) if module.transposed else (second, first)
    return {"in_channels": inputs, "out_channels": outputs, "groups": groups}


def _linear(module: Any, path: str, cuts: Mapping[str, Cut]) -> Settings:
    return dict(zip(("out_features", "in_features"), cuts["weight"].shape())) if "weight" in cuts else {}


def _bilinear(module: Any, path: str, cuts: Mapping[str, Cut]) -> Settings:
    names = ("out_features", "in1_features", "in2_features")
    return dict(zip(names, cuts["weight"].shape())) if "weight" in cuts else {}


def _channels(name: str) -> Any:
    def rule(module: Any, path: str, cuts: Mapping[str, Cut]) -> Settings:
        vectors = [cut for cut in cuts.values() if cut.tensor.dim() == 1]
        return {name: vectors[0].shape()[0]} if vectors else {}

    return rule


def _group_norm(module: Any, path: str, cuts: Mapping[str, Cut]) -> Settings:
    cut: Optional[Cut] = cuts.get("weight")
    if cut is None:
        return {}
    return {"num_channels": cut.shape()[0], "num_groups": blocks_left(cut.rows[0], module.num_groups, path)}


def _layer_norm(module: Any, path: str, cuts: Mapping[str, Cut]) -> Settings:
    return {"normalized_shape": type(module.normalized_shape)(cuts["weight"].shape())} if "weight" in cuts else {}


def _embedding(module: Any, path: str, cuts: Mapping[str, Cut]) -> Settings:
    cut = cuts.get("weight")
    if cut is None:
        return {}
    if 0 in cut.rows:
        raise PlanMismatch(f"the plan removes rows of the table {path!r}, which callers pick by number")
    return {"embedding_dim": cut.shape()[1]}


def _recurrent(module: Any, path: str, cuts: Mapping[str, Cut]) -> Settings:
    """One hidden size holds for all layers, directions and gates; what reads the input differs in the first layer."""
    shapes = {
        name: cuts[name].shape() if name in cuts else tuple(parameter.shape)
        for name, parameter in module.named_parameters(recurse=False)
    }
    first = "_l0" if isinstance(module, nn.RNNBase) else ""
    gates = module.get_parameter(f"weight_hh{first}").shape[0] // module.hidden_size
    hidden, inputs = shapes[f"weight_hh{first}"][1], shapes[f"weight_ih{first}"][1]
    wide = hidden * (2 if getattr(module, "bidirectional", False) else 1)
    for name, shape in shapes.items():
        reads = inputs if name.startswith(f"weight_ih{first}") else wide if name.startswith("weight_ih") else hidden
        if getattr(module, "proj_size", 0) or shape != (gates * hidden, reads)[: len(shape)]:
            raise PlanMismatch(
                f"the plan leaves the layers of {path!r} different widths, which a recurrent layer cannot have"
            )
    return {"input_size": inputs, "hidden_size": hidden}


_RULES = (
    (nn.modules.conv._ConvNd, _convolution),
    (nn.Bilinear, _bilinear),
    (nn.Linear, _linear),
    (nn.modules.batchnorm._NormBase, _channels("num_features")),
    (nn.GroupNorm, _group_norm),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    ((nn.RNNBase, nn.RNNCellBase), _recurrent),
    (nn.PReLU, _channels("num_parameters")),
)
