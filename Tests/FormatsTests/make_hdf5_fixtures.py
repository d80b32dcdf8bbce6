"""Makes the HDF5 files that the tests of the HDF5 reader use. Run by hand; the files are committed.

    python Tests/FormatsTests/make_hdf5_fixtures.py keras3       # with Keras 3 and h5py
    python Tests/FormatsTests/make_hdf5_fixtures.py tf_keras     # with TensorFlow 2.15
    python Tests/FormatsTests/make_hdf5_fixtures.py h5py         # with h5py: what Keras does not write

The contents of every weight are 0, 1, 2, ... in the order of its elements, plus the number of axes, so that a test knows
them.
"""

import os
import pathlib
import sys
import zipfile

import numpy as np

FIXTURES = pathlib.Path(__file__).parent / "Fixtures" / "HDF5"


def numbers(shape, dtype="float32"):
    return (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 100 + len(shape)).astype(dtype)


def network(keras):
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(6, 3, name="first")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(4, name="last")(x)
    model = keras.Model(inputs, x, name="net")
    for weight in model.weights:
        weight.assign(numbers(tuple(weight.shape)))
    return model


def keras3():
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    model = network(keras)
    model.save(FIXTURES / "keras3.h5")
    model.save(FIXTURES / "keras3.keras")
    # The same archive, packed.
    with zipfile.ZipFile(FIXTURES / "keras3.keras") as archive:
        with zipfile.ZipFile(FIXTURES / "keras3.packed.keras", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in archive.namelist():
                packed.writestr(zipfile.ZipInfo(name), archive.read(name), zipfile.ZIP_DEFLATED)
    keras.config.set_dtype_policy("bfloat16")
    half = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="half")])
    half.layers[-1].kernel.assign(numbers((4, 3)))
    half.save_weights(FIXTURES / "bfloat16.weights.h5")


def tf_keras():
    from tensorflow import keras

    network(keras).save(FIXTURES / "tf_keras.h5", save_format="h5")


def h5py():
    import h5py

    def file(name, **options):
        return h5py.File(FIXTURES / f"{name}.h5", "w", **options)

    with file("types") as f:
        for dtype in ["f2", "f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"]:
            f[f"types/{np.dtype(dtype).name}"] = numbers((2, 3), dtype)
        f["scalar"] = np.float32(7)
        f["empty"] = np.zeros((0, 5), "f4")
        f.create_dataset("never", (3, 4), "f4", fillvalue=2.5)
        attributes = f["scalar"].attrs
        attributes["text"] = "grüße"
        attributes["bytes"] = np.bytes_(b"ascii")
        attributes["texts"] = ["a", "bc", ""]
        attributes["fixed"] = np.array([b"one", b"three"])
        attributes["int"] = 5
        attributes["ints"] = np.array([[1, -2], [3, 4]], "i2")
        attributes["flag"] = True
        attributes["float"] = 0.5
        attributes["none"] = []
        attributes["null"] = h5py.Empty("f4")
        attributes["long"] = "x" * 3_000_00
        terminated = h5py.h5t.TypeID.copy(h5py.h5t.C_S1)
        terminated.set_size(6)
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        attribute = h5py.h5a.create(f["scalar"].id, b"terminated", terminated, space)
        attribute.write(np.array(b"end\0xx", "S6"))

    with file("packed") as f:
        f.create_dataset("gzip", data=numbers((50, 40)), chunks=(7, 11), compression="gzip", shuffle=True)
        f.create_dataset("chunked", data=numbers((5, 3, 2), "i4"), chunks=(2, 3, 1), fletcher32=True)
        f.create_dataset("partly", (6, 4), "f4", chunks=(2, 2), fillvalue=-1)[2:4] = numbers((2, 4))
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((4,))
        dataset = h5py.h5d.create(f.id, b"compact", h5py.h5t.IEEE_F32LE, space, compact)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, numbers((4,)))
        f["plain"] = numbers((9,))

    with file("ordered", track_order=True) as f:
        for name in ["zebra", "ant", "mole"]:
            group = f.create_group(name, track_order=True)
            group["w"] = numbers((2,))
            for attribute in ["second", "first"]:
                group.attrs[attribute] = attribute
    with file("newest", libver="latest") as f:
        for index in range(40):
            f[f"many/group{index}/weight"] = numbers((3, 2))
        for index in range(20):
            f["many"].attrs[f"attribute{index}"] = index
        f.attrs["large"] = np.array([b"n" * 1000] * 100)
    with file("deep") as f:
        f["/".join(["d"] * 63)] = numbers((2,))
    with file("names") as f:
        names = [f"layer_with_a_long_name_{index:05}" for index in range(4000)]
        f.attrs["layer_names0"] = np.array(names[:2000], "S")
        f.attrs["layer_names1"] = np.array(names[2000:], "S")
        f.create_group("größe")["w"] = numbers((1,))

    # What is refused.
    with file("refused.soft") as f:
        f["a"] = numbers((2,))
        f["link"] = h5py.SoftLink("/a")
    with file("refused.external_link") as f:
        f["link"] = h5py.ExternalLink("/etc/hostname", "/a")
    with file("refused.external_storage") as f:
        f.create_dataset("outside", (4,), "f4", external=[("/etc/hostname", 0, 16)])
    with file("refused.virtual") as f:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource("/etc/hostname", "a", (4,))
        f.create_virtual_dataset("view", layout)
    with file("refused.big_endian") as f:
        f["weight"] = numbers((2, 2), ">f4")
    with file("refused.compound") as f:
        f["weight"] = np.zeros(3, [("a", "f4"), ("b", "i4")])
    with file("refused.strings") as f:
        f["weight"] = ["a", "b"]
    with file("refused.reference") as f:
        f["a"] = numbers((2,))
        f.attrs["reference"] = f["a"].ref
    with file("refused.named_type") as f:
        f["type"] = np.dtype("f4")
    with file("refused.opaque") as f:
        f["weight"] = np.zeros(3, "V2")
    with file("refused.lzf") as f:
        f.create_dataset("weight", data=numbers((100,)), compression="lzf")
    with file("refused.extended") as f:
        f["weight"] = np.zeros(3, np.longdouble)
    with file("refused.shared") as f:
        f["a"] = numbers((2,))
        f["b"] = f["a"]
    with file("refused.cycle") as f:
        group = f.create_group("a/b")
        group["up"] = f["a"]
    with file("refused.too_deep") as f:
        f["/".join(["d"] * 70)] = numbers((2,))
    with file("refused.bomb") as f:
        f.create_dataset("weight", (1 << 40,), "f4", chunks=(1 << 16,))
    with file("refused.large_chunk") as f:
        f.create_dataset("weight", (1 << 28,), "f4", chunks=(1 << 28,))


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True, parents=True)
    {"keras3": keras3, "tf_keras": tf_keras, "h5py": h5py}[sys.argv[1]]()
