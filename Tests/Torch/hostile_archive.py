"""What a zip archive can lie about, whatever it holds: changes of a good archive's members, by name.

A change alters the list of members, and may return how the archive is written, or the bytes themselves.
"""

import hostile_zip
from hostile_zip import Entry


def largest(entries):
    return max(entries, key=lambda entry: len(entry.data))


def central(**fields):
    def change(entries):
        largest(entries).central.update(fields)

    return change


def local(**fields):
    def change(entries):
        largest(entries).local.update(fields)

    return change


def at_offset(offset):
    def change(entries):
        largest(entries).offset = offset

    return change


def extra_member(name, data=b"", **settings):
    def change(entries):
        entries.append(Entry(name, data, **settings))

    return change


def duplicate(entries):
    entries.append(Entry(largest(entries).name, b"\0" * len(largest(entries).data)))


def overlap(entries):
    entries[-1].offset = 0


def bomb(entries):
    big = largest(entries)
    big.data, big.deflate = b"\0" * 60_000_000, True


def bomb_claiming_little(entries):
    bomb(entries)
    largest(entries).central["size"] = largest(entries).local["size"] = 64


def no_member(*endings):
    def change(entries):
        entries[:] = [entry for entry in entries if not entry.name.endswith(tuple(e.encode() for e in endings))]

    return change


def many_members(entries):
    entries.extend(Entry(b"archive/extra/%d" % index, b"") for index in range(60_000))
    return {"align": 0}


ARCHIVE = {
    "empty": lambda entries: b"",
    "only_magic": lambda entries: b"PK\3\4",
    "only_end": lambda entries: hostile_zip.write([]),
    "zeros": lambda entries: b"\0" * 4096,
    "count_more": lambda entries: {"here": 60000, "total": 60000},
    "count_less": lambda entries: {"here": 1, "total": 1},
    "directory_beyond_the_file": lambda entries: {"offset": 0x7FFFFFFF},
    "directory_offset_zero": lambda entries: {"offset": 0},
    "directory_length_huge": lambda entries: {"length": 0x7FFFFFFF},
    "directory_length_zero": lambda entries: {"length": 0},
    "other_disk": lambda entries: {"disk": 3, "start_disk": 3},
    "prefix": lambda entries: {"prefix": b"#!/bin/sh\n", "offset": 7},
    "size64_without_record": lambda entries: {"offset": 0xFFFFFFFF, "length": 0xFFFFFFFF},
    "name_goes_up": extra_member(b"archive/../../etc/passwd"),
    "name_absolute": extra_member(b"/etc/passwd", b"x"),
    "name_backslash": extra_member(b"archive\\..\\x", b"x"),
    "name_no_text": extra_member(b"archive/\xff\xfe", b"x"),
    "name_with_zero": extra_member(b"archive/data\0/x", b"x"),
    "name_empty": extra_member(b"", b"x"),
    "name_endless": extra_member(b"archive/" + b"a" * 60000, b"x"),
    "name_differs": local(name=b"other/name"),
    "method_differs": local(method=8),
    "method_unknown": lambda entries: (central(method=99)(entries), local(method=99)(entries))[0],
    "encrypted": lambda entries: (central(flags=1)(entries), local(flags=1)(entries))[0],
    "packed_beyond_the_file": central(packed=0x7FFFFFFF, size=0x7FFFFFFF),
    "size_huge": central(size=0xFFFFFFF0),
    "sizes_differ": central(size=17),
    "local_extra_beyond": local(extra=65535),
    "offset_beyond_the_file": at_offset(0x7FFFFFFF),
    "offset_into_data": at_offset(40),
    "duplicate": duplicate,
    "overlap": overlap,
    "bomb": bomb,
    "bomb_claiming_little": bomb_claiming_little,
    "deflated_noise": lambda entries: (central(method=8)(entries), local(method=8)(entries))[0],
}
# Of these something good may come.
TOLERABLE_ARCHIVE = {
    "many_members": many_members,
    "comment": lambda entries: {"comment": b"PK\5\6" + b"\0" * 40},
}
