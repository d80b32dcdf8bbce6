"""The demo's residual network, digits_resnet.pt, as Keras's files: the same layers with the same trained numbers, which
protocol.md's examples are about. Part of `make networks`, or

    .venv/bin/python Tests/Keras/make_digits.py

PyTorch pads evenly on all sides, which Keras's "same" does not where strides are 2: so there are ZeroPadding2D layers.
"""

import os
import pathlib

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from keras import layers

MODELS = pathlib.Path(__file__).resolve().parents[2] / "clients" / "python" / "examples" / "models"


def convolution(x, module, name, strides=1):
    size = module.kernel_size[0]
    if size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(module.out_channels, size, strides=strides, use_bias=module.bias is not None, name=name)(x)


def normalization(x, module, name):
    return layers.BatchNormalization(epsilon=module.eps, momentum=1 - module.momentum, name=name)(x)


def network(original):
    """The layers, and by name the modules that their numbers come from."""
    modules = dict(original.named_modules())
    sources = {}

    def conv(x, path, name, strides=1):
        sources[name] = modules[path]
        return convolution(x, modules[path], name, strides)

    def norm(x, path, name):
        sources[name] = modules[path]
        return normalization(x, modules[path], name)

    entry = keras.Input((8, 8, 1), name="image")
    x = layers.ReLU(name="stem_relu")(norm(conv(entry, "stem.0", "stem_conv"), "stem.1", "stem_bn"))
    for index in range(5):
        path, name = f"blocks.{index}", f"block{index}"
        strides = modules[f"{path}.conv1"].stride[0]
        y = norm(conv(x, f"{path}.conv1", f"{name}_conv1", strides), f"{path}.bn1", f"{name}_bn1")
        y = layers.ReLU(name=f"{name}_relu1")(y)
        y = norm(conv(y, f"{path}.conv2", f"{name}_conv2"), f"{path}.bn2", f"{name}_bn2")
        if f"{path}.shortcut.0" in modules:
            x = conv(x, f"{path}.shortcut.0", f"{name}_shortcut", strides)
            x = norm(x, f"{path}.shortcut.1", f"{name}_shortcut_bn")
        x = layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([y, x]))
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    sources["classifier"] = modules["classifier"]
    x = layers.Dense(modules["classifier"].out_features, name="classifier")(x)
    return keras.Model(entry, x, name="digits_resnet"), sources


def numbers(module):
    """In Keras's order, with its order of axes."""
    values = [value.detach().numpy() for value in (module.weight, module.bias) if value is not None]
    if hasattr(module, "running_mean"):
        return [*values, module.running_mean.numpy(), module.running_var.numpy()]
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[values[0].ndim]
    return [values[0].transpose(axes), *values[1:]]


def main():
    original = torch.load(MODELS / "digits_resnet.pt", weights_only=False).eval()
    model, sources = network(original)
    for name, module in sources.items():
        model.get_layer(name).set_weights(numbers(module))
    images = np.load(MODELS / "digits_heldout.npz")["images"]
    with torch.no_grad():
        expected = original(torch.from_numpy(images)).numpy()
    found = model.predict(images.transpose(0, 2, 3, 1), verbose=0)
    assert np.abs(expected - found).max() < 1e-4, "not the same network"
    for suffix in (".keras", ".h5"):
        model.save(MODELS / f"digits_resnet{suffix}")


if __name__ == "__main__":
    main()
