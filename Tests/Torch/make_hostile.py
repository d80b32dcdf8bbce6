"""Hostile and damaged `.pt` and `.pt2` files, each made from a good one by one wrong thing: `FILES`, by name.

Every layer has its own: the zip container, the pickle, the Python text in it, the JSON of exported programs, the
weights; and bytes are changed anywhere.

    python Tests/Torch/make_hostile.py FOLDER

writes them all.

Invariant: the same files every time, in the same order, but for ids that PyTorch gives its older archives.
"""

import re
import sys

import hostile_code  # noqa: F401
import hostile_container  # noqa: F401
import hostile_noise
import hostile_pickle
import hostile_program  # noqa: F401
import hostile_zip
from hostile_corpus import FILES, add, good, member, members


def noise(name, suffix, count, ending=None):
    def content(generator):
        entries = members(suffix)
        held = member(entries, ending) if ending else None
        data = hostile_noise.disturbed(held.data if held else good(suffix), generator)
        if held is None:
            return data
        held.data = data
        return hostile_zip.write(entries)

    hostile_noise.add_noise(add, name, suffix, count, content)


def extremes(name, suffix, count, ending, pattern, written):
    """One of the numbers that `pattern` finds is one that no network has: others divide, add and multiply by it."""

    def content(generator):
        entries = members(suffix)
        held = member(entries, ending)
        place = generator.choice([*re.finditer(pattern, held.data, re.DOTALL)])
        number = generator.choice([0, -1, 2, 3, 10**9, 2**31, 2**32 - 1, 2**62, 2**63 - 1, -(2**63), 2**64])
        held.data = held.data[: place.start(1)] + written(number) + held.data[place.end(1) :]
        return hostile_zip.write(entries)

    hostile_noise.add_noise(add, name, suffix, count, content)


extremes("numbers_of_modules", ".pt", 40, "data.pkl", rb"[a-z_]q.\(?(K.)", hostile_pickle.long)
extremes("numbers_of_calls", ".pt2", 40, "models/model.json", rb'"as_ints?": \[?(-?\d+)', lambda n: b"%d" % n)
noise("pt", ".pt", 30)
noise("pt2", ".pt2", 30)
noise("pickle", ".pt", 40, "data.pkl")
noise("json", ".pt2", 40, "models/model.json")
noise("config", ".pt2", 20, "model_weights_config.json")


if __name__ == "__main__":
    hostile_noise.write_all(FILES, *sys.argv[1:])
