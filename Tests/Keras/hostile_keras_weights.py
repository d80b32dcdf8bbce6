"""Hostile Keras files, the weights: HDF5 that is none, datasets that claim what they do not hold, links out of the file
and in circles, and filters that unpack a little into a lot."""

import json
import zlib

import h5py
import numpy as np

import hostile_keras_config
from hostile_keras_corpus import FORMS, WEIGHTS, add, changed, configuration, dataset, weights_of, with_member

KERNEL = (3, 3, 3, 8)


def weights(name, change, must_fail=True, forms=FORMS):
    """`change(file, kernel)` alters the HDF5 file; `kernel` is the path of the first convolution's."""
    for suffix in forms:

        def content(suffix=suffix):
            return changed(suffix, change=lambda file: change(file, dataset(suffix)[0]))

        add(f"hdf5_{name}{suffix.replace('.', '_')}", suffix, content, must_fail)


def replaced(**settings):
    """Another dataset in the kernel's place."""

    def change(file, kernel):
        del file[kernel]
        file.create_dataset(kernel, **settings)

    return change


def linked(link):
    def change(file, kernel):
        del file[kernel]
        file[kernel] = link(file, kernel)

    return change


def virtual(file, kernel):
    layout = h5py.VirtualLayout(KERNEL, "<f4")
    layout[...] = h5py.VirtualSource("/etc/passwd", "kernel", KERNEL)
    del file[kernel]
    file.create_virtual_dataset(kernel, layout)


def unallocated(shape, dtype="<f4"):
    """A contiguous dataset of which nothing was ever written: the file stays small."""

    def change(file, kernel):
        del file[kernel]
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
        h5py.h5d.create(
            file.id, kernel.encode(), h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(shape), settings
        )

    return change


def filtered(code, values=()):
    """Packed by a filter that no HDF5 has, and may be looked for as a plug-in."""

    def change(file, kernel):
        del file[kernel]
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk(KERNEL)
        settings.set_filter(code, h5py.h5z.FLAG_OPTIONAL, values)
        made = h5py.h5d.create(
            file.id, kernel.encode(), h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(KERNEL), settings
        )
        made.write_direct_chunk((0, 0, 0, 0), np.zeros(KERNEL, "<f4").tobytes())

    return change


def deep_groups(file, kernel):
    group = file.create_group("deep")
    for _ in range(5000):
        group = group.create_group("d")


def many_groups(file, kernel):
    for index in range(20_000):
        file.create_group(f"many/{index}")


def circle_of_groups(file, kernel):
    """A group that holds itself."""
    parent = file[kernel].parent
    parent["again"] = file["/"]


def claims(file, kernel):
    """All datasets are one: what every reader counts per dataset is stored once."""
    for index in range(20_000):
        file[f"copies/{index}"] = file[kernel]


def compound(file, kernel):
    del file[kernel]
    file.create_dataset(kernel, KERNEL, dtype=[("real", "<f4"), ("imaginary", "<f4")])


def strings(file, kernel):
    del file[kernel]
    file.create_dataset(kernel, KERNEL, dtype=h5py.string_dtype())


def references(file, kernel):
    del file[kernel]
    file.create_dataset(kernel, KERNEL, dtype=h5py.ref_dtype)


def ragged(file, kernel):
    del file[kernel]
    file.create_dataset(kernel, KERNEL, dtype=h5py.vlen_dtype(np.float32))


def group_instead(file, kernel):
    del file[kernel]
    file.create_group(kernel)


def dataset_instead(file, kernel):
    parent = kernel.rpartition("/")[0]
    del file[parent]
    file.create_dataset(parent, data=np.zeros(8))


def gone(file, kernel):
    del file[kernel]


