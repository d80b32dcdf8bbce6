"""`compress` for a torch.nn.Module: exported to a file, compressed by the daemon, and handed back as a module.

The result is of the user's own class where the plan can be carried out on a copy of it, which is proved by comparing
its outputs with those of the compressed file; otherwise it is the graph that the file holds.
"""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import torch
import torch.fx
from torch import nn

from ..client import Client
from ..connection import ProgressOption
from ..errors import EspalierError, ServerError
from ..requests import Layers, Options, PathLike, Target
from ..results import Compression
from .errors import ExportFailed, ForwardMismatch
from .plan import Inputs, State, _apply, arguments, evaluating, run, tensors

# How far the user's own module may be from the compressed file, relative to the largest magnitude of an output.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


# What writes a module, in the order of preference, and how its files end.
_SUFFIX = {"torch.export": ".pt2", "torch.fx": ".pt"}


@dataclass(frozen=True)
class Compressed:
    """A module that trains on, and the daemon's report of how it came to be.

    `form` says what `module` is: "own", of the user's own class; "graph", a torch.fx GraphModule, whose layers are
    those of the original; "exported", the graph of a torch.export program, which computes as in eval mode and knows no
    other. `reason` says why it is not the user's own. All have the original's state-dict names.
    """

    module: nn.Module
    report: Compression
    form: str
    # "torch.export" or "torch.fx".
    exporter: str
    reason: Optional[str] = None
    # Why torch.export was not used, where it failed.
    export_error: Optional[str] = None


def compress(
    module: nn.Module,
    example_inputs: Inputs,
    *,
    recommendation_ratio: Optional[float] = None,
    target: Optional[Target] = None,
    layers: Optional[Layers] = None,
    compression_method: Optional[str] = "PR_L2",
    recommendation_method: Optional[str] = None,
    options: Optional[Options] = None,
    dynamic_shapes: Any = None,
    dataset: Optional[Union[PathLike, torch.Tensor, Mapping[str, torch.Tensor]]] = None,
    reconstruct: Optional[str] = None,
    verify: bool = False,
    exporter: Optional[str] = None,
    inplace: bool = False,
    client: Optional[Client] = None,
    progress: ProgressOption = None,
    timeout: Optional[float] = None,
) -> Compressed:
    """A smaller `module` that trains on, with its original names, modes and trained parameters.

    `example_inputs`: a tensor, a tuple, or a mapping of keyword arguments; the module is exported for them (with
    `dynamic_shapes` as in torch.export.export), and results are compared on them. `dataset`: the daemon's
    `dataset_path`, a tensor of samples, or one per input by name; with it and `reconstruct="least_squares"` the weights
    that are left are fitted anew, without labels or training. The rest is as in `Client.compress`, with the names
    that the exported file gives layers.

    `exporter` is "torch.export", "torch.fx", or None: the former, and the latter where it fails or where the result
    could not be of the user's own class, since a GraphModule still has layers and modes. With `inplace` the given
    module itself is pruned where it can be; else it is left as it is. Without a `client` a daemon is started for the
    call.

    ExportFailed where no graph can be made; ServerError as of `Client.compress`.
    """
    if exporter not in (None, *_SUFFIX):
        raise ValueError(f'exporter is "torch.export", "torch.fx" or None, not {exporter!r}')
    connection = client if client is not None else Client()
    failures: List[str] = []
    exported: Optional[Compressed] = None
    try:
        for name in [exporter] if exporter else _SUFFIX:
            with tempfile.TemporaryDirectory(prefix="espalier-") as folder:
                source, output = (os.path.join(folder, stem + _SUFFIX[name]) for stem in ("original", "compressed"))
                try:
                    _export(module, example_inputs, dynamic_shapes, name, source)
                except Exception as error:
                    failures.append(f"{name}: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}")
                    continue
                try:
                    report = connection.compress(
                        source,
                        output,
                        recommendation_ratio=recommendation_ratio,
                        target=target,
                        layers=layers,
                        compression_method=compression_method,
                        recommendation_method=recommendation_method,
                        options=options,
                        input_shapes=_input_shapes(example_inputs) if name == "torch.fx" else None,
                        verify=verify,
                        dataset_path=_dataset(dataset, folder),
                        reconstruct=reconstruct,
                        progress=progress,
                        timeout=timeout,
                    )
                    connection.release(source)
                except ServerError:
                    if exported is not None:
                        break
                    raise
                graph, state = _load(output, name, module)
            own, reason = _own(module, graph, state, report, example_inputs, inplace)
            failure = failures[0] if failures else None
            if own is not None:
                return Compressed(own, report, "own", name, None, failure)
            if name == "torch.fx":
                return Compressed(graph, report, "graph", name, reason, failure)
            exported = Compressed(graph, report, "exported", name, reason, None)
    finally:
        if client is None:
            connection.close()
    if exported is not None:
        return exported
    raise ExportFailed(
        f"no graph of {type(module).__name__} can be made. {'; '.join(failures)}. Give the part of it that can be "
        "exported, or an ONNX file"
    )


