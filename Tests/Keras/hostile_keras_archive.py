"""Hostile Keras files, the container: what hostile_archive.py does to archives, members that lack or are others, and files
that are cut off."""

import hostile_zip
from hostile_archive import ARCHIVE, TOLERABLE_ARCHIVE, no_member
from hostile_corpus import member
from hostile_keras_corpus import CONFIGURATION, FORMS, METADATA, WEIGHTS, add, good, members, with_member
from hostile_zip import Entry


def container(name, change, must_fail=True):
    def content():
        entries = members()
        written = change(entries)
        return written if isinstance(written, bytes) else hostile_zip.write(entries, **(written or {}))

    add(f"zip_{name}", ".keras", content, must_fail)


def configuration_bomb(entries):
    """A configuration that unpacks to half a gigabyte of spaces."""
    held = member(entries, CONFIGURATION)
    held.data, held.deflate = b" " * 500_000_000 + held.data, True


def second(name):
    def change(entries):
        entries.append(Entry(name.encode(), member(entries, name).data))

    return change


def wrong_checksum(name):
    def change(entries):
        held = member(entries, name)
        held.central["crc"] = held.local["crc"] = 0xDEADBEEF

    return change


MEMBERS = {
    "without_configuration": no_member(CONFIGURATION),
    "without_weights": no_member(WEIGHTS),
    "configuration_bomb": configuration_bomb,
    "configuration_twice": second(CONFIGURATION),
    "weights_twice": second(WEIGHTS),
    "weights_empty": lambda entries: setattr(member(entries, WEIGHTS), "data", b""),
    "weights_are_the_configuration": lambda entries: setattr(
        member(entries, WEIGHTS), "data", member(entries, CONFIGURATION).data
    ),
    "configuration_is_the_weights": lambda entries: setattr(
        member(entries, CONFIGURATION), "data", member(entries, WEIGHTS).data
    ),
    "all_within_a_folder": lambda entries: [setattr(entry, "name", b"model/" + entry.name) for entry in entries] and None,
}
for _name, _change in {**ARCHIVE, **MEMBERS}.items():
    container(_name, _change)
for _name, _change in TOLERABLE_ARCHIVE.items():
    container(_name, _change, must_fail=False)
container("checksum_of_weights", wrong_checksum(WEIGHTS), must_fail=False)
container("checksum_of_configuration", wrong_checksum(CONFIGURATION), must_fail=False)
container("without_metadata", no_member(METADATA), must_fail=False)
container(
    "assets", lambda entries: entries.append(Entry(b"assets/layers/x/vocabulary.txt", b"a\nb\n")), must_fail=False
)
METADATAS = {
    "empty": b"",
    "list": b"[]",
    "no_text": b'{"keras_version": "\xff"}',
    "version_number": b'{"keras_version": 3}',
    "version_99": b'{"keras_version": "99.0.0", "date_saved": "x"}',
    "version_1": b'{"keras_version": "1.2.0"}',
    "deep": b"[" * 200_000 + b"]" * 200_000,
}
for _name, _data in METADATAS.items():
    add(f"metadata_{_name}", ".keras", lambda data=_data: with_member(METADATA, data), must_fail=False)
for _suffix in FORMS:
    for _part in range(0, 20):
        add(
            f"cut_at_{_part}_of_20{_suffix.replace('.', '_')}",
            _suffix,
            lambda suffix=_suffix, part=_part: good(suffix)[: len(good(suffix)) * part // 20],
        )