ZEROS = {"data": np.zeros(KERNEL, "<f4")}
DATASETS = {
    "missing": gone,
    "group_instead": group_instead,
    "dataset_instead_of_group": dataset_instead,
    "wider": replaced(data=np.zeros((3, 3, 3, 9), "<f4")),
    "narrower": replaced(data=np.zeros((3, 3, 3, 7), "<f4")),
    "of_three_axes": replaced(data=np.zeros((3, 3, 24), "<f4")),
    "of_five_axes": replaced(data=np.zeros((3, 3, 3, 8, 1), "<f4")),
    "transposed": replaced(data=np.zeros((8, 3, 3, 3), "<f4")),
    "scalar": replaced(data=np.float32(1)),
    "null_space": replaced(data=h5py.Empty("<f4")),
    "no_elements": replaced(data=np.zeros((0, 3, 3, 8), "<f4")),
    "complex": replaced(data=np.zeros(KERNEL, "<c8")),
    "compound": compound,
    "strings": strings,
    "references": references,
    "ragged": ragged,
    "opaque_of_three_bytes": replaced(data=np.zeros(KERNEL, "V3")),
    "opaque_without_a_type": replaced(data=np.zeros(KERNEL, "V2")),
    "claims_much": unallocated((2**20, 2**20, 3, 8)),
    "claims_all": unallocated((2**28, 2**28, 1, 1)),
    "chunked_claims_much": replaced(shape=(2**40, 3, 3, 8), chunks=(1, 3, 3, 8), dtype="<f4"),
    "external_storage": replaced(shape=KERNEL, dtype="<f4", external=[("/etc/passwd", 0, 4 * 216)]),
    "external_storage_up": replaced(shape=KERNEL, dtype="<f4", external=[("../../../../etc/passwd", 0, 4 * 216)]),
    "external_storage_of_memory": replaced(shape=KERNEL, dtype="<f4", external=[("/proc/self/mem", 0, 4 * 216)]),
    "external_link": linked(lambda file, kernel: h5py.ExternalLink("/etc/passwd", "/kernel")),
    "external_link_to_nothing": linked(lambda file, kernel: h5py.ExternalLink("other.h5", kernel)),
    "external_link_to_a_device": linked(lambda file, kernel: h5py.ExternalLink("/dev/zero", "/kernel")),
    "virtual": virtual,
    "soft_link_to_nothing": linked(lambda file, kernel: h5py.SoftLink("/nowhere")),
    "soft_link_to_itself": linked(lambda file, kernel: h5py.SoftLink("/" + kernel)),
    "named_type_instead": linked(lambda file, kernel: np.dtype("<f4")),
    "filter_unknown": filtered(32999, (1, 2, 3)),
}
for _name, _change in DATASETS.items():
    weights(_name, _change)
# Read in the end, or refused.
TOLERABLE = {
    "soft_link": linked(lambda file, kernel: h5py.SoftLink("/" + kernel[: -len(kernel.rpartition("/")[2])] + "bias")),
    "hard_link_besides": lambda file, kernel: file.__setitem__("besides", file[kernel]),
    "extra_dataset": lambda file, kernel: file.create_dataset("extra", data=np.zeros(4)),
    "big_endian": replaced(data=np.zeros(KERNEL, ">f4")),
    "double": replaced(data=np.zeros(KERNEL, "<f8")),
    "half": replaced(data=np.zeros(KERNEL, "<f2")),
    "not_a_number": replaced(data=np.full(KERNEL, np.nan, "<f4")),
    "chunked": replaced(**ZEROS, chunks=(1, 1, 3, 8)),
    "deflated": replaced(**ZEROS, compression="gzip"),
    "shuffled_and_summed": replaced(**ZEROS, compression="gzip", shuffle=True, fletcher32=True),
    "integers": replaced(data=np.zeros(KERNEL, "<i4")),
    "bool": replaced(data=np.zeros(KERNEL, bool)),
    "array_of_arrays": replaced(data=np.zeros(KERNEL[:2], "(3,8)<f4")),
    "resizable": replaced(**ZEROS, maxshape=(None, None, None, None)),
    "scaled": replaced(data=np.zeros(KERNEL, "<f4"), scaleoffset=3),
    "lzf": replaced(**ZEROS, compression="lzf"),
    "unallocated": unallocated(KERNEL),
    "deep_groups": deep_groups,
    "many_groups": many_groups,
    "circle_of_groups": circle_of_groups,
    "one_dataset_very_often": claims,
    "attribute_of_a_megabyte": lambda file, kernel: file[kernel].attrs.create("note", "x" * 2**20),
}
for _name, _change in TOLERABLE.items():
    weights(_name, _change, must_fail=False)




