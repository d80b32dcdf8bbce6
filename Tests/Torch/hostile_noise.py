"""Bytes changed, removed or added anywhere in a good file, and corpora as files on disk."""

import pathlib
import random


def disturbed(data, generator):
    """The bytes with one to three of them changed, gone, or new."""
    data = bytearray(data)
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(len(data))
        kind = generator.randrange(3)
        if kind == 0:
            data[at] = generator.randrange(256)
        elif kind == 1:
            del data[at]
        else:
            data.insert(at, generator.randrange(256))
    return bytes(data)


def add_noise(add, name, suffix, count, content):
    """`count` files that `content` makes with a generator each; what comes of them may even be a model."""
    for seed in range(count):
        add(
            f"noise_{name}_{seed}", suffix, lambda seed=seed: content(random.Random(f"{name}{seed}")), must_fail=False
        )


def write_all(files, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        (folder / (name + file.suffix)).write_bytes(file.content())
    print(f"{len(files)} files in {folder}")
