"""Makes the archives that the tests of the PyTorch reader use. Run by hand, with PyTorch; the files are committed.

    python Tests/FormatsTests/make_torch_fixtures.py
"""

import pathlib
import zipfile

import torch
from torch import nn

FIXTURES = pathlib.Path(__file__).parent / "Fixtures"


class Net(nn.Module):
    """Two layers, a buffer, a container, and a weight that two modules share."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.tensor([2.5]))

    def forward(self, x):
        x = self.body(x).mean((2, 3))
        return self.second(torch.relu(self.first(x))) * self.scale


def rewrite(source, target, compression, large=False):
    """The same entries as Python's zipfile writes them, with zip64 fields everywhere if `large`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for entry in old.infolist():
            info = zipfile.ZipInfo(entry.filename)
            info.compress_type = compression
            with new.open(info, "w", force_zip64=large) as file:
                file.write(old.read(entry))


def main():
    torch.manual_seed(5)
    module = torch.fx.symbolic_trace(Net().eval())
    torch.save(module, FIXTURES / "graph.pt")
    torch.save(module, FIXTURES / "graph.protocol4.pt", pickle_protocol=4)
    rewrite(FIXTURES / "graph.pt", FIXTURES / "graph.deflated.pt", zipfile.ZIP_DEFLATED)
    rewrite(FIXTURES / "graph.pt", FIXTURES / "graph.zip64.pt", zipfile.ZIP_STORED, large=True)


if __name__ == "__main__":
    main()
