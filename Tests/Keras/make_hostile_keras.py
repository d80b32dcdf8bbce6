"""Hostile and damaged `.keras` and `.h5` files, each made from a good one by one wrong thing: `FILES`, by name.

Every layer has its own: the zip container, the configuration, the weights in HDF5; and bytes are changed anywhere.

    KERAS_BACKEND=torch PYTHONPATH=Tests/Torch python Tests/Keras/make_hostile_keras.py FOLDER

writes them all.

Invariant: the same files every time, in the same order, but for the dates that Keras and HDF5 put into them.
"""

import sys

import hostile_keras_archive  # noqa: F401
import hostile_keras_config  # noqa: F401
import hostile_keras_weights  # noqa: F401
import hostile_noise
from hostile_keras_corpus import CONFIGURATION, FILES, WEIGHTS, add, good, member, members, with_member


def noise(name, suffix, count, ending=None):
    def content(generator):
        data = member(members(), ending).data if ending else good(suffix)
        data = hostile_noise.disturbed(data, generator)
        return with_member(ending, data) if ending else data

    hostile_noise.add_noise(add, name, suffix, count, content)


noise("keras", ".keras", 30)
noise("configuration", ".keras", 40, CONFIGURATION)
noise("weights", ".keras", 40, WEIGHTS)
noise("h5", ".h5", 60)


if __name__ == "__main__":
    hostile_noise.write_all(FILES, *sys.argv[1:])
