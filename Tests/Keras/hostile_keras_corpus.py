"""What the corpus of hostile Keras files is made of: the good files, ways to change their parts, and the list that all are
added to.

What could be executed would make the file `hostile_corpus.MARK` in the working directory; nothing may.
"""

import io
import json
import tempfile

import h5py
import keras
from keras import layers

import hostile_zip
from hostile_corpus import File, member

FORMS = (".keras", ".h5")
CONFIGURATION, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
FILES: dict[str, File] = {}


def add(name, suffix, content, must_fail=True):
    assert name not in FILES, name
    FILES[name] = File(suffix, content, must_fail)


def network():
    """A residual block, an operation with a shape, a nested model that is called twice."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    entry = keras.Input((8, 8, 3), name="image")
    twice = keras.Sequential([keras.Input((8, 8, 8)), layers.Conv2D(8, 1, name="inner")], name="twice")
    x = layers.Conv2D(8, 3, padding="same", name="c1")(entry)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    y = layers.Conv2D(8, 3, padding="same", name="c2")(x)
    x = twice(twice(layers.Add(name="join")([x, y])))
    x = layers.Reshape((64, 8), name="rows")(x)
    x = layers.Dense(12, activation="relu", name="d1")(x)
    x = layers.Flatten(name="flat")(x)
    return keras.Model(entry, layers.Dense(4, name="d2")(x), name="network")


_good: dict[str, bytes] = {}


def good(suffix):
    """The bytes of the file that all of a kind are made from."""
    if suffix not in _good:
        model = network()
        for form in FORMS:
            with tempfile.NamedTemporaryFile(suffix=form) as file:
                model.save(file.name)
                _good[form] = file.read()
    return _good[suffix]


def members():
    return hostile_zip.entries_of(good(".keras"))


def with_member(name, data):
    entries = members()
    member(entries, name).data = data
    return hostile_zip.write(entries)


def configuration(suffix):
    if suffix == ".keras":
        return json.loads(member(members(), CONFIGURATION).data)
    with h5py.File(io.BytesIO(good(suffix))) as file:
        return json.loads(file.attrs["model_config"])


def weights_of(suffix):
    """The bytes of the HDF5 file that holds the weights."""
    return member(members(), WEIGHTS).data if suffix == ".keras" else good(suffix)


def changed(suffix, text=None, change=None):
    """The file with other bytes as its configuration, and with its HDF5 file as `change` leaves it."""
    data = weights_of(suffix)
    # Not in memory: h5py's drivers for that know nothing of external files.
    with tempfile.NamedTemporaryFile(suffix=".h5") as place:
        place.write(data)
        place.flush()
        with h5py.File(place.name, "r+") as file:
            if change:
                change(file)
            if text is not None and suffix == ".h5":
                file.attrs.create("model_config", text, dtype=h5py.string_dtype())
        place.seek(0)
        data = place.read()
    if suffix == ".h5":
        return data
    entries = members()
    member(entries, WEIGHTS).data = data
    if text is not None:
        member(entries, CONFIGURATION).data = text
    return hostile_zip.write(entries)


def dataset(suffix):
    """The path of the first convolution's kernel, (3, 3, 3, 8), and of its bias."""
    if suffix == ".keras":
        return "layers/conv2d/vars/0", "layers/conv2d/vars/1"
    return "model_weights/c1/c1/kernel", "model_weights/c1/c1/bias"
