"""One daemon for the whole run, reached through the Python client; a new one only where a test ended it."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
for _folder in (ROOT / "clients" / "python", ROOT / "Tests" / "Zoo", ROOT / "Tests" / "Torch"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

import pytest
import torch

import espalier
import files

# Two threads are what the smallest machine has, and sums come out in one order everywhere.
torch.set_num_threads(2)
torch.manual_seed(0)


@pytest.fixture(scope="session")
def running_torch_client():
    held = []
    yield held
    for connected in held:
        connected.close()


@pytest.fixture
def client(running_torch_client):
    """A client whose daemon answers: a crash fails the test that caused it and no other."""
    held = running_torch_client
    try:
        if held:
            held[0].ping(timeout=5)
    except espalier.EspalierError:
        held.pop().close()
    if not held:
        held.append(espalier.connect(files.server_path(), restart=False))
    return held[0]
