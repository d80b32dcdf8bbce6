import os
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
for _folder in (HERE.parent / "Torch", HERE):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))
# What PyTorch computes, and the twin of Tests/Torch besides; no other backend is installed.
os.environ["KERAS_BACKEND"] = "torch"

import pytest
import torch

torch.set_num_threads(2)


@pytest.fixture
def workspace(tmp_path):
    """A folder that is gone after the test: the files of whole networks would fill a disk."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)
