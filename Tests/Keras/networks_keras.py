"""The networks that Keras files are made of here: what keras.applications has, and the ways in which people build
their own.

Structure matters, not size. Weights come from a seed; norms have factors and shifts that are not 1 and 0, and batch
norms the statistics of a batch, moved a little, so that nothing is neutral by accident.
"""

import dataclasses
import functools
from typing import Callable

import keras
import numpy as np
import torch
from keras import layers, ops

import attention_keras

CLASSES = 12
BOTH = (".keras", ".h5")
# Keras itself does not load what it wrote: operations with literal arguments, norms over several axes, and ConvNeXt's
# own layer.
V3_ONLY = (".keras",)


@dataclasses.dataclass(frozen=True)
class Network:
    """`inputs` makes example inputs for a batch; `products` says that two activations are multiplied and summed over
    channels (attention), `left` how much of it may stay when half of its channels go, `runs` that ONNX has a form for all
    of it."""

    make: Callable[[], keras.Model]
    inputs: Callable[[np.random.Generator, int], list]
    forms: tuple = BOTH
    products: bool = False
    left: float = 0.8
    runs: bool = True


def image(*shape, scale=1):
    return lambda rng, batch: [(scale * rng.standard_normal((batch, *shape))).astype("float32")]


def pixels(size):
    """What networks that begin with a rescaling expect."""
    return lambda rng, batch: [rng.uniform(0, 255, (batch, size, size, 3)).astype("float32")]


def images(*shapes):
    return lambda rng, batch: [value for shape in shapes for value in image(*shape)(rng, batch)]


def tokens(length=12, words=50):
    return lambda rng, batch: [rng.integers(1, words, (batch, length)).astype("int32")]


def application(name, size, classes=CLASSES, **settings):
    def make():
        build = getattr(keras.applications, name)
        return build(
            weights=None, input_shape=(size, size, 3), classes=classes, classifier_activation=None, **settings
        )

    return in_any_format(make) if name.startswith("NASNet") else make


def in_any_format(make):
    """Keras refuses to build NASNets with PyTorch, for the sake of training them in channels_first; they compute what they
    should."""
    from keras.src.applications import nasnet as module

    class Backend:
        backend = staticmethod(lambda: "jax")
        __getattr__ = staticmethod(lambda name: getattr(keras.src.backend, name))

    def made():
        held, module.backend = module.backend, Backend()
        try:
            return make()
        finally:
            module.backend = held

    return made


def conv_unit(x, filters, kernel=3, strides=1, **settings):
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False, **settings)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def unet():
    """Concatenations across scales; transposed convolutions on the way up."""
    entry = keras.Input((32, 32, 3), name="image")
    a = conv_unit(conv_unit(entry, 16), 16)
    b = conv_unit(layers.MaxPooling2D()(a), 24)
    c = conv_unit(layers.AveragePooling2D(2)(b), 48)
    x = layers.Conv2DTranspose(24, 2, strides=2, name="up1")(c)
    x = conv_unit(layers.Concatenate()([x, b]), 24)
    x = layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu", name="up2")(x)
    x = conv_unit(layers.Concatenate(name="skip")([x, a]), 16)
    x = layers.Concatenate()([x, layers.UpSampling2D(4, interpolation="nearest")(c)])
    return keras.Model(entry, layers.Conv2D(CLASSES, 1, name="mask")(x))


def two_inputs():
    picture, numbers = keras.Input((16, 16, 3), name="picture"), keras.Input((20,), name="numbers")
    x = layers.Conv2D(24, 3, activation="relu", name="c1")(picture)
    x = layers.Conv2D(32, 3, strides=2, activation="relu", name="c2")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(32, activation="relu", name="of_picture")(x)
    y = layers.Dense(48, activation="tanh", name="n1")(numbers)
    y = layers.Dense(32, name="of_numbers")(y)
    joined = layers.Concatenate()([layers.Multiply()([x, y]), layers.Average()([x, y]), layers.Subtract()([x, y])])
    joined = layers.Dense(40, activation="gelu", name="joined")(joined)
    return keras.Model([picture, numbers], [layers.Dense(CLASSES, name="kind")(joined), layers.Dense(1, name="age")(x)])