def bomb(suffix, units=25_000_000):
    """A layer of many units, whose kernel is zeros: most of a gigabyte in much less than a megabyte."""
    settings = configuration(suffix)
    hostile_keras_config.layer(settings, "d1")["config"]["units"] = units
    # One chunk, packed once, stands everywhere.
    packed = zlib.compress(bytes(4 * (units // 25)), 9)

    def change(file):
        folder, names = ("layers/dense/vars", "01") if suffix == ".keras" else ("model_weights/d1/d1", ("kernel", "bias"))
        for name, shape in zip(names, ((8, units), (units,))):
            del file[f"{folder}/{name}"]
            chunk = (1,) * (len(shape) - 1) + (units // 25,)
            made = file.create_dataset(f"{folder}/{name}", shape, "<f4", chunks=chunk, compression="gzip")
            for at in range(0, units, units // 25):
                for row in range(shape[0]) if len(shape) == 2 else (None,):
                    made.id.write_direct_chunk((at,) if row is None else (row, at), packed)

    return changed(suffix, json.dumps(settings).encode(), change)


for _suffix in FORMS:
    add(f"hdf5_bomb{_suffix.replace('.', '_')}", _suffix, lambda suffix=_suffix: bomb(suffix))


def patched(offset, data):
    """Bytes put over those of the HDF5 file."""

    def change(whole):
        whole[offset : offset + len(data)] = data
        return whole

    return change


# The superblock, version 0: signature, versions at 8 to 11, sizes of offsets and lengths at 13 and 14, ranks of B-trees at
# 16 and 18, base address at 24, end of file at 40, and from 56 on where the root is.
BYTES = {
    "signature": patched(0, b"\x89HDG"),
    "version_99": patched(8, b"\x63"),
    "offsets_of_no_bytes": patched(13, b"\0"),
    "offsets_of_255_bytes": patched(13, b"\xff"),
    "lengths_of_no_bytes": patched(14, b"\0"),
    "leaves_of_none": patched(16, b"\0\0"),
    "base_elsewhere": patched(24, b"\xff\xff\xff\x7f\0\0\0\0"),
    "ends_beyond": patched(40, b"\xff" * 7 + b"\x7f"),
    "ends_early": patched(40, (600).to_bytes(8, "little")),
    "root_nowhere": patched(64, b"\xff" * 8),
    "root_beyond": patched(64, (2**40).to_bytes(8, "little")),
    "root_in_the_superblock": patched(64, bytes(8)),
    "zeros": lambda whole: bytes(len(whole)),
    "empty": lambda whole: b"",
    "short": lambda whole: whole[:64],
    "signature_alone": lambda whole: whole[:8],
}


def damaged(name, change, must_fail=True):
    for suffix in FORMS:

        def content(suffix=suffix):
            data = bytes(change(bytearray(weights_of(suffix))))
            return with_member(WEIGHTS, data) if suffix == ".keras" else data

        add(f"hdf5_bytes_{name}{suffix.replace('.', '_')}", suffix, content, must_fail)


for _name, _change in BYTES.items():
    damaged(_name, _change)
damaged("before_it", lambda whole: bytes(512) + whole, must_fail=False)
damaged("behind_it", lambda whole: whole + bytes(4096), must_fail=False)


def attribute(place, name, value, **settings):
    return lambda file, kernel: file[place].attrs.create(name, value, **settings)


def no_attribute(place, name):
    def change(file, kernel):
        del file[place].attrs[name]

    return change


# What only the legacy file has: names of layers and weights as attributes.
LEGACY = {
    "configuration_missing": no_attribute("/", "model_config"),
    "configuration_number": attribute("/", "model_config", 7),
    "configuration_list": attribute("/", "model_config", np.array([b"{}", b"{}"])),
    "configuration_null": attribute("/", "model_config", h5py.Empty("S1")),
    "layer_names_missing": no_attribute("model_weights", "layer_names"),
    "layer_names_number": attribute("model_weights", "layer_names", 7),
    "layer_names_unknown": attribute("model_weights", "layer_names", np.array([b"nobody"])),
    "layer_names_upwards": attribute("model_weights", "layer_names", np.array([b"../../c1"])),
    "layer_names_numbers": attribute("model_weights", "layer_names", np.arange(9)),
    "weight_names_missing": no_attribute("model_weights/c1", "weight_names"),
    "weight_names_number": attribute("model_weights/c1", "weight_names", 7),
    "weight_names_unknown": attribute("model_weights/c1", "weight_names", np.array([b"nobody", b"nothing"])),
    "weight_names_short": attribute("model_weights/c1", "weight_names", np.array([b"c1/kernel"])),
    "weight_names_long": attribute("model_weights/c1", "weight_names", np.array([b"c1/kernel", b"c1/bias", b"c1/bias"])),
    "weight_names_twice": attribute("model_weights/c1", "weight_names", np.array([b"c1/kernel", b"c1/kernel"])),
    "weight_names_swapped": attribute("model_weights/c1", "weight_names", np.array([b"c1/bias", b"c1/kernel"])),
    "weight_names_upwards": attribute(
        "model_weights/c1", "weight_names", np.array([b"../../../etc/passwd", b"c1/bias"])
    ),
    "weight_names_no_text": attribute("model_weights/c1", "weight_names", np.array([b"\xff\xfe", b"c1/bias"])),
    "weight_names_empty": attribute("model_weights/c1", "weight_names", np.array([b"", b""])),
    "weight_names_null": attribute("model_weights/c1", "weight_names", h5py.Empty("S1")),
    "weights_missing": lambda file, kernel: file.__delitem__("model_weights"),
    "layer_missing": lambda file, kernel: file.__delitem__("model_weights/c1"),
    "layer_elsewhere": lambda file, kernel: (
        file.__delitem__("model_weights/c1"),
        file.__setitem__("model_weights/c1", h5py.ExternalLink("/etc/passwd", "/")),
    ),
}
for _name, _change in LEGACY.items():
    weights(f"legacy_{_name}", _change, forms=(".h5",))
