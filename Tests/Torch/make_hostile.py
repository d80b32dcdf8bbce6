"""Hostile and damaged `.pt` and `.pt2` files, each made from a good one by one wrong thing: `FILES`, by name.

Every layer has its own: the zip container, the pickle, the Python text in it, the JSON of exported programs, the
weights; and bytes are changed anywhere.

    python Tests/Torch/make_hostile.py FOLDER

writes them all.

Invariant: the same files every time, in the same order, but for ids that PyTorch gives its older archives.
"""

import pathlib
import random
import sys

import hostile_code  # noqa: F401
import hostile_container  # noqa: F401
import hostile_pickle  # noqa: F401
import hostile_program  # noqa: F401
import hostile_zip
from hostile_corpus import FILES, add, good, member, members


def noise(name, suffix, count, ending=None):
    """Bytes changed, removed or added anywhere, or within one member; what comes of it may even be a model."""

    def content(seed):
        generator = random.Random(f"{name}{seed}")
        entries = members(suffix)
        held = member(entries, ending) if ending else None
        data = bytearray(held.data if held else good(suffix))
        for _ in range(generator.randint(1, 3)):
            at = generator.randrange(len(data))
            kind = generator.randrange(3)
            if kind == 0:
                data[at] = generator.randrange(256)
            elif kind == 1:
                del data[at]
            else:
                data.insert(at, generator.randrange(256))
        if held is None:
            return bytes(data)
        held.data = bytes(data)
        return hostile_zip.write(entries)

    for seed in range(count):
        add(f"noise_{name}_{seed}", suffix, lambda seed=seed: content(seed), must_fail=False)


noise("pt", ".pt", 30)
noise("pt2", ".pt2", 30)
noise("pickle", ".pt", 40, "data.pkl")
noise("json", ".pt2", 40, "models/model.json")
noise("config", ".pt2", 20, "model_weights_config.json")


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in FILES.items():
        (folder / (name + file.suffix)).write_bytes(file.content())
    print(f"{len(FILES)} files in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