def nested_shared():
    """A model within the model, called twice, with a Sequential within; and a layer of the outer one called twice."""
    entry = keras.Input((16, 16, 3))
    stem = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Conv2D(16, 3, name="s1"), layers.BatchNormalization(), layers.ReLU()],
        name="stem",
    )
    x = layers.Conv2D(24, 3, activation="relu", name="e1")(stem(entry))
    encoder = keras.Model(entry, layers.GlobalAveragePooling2D()(x), name="encoder")
    left, right = keras.Input((16, 16, 3), name="left"), keras.Input((16, 16, 3), name="right")
    shared = layers.Dense(32, activation="relu", name="shared")
    a, b = shared(encoder(left)), shared(encoder(right))
    x = layers.Dense(24, activation="relu", name="compare")(layers.Concatenate()([layers.Subtract()([a, b]), a]))
    return keras.Model([left, right], layers.Dense(CLASSES)(x))


def vit():
    entry = keras.Input((32, 32, 3))
    x = layers.Conv2D(64, 8, strides=8, name="patches")(entry)
    x = layers.DepthwiseConv2D(3, padding="same", name="position")(x)
    x = layers.Reshape((16, 64))(x)
    for index in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.MultiHeadAttention(4, 16, name=f"attention{index}")(y, y)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(128, activation="gelu", name=f"mlp{index}a")(y)
        y = layers.Dropout(0.1)(y)
        x = layers.Add()([x, layers.Dense(64, name=f"mlp{index}b")(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(entry, layers.Dense(CLASSES)(x))


def cross_attention():
    """Keys and values of another width and another input; grouped queries; a causal mask."""
    words, memory = keras.Input((10, 48), name="words"), keras.Input((14, 32), name="memory")
    x = layers.Dense(64, name="widen")(words)
    x = layers.Add()([x, layers.GroupQueryAttention(8, 4, 2, name="own")(x, x, use_causal_mask=True)])
    x = layers.Add()([x, layers.MultiHeadAttention(4, 16, value_dim=12, name="other")(x, memory)])
    x = layers.Dense(64, activation="silu", name="inner")(x)
    return keras.Model([words, memory], layers.Dense(CLASSES)(layers.Flatten()(x)))


def lstm():
    entry = keras.Input((12,), dtype="int32")
    x = layers.Embedding(50, 48)(entry)
    x = layers.Dense(40, activation="relu", name="inner")(x)
    x = layers.LSTM(32, return_sequences=True)(x)
    x = layers.Bidirectional(layers.LSTM(24))(x)
    x = layers.Dense(64, activation="relu", name="head1")(x)
    x = layers.Dense(48, activation="relu", name="head2")(layers.Dropout(0.3)(x))
    return keras.Model(entry, layers.Dense(CLASSES)(x))


def gru():
    return keras.Sequential(
        [
            keras.Input((12, 6)),
            layers.Conv1D(32, 3, activation="relu", padding="causal"),
            layers.Conv1D(32, 3, activation="relu", dilation_rate=2),
            layers.GRU(24, return_sequences=True),
            layers.TimeDistributed(layers.Dense(48, activation="relu")),
            layers.SimpleRNN(16),
            layers.Dense(48, activation="relu"),
            layers.Dense(CLASSES),
        ]
    )


def frames():
    """A Functional and a Sequential for every step."""
    entry = keras.Input((16, 16, 3))
    x = layers.MaxPooling2D()(conv_unit(entry, 24))
    x = layers.Add()([layers.Conv2D(32, 3, padding="same")(x), layers.SeparableConv2D(32, 3, padding="same")(x)])
    frame = keras.Model(entry, layers.GlobalAveragePooling2D()(layers.Conv2D(40, 3)(x)), name="frame")
    head = keras.Sequential([keras.Input((40,)), layers.Dense(40, activation="relu"), layers.Dense(24)], name="head")
    film = keras.Input((5, 16, 16, 3))
    x = layers.TimeDistributed(head)(layers.TimeDistributed(frame)(film))
    return keras.Model(film, layers.Dense(CLASSES)(layers.GRU(16)(x)))


def cells():
    entry = keras.Input((6, 12))
    x = layers.RNN([layers.LSTMCell(24), layers.GRUCell(20)], return_sequences=True, go_backwards=True)(entry)
    x = layers.RNN(layers.SimpleRNNCell(24), return_state=True)(layers.Dense(24, activation="relu")(x))
    return keras.Model(entry, layers.Dense(CLASSES)(layers.concatenate(x)))


def without_onnx():
    """What ONNX has no operators for, and Keras's backends do each in their own way."""
    entry = keras.Input((3, 12, 12, 3))
    x = layers.TimeDistributed(layers.Conv2D(24, 3, activation="relu"))(entry)
    x = layers.TimeDistributed(layers.Conv2D(16, 3, activation="relu"))(x)
    x = layers.Bidirectional(layers.ConvLSTM2D(8, 3, strides=2, padding="same"))(x)
    x = layers.Conv2D(24, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(2, interpolation="bicubic")(layers.Conv2D(16, 3, padding="same", activation="relu")(x))
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = layers.LSTM(8, activation="gelu")(layers.Reshape((3, 96))(layers.Conv2D(32, 3, strides=2, padding="same")(x)))
    return keras.Model(entry, layers.Dense(CLASSES)(layers.Dense(24, activation="relu")(x)))


def channels_first():
    first = {"data_format": "channels_first"}
    entry = keras.Input((3, 16, 16))
    x = layers.Conv2D(24, 3, padding="same", use_bias=False, **first)(entry)
    x = layers.ReLU()(layers.BatchNormalization(axis=1)(x))
    y = layers.DepthwiseConv2D(3, padding="same", **first)(x)
    x = layers.Add()([x, layers.Conv2D(24, 1, **first)(y)])
    x = layers.MaxPooling2D(**first)(layers.ZeroPadding2D(1, **first)(x))
    x = layers.Conv2D(32, 3, activation="relu", **first)(x)
    x = layers.Dense(48, activation="relu")(layers.Flatten(**first)(x))
    return keras.Model(entry, layers.Dense(CLASSES)(x))


def sequential():
    return keras.Sequential(
        [
            keras.Input((20, 20, 3)),
            layers.Rescaling(0.5, offset=0.1),
            layers.Conv2D(24, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, use_bias=False),
            layers.BatchNormalization(scale=False),
            layers.Activation("elu"),
            layers.SpatialDropout2D(0.2),
            layers.Conv2D(32, 3, activation="leaky_relu"),
            layers.PReLU(shared_axes=[1, 2]),
            layers.Flatten(),
            layers.Dense(64, activation="sigmoid"),
            layers.Dropout(0.5),
            layers.Dense(CLASSES),
        ]
    )


def no_input_layer():
    """Sequential without an InputLayer, built when it was first called; the shape is in `build_input_shape` only."""
    network = keras.Sequential(
        [layers.Conv2D(24, 3, activation="relu"), layers.Conv2D(32, 3), layers.ReLU(), layers.GlobalMaxPooling2D(),
         layers.Dense(CLASSES)]
    )  # fmt: skip
    network.build((None, 12, 12, 3))
    return network


def one_dimensional():
    entry = keras.Input((64, 4))
    x = layers.Conv1D(24, 5, padding="same", activation="relu")(entry)
    x = layers.Add()([x, layers.SeparableConv1D(24, 3, padding="same")(x)])
    x = layers.MaxPooling1D()(layers.ZeroPadding1D(1)(x))
    x = layers.Conv1D(32, 3, strides=2, dilation_rate=1, activation="relu")(x)
    x = layers.UpSampling1D(2)(layers.Cropping1D((1, 2))(x))
    x = layers.Conv1DTranspose(24, 3, strides=2, activation="relu")(x)
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)])
    return keras.Model(entry, layers.Dense(CLASSES)(layers.Dense(40, activation="relu")(x)))


def three_dimensional():
    entry = keras.Input((8, 8, 8, 2))
    x = layers.Conv3D(16, 3, padding="same", activation="relu")(entry)
    x = layers.BatchNormalization()(layers.Conv3D(24, 2, strides=2)(x))
    x = layers.MaxPooling3D()(layers.ReLU()(x))
    return keras.Model(entry, layers.Dense(CLASSES)(layers.Flatten()(x)))


def separable():
    """Separable, depthwise, grouped and dilated convolutions."""
    entry = keras.Input((24, 24, 3))
    x = conv_unit(entry, 32)
    x = layers.SeparableConv2D(48, 3, padding="same", activation="relu")(x)
    x = layers.SeparableConv2D(32, 3, padding="same", depth_multiplier=2)(x)
    y = layers.Conv2D(32, 3, groups=4, padding="same", name="grouped")(x)
    x = layers.Add()([x, layers.ReLU()(layers.BatchNormalization(center=False)(y))])
    x = layers.Conv2D(40, 3, dilation_rate=2, activation="relu", name="dilated")(x)
    x = layers.DepthwiseConv2D(3, strides=2, activation="relu")(x)
    x = layers.Conv2D(32, 1, activation="relu")(x)
    return keras.Model(entry, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def depth_multiplier():
    entry = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, activation="relu")(entry)
    x = layers.DepthwiseConv2D(3, depth_multiplier=3, activation="relu", name="thrice")(x)
    x = layers.Conv2D(32, 1, activation="relu")(x)
    x = layers.SeparableConv2D(32, 3, depth_multiplier=2)(x)
    return keras.Model(entry, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def group_norm():
    entry = keras.Input((16, 16, 3))
    x = layers.Conv2D(32, 3, padding="same")(entry)
    x = layers.ReLU()(layers.GroupNormalization(8)(x))
    y = layers.GroupNormalization(1)(layers.Conv2D(32, 3, padding="same")(x))
    x = layers.Add()([x, layers.Activation("swish")(y)])
    x = layers.GroupNormalization(-1)(layers.Conv2D(40, 3)(x))
    x = layers.UnitNormalization()(layers.GlobalAveragePooling2D()(x))
    x = layers.LayerNormalization(scale=False)(layers.Dense(48, activation="relu")(x))
    x = layers.RMSNormalization()(layers.Dense(40, activation="relu")(x))
    return keras.Model(entry, layers.Dense(CLASSES)(x))


def products_of_axes():
    """Products whose equation names some of the axes only; and a kernel that is stored twice, with what was measured of it."""
    entry = keras.Input((16, 16, 3))
    x = layers.Conv2D(24, 3, activation="relu")(entry)
    x = layers.EinsumDense("...x,xy->...y", output_shape=32, bias_axes="y", activation="relu", name="last")(x)
    x = layers.EinsumDense("abcd,de->abce", output_shape=(14, 14, 24), name="named")(x)
    x = layers.EinsumDense("ab...,bc->ac...", output_shape=10, name="second")(x)
    x = layers.Conv2D(24, 3, activation="relu")(layers.Conv2D(32, 1, activation="relu")(x))
    x = layers.SpectralNormalization(layers.Conv2D(32, 3, padding="same", activation="relu"), name="bounded")(x)
    x = layers.Conv2D(24, 3, activation="relu")(layers.Conv2D(32, 1, activation="relu")(x))
    return keras.Model(entry, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def joins():
    """A gate, products, minima and maxima, crops and permutations."""
    entry = keras.Input((16, 16, 3))
    x = conv_unit(entry, 32)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(32, 1, activation="hard_sigmoid")(layers.Conv2D(16, 1, activation="silu")(gate))
    x = layers.Multiply()([x, gate])
    a, b = layers.Conv2D(24, 3, activation="softplus")(x), layers.Conv2D(24, 3, activation="selu")(x)
    x = layers.Concatenate()([layers.Maximum()([a, b]), layers.Minimum()([a, b])])
    x = layers.Cropping2D(((1, 2), (0, 1)))(x)
    x = layers.Resizing(8, 8)(x)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.Reshape((48, 64))(x)
    x = layers.Permute((2, 1))(x)
    x = layers.Dot(axes=2)([layers.Dense(32)(x), layers.Dense(32, activation="relu")(x)])
    return keras.Model(entry, layers.Dense(CLASSES)(layers.Flatten()(x)))


def operations():
    """What `keras.ops` and Python's operators leave in a file."""
    entry = keras.Input((16, 16, 3), name="image")
    x = ops.relu(layers.Conv2D(32, 3, padding="same", name="c1")(entry * 2.0 - 0.5))
    y = layers.Conv2D(32, 3, padding="same", name="c2")(x)
    x = ops.maximum(x, y) + x * ops.sigmoid(y) / 3.0
    left, right = ops.split(layers.Conv2D(48, 1, name="c3")(x), 2, axis=-1)
    x = ops.concatenate([left, ops.tanh(right)], axis=-1)
    x = ops.reshape(x, (-1, 256, 48))
    x = ops.transpose(x, (0, 2, 1))
    x = ops.mean(x, axis=-1) + ops.max(x, axis=2)
    x = layers.Dense(40, activation="relu", name="d1")(x)
    x = x[:, :20] + x[:, 20:40]
    return keras.Model(entry, layers.Dense(CLASSES, name="d2")(ops.squeeze(ops.expand_dims(x, 1), 1)))


def picks():
    """What is moved on, taken by number, or in steps, stays as it is; what lies around it goes."""
    entry = keras.Input((16, 16, 3))
    x = layers.Conv2D(32, 3, activation="relu")(entry)
    x = ops.roll(layers.Conv2D(12, 1, name="moved")(x), 2, axis=-1)
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = ops.take(layers.Conv2D(12, 1, name="taken")(x), [3, 1, 0, -1, 5, 4], axis=-1)
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = layers.Conv2D(12, 1, name="stepped")(x)
    x = ops.concatenate([x[..., ::2], x[:, :, :, 1::2]], axis=-1)
    x = layers.Conv2D(32, 3, activation="relu")(ops.roll(x, 1, axis=1)[:, 1::2])
    return keras.Model(entry, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def axes_from_the_end():
    """Norms that sort their axes before they count them from the front."""
    entry = keras.Input((10, 9, 3))
    x = layers.Conv2D(24, 3, activation="relu")(entry)
    x = layers.LayerNormalization(axis=[1, -1], name="not_neighbours")(layers.Conv2D(12, 1)(x))
    x = layers.Reshape((56, 12))(layers.Conv2D(12, 1)(layers.Conv2D(32, 1, activation="relu")(x)))
    x = layers.LayerNormalization(axis=[-1, 1], name="neighbours")(x)
    x = layers.Dense(32, activation="relu")(x)
    return keras.Model(entry, layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x)))


APPLICATIONS = {
    "resnet50": Network(application("ResNet50", 48), image(48, 48, 3)),
    "resnet50_v2": Network(application("ResNet50V2", 48), image(48, 48, 3)),
    "mobilenet": Network(application("MobileNet", 48, alpha=0.5), image(48, 48, 3)),
    "mobilenet_v2": Network(application("MobileNetV2", 48, alpha=0.5), image(48, 48, 3)),
    "mobilenet_v3_small": Network(application("MobileNetV3Small", 48), pixels(48), V3_ONLY),
    "mobilenet_v3_large": Network(application("MobileNetV3Large", 48), pixels(48), V3_ONLY),
    "efficientnet_b0": Network(application("EfficientNetB0", 48), pixels(48)),
    "efficientnet_v2_b0": Network(application("EfficientNetV2B0", 48), pixels(48)),
    "densenet121": Network(application("DenseNet121", 64), image(64, 64, 3)),
    "vgg16": Network(application("VGG16", 32), image(32, 32, 3)),
    "xception": Network(application("Xception", 71), image(71, 71, 3)),
    "inception_v3": Network(application("InceptionV3", 75), image(75, 75, 3)),
    "nasnet_mobile": Network(application("NASNetMobile", 64), image(64, 64, 3)),
    "convnext_tiny": Network(application("ConvNeXtTiny", 32), pixels(32), V3_ONLY),
}
NETWORKS = {
    **APPLICATIONS,
    "unet": Network(unet, image(32, 32, 3)),
    "two_inputs": Network(two_inputs, lambda rng, n: image(16, 16, 3)(rng, n) + image(20)(rng, n)),
    "nested_shared": Network(nested_shared, lambda rng, n: image(16, 16, 3)(rng, n) + image(16, 16, 3)(rng, n)),
    "vit": Network(vit, image(32, 32, 3), products=True),
    "cross_attention": Network(
        cross_attention, lambda rng, n: image(10, 48)(rng, n) + image(14, 32)(rng, n), products=True, left=0.9
    ),
    **{
        make.__name__: Network(
            functools.partial(make, CLASSES), images(*shapes), products=True, left=0.9,
            # Keras takes the word "dot" in its own .h5 for the function of that name.
            forms=V3_ONLY if make is attention_keras.scores else BOTH,
        )
        for make, *shapes in [
            (attention_keras.grouped_queries, (10, 48)),
            (attention_keras.grouped_cross, (12, 48), (9, 20)),
            (attention_keras.attention_widths, (12, 48), (9, 20)),
            (attention_keras.shared_attention, (8, 32), (8, 32)),
            (attention_keras.attention_over_images, (6, 5, 3)),
            (attention_keras.scores, (8, 16), (6, 16)),
        ]
    },
    **{
        make.__name__: Network(functools.partial(make, CLASSES), image(*shape), left=0.95, runs=False)
        for make, shape in [
            (attention_keras.open_sequence, (30, 8)),
            (attention_keras.open_image, (12, 14, 3)),
            (attention_keras.open_video, (3, 12, 12, 3)),
        ]
    },
    "lstm": Network(lstm, tokens(), left=0.95),
    "gru": Network(gru, image(12, 6), left=0.95),
    "frames": Network(frames, image(5, 16, 16, 3)),
    "cells": Network(cells, image(6, 12), left=0.95),
    "without_onnx": Network(without_onnx, image(3, 12, 12, 3), left=0.95, runs=False),
    "channels_first": Network(channels_first, image(3, 16, 16)),
    "sequential": Network(sequential, image(20, 20, 3)),
    "no_input_layer": Network(no_input_layer, image(12, 12, 3)),
    "one_dimensional": Network(one_dimensional, image(64, 4)),
    "three_dimensional": Network(three_dimensional, image(8, 8, 8, 2)),
    "separable": Network(separable, image(24, 24, 3)),
    "depth_multiplier": Network(depth_multiplier, image(16, 16, 3)),
    "group_norm": Network(group_norm, image(16, 16, 3)),
    "products_of_axes": Network(products_of_axes, image(16, 16, 3)),
    "joins": Network(joins, image(16, 16, 3), products=True),
    "operations": Network(operations, image(16, 16, 3), V3_ONLY),
    "picks": Network(picks, image(16, 16, 3), V3_ONLY),
    "axes_from_the_end": Network(axes_from_the_end, image(10, 9, 3), V3_ONLY),
}


def made(name, seed=0):
    """The network of that name with seeded numbers, and example inputs of a batch of two."""
    return seeded(NETWORKS[name], seed)


def seeded(network, seed=0):
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = network.make()
    awaken(model, rng)
    settle(model, network.inputs(rng, 4), rng)
    return model, network.inputs(rng, 2)


def awaken(model, rng):
    """Weights by their fan-in, factors around 1, shifts around 0: nothing is all zeros, all ones or a millionth."""
    for variable in model.variables:
        name, shape = variable.path.rpartition("/")[2], variable.shape
        if "seed" in name or name in ("moving_mean", "moving_variance", "mean", "variance", "count"):
            continue
        if name == "bias" or name == "beta":
            value = rng.uniform(-0.3, 0.3, shape)
        elif name in ("gamma", "scale", "alpha") or len(shape) < 2:
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.standard_normal(shape) * (1.5 / fan_in(variable.path, shape)) ** 0.5
        variable.assign(value.astype("float32"))


def fan_in(path, shape):
    name = path.rpartition("/")[2]
    if name == "embeddings":
        return 4
    if "depthwise" in path and name != "pointwise_kernel":
        return int(np.prod(shape[:-2]))
    if path.split("/")[-2] in ("query", "key", "value"):
        return shape[0]
    return int(np.prod(shape[:-1]))


def settle(model, inputs, rng):
    """Gives batch norms the statistics of a batch, then moves these by a tenth."""
    norms = [layer for layer in flat(model) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        with torch.no_grad():
            model(inputs if len(inputs) > 1 else inputs[0], training=True)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        mean, variance = (keras.ops.convert_to_numpy(value) for value in (norm.moving_mean, norm.moving_variance))
        norm.moving_mean.assign(mean + 0.1 * rng.standard_normal(mean.shape).astype("float32") * variance**0.5)
        norm.moving_variance.assign(np.maximum(variance * rng.uniform(0.9, 1.1, mean.shape).astype("float32"), 1e-2))


def flat(model):
    """The layers, those of models within included."""
    return [layer for layer in model._flatten_layers(include_self=False) if not isinstance(layer, keras.Model)]
