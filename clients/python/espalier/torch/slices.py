"""Which numbers of which tensors go: the `removed` of a plan, resolved to a module's parameters and buffers.

A tensor with several names (tied weights) is one `Cut`, and whatever its names say of an axis must be the same.

Invariant: making cuts checks everything and changes nothing.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Tuple

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..results import RemovedSlices
from .errors import PlanMismatch


@dataclass(eq=False)
class Cut:
    """What one tensor loses. `rows[axis]` has an entry per index of the axis, True where it stays."""

    tensor: torch.Tensor
    # Every place that holds it: module, attribute, name in the state dict.
    places: List[Tuple[nn.Module, str, str]]
    rows: Dict[int, torch.Tensor] = field(default_factory=dict)
    # Axis 1 of a group convolution: one row of flags per group.
    rows_by_group: Dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.places[0][2]

    def shape(self) -> Tuple[int, ...]:
        """Its shape without what goes."""
        shape = list(self.tensor.shape)
        for axis, kept in self.rows.items():
            shape[axis] = int(kept.sum())
        for axis, kept in self.rows_by_group.items():
            shape[axis] = int(kept[0].sum())
        return tuple(shape)

    def sliced(self) -> torch.Tensor:
        """What is left of it, in memory of its own."""
        kept = self.tensor.detach()
        for axis, groups in self.rows_by_group.items():
            blocks = kept.chunk(len(groups), 0)
            kept = torch.cat([_select(block, axis, flags) for block, flags in zip(blocks, groups)], 0)
        for axis, flags in self.rows.items():
            kept = _select(kept, axis, flags)
        # Gathering makes rows contiguous; a channels_last weight stays one.
        if self.tensor.dim() == 4 and self.tensor.is_contiguous(memory_format=torch.channels_last):
            return kept.contiguous(memory_format=torch.channels_last)
        return kept.contiguous()


def _select(tensor: torch.Tensor, axis: int, kept: torch.Tensor) -> torch.Tensor:
    return tensor.index_select(axis, kept.nonzero().flatten().to(tensor.device))


def tensors_by_name(module: nn.Module) -> Dict[str, Tuple[nn.Module, str, torch.Tensor]]:
    """Owner, attribute and tensor of every parameter and buffer, each under all of its names."""
    found = {}
    for path, owner in module.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        for attribute, tensor in [*owner._parameters.items(), *owner._buffers.items()]:
            if tensor is not None:
                found[prefix + attribute] = (owner, attribute, tensor)
    return found


def cuts(module: nn.Module, removed: Iterable[RemovedSlices]) -> List[Cut]:
    """One cut per tensor that loses anything; PlanMismatch where the plan does not fit."""
    named = tensors_by_name(module)
    found: Dict[int, Cut] = {}
    for entry in removed:
        if entry.parameter not in named:
            close = difflib.get_close_matches(entry.parameter, named, 1)
            hint = f"; did the plan come from another module? It has {close[0]!r}" if close else ""
            raise PlanMismatch(
                f"the plan cuts {entry.parameter!r}, which is no parameter or buffer of this module{hint}. Take the "
                "plan of a file that was exported from this very module, or the compressed file itself"
            )
        tensor = named[entry.parameter][2]
        if id(tensor) not in found:
            places = [(owner, attribute, name) for name, (owner, attribute, held) in named.items() if held is tensor]
            # A module met under two paths is one place.
            unique = {(id(owner), attribute): (owner, attribute, name) for owner, attribute, name in reversed(places)}
            found[id(tensor)] = Cut(tensor, list(unique.values())[::-1])
        _add(found[id(tensor)], entry)
    _refuse_shared_memory(found, named)
    return list(found.values())


def _add(cut: Cut, entry: RemovedSlices) -> None:
    name, axis = entry.parameter, entry.axis
    if is_lazy(cut.tensor):
        raise PlanMismatch(f"{name!r} has no shape yet: run the module once before pruning it")
    shape = tuple(cut.tensor.shape)
    if not 0 <= axis < len(shape):
        raise PlanMismatch(f"the plan cuts axis {axis} of {name!r}, whose shape is {shape}")
    if (entry.indices is None) == (entry.indices_per_group is None):
        raise PlanMismatch(f"the plan's entry for {name!r} must have either indices or indices_per_group")
    if entry.indices is not None:
        flags = _flags(name, shape[axis], entry.indices)
        known = cut.rows.setdefault(axis, flags)
    else:
        groups = entry.indices_per_group or []
        if axis == 0 or not groups or shape[0] % len(groups):
            raise PlanMismatch(f"{name!r} of shape {shape} has no {len(groups)} groups along axis {axis}")
        flags = torch.stack([_flags(name, shape[axis], indices) for indices in groups])
        if len(set(flags.sum(1).tolist())) > 1:
            raise PlanMismatch(f"the plan leaves the groups of {name!r} different widths")
        known = cut.rows_by_group.setdefault(axis, flags)
    contradicts = axis in cut.rows and axis in cut.rows_by_group
    if contradicts or known.shape != flags.shape or not torch.equal(known, flags):
        raise PlanMismatch(
            f"the plan removes different indices from axis {axis} of {name!r} and of what it is tied to "
            f"({', '.join(place[2] for place in cut.places)}); untie them first, or exclude the layers"
        )


def _flags(name: str, length: int, indices: List[int]) -> torch.Tensor:
    wrong = [index for index in indices if not 0 <= index < length]
    if wrong:
        raise PlanMismatch(f"the plan removes index {wrong[0]} of {name!r}, which has {length}: is it pruned already?")
    kept = torch.ones(length, dtype=torch.bool)
    kept[torch.tensor(indices, dtype=torch.long)] = False
    if len(set(indices)) != len(indices) or not kept.any():
        raise PlanMismatch(f"the plan removes indices of {name!r} twice, or all of them")
    return kept


def _refuse_shared_memory(found: Dict[int, Cut], named: Dict[str, Tuple[nn.Module, str, torch.Tensor]]) -> None:
    """A view of the same numbers under another name would keep the old ones."""
    names: Dict[object, str] = {}
    for name, (_, _, tensor) in named.items():
        if is_lazy(tensor) or tensor.is_meta or tensor.numel() == 0:
            continue
        storage = (tensor.device, tensor.untyped_storage().data_ptr())
        other = names.setdefault(storage, name)
        is_same = named[other][2] is tensor
        if not is_same and (id(tensor) in found or id(named[other][2]) in found):
            raise PlanMismatch(
                f"{name!r} and {other!r} are different views of the same memory; copy one of them before pruning "
                "(parameter.data = parameter.data.clone())"
            )
