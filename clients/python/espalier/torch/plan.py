"""A plan carried out on a user's own eager module: `apply_plan`.

Everything is checked before anything is changed, and what was changed is undone where the forward turns out not to
compute what it should. Parameters stay the objects they are (tied ones stay tied, hooks stay), with fewer numbers.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple, TypeVar, Union

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from ..decoding import decode
from ..results import Compression
from . import modules, replacements, widths
from .errors import ForwardMismatch, PlanMismatch
from .slices import Cut, cuts

Plan = Union[Compression, Mapping[str, Any], str]
# One tensor, all positional arguments, or keyword arguments by name.
Inputs = Union[torch.Tensor, Tuple[Any, ...], Mapping[str, Any]]
State = Mapping[str, torch.Tensor]
M = TypeVar("M", bound=nn.Module)

_ADVICE = (
    "Numbers that a forward holds itself cannot be seen in parameters. Take the module of the compressed file, or "
    'leave the layers concerned alone (options={"exclude": [...]})'
)


def apply_plan(
    module: M, plan: Plan, *, example_inputs: Optional[Inputs] = None, compressed: Optional[State] = None
) -> M:
    """Prunes `module` in place by the `plan` that a `compress` of it answered, and returns it.

    `plan` is what `Client.compress` returned, also of a dry run, or its JSON. The module keeps its class, its names,
    its modes, and which of its parameters are trained, on which device and in which type; gradients are dropped. An
    optimizer made before has state of the old shapes and must be made anew.

    With `example_inputs` (a tensor, a tuple, or a mapping of keyword arguments) the module is run before and after, and
    must return the same structure and shapes. Without them norms that have no parameters keep their old widths.
    A plan that decomposes needs `compressed`, the state dict of the compressed file.

    PlanMismatch where plan and module do not fit, ForwardMismatch where the forward cannot follow; both leave the
    module as it was.
    """
    return _apply(module, plan, example_inputs, compressed, None)


def _apply(
    module: M,
    plan: Plan,
    example_inputs: Optional[Inputs],
    compressed: Optional[State],
    judge: Optional[Callable[[Any], None]],
) -> M:
    """As `apply_plan`; `judge` is shown what the pruned module returns for the inputs, and may raise."""
    if isinstance(plan, str):
        plan = json.loads(plan)
    reply = plan if isinstance(plan, Compression) else decode(Compression, plan)
    if reply.copied:
        raise PlanMismatch(
            f"the plan gives places that share {reply.copied[0].parameter!r} copies of their own, which a module that "
            "shares it cannot have; take the module of the compressed file"
        )
    if reply.replaced and compressed is None:
        raise PlanMismatch(
            "the plan decomposes layers: give their factors, compressed=<state dict of the compressed file>"
        )
    before: Any = None
    scales, scales_after = _ImplicitScales(), _ImplicitScales()
    if example_inputs is not None:
        with scales:
            before = run(module, example_inputs)
    change = _Change(module, reply, compressed)
    try:
        change.make()
        if example_inputs is not None:
            with change.repairing_norms(), scales_after:
                after = _run_pruned(module, example_inputs)
            _compare_shapes(before, after)
            scales_after.compare(scales)
            if judge is not None:
                judge(after)
    except BaseException:
        change.undo()
        raise
    return module


class _ImplicitScales(TorchFunctionMode):
    """The widths by whose square roots attention divides where nobody gives it a scale.

    Pruned, it would divide by another root than the original; in timm's attention this is seen to (`widths`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.widths: List[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention and kwargs.get("scale") is None:
            self.widths.append((args[0] if args else kwargs["query"]).shape[-1])
        return func(*args, **kwargs)

    def compare(self, original: _ImplicitScales) -> None:
        """ForwardMismatch where more calls divide by a width than did in the original."""
        changed = Counter(self.widths) - Counter(original.widths)
        if changed:
            raise ForwardMismatch(
                f"scaled_dot_product_attention divides by the root of {min(changed)}, what is left of a head, and not "
                f"of the original's; say scale={max(original.widths)}**-0.5, or take the module of the compressed file"
            )


