"""Widths that a user's own modules remember: heads, their dimensions, and what they call hidden sizes.

A forward that says `reshape(B, N, 3, self.num_heads, self.head_dim)` computes with attributes that no parameter shows.
They are read off the rows that their projections keep: these rows are so many blocks (heads) of so many rows each.

Invariant: nothing here changes a module. An attribute is only set where its old value is the old size of what was cut
and all that was cut says the same; what cannot be told stays as it is, for the forward to be compared afterwards.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Optional, Set, Tuple

import torch
from torch import nn

from .errors import ForwardMismatch
from .modules import Settings, is_transposed_linear
from .slices import Cut

_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads", "nhead")
_KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
_HEAD_WIDTHS = (
    "head_dim",
    "attention_head_size",
    "dim_head",
    "dim_per_head",
    "key_value_proj_dim",
    "key_dim",
    "head_size",
)
_ALL_HEADS = ("attn_dim", "all_head_size", "split_size", "inner_dim")
# Layers that make queries, keys and values, and how many of these each makes.
_PROJECTION = re.compile(
    r"(to_|w|W)?(?P<three>qkv|c_attn|in_proj|query_key_value)(_proj)?$|(to_)?(?P<two>kv|key_value)(_proj)?$"
    r"|(to_|w)?(?P<query>q|query)(_proj|_lin)?$|(to_|w)?(k|v|key|value)(_proj|_lin)?$"
)
_WIDTH = re.compile(r"(dim|features|channels|chs|planes|width|hidden|d_model|size)")
_NO_WIDTH = re.compile(r"(window|kernel|patch|img|image|input|grid|vocab|batch|group|pool|stride|head|split)")


def settings(module: nn.Module, path: str, cuts: Mapping[int, Cut]) -> Settings:
    """New values of the module's own integers; `cuts` by the id of the tensor."""
    integers = {name: value for name, value in vars(module).items() if type(value) is int}
    found = _attention(module, path, integers, cuts)
    sizes = _sizes(module, cuts)
    for name, value in integers.items():
        new = sizes.get(value, {value})
        if name not in found and len(new) == 1 and _WIDTH.search(name) and not _NO_WIDTH.search(name):
            found[name] = next(iter(new))
    return {name: value for name, value in found.items() if vars(module).get(name) != value}


def _sizes(module: nn.Module, cuts: Mapping[int, Cut]) -> Dict[int, Set[int]]:
    """What became of each length among the axes of the module's own tensors and its layers'."""
    found: Dict[int, Set[int]] = {}
    for owner in (module, *module.children()):
        for tensor in owner._parameters.values():
            if tensor is None:
                continue
            shape = cuts[id(tensor)].shape() if id(tensor) in cuts else tuple(tensor.shape)
            for before, after in zip(tensor.shape[:2], shape):
                found.setdefault(before, set()).add(after)
    return found


def _attention(module: nn.Module, path: str, integers: Mapping[str, int], cuts: Mapping[int, Cut]) -> Settings:
    """Heads and their widths, from the rows that the projections to queries, keys and values keep."""
    heads = next((integers[name] for name in _HEADS if integers.get(name, 0) > 0), None)
    width = next((integers[name] for name in _HEAD_WIDTHS if integers.get(name, 0) > 0), None)
    if heads is None and width is None:
        return {}
    left: List[Tuple[bool, int, int, int]] = []
    touched = False
    for name, child in module.named_children():
        match = _PROJECTION.match(name)
        kept = _output_rows(child, cuts)
        if match is None or kept is None:
            continue
        parts = 3 if match["three"] else 2 if match["two"] else 1
        per_head = width or len(kept) // (parts * (heads or 1))
        if per_head < 1 or len(kept) % (parts * per_head):
            continue
        counts = kept.reshape(-1, per_head).sum(1)
        counts = counts[counts > 0]
        touched = touched or not bool(kept.all())
        if len(set(counts.tolist())) > 1 or len(counts) % parts:
            raise ForwardMismatch(
                f"{path!r} would keep heads of different widths, which its forward does not know; {_ADVICE}"
            )
        is_query = bool(match["three"] or match["query"])
        left.append((is_query, len(kept) // per_head // parts, len(counts) // parts, int(counts[0])))
    if not touched:
        return {}
    queries = [entry for entry in left if entry[0]] or left
    others = [entry for entry in left if not entry[0]]
    found: Settings = {}
    if len({entry[3] for entry in left}) > 1 or len({entry[2] for entry in queries}) > 1:
        raise ForwardMismatch(f"queries, keys and values of {path!r} would keep different widths; {_ADVICE}")
    _, old_heads, new_heads, new_width = queries[0]
    old_width = width or _width(module, queries[0][1], cuts)
    _set(found, integers, _HEADS, old_heads, new_heads)
    _set(found, integers, _HEAD_WIDTHS, old_width, new_width)
    _set(found, integers, _ALL_HEADS, old_heads * old_width, new_heads * new_width)
    if others:
        _set(found, integers, _KEY_VALUE_HEADS, others[0][1], others[0][2])
        if integers.get("num_key_value_groups") == old_heads // others[0][1]:
            found["num_key_value_groups"] = new_heads // others[0][2]
    # timm's fused form divides by the square root of the width that it meets, the other one by that of the original.
    if new_width != old_width and vars(module).get("fused_attn") is True and "scale" in vars(module):
        found["fused_attn"] = False
    return found


def _set(found: Settings, integers: Mapping[str, int], names: Tuple[str, ...], old: int, new: int) -> None:
    found.update({name: new for name in names if integers.get(name) == old})


def _width(module: nn.Module, heads: int, cuts: Mapping[int, Cut]) -> int:
    """The old width of a head where no attribute holds it."""
    for name, child in module.named_children():
        match, kept = _PROJECTION.match(name), _output_rows(child, cuts)
        if match is not None and kept is not None:
            return len(kept) // (heads * (3 if match["three"] else 2 if match["two"] else 1))
    return 0


def _output_rows(layer: nn.Module, cuts: Mapping[int, Cut]) -> Optional[torch.Tensor]:
    """Which outputs of a linear layer or convolution stay; None for any other module."""
    weight = layer._parameters.get("weight")
    if weight is None or weight.dim() < 2:
        return None
    axis = 1 if is_transposed_linear(layer) else 0
    cut = cuts.get(id(weight))
    if cut is not None and axis in cut.rows:
        return cut.rows[axis]
    return torch.ones(weight.shape[axis], dtype=torch.bool)


_ADVICE = (
    'take the module of the compressed file instead, or leave it alone (options={"exclude": [...]}, '
    '{"reshape_channel_axis": 0} to remove whole heads)'
)
