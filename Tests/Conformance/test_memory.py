"""What the daemon lets go of: models that were released, replaced or evicted are mapped no longer."""

import shutil

import pytest
from wire_session import MODELS


def mappings(daemon, path):
    """How often the process maps the file (also under the name it has after it was deleted)."""
    with open(f"/proc/{daemon.process.pid}/maps") as maps:
        return sum(str(path) in line for line in maps)


@pytest.fixture
def model(tmp_path):
    return shutil.copy(MODELS / "digits_resnet.onnx", tmp_path / "model.onnx")


@pytest.fixture
def daemon(stdio):
    daemon = stdio()
    daemon.session.initialize()
    return daemon


def test_released_models_are_unmapped(daemon, model, tmp_path):
    session = daemon.session
    for _ in range(20):
        session.result("inspect", {"model": str(model)})
        output = {"output_path": str(tmp_path / "out.onnx"), "overwrite": True}
        request = {"model": str(model), "compression_method": "PR_L2", "recommendation_method": "SLAMP"}
        session.result("compress", {**request, "recommendation_ratio": 0.3, **output})
        session.result("release", {"model": str(model)})
    assert mappings(daemon, model) == 0


def test_a_replaced_file_is_unmapped(daemon, model, tmp_path):
    session = daemon.session
    for _ in range(5):
        session.result("inspect", {"model": str(model)})
        shutil.copy(model, tmp_path / "new.onnx")
        (tmp_path / "new.onnx").replace(model)
    session.result("inspect", {"model": str(model)})
    assert mappings(daemon, model) == 1