def _export(module: nn.Module, inputs: Inputs, dynamic_shapes: Any, exporter: str, path: str) -> None:
    """Writes the module as it is in eval mode; whatever PyTorch raises where it cannot."""
    positional, keywords = arguments(inputs)
    with evaluating(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "torch.export":
            program = torch.export.export(module, positional, keywords, dynamic_shapes=dynamic_shapes, strict=False)
            torch.export.save(program, path)
            return
        if keywords or not all(isinstance(value, torch.Tensor) for value in positional):
            raise TypeError("torch.fx takes tensors as positional inputs only")
        torch.save(torch.fx.symbolic_trace(module), path)


def _input_shapes(inputs: Inputs) -> List[Dict[str, Any]]:
    """What a GraphModule does not say of itself."""
    return [{"shape": list(value.shape)} for value in arguments(inputs)[0]]


def _dataset(dataset: Any, folder: str) -> Optional[PathLike]:
    """The path of the samples; tensors are written to the folder."""
    if dataset is None or isinstance(dataset, (str, os.PathLike)):
        return dataset
    try:
        import numpy
    except ImportError as error:
        raise ImportError(
            "samples given as tensors need NumPy: pip install numpy, or give the path of a file"
        ) from error
    if isinstance(dataset, Mapping):
        path = os.path.join(folder, "samples.npz")
        numpy.savez(path, **{name: value.detach().cpu().numpy() for name, value in dataset.items()})
    else:
        path = os.path.join(folder, "samples.npy")
        numpy.save(path, dataset.detach().cpu().numpy())
    return path


def _load(path: str, exporter: str, original: nn.Module) -> Tuple[nn.Module, State]:
    """The compressed graph as a module, trained and in the modes as the original's layers are; and its state dict."""
    if exporter == "torch.export":
        program = torch.export.load(path)
        graph: nn.Module = program.module()
        state = {**program.constants, **program.state_dict}
    else:
        # What the daemon wrote from what this process wrote.
        graph = torch.load(path, map_location="cpu", weights_only=False)
        state = graph.state_dict()
        modes = {name: member.training for name, member in original.named_modules()}
        for name, member in graph.named_modules():
            parent = name
            while parent not in modes:
                parent = parent.rpartition(".")[0]
            member.training = modes[parent]
    device = next((value.device for value in original.parameters()), torch.device("cpu"))
    graph.to(device)
    trained = {name: value.requires_grad for name, value in original.named_parameters(remove_duplicate=False)}
    for name, value in graph.named_parameters():
        # A factor is trained where what it is a factor of was.
        layer = name
        while layer and layer not in trained and f"{layer}.weight" not in trained:
            layer = layer.rpartition(".")[0]
        value.requires_grad_(trained.get(layer, trained.get(f"{layer}.weight", True)))
    return graph, {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _own(
    module: nn.Module, graph: nn.Module, state: State, report: Compression, inputs: Inputs, inplace: bool
) -> Tuple[Optional[nn.Module], Optional[str]]:
    """The user's own module, pruned and equal to the graph; or None and why not."""
    positional, keywords = arguments(inputs)
    try:
        with torch.no_grad():
            if isinstance(graph, torch.fx.GraphModule) and _has_modes(graph):
                expected = run(graph, inputs)
            else:
                expected = graph(*positional, **keywords)
        candidate = module if inplace else copy.deepcopy(module)
        return _apply(candidate, report, inputs, state, lambda found: _compare(expected, found)), None
    except EspalierError as error:
        return None, str(error)


def _has_modes(graph: nn.Module) -> bool:
    """Graphs of torch.export refuse to be put into a mode."""
    try:
        graph.train(graph.training)
    except NotImplementedError:
        return False
    return True


def _compare(expected: Any, found: Any) -> None:
    """ForwardMismatch where the outputs of the module are not the file's."""
    wanted, got = tensors(expected), tensors(found)
    if len(wanted) != len(got):
        raise ForwardMismatch(f"the module returns {len(got)} tensors, the compressed file {len(wanted)}")
    for want, have in zip(wanted, got):
        scale = float(want.abs().max()) if want.numel() and want.is_floating_point() else 0.0
        tolerance = _TOLERANCE.get(want.dtype, 0.0) * max(scale, 1e-6)
        if want.shape != have.shape or want.dtype != have.dtype:
            raise ForwardMismatch("the pruned module returns other shapes than the compressed file")
        if want.numel():
            distance = float((want.double() - have.double()).abs().max())
            if not distance <= tolerance:
                raise ForwardMismatch(
                    f"the pruned module's outputs are {distance:.3g} away from the compressed file's: its forward "
                    "computes with a width that the plan changes and no attribute shows"
                )
