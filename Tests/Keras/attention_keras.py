"""Networks with Keras's attention in the forms it has, and networks that leave lengths open; `classes` is how many numbers
each returns."""

import keras
from keras import layers


def ending(x, classes):
    return layers.Dense(classes)(layers.GlobalAveragePooling1D()(layers.Dense(40, activation="relu", name="inner")(x)))


def grouped_queries(classes):
    """No sum ties what comes out to what goes in; a window, a gate, and a key for every query."""
    entry = keras.Input((10, 48))
    x = layers.Dense(64, name="widen")(entry)
    x = layers.GroupQueryAttention(8, 4, 2, name="own")(x, x)
    x = layers.GroupQueryAttention(8, 4, 4, sliding_window=3, name="near")(x, x, use_causal_mask=True)
    x = layers.GroupQueryAttention(12, 6, 2, use_gate=True, name="gated")(x, x)
    return keras.Model(entry, ending(x, classes))


def grouped_cross(classes):
    words, memory = keras.Input((12, 48), name="words"), keras.Input((9, 20), name="memory")
    queries, values = layers.Dense(64, name="queries")(words), layers.Dense(64, name="values")(memory)
    keys = layers.Dense(24, name="keys")(memory)
    x = layers.GroupQueryAttention(8, 4, 2, name="cross")(queries, values, keys)
    return keras.Model([words, memory], ending(x, classes))


def attention_widths(classes):
    """Queries, keys and values of different widths; outputs of another; a window that slides, and a gate."""
    words, memory = keras.Input((12, 48), name="words"), keras.Input((9, 20), name="memory")
    queries, values = layers.Dense(64, name="queries")(words), layers.Dense(40, name="values")(memory)
    keys = layers.Dense(24, name="keys")(memory)
    x = layers.MultiHeadAttention(4, 16, value_dim=12, output_shape=56, name="stated")(queries, values, keys)
    x = layers.MultiHeadAttention(2, 24, use_bias=False, name="plain")(x, values)
    gated = layers.MultiHeadAttention(4, 8, value_dim=20, use_gate=True, sliding_window=4, name="gated")
    return keras.Model([words, memory], ending(gated(x, x, use_causal_mask=True), classes))


def shared_attention(classes):
    """One attention called twice, another within a model that is called twice."""
    left, right = keras.Input((8, 32), name="left"), keras.Input((8, 32), name="right")
    widen, shared = layers.Dense(64, name="widen"), layers.MultiHeadAttention(4, 16, name="shared")
    a, b = widen(left), widen(right)
    entry = keras.Input((8, 64))
    x = layers.MultiHeadAttention(4, 8, dropout=0.1, name="within")(entry, entry)
    block = keras.Model(entry, layers.LayerNormalization()(layers.Add()([entry, x])), name="block")
    x = layers.Concatenate()([block(shared(a, a)), block(shared(b, a))])
    return keras.Model([left, right], ending(x, classes))


def attention_over_images(classes):
    """Over two axes at once, and over one of two."""
    entry = keras.Input((6, 5, 3))
    x = layers.Conv2D(32, 3, padding="same")(entry)
    x = layers.MultiHeadAttention(4, 8, name="both")(x, x)
    x = layers.MultiHeadAttention(4, 8, value_dim=6, attention_axes=(2,), name="rows")(x, x)
    return keras.Model(entry, layers.Dense(classes)(layers.Flatten()(layers.Dense(24, activation="relu")(x))))


def scores(classes):
    """Attention without projections."""
    words, memory = keras.Input((8, 16), name="words"), keras.Input((6, 16), name="memory")
    a, b = layers.Dense(32, name="of_words")(words), layers.Dense(32, name="of_memory")(memory)
    x = layers.Attention(use_scale=True)([a, b])
    y = layers.AdditiveAttention()([a, b])
    z = layers.Attention(score_mode="concat")([a, b, layers.Dense(32, name="keys")(memory)])
    return keras.Model([words, memory], ending(layers.Concatenate()([x, y, z]), classes))


# MARK: Lengths left open, around what ONNX has no form for


def open_sequence(classes):
    entry = keras.Input((None, 8), name="wave")
    x = layers.Conv1D(32, 5, strides=2, padding="same", activation="relu")(entry)
    x = layers.Conv1D(48, 3, activation="relu")(x)
    x = layers.Bidirectional(layers.LSTM(12, activation="gelu", return_sequences=True))(x)
    return keras.Model(entry, ending(layers.Conv1D(32, 3, padding="same", activation="relu")(x), classes))


def open_image(classes):
    entry = keras.Input((None, None, 3))
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(layers.Conv2D(24, 3, padding="same")(entry))
    x = layers.UpSampling2D(2, interpolation="bicubic")(x)
    x = layers.Conv2D(24, 3, strides=2)(layers.Conv2D(32, 3, padding="same", activation="relu")(x))
    x = layers.MultiHeadAttention(2, 8)(x, x)
    x = layers.AdaptiveAveragePooling2D((3, 2))(layers.Conv2D(24, 3, padding="same")(x))
    x = layers.Dense(32, activation="relu")(layers.Dense(48, activation="relu")(x))
    return keras.Model(entry, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


def open_video(classes):
    entry = keras.Input((None, 12, 12, 3))
    x = layers.TimeDistributed(layers.Conv2D(24, 3, activation="relu"))(entry)
    x = layers.TimeDistributed(layers.Conv2D(16, 3, activation="relu"))(x)
    x = layers.ConvLSTM2D(8, 3, strides=2, return_sequences=True)(x)
    x = layers.Conv3D(32, (2, 1, 1), activation="relu")(layers.TimeDistributed(layers.Conv2D(24, 3))(x))
    return keras.Model(entry, layers.Dense(classes)(layers.GlobalAveragePooling3D()(x)))
