"""Makes the Keras files in Fixtures: `python make_keras_fixtures.py keras` with Keras 3 (any backend) installed, and
`python make_keras_fixtures.py tf.keras` with TensorFlow 2.15.

`nested` has what configurations can be made of: two inputs and two outputs by name, a model that is called twice and holds
another, a layer that is called twice, layers that are not trained, operators. `wrapped` has layers that hold layers. `plain` has no weights.
"""

import sys
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parent / "Fixtures"


def nested(keras):
    layers = keras.layers
    image = keras.Input((6, 6, 2), name="image")
    inner = keras.Sequential(
        [keras.Input((6, 6, 4)), layers.Conv2D(4, 1, name="inner_conv"), layers.BatchNormalization(name="inner_norm")],
        name="inner",
    )
    x = layers.Conv2D(4, 3, padding="same", name="conv")(image)
    x = layers.BatchNormalization(name="norm", scale=False)(x)
    encoder = keras.Model(image, [inner(x), x], name="encoder")

    left = keras.Input((6, 6, 2), name="left")
    right = keras.Input((6, 6, 2), name="right")
    a, b = encoder(left)
    c, d = encoder(right)
    joined = layers.Concatenate(name="joined")([a, c])
    summed = layers.Add(name="summed")([b, d])
    head = layers.Dense(3, name="head", activation="relu")
    pool = layers.GlobalAveragePooling2D(name="pool")
    frozen = layers.BatchNormalization(trainable=False, name="frozen")
    first = head(pool(summed))
    scaled = first * 2.0 + head(pool(frozen(b)))
    return keras.Model(
        {"left": left, "right": right}, {"scaled": scaled[:, 1:], "flat": layers.Flatten(name="flat")(joined)}, name="net"
    )


def wrapped(keras):
    layers = keras.layers
    words = keras.Input((5, 4), name="words")
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True, name="lstm"), name="both")(words)
    x = layers.RNN([layers.LSTMCell(3, name="a"), layers.GRUCell(2, name="b")], return_sequences=True, name="stack")(x)
    row = keras.Sequential([keras.Input((2,)), layers.Dense(3, name="d"), layers.BatchNormalization(name="n")], name="row")
    x = layers.TimeDistributed(row, name="steps")(x)
    x = layers.MultiHeadAttention(2, 2, name="attention")(x, value=words)
    return keras.Model(words, layers.SeparableConv1D(2, 3, name="last")(x), name="wrapped")


def main():
    kind = sys.argv[1]
    if kind == "keras":
        import keras

        tag = "keras3"
    else:
        from tensorflow import keras

        tag = "keras2"
    if kind == "keras":
        plain = keras.Sequential([keras.Input((4,)), keras.layers.ReLU()])
        plain.save(str(FIXTURES / "plain.keras3.keras"))
    rng = np.random.default_rng(1)
    for make in (nested, wrapped):
        model = make(keras)
        for weight in model.weights:
            weight.assign(rng.uniform(0.5, 1.5, tuple(weight.shape)).astype("float32"))
        model.compile("sgd", "mse")
        for suffix in ("keras", "h5"):
            # Keras 3 writes operators into legacy files in a way that it does not read.
            if make is nested and suffix == "h5" and kind == "keras":
                continue
            model.save(str(FIXTURES / f"{make.__name__}.{tag}.{suffix}"))


main()
