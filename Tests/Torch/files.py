"""Networks as files and back: what is sent to the daemon and what PyTorch makes of its answers."""

import os
import warnings

import torch

SUFFIX = {"graph_module": ".pt", "exported": ".pt2"}


def write(module, inputs, path, form):
    """The module in eval mode as a GraphModule (`torch.save`) or an exported program."""
    if form == "graph_module":
        torch.save(torch.fx.symbolic_trace(module), path)
        return path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.no_grad():
            torch.export.save(torch.export.export(module, inputs, strict=False), path)
    return path


def read(path):
    """What PyTorch itself makes of the file: a module that runs."""
    if os.fspath(path).endswith(".pt2"):
        return torch.export.load(path).module()
    return torch.load(path, weights_only=False)


def input_shapes(inputs, form):
    """What a GraphModule does not say of itself."""
    return [{"shape": list(value.shape)} for value in inputs] if form == "graph_module" else None
