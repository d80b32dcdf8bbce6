"""The plugin in a real, headless Neovim: each test of the `*_spec.lua` files in an editor of its own."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
MODELS = REPOSITORY / "clients" / "python" / "examples" / "models"
SERVER = Path(os.environ.get("ESPALIER_SERVER", REPOSITORY / ".build" / "release" / "espalierd"))
NEOVIM = os.environ.get("ESPALIER_NEOVIM", "nvim")
SECONDS = 60
# Of the model that is large enough to be watched while it is compressed.
LAYERS = 8

TESTS = [
    (file, name)
    for file in sorted(HERE.glob("*_spec.lua"))
    for name in re.findall(r"^function tests\.(\w+)", file.read_text(), re.MULTILINE)
]


@pytest.fixture(scope="session")
def large_model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.onnx"
    random = np.random.default_rng(0)
    nodes, weights = [], []
    for layer in range(LAYERS):
        weight = random.standard_normal((512, 512, 3, 3), dtype=np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        node = helper.make_node("Conv", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"], f"conv{layer}", pads=[1] * 4)
        nodes.append(node)
    shape = [1, 512, 4, 4]
    inputs, outputs = (helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape) for i in (0, LAYERS))
    graph = helper.make_graph(nodes, "large", [inputs], [outputs], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def neovim(file: Path, name: str, scratch: Path, **environment: str) -> None:
    """Runs one test; what it wrote to its standard error is the reason where it failed."""
    done = subprocess.run(
        [NEOVIM, "--headless", "-u", "NONE", "-i", "NONE", "-n", "-c", f"luafile {HERE / 'run.lua'}"],
        env={
            **os.environ,
            "ESPALIER_SERVER": str(SERVER),
            "ESPALIER_TEST_FILE": str(file),
            "ESPALIER_TEST_NAME": name,
            "ESPALIER_TEST_MODELS": str(MODELS),
            "ESPALIER_TEST_SCRATCH": str(scratch),
            "XDG_RUNTIME_DIR": str(scratch),
            "XDG_CACHE_HOME": str(scratch),
            "XDG_STATE_HOME": str(scratch),
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("file", "name"), TESTS, ids=[name for _, name in TESTS])
def test_neovim(file, name, tmp_path, large_model):
    neovim(file, name, tmp_path, ESPALIER_TEST_LARGE=str(large_model))


def test_the_specifications_were_found():
    assert len(TESTS) > 20
