"""Makes the exported programs (.pt2) that the tests read: python make_exported_fixtures.py Fixtures

Needs PyTorch 2.9 or later. Small networks with everything that a program can hold in its archive: open lengths, views of
one storage, channels stored last, half precision, tied weights, buffers of both kinds, in-place calls, nested outputs.
"""

import pathlib
import sys

import torch
from torch import nn


class Convolutional(nn.Module):
    """A residual block, parts of channels, and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.outer = nn.Conv2d(6, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu_(self.norm(self.stem(x)))
        x = x + self.outer(torch.relu(self.inner(x)))
        a, b = x.chunk(2, 1)
        return self.head(torch.cat([a.mul(2), b], 1).mean((2, 3)))


class Attention(nn.Module):
    """Packed queries, keys and values, with open batch and length."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(12, 36)
        self.out = nn.Linear(12, 12)

    def forward(self, x):
        n, l, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, l, 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(n, l, 12))


class Stored(nn.Module):
    """Tensors stored in every way there is."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight
        self.small = nn.Parameter(torch.arange(6).reshape(2, 3).to(torch.bfloat16))
        whole = torch.arange(24.0)
        self.register_buffer("part", whole[6:18].reshape(4, 3).t())
        self.register_buffer("other", whole[::2])
        self.register_buffer("unsaved", torch.arange(4.0), persistent=False)
        self.register_buffer("count", torch.zeros(4))

    def forward(self, ids):
        x = self.embedding(ids)
        self.count.add_(x.detach().sum((0, 1)))
        y = self.head(x * self.unsaved + self.count)
        return {"logits": y, "rest": [self.small.sum(), (self.part.sum() + self.other.sum(), -float("inf") * y.max())]}


def save(folder, name, module, inputs, dynamic_shapes=None):
    with torch.no_grad():
        program = torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic_shapes)
    for node in program.graph.nodes:
        # Paths of whoever made the files.
        node.meta.pop("stack_trace", None)
    torch.export.save(program, str(folder / f"exported.{name}.pt2"))


def main(folder):
    torch.manual_seed(0)
    batch, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", max=128)
    save(folder, "convolutional", Convolutional(), (torch.randn(1, 3, 8, 8),))
    save(folder, "attention", Attention(), (torch.randn(2, 7, 12),), ({0: batch, 1: length},))
    save(folder, "stored", Stored(), (torch.zeros(1, 3, dtype=torch.long),))


main(pathlib.Path(sys.argv[1]))
