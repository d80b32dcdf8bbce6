"""tf.keras 2.15 at work, in a process and an environment of its own (make test-tfkeras): makes files and says what has become
of them. Reads requests as lines of JSON, answers each with a line.

    {"do": "make", "name": "lstm", "path": "/…/lstm.h5"}                       -> {}
    {"do": "judge", "name": "lstm", "source": …, "output": …, "removed": […]}  -> {"apart": …, "effect": …, …}
"""

import json
import os
import sys
import traceback

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import h5py
import numpy as np
import tensorflow as tf
from keras.src.saving import saving_lib
from keras.src.saving.legacy import hdf5_format

import kernels

tf.config.threading.set_intra_op_parallelism_threads(2)
# Traced graphs would pay off after many more batches.
tf.config.run_functions_eagerly(True)
keras = tf.keras
layers = keras.layers
CLASSES = 12


def operations():
    """TensorFlow's functions and Python's operators on tensors: layers called TFOpLambda."""
    entry = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(32, 3, padding="same", name="c1")(entry * 2.0 - 0.5)
    x = tf.nn.relu(x)
    y = layers.Conv2D(32, 3, padding="same", name="c2")(x)
    x = tf.maximum(x, y) + x * tf.sigmoid(y) / 3.0
    x = tf.concat([x, tf.tanh(layers.Conv2D(24, 1, name="c3")(x))], axis=-1)
    x = tf.reshape(x, (-1, 256, 56))
    x = tf.transpose(x, (0, 2, 1))
    x = tf.reduce_mean(x, axis=-1)
    x = layers.Dense(40, activation="relu", name="d1")(x)
    return keras.Model(entry, layers.Dense(CLASSES, name="d2")(x[:, :20] + x[:, 20:40]))


def nested():
    block = keras.Sequential(
        [layers.Conv2D(24, 3, padding="same", input_shape=(16, 16, 16), name="b1"), layers.BatchNormalization(),
         layers.ReLU(), layers.Conv2D(16, 1, name="b2")],
        name="block",
    )  # fmt: skip
    entry = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="stem")(entry)
    x = layers.Add()([x, block(x)])
    x = layers.SeparableConv2D(32, 3, strides=2)(x)
    x = layers.DepthwiseConv2D(3)(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.Conv2DTranspose(24, 2, strides=2, activation="relu")(x)
    return keras.Model(entry, layers.Dense(CLASSES)(layers.Flatten()(x)))


def shared():
    left, right = keras.Input((16, 16, 3), name="left"), keras.Input((16, 16, 3), name="right")
    first, second = layers.Conv2D(24, 3, activation="relu", name="first"), layers.Dense(32, name="second")
    pool = layers.GlobalAveragePooling2D()
    a, b = (second(pool(first(value))) for value in (left, right))
    x = layers.Dense(40, activation="relu")(layers.Concatenate()([layers.Subtract()([a, b]), a]))
    return keras.Model([left, right], layers.Dense(CLASSES)(x))


def no_input_layer():
    network = keras.Sequential(
        [layers.Conv2D(24, 3, activation="relu"), layers.MaxPooling2D(), layers.Conv2D(32, 3), layers.LeakyReLU(),
         layers.Flatten(), layers.Dropout(0.2), layers.Dense(48, activation="relu"), layers.Dense(CLASSES)]
    )  # fmt: skip
    network.build((None, 16, 16, 3))
    return network


def lstm():
    return keras.Sequential(
        [layers.Embedding(50, 48, input_length=12), layers.Dense(40, activation="relu"),
         layers.LSTM(32, return_sequences=True), layers.Bidirectional(layers.GRU(24)),
         layers.Dense(64, activation="relu"), layers.Dense(48, activation="relu"), layers.Dense(CLASSES)]
    )  # fmt: skip


def attention():
    entry = keras.Input((16, 48))
    x = layers.LayerNormalization()(layers.Dense(64)(entry))
    x = layers.Add()([x, layers.MultiHeadAttention(4, 16)(x, x)])
    x = layers.Dense(64, activation="gelu")(x)
    return keras.Model(entry, layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x)))


def application(name, **settings):
    return lambda: getattr(keras.applications, name)(
        weights=None, input_shape=(48, 48, 3), classes=CLASSES, classifier_activation=None, **settings
    )


