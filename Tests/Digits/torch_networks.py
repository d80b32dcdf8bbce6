"""The networks of Tests/Digits/models as PyTorch modules with the numbers of these files, and training them on.

Invariant: a module computes what its file computes; `network` raises where it does not.
"""

import copy
import pathlib

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F

import digits
import train

EPOCHS = 2
# Of the peak rate that a network was trained with. What is pruned badly would gain more by a higher one, and what is
# refitted loses by it.
RATE = 0.1


class Attention(train.Block):
    """`train.Block` as pruners of modules want it: no width is written into a shape, and queries, keys and values are
    told apart along the first axis, which is the only way that Torch-Pruning follows."""

    def __init__(self, width, heads, hidden):
        super().__init__(width, heads, hidden)
        self.scale = (width // heads) ** -0.5

    def forward(self, x):
        packed = self.qkv(self.norm1(x)).reshape(x.shape[0], x.shape[1], 3, self.heads, -1)
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * self.scale
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape[0], x.shape[1], -1)
        x = x + self.proj(mixed)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def vit():
    model = train.ViT()
    for index, block in enumerate(model.blocks):
        model.blocks[index] = Attention(block.proj.in_features, block.heads, block.fc1.out_features)
    return model


def folded(model):
    """Convolutions take the place of the normalizations behind them, as in the exported file."""
    for parent in list(model.modules()):
        if not isinstance(parent, nn.Sequential):
            continue
        for convolution, normalization in zip(parent, list(parent)[1:]):
            if isinstance(normalization, nn.BatchNorm2d):
                convolution.bias = nn.Parameter(torch.zeros(normalization.num_features))
        layers = [layer for layer in parent if not isinstance(layer, nn.BatchNorm2d)]
        parent._modules = {str(index): layer for index, layer in enumerate(layers)}
    return model


MAKERS = {"resnet": train.NETWORKS["resnet"][0], "mobile": lambda: folded(train.Mobile()), "vit": vit}


def state(model, path):
    """State dict of `model` with the file's numbers, be that pruned or not. The exporter keeps names where it keeps
    numbers; the others are of products, transposed, and of folded convolutions, in the order in which they run."""
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    # Equal tensors are stored once.
    stored |= {node.output[0]: stored[node.input[0]] for node in graph.node if node.op_type == "Identity"}
    calls = [node.target for node in torch.fx.symbolic_trace(model).graph.nodes if node.op == "call_module"]
    modules = dict(model.named_modules())
    names = [f"{call}.{name}" for call in calls for name, _ in modules[call].named_parameters()]
    known = model.state_dict().keys()
    used = [
        (node.op_type, name)
        for node in graph.node
        if node.op_type in ("Conv", "MatMul")
        for name in node.input
        if name in stored and name not in known
    ]
    found = {name: array for name, array in stored.items() if name in known}
    for name, (op, source) in zip([name for name in names if name not in stored], used, strict=True):
        found[name] = stored[source].T if op == "MatMul" else stored[source]
    return {name: torch.from_numpy(array.copy()) for name, array in found.items()}


def network(name, path):
    """The module of one of Tests/Digits/models."""
    model = MAKERS[name]().eval()
    missing, unexpected = model.load_state_dict(state(model, path), strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing), (missing, unexpected)
    images = np.random.default_rng(0).random((16, 1, 8, 8), np.float32)
    (expected,) = onnxruntime.InferenceSession(str(path)).run(None, {"image": images})
    with torch.no_grad():
        assert np.allclose(model(torch.from_numpy(images)).numpy(), expected, atol=1e-4), name
    return model


def save(model, path: pathlib.Path):
    """As a GraphModule (.pt) or an exported program with an open batch (.pt2)."""
    if path.suffix == ".pt":
        torch.save(torch.fx.symbolic_trace(model), path)
    else:
        batch = torch.export.Dim("batch")
        torch.export.save(torch.export.export(model, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: batch},)), path)


def load(path: pathlib.Path):
    """The module in a file of either kind."""
    if path.suffix == ".pt":
        return torch.load(path, weights_only=False).eval()
    return torch.export.load(path).module()


def accuracy(model, images, labels):
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(images)).argmax(1).numpy()
    return float((found == labels).mean())


def tuned(model, name, images, labels):
    """A copy of the module after two epochs, as it was trained, with a tenth of the learning rate."""
    model = copy.deepcopy(model)
    optimizer = train.NETWORKS[name][1](model)
    for group in optimizer.param_groups:
        group["lr"] *= RATE
    torch.manual_seed(digits.SEED)
    return train.trained(model, optimizer, EPOCHS, images, labels, tell=lambda text: None)
