"""Keras likenesses of Tests/Digits' mobile network and transformer, with the numbers of PyTorch modules of these.

A layer is called after the module that its numbers come from, with underscores for dots. Positions of the transformer
are an `Embedding`, for Keras's layers have no bare parameters; the model's second input says which.
"""

import keras
import make_digits
import torch
from keras import layers, ops


def called(path):
    return path.replace(".", "_")


def values(module):
    """Of a layer, in Keras's order and with its order of axes."""
    if isinstance(module, torch.nn.Parameter):
        return [module.detach().numpy()[0]]
    found = make_digits.numbers(module)
    if getattr(module, "groups", 1) > 1:
        found[0] = found[0].transpose(0, 1, 3, 2)
    return found


class Builder:
    """Makes layers like the modules of a network, and remembers which."""

    def __init__(self, network):
        self.network = network
        self.modules = dict(network.named_modules())
        self.sources = {}

    def source(self, path):
        self.sources[called(path)] = path
        return self.modules[path]

    def convolution(self, x, path, strides=1):
        return make_digits.convolution(x, self.source(path), called(path), strides)

    def dense(self, x, path):
        return layers.Dense(self.source(path).out_features, name=called(path))(x)

    def normalization(self, x, path):
        return layers.LayerNormalization(epsilon=self.source(path).eps, name=called(path))(x)

    def model(self, inputs, outputs):
        model = keras.Model(inputs, outputs)
        for name, path in self.sources.items():
            model.get_layer(name).set_weights(values(find(self.network, path)))
        return model, self.sources


def find(network, path):
    """A module, or a parameter that is no module's."""
    return network.get_parameter(path) if path == "position" else network.get_submodule(path)


def mobile(network):
    """The model, and which module or parameter a layer's numbers come from."""
    build = Builder(network)
    entry = keras.Input((8, 8, 1), name="image")
    x = layers.Activation("hard_silu")(build.convolution(entry, "stem.0"))
    for index, block in enumerate(network.blocks):
        path = f"blocks.{index}.layers"
        y = layers.Activation("hard_silu")(build.convolution(x, f"{path}.0"))
        deep = build.source(f"{path}.2")
        y = layers.DepthwiseConv2D(3, strides=deep.stride[0], name=called(f"{path}.2"))(layers.ZeroPadding2D(1)(y))
        gate = build.convolution(layers.GlobalAveragePooling2D(keepdims=True)(y), f"{path}.3.reduce")
        gate = build.convolution(layers.ReLU()(gate), f"{path}.3.expand")
        y = layers.Activation("hard_silu")(layers.Multiply()([y, layers.Activation("hard_sigmoid")(gate)]))
        y = build.convolution(y, f"{path}.5")
        x = layers.Add()([x, y]) if block.residual else y
    x = layers.Activation("hard_silu")(build.convolution(x, "head.0"))
    return build.model(entry, build.dense(layers.GlobalAveragePooling2D()(x), "classifier"))


def vit(network):
    """The same of the transformer."""
    build = Builder(network)
    tokens, width = network.position.shape[1:]
    entry, places = keras.Input((8, 8, 1), name="image"), keras.Input((tokens,), name="places", dtype="int32")
    patches = build.source("patches")
    x = layers.Conv2D(width, patches.kernel_size[0], strides=patches.stride[0], name="patches")(entry)
    build.sources["position"] = "position"
    x = layers.Add()([layers.Reshape((tokens, width))(x), layers.Embedding(tokens, width, name="position")(places)])
    for index, block in enumerate(network.blocks):
        path = f"blocks.{index}"
        packed = build.dense(build.normalization(x, f"{path}.norm1"), f"{path}.qkv")
        packed = layers.Reshape((tokens, 3, block.heads, width // block.heads))(packed)
        q, k, v = (layers.Permute((2, 1, 3))(packed[:, :, role]) for role in range(3))
        scores = layers.Softmax()(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * block.scale)
        mixed = layers.Reshape((tokens, width))(layers.Permute((2, 1, 3))(ops.matmul(scores, v)))
        x = layers.Add()([x, build.dense(mixed, f"{path}.proj")])
        y = build.dense(build.normalization(x, f"{path}.norm2"), f"{path}.fc1")
        x = layers.Add()([x, build.dense(layers.Activation("gelu")(y), f"{path}.fc2")])
    x = layers.GlobalAveragePooling1D()(build.normalization(x, "norm"))
    return build.model([entry, places], build.dense(x, "classifier"))
