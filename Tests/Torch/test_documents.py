"""The Python examples of README.md and docs/pytorch.md about PyTorch, executed as they stand."""

import pytest
import torch
from torch import nn

import documents
import espalier

class Network(nn.Module):
    """Small, and of the layers that the examples talk about."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv2, self.fc = nn.Conv2d(32, 48, 3, padding=1), nn.Linear(48, 10)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("path, about, count", [("docs/pytorch.md", "", 7), ("README.md", "torch", 1)])
def test_the_examples_run(path, about, count, tmp_path, monkeypatch, request):
    documents.in_folder(tmp_path, monkeypatch, request)
    torch.manual_seed(0)
    names = {"torch": torch, "espalier": espalier, "model": Network(), "images": torch.randn(1, 3, 16, 16)}
    assert documents.run(path, about, names) == count
    pruned = names["smaller"]
    assert sum(p.numel() for p in pruned.parameters()) < 0.7 * sum(p.numel() for p in Network().parameters())
