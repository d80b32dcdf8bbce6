"""The masked original of a torch.nn.Module, and the twin where a statistic mixes removed and kept channels.

A network without some of its channels computes what the whole one computes when nobody listens to those. So the masked
original is the user's own eager module with zeros at the removed *inputs* of what sums over channels: convolutions and
linear layers. Where two activations are multiplied (attention), nobody's weights are there to be zeroed, and the
removed outputs are zeroed besides. Nothing is asked of the daemon but the list of what it removed.

Where a norm or a mean runs across removed channels (it reduces fewer numbers in the compressed network than in the
original), no such equality holds; then both networks are run again with every such operator replaced by its
per-channel part, a norm by its factor and shift, a mean by a constant, and must agree.
"""

import copy
import dataclasses
import math

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# Statistics along axes that they name.
DIMENSIONED = (
    aten.mean.dim,
    aten.sum.dim_IntList,
    aten.linalg_vector_norm.default,
    aten.var_mean.correction,
    aten.var.correction,
    aten.std.correction,
)


def input_axis(owner, attribute):
    """The axis over which the layer sums when it applies this tensor; None where it sums over none."""
    if isinstance(owner, nn.modules.conv._ConvTransposeNd):
        return 0 if attribute == "weight" else None
    if isinstance(owner, (nn.modules.conv._ConvNd, nn.Linear)):
        return 1 if attribute == "weight" else None
    if isinstance(owner, (nn.RNNBase, nn.RNNCellBase)):
        return 1 if attribute.startswith("weight_") else None
    if isinstance(owner, nn.MultiheadAttention):
        return 1 if attribute == "in_proj_weight" else None
    # transformers' linear layer with its weight transposed.
    if type(owner).__name__ == "Conv1D" and hasattr(owner, "nf"):
        return 0 if attribute == "weight" else None
    return None


@torch.no_grad()
def masked(module, removed, products):
    """The masked original; names that the module does not have are left out and returned besides."""
    result = copy.deepcopy(module)
    owners = dict(result.named_modules(remove_duplicate=False))
    tensors = {
        **dict(result.named_parameters(remove_duplicate=False)),
        **dict(result.named_buffers(remove_duplicate=False)),
    }
    unknown = set()
    for entry in removed:
        if entry.parameter not in tensors:
            unknown.add(entry.parameter)
            continue
        tensor = tensors[entry.parameter]
        path, _, attribute = entry.parameter.rpartition(".")
        names = [name for name, held in tensors.items() if held is tensor]
        places = [(owners[name.rpartition(".")[0]], name.rpartition(".")[2]) for name in names]
        is_input = any(input_axis(owner, attribute) == entry.axis for owner, attribute in places)
        is_statistic = attribute in ("running_mean", "running_var")
        if is_input or (products and not is_statistic):
            zero(tensor, entry)
    return result, unknown


def zero(tensor, entry):
    if entry.indices is not None:
        tensor.index_fill_(entry.axis, torch.tensor(entry.indices), 0)
        return
    for block, indices in zip(tensor.chunk(len(entry.indices_per_group), 0), entry.indices_per_group):
        block.index_fill_(entry.axis, torch.tensor(indices, dtype=torch.long), 0)


def removed_shapes(module, removed):
    """The shape that each parameter has to have afterwards, by name."""
    state = module.state_dict()
    shapes = {name: list(value.shape) for name, value in state.items()}
    for entry in removed:
        if entry.parameter not in shapes:
            continue
        cut = state[entry.parameter]
        # What is tied has several names, of which the reply gives one.
        for name, value in state.items():
            if name == entry.parameter or (value.data_ptr() == cut.data_ptr() and value.shape == cut.shape):
                shapes[name][entry.axis] -= len(
                    entry.indices if entry.indices is not None else entry.indices_per_group[0]
                )
    return {name: tuple(shape) for name, shape in shapes.items()}


