"""Hostile files, the container: what hostile_archive.py does to archives, members of the wrong size, archives that are cut
off."""

import hostile_zip
from hostile_archive import ARCHIVE, TOLERABLE_ARCHIVE, largest, no_member
from hostile_corpus import add, good, member, members, without


def container(name, change, must_fail=True):
    """For both kinds: `change(entries)` alters the members, and may return how the archive is written."""
    for suffix in (".pt", ".pt2"):

        def content(suffix=suffix):
            entries = members(suffix)
            written = change(entries)
            return written if isinstance(written, bytes) else hostile_zip.write(entries, **(written or {}))

        add(f"zip_{name}{suffix.replace('.', '_')}", suffix, content, must_fail)


def storage_longer(entries):
    largest(entries).data += b"\0" * 4


def storage_shorter(entries):
    largest(entries).data = largest(entries).data[:-4]


def storage_empty(entries):
    largest(entries).data = b""


def damaged_checksum(entries):
    for entry in entries:
        if entry.name.endswith((b"data.pkl", b"model.json")):
            entry.central["crc"] = entry.local["crc"] = 0xDEADBEEF


CONTAINER = {
    "storage_longer": storage_longer,
    "storage_shorter": storage_shorter,
    "storage_empty": storage_empty,
    "without_program": no_member("data.pkl", "model.json"),
    "big_endian": lambda entries: setattr(member(entries, "byteorder"), "data", b"big"),
    "byte_order_unknown": lambda entries: setattr(member(entries, "byteorder"), "data", b"middle"),
}
for _name, _change in {**ARCHIVE, **CONTAINER}.items():
    container(_name, _change)
for _name, _change in TOLERABLE_ARCHIVE.items():
    container(_name, _change, must_fail=False)
container("damaged_checksum", damaged_checksum, must_fail=False)
for _suffix in (".pt", ".pt2"):
    for _part in range(1, 20):
        add(
            f"cut_at_{_part}_of_20{_suffix.replace('.', '_')}",
            _suffix,
            lambda suffix=_suffix, part=_part: good(suffix)[: len(good(suffix)) * part // 20],
        )
add("zip_without_first_storage", ".pt", lambda: without("data/0", ".pt"))
add("zip_without_weights_config", ".pt2", lambda: without("model_weights_config.json", ".pt2"))
add("zip_without_first_weight", ".pt2", lambda: without("weight_0", ".pt2"))