NETWORKS = {
    "operations": operations,
    "nested": nested,
    "shared": shared,
    "no_input_layer": no_input_layer,
    "lstm": lstm,
    "attention": attention,
    "mobilenet_v2": application("MobileNetV2", alpha=0.5),
    "mobilenet_v3_small": application("MobileNetV3Small"),
    "resnet50": application("ResNet50"),
    "nasnet_mobile": application("NASNetMobile"),
}


def inputs(model, name, batch=2):
    rng = np.random.default_rng(1)
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if name == "lstm":
        return [rng.integers(1, 50, (batch, *shapes[0]))]
    scale = 80 if name == "mobilenet_v3_small" else 1
    return [(scale * rng.standard_normal((batch, *shape))).astype("float32") for shape in shapes]


def given(values):
    return values if len(values) > 1 else values[0]


def awaken(model):
    """Nothing is all zeros or all ones; batch norms have the statistics of a batch, moved a little."""
    rng = np.random.default_rng(0)
    for variable in model.weights:
        name, shape = kernels.base(variable), variable.shape
        if name in ("bias", "beta"):
            variable.assign(rng.uniform(-0.3, 0.3, shape))
        elif name == "gamma":
            variable.assign(rng.uniform(0.5, 1.5, shape))
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(given(inputs(model, "" if len(model.inputs[0].shape) > 2 else "lstm", 4)), training=True)
    for norm in norms:
        norm.momentum = 0.99
        norm.moving_mean.assign_add(0.1 * rng.standard_normal(norm.moving_mean.shape) * norm.moving_variance**0.5)


class Recorder:
    """In the place of what Keras stores into: remembers which variable went where."""

    def __init__(self):
        self.groups = {}

    def make(self, path):
        return self.groups.setdefault(path, {})


def variables(model, path):
    """By the paths of the datasets in the file."""
    found = {}
    if path.endswith(".keras"):
        recorder = Recorder()
        # They convert to arrays; the layers are asked themselves.
        for layer in model._flatten_layers():
            layer.save_own_variables = lambda store, layer=layer: store.update(
                {str(at): held for at, held in enumerate([*layer._trainable_weights, *layer._non_trainable_weights])}
            )
        saving_lib._save_state(model, recorder, None, inner_path="", visited_trackables=set())
        for folder, group in recorder.groups.items():
            found.update({f"{folder}/vars/{key}".lstrip("/"): variable for key, variable in group.items()})
    else:
        with h5py.File(path) as file:
            for layer in model.layers:
                names = hdf5_format.load_attributes_from_hdf5_group(file["model_weights"][layer.name], "weight_names")
                for name, variable in zip(names, hdf5_format._legacy_weights(layer), strict=True):
                    found[f"model_weights/{layer.name}/{name}"] = variable
    return found


def make(name, path):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model = NETWORKS[name]()
    awaken(model)
    model.save(path)
    model = keras.models.load_model(path, compile=False)
    places = {id(variable): place for place, variable in variables(model, path).items()}
    return {
        "count": model.count_params(),
        "inputs": [tensor.name for tensor in model.inputs],
        "datasets": {name: places[id(variable)] for name, variable, _ in kernels.named(model)},
    }


def judge(name, source, output, removed, products=False):
    """Loads, predicts, trains and saves the output; `apart` from the masked original, `whole` from the original."""
    original, whole, compressed = (keras.models.load_model(path, compile=False) for path in (source, source, output))
    kernels.silence(whole, removed, products, lambda variable, value: variable.assign(value))
    fed = given(inputs(original, name))
    usual, expected, predicted = (model.predict(fed, verbose=0) for model in (original, whole, compressed))
    compressed.compile("adam", "mse")
    losses = compressed.fit(fed, predicted + 1, batch_size=1, epochs=2, verbose=0).history["loss"]
    again = os.path.join(os.path.dirname(output), "again" + os.path.splitext(output)[1])
    compressed.save(again)
    trained, loaded = (model.predict(fed, verbose=0) for model in (compressed, keras.models.load_model(again)))
    return {
        "apart": distance(expected, predicted),
        "effect": distance(usual, expected),
        "whole": distance(usual, predicted),
        "finite": bool(np.isfinite(losses).all()),
        "again": distance(trained, loaded),
        "predicted": predicted.tolist(),
        "inputs": [value.tolist() for value in inputs(original, name)],
        "count": compressed.count_params(),
    }


def distance(expected, found):
    if expected.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(expected.astype(np.float64) - found).max() / (np.abs(expected).max() or 1))


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what TensorFlow prints
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"make": make, "judge": judge}[request.pop("do")](**request)
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)
