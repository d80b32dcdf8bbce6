"""Acceptance: files of tf.keras 2.15, in both of its forms, go back to tf.keras 2.15. Run by `make test-tfkeras`, which has
it in an environment of its own, .venv-tfkeras: it wants another NumPy than everything else here.
"""

import json
import os
import pathlib
import subprocess

import numpy as np
import onnxruntime
import pytest

import daemon
import espalier
import files_keras
import kernels
import plans

pytestmark = pytest.mark.tfkeras
PYTHON = os.environ.get("ESPALIER_TFKERAS") or str(daemon.ROOT / ".venv-tfkeras" / "bin" / "python")
SMALL = ["operations", "nested", "shared", "no_input_layer", "lstm", "attention"]
FORMS = [".h5", ".keras"]
CASES = [
    *((name, form) for name in SMALL for form in FORMS),
    ("mobilenet_v2", ".h5"),
    ("mobilenet_v3_small", ".h5"),
    ("mobilenet_v3_small", ".keras"),
    ("resnet50", ".h5"),
    ("nasnet_mobile", ".h5"),
]


class Worker:
    def __init__(self):
        script = pathlib.Path(__file__).with_name("tf_keras_worker.py")
        environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
        self.process = subprocess.Popen(
            [PYTHON, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment,
        )  # fmt: skip

    def ask(self, **request):
        print(json.dumps({**request}, default=os.fspath), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def worker():
    running = Worker()
    yield running
    running.close()


@pytest.mark.parametrize("name, form", CASES)
def test_pruned_equals_masked_and_trains(client, worker, workspace, name, form):
    source, output, graph = workspace / f"original{form}", workspace / f"half{form}", workspace / "half.onnx"
    made = worker.ask(do="make", name=name, path=source)
    # Where a norm takes statistics across removed channels nothing equals them, and what it does is proved elsewhere.
    options = {"exact_only": True} if name == "attention" else None
    reply = client.compress(source, output, recommendation_ratio=0.5, options=options, onnx_output_path=graph)
    assert reply.original.parameters == made["count"]
    assert reply.compressed.parameters < (0.95 if name in ("lstm", "attention") else 0.8) * made["count"]
    removed = [entry.to_json() for entry in reply.removed]
    adjusted = [entry.to_json() for entry in reply.adjusted]
    expected = kernels.remaining(
        files_keras.weights(source), *(kernels.by_dataset(entries, made["datasets"]) for entries in (removed, adjusted))
    )
    found = files_keras.weights(output)
    assert expected.keys() == found.keys()
    assert all(expected[key].tobytes() == found[key].tobytes() for key in expected)

    verdict = worker.ask(
        do="judge", name=name, source=source, output=output, removed=removed, products=name == "attention"
    )
    assert verdict["apart"] <= 1e-5 and verdict["effect"] > 1e-3
    assert verdict["count"] == reply.compressed.parameters
    assert verdict["finite"] and verdict["again"] <= 1e-5

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    fed = {
        entry.name: np.array(value, np.float32 if "float" in entry.type else np.int32)
        for entry, value in zip(session.get_inputs(), verdict["inputs"], strict=True)
    }
    assert [entry.name for entry in session.get_inputs()] == made["inputs"]
    (graphs,) = session.run(None, fed)
    predicted = np.array(verdict["predicted"], np.float32)
    assert np.abs(graphs - predicted).max() <= 1e-4 * np.abs(predicted).max()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name, method", [("nested", "FD_TK"), ("shared", "FD_TK"), ("lstm", "FD_SVD")])
def test_decomposition_at_full_rank_is_the_original(client, worker, workspace, name, method, form):
    source, output = workspace / f"original{form}", workspace / f"thin{form}"
    worker.ask(do="make", name=name, path=source)
    found = plans.decomposable(client.inspect(source), method)
    assert found
    chosen = [espalier.LayerSetting(layer.name, list(ranks)) for layer, ranks in found]
    reply = client.compress(source, output, compression_method=method, layers=chosen)
    assert len(reply.replaced) == len(found)
    verdict = worker.ask(do="judge", name=name, source=source, output=output, removed=[])
    assert verdict["whole"] <= 1e-4 and verdict["finite"] and verdict["again"] <= 1e-5
