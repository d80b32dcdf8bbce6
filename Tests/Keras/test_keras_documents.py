"""The Python examples of README.md and docs/keras.md about Keras, executed as they stand."""

import keras
import numpy as np
import pytest
from keras import layers

import documents
import espalier


def network():
    """Small, and of the layers that the examples talk about."""
    keras.utils.set_random_seed(0)
    entry = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(32, 3, padding="same", name="c1")(entry)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(48, 3, padding="same", activation="relu", name="c2")(x)
    return keras.Model(entry, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("path, about, count", [("docs/keras.md", "", 8), ("README.md", "keras", 1)])
def test_the_examples_run(path, about, count, tmp_path, monkeypatch, request):
    documents.in_folder(tmp_path, monkeypatch, request)
    rng = np.random.default_rng(0)
    names = {
        "keras": keras, "espalier": espalier, "numpy": np, "model": network(),
        "images": rng.standard_normal((4, 16, 16, 3)).astype("float32"),
        "targets": rng.standard_normal((4, 10)).astype("float32"),
    }  # fmt: skip
    assert documents.run(path, about, names) == count
    assert names["smaller"].count_params() < 0.7 * network().count_params()
