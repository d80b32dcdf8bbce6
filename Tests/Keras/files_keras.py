"""Keras files and what is in them: the datasets by their paths, and which of a loaded model's variables each one is."""

import io
import json
import os
import pathlib
import zipfile

import h5py
import keras
import numpy as np
import torch
from keras.src.legacy.saving import legacy_h5_format
from keras.src.saving import saving_lib

import kernels

LEGACY_GROUP = "model_weights"


def read(path):
    """What Keras itself makes of the file, without custom objects and in its safe mode."""
    return keras.models.load_model(path, compile=False)


def predict(model, inputs):
    found = model.predict(given(inputs), batch_size=len(inputs[0]), verbose=0)
    return found if isinstance(found, list) else [found]


def called(model, inputs):
    """The same without what `predict` prepares first."""
    with torch.no_grad():
        found = keras.tree.flatten(model(given(inputs), training=False))
    return [keras.ops.convert_to_numpy(value) for value in found]


def given(values):
    """As Keras wants it: a list only where there are several."""
    return values if len(values) > 1 else values[0]


def configuration(path):
    if str(path).endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("config.json"))
    with h5py.File(path) as file:
        return json.loads(file.attrs["model_config"])


def weights_file(path):
    """The HDF5 file that holds the weights: the file itself, or a member of it."""
    if str(path).endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            return h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    return h5py.File(path)


def weights(path):
    """Every stored array by the path of its dataset."""
    found = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with weights_file(path) as file:
        file.visititems(note)
    return found


class Recorder(saving_lib.H5IOStore):
    """Takes what Keras would store, and remembers which variable went where."""

    def __init__(self):
        self.groups = {}

    def __bool__(self):
        return True

    def make(self, path, metadata=None):
        return self.groups.setdefault(path, {})

    def variables(self):
        return {
            f"{path}/vars/{key}".lstrip("/"): variable
            for path, group in self.groups.items()
            for key, variable in group.items()
        }


def variables(model, path):
    """The variables of a model, by the paths of the datasets they were loaded from."""
    if str(path).endswith(".keras"):
        recorder = Recorder()
        saving_lib._save_state(model, recorder, None, inner_path="", visited_saveables=set())
        return recorder.variables()
    found = {}
    with h5py.File(path) as file:
        for layer in model.layers:
            group = file[LEGACY_GROUP][layer.name]
            names = legacy_h5_format.load_attributes_from_hdf5_group(group, "weight_names")
            for name, variable in zip(names, legacy_h5_format._legacy_weights(layer), strict=True):
                found[f"{LEGACY_GROUP}/{layer.name}/{name}"] = variable
    return found


def datasets(model, path):
    """Where in the file that the model was read from each variable is, by the name that replies give it."""
    places = {id(variable): place for place, variable in variables(model, path).items()}
    return {name: places[id(variable)] for name, variable, _ in kernels.named(model)}


def size(path):
    """How many numbers the model's variables are, seeds not counted."""
    return sum(
        value.size for name, value in weights(path).items() if np.issubdtype(value.dtype, np.floating) or value.dtype.kind == "V"
    )


def write(model, path):
    model.save(os.fspath(path))
    return pathlib.Path(path)
