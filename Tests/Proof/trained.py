"""The trained digits networks, and images to hold them against."""

import numpy as np
import onnx

import daemon
import running

MODELS = daemon.ROOT / "Tests" / "Digits" / "models"
EXAMPLES = daemon.ROOT / "clients" / "python" / "examples" / "models"
BRIGHTEST = np.float32(16)


def sample():
    with np.load(MODELS / "sample.npz") as file:
        return {name: file[name] if name == "labels" else file[name] / BRIGHTEST for name in file}


def accuracy(path, sample):
    (logits,) = running.run(onnx.load(path), {"image": sample["images"]})
    return float((logits.argmax(1) == sample["labels"]).mean())