class Statistics(TorchDispatchMode):
    """Counts the operators that take statistics, in the order in which they run, and replaces some of them.

    `sizes` has how many numbers each reduces, `scales` the size of what it was given and returned. `replaced` maps
    the place of an operator in that order to the scales that take its place.
    """

    def __init__(self, replaced=None):
        super().__init__()
        self.sizes, self.scales, self.replaced = [], [], replaced or {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        size = self.reduces(function, args)
        if size is None:
            return function(*args, **kwargs)
        place = len(self.sizes)
        self.sizes.append((function, size))
        scale = self.replaced.get(place)
        if scale is not None:
            self.scales.append(scale)
            return self.per_channel(function, args, kwargs, *scale)
        result = function(*args, **kwargs)
        first = result[0] if isinstance(result, tuple) else result
        self.scales.append((1 / max(rms(args[0]), 1e-6), float(first.double().mean()) or 1.0))
        return result

    @staticmethod
    def reduces(function, args):
        x = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if function is aten.native_layer_norm.default:
            return math.prod(args[1])
        if function is aten.native_group_norm.default:
            return args[4] // args[6] * args[5]
        if function in (aten._fused_rms_norm.default, aten.rms_norm.default):
            return math.prod(args[1])
        if function in DIMENSIONED:
            position = 2 if function is aten.linalg_vector_norm.default else 1
            dims = args[position] if len(args) > position and args[position] else range(x.dim())
            return math.prod(x.shape[dim] for dim in dims)
        if function is aten.mean.default:
            return x.numel()
        if function is aten.native_batch_norm.default and args[5]:
            return x.numel() // x.shape[1]
        return None

    @staticmethod
    def per_channel(function, args, kwargs, factor, usual):
        x = args[0]
        if function is aten.native_layer_norm.default:
            return affine(x * factor, args[2], args[3]), x.new_empty(()), x.new_empty(())
        if function in (aten._fused_rms_norm.default, aten.rms_norm.default):
            scaled = affine(x * factor, args[2], None)
            return (scaled, x.new_empty(())) if function is aten._fused_rms_norm.default else scaled
        if function is aten.native_group_norm.default:
            shape = (1, -1, *[1] * (x.dim() - 2))
            parts = [None if part is None else part.reshape(shape) for part in args[1:3]]
            return affine(x * factor, *parts), x.new_empty(()), x.new_empty(())
        if function is aten.native_batch_norm.default:
            shape = (1, -1, *[1] * (x.dim() - 2))
            parts = [None if part is None else part.reshape(shape) for part in args[1:3]]
            return affine(x * factor, *parts), x.new_empty(()), x.new_empty(())
        result = function(*args, **kwargs)
        return pytree.tree_map(lambda value: torch.full_like(value, usual), result)


def affine(x, factor, shift):
    x = x if factor is None else x * factor
    return x if shift is None else x + shift


def rms(tensor):
    return float(tensor.double().square().mean().sqrt())


@dataclasses.dataclass
class Verdict:
    """`status` "exact", "approximate" (the twins agree) or "wrong"; distances are shares of an output's magnitude."""

    status: str
    difference: float
    # How far the masked original is from the original: at 0 nothing would be proved.
    effect: float
    mixing: int


def judge(original, compressed, removed, inputs, products, tolerance):
    whole, unknown = masked(original, removed, products)
    return compared(original, whole, compressed, inputs, tolerance), unknown


def compared(original, whole, compressed, inputs, tolerance):
    """The verdict on `compressed`, where `whole` is the masked original."""
    first, second = Statistics(), Statistics()
    with torch.no_grad():
        usual = outputs(original(*inputs))
        with first:
            expected = outputs(whole(*inputs))
        with second:
            found = outputs(compressed(*inputs))
    effect = distance(usual, expected)
    kinds = [[function for function, _ in run.sizes] for run in (first, second)]
    if kinds[0] != kinds[1]:
        raise AssertionError(f"other operators run: {kinds}")
    mixing = {
        place: first.scales[place] for place, pair in enumerate(zip(first.sizes, second.sizes)) if pair[0] != pair[1]
    }
    apart = distance(expected, found)
    if mixing:
        twins = []
        for module in (whole, compressed):
            with torch.no_grad(), Statistics(mixing):
                twins.append(outputs(module(*inputs)))
        apart = distance(*twins)
    good = "approximate" if mixing else "exact"
    return Verdict(good if apart <= tolerance else "wrong", apart, effect, len(mixing))


def outputs(value):
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def distance(expected, found):
    """The largest distance over all outputs; infinite where shapes, types or finiteness differ."""
    worst = 0.0
    if len(expected) != len(found):
        return float("inf")
    for want, got in zip(expected, found):
        if want.shape != got.shape or want.dtype != got.dtype or not got.isfinite().all():
            return float("inf")
        if not want.isfinite().all():
            raise ValueError("the original's outputs are not finite: a bad test network")
        scale = float(want.abs().max()) or 1.0
        worst = max(worst, float((want.double() - got.double()).abs().max()) / scale)
    return worst