class _Change:
    """All that a plan changes in a module, checked when this is made, and how to take it back."""

    def __init__(self, module: nn.Module, plan: Compression, compressed: Optional[State]):
        self.module = module
        self.cuts = cuts(module, plan.removed)
        self.attributes: List[Tuple[nn.Module, str, Any]] = []
        self.layers: List[Tuple[nn.Module, str, nn.Module]] = []
        self.values: List[Tuple[nn.Module, str, torch.Tensor]] = []
        self.undoing: List[Callable[[], None]] = []
        self._find_attributes()
        state = compressed or {}
        replaced = {entry.layer for entry in plan.replaced}
        for entry in plan.replaced:
            self.layers.append(replacements.build(module, entry, plan.adjusted, state))
        for adjusted in plan.adjusted:
            if adjusted.layer in replaced:
                continue
            self._adjust(adjusted.original or adjusted.parameter, state.get(adjusted.parameter))

    def _find_attributes(self) -> None:
        by_tensor: Dict[int, Cut] = {id(cut.tensor): cut for cut in self.cuts}
        by_owner: Dict[int, Dict[str, Cut]] = {}
        for cut in self.cuts:
            for owner, attribute, _ in cut.places:
                by_owner.setdefault(id(owner), {})[attribute] = cut
        for path, member in self.module.named_modules():
            own = dict(by_owner.get(id(member), {}))
            if isinstance(member, nn.MultiheadAttention):
                # It reads the weight of this layer by itself.
                own.update(by_owner.get(id(member.out_proj), {}))
            found = modules.settings(member, path, own) if own else {}
            if not type(member).__module__.startswith("torch.nn."):
                found = {**widths.settings(member, path, by_tensor), **found}
            self.attributes += [(member, name, value) for name, value in found.items()]

    def _adjust(self, name: str, value: Optional[torch.Tensor]) -> None:
        path, _, attribute = name.rpartition(".")
        try:
            owner = self.module.get_submodule(path)
        except AttributeError:
            raise PlanMismatch(f"the plan adjusts {name!r}, which is not in this module") from None
        held = owner._parameters.get(attribute)
        if held is None:
            held = owner._buffers.get(attribute)
        if value is None or held is None:
            raise PlanMismatch(f"the plan adjusts {name!r}: it must be in the module and in the compressed state")
        self.values.append((owner, attribute, value.detach().clone().to(held.device, held.dtype)))

    def make(self) -> None:
        sliced = [(cut, cut.sliced()) for cut in self.cuts]
        for cut, tensor in sliced:
            self._set_tensor(cut, tensor)
        for owner, name, value in self.values:
            parameter = owner._parameters.get(name)
            if parameter is None:
                self._set_member(owner._buffers, name, value)
            else:
                self._set_parameter(parameter, value)
        for owner, name, value in self.attributes:
            self.set_attribute(owner, name, value)
        for parent, name, layers in self.layers:
            self._set_member(parent._modules, name, layers)

    def _set_tensor(self, cut: Cut, tensor: torch.Tensor) -> None:
        if isinstance(cut.tensor, nn.Parameter):
            self._set_parameter(cut.tensor, tensor)
            return
        for owner, attribute, _ in cut.places:
            self._set_member(owner._buffers, attribute, tensor)

    def _set_member(self, members: Dict[str, Any], name: str, value: Any) -> None:
        held = members[name]

        def undo() -> None:
            members[name] = held

        self.undoing.append(undo)
        members[name] = value

    def _set_parameter(self, parameter: torch.Tensor, tensor: torch.Tensor) -> None:
        data, grad = parameter.data, parameter.grad

        def undo() -> None:
            parameter.data = data
            parameter.grad = grad

        self.undoing.append(undo)
        parameter.grad = None
        parameter.data = tensor

    def set_attribute(self, owner: nn.Module, name: str, value: Any) -> None:
        held = getattr(owner, name)
        self.undoing.append(lambda: setattr(owner, name, held))
        setattr(owner, name, value)

    def undo(self) -> None:
        while self.undoing:
            self.undoing.pop()()

    @contextlib.contextmanager
    def repairing_norms(self) -> Iterator[None]:
        """Norms without parameters take the width of what they are fed; they keep no other trace of it."""

        def repair(norm: Any, arguments: Tuple[Any, ...]) -> None:
            if not arguments:
                return
            shape = tuple(arguments[0].shape)
            if isinstance(norm, (nn.LayerNorm, nn.RMSNorm)):
                fed: Any = shape[len(shape) - len(norm.normalized_shape) :]
                name = "normalized_shape"
            else:
                name = "num_channels" if isinstance(norm, nn.GroupNorm) else "num_features"
                fed = shape[1]
            if getattr(norm, name) != fed:
                self.set_attribute(norm, name, fed)

        kinds = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)
        norms = [m for m in self.module.modules() if isinstance(m, kinds) and not list(m.parameters())]
        hooks = [norm.register_forward_pre_hook(repair) for norm in norms if not list(norm.buffers())]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode within, and every submodule's own mode again afterwards."""
    modes = [(member, member.training) for member in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for member, training in modes:
            member.training = training


def arguments(inputs: Inputs) -> Tuple[Tuple[Any, ...], Dict[str, Any]]:
    """Positional and keyword arguments."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def run(module: nn.Module, inputs: Inputs) -> Any:
    """What the module returns in eval mode, without gradients."""
    positional, keywords = arguments(inputs)
    with evaluating(module), torch.no_grad():
        return module(*positional, **keywords)


def _run_pruned(module: nn.Module, inputs: Inputs) -> Any:
    try:
        return run(module, inputs)
    except Exception as error:
        raise ForwardMismatch(
            f"the forward of {type(module).__name__} fails when pruned: {error}. {_ADVICE}"
        ) from error


def tensors(outputs: Any) -> List[torch.Tensor]:
    """The tensors of nested outputs, in order."""
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


def _compare_shapes(before: Any, after: Any) -> None:
    shapes = [[(tuple(tensor.shape), tensor.dtype) for tensor in tensors(outputs)] for outputs in (before, after)]
    if shapes[0] != shapes[1]:
        raise ForwardMismatch(f"pruned, the module returns {shapes[1]} instead of {shapes[0]}. {_ADVICE}")
