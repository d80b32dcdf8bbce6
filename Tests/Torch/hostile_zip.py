"""A zip writer that lies on demand: every field of the headers can be set apart from what is true."""

import dataclasses
import struct
import zlib


@dataclasses.dataclass
class Entry:
    """A member of the archive. What is None is written as it is; `central` and `local` override header fields."""

    name: bytes
    data: bytes
    deflate: bool = False
    central: dict = dataclasses.field(default_factory=dict)
    local: dict = dataclasses.field(default_factory=dict)
    # Where the central directory says it is, if not where it is.
    offset: int | None = None


def entries_of(archive):
    """The members of a well-formed archive, in order."""
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return [Entry(info.filename.encode(), file.read(info)) for info in file.infolist()]


FIELDS = {"version": 20, "flags": 0x800, "method": 0, "time": 0, "date": 0, "crc": 0, "packed": 0, "size": 0}


def write(entries, *, align=64, prefix=b"", comment=b"", **end):
    """The archive. `end` overrides fields of its last record: disk, start_disk, here, total, length, offset."""
    body, directory = bytearray(prefix), bytearray()
    for entry in entries:
        packed = entry.data
        if entry.deflate:
            compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = compressor.compress(entry.data) + compressor.flush()
        true = dict(FIELDS, crc=zlib.crc32(entry.data), packed=len(packed), size=len(entry.data))
        true["method"] = 8 if entry.deflate else 0
        local, central = {**true, **entry.local}, {**true, **entry.central}
        name = entry.local.get("name", entry.name)
        padding = -(len(body) + 30 + len(name) + 4) % align if align else 0
        extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding if align else b""
        offset = entry.offset if entry.offset is not None else len(body)
        body += (
            b"PK\3\4" + numbers(local) + struct.pack("<HH", len(name), local.get("extra", len(extra))) + name + extra
        )
        body += packed
        more = central.get("extra", b"")
        directory += b"PK\1\2" + struct.pack("<H", 20) + numbers(central)
        directory += struct.pack("<HHHHHII", len(entry.name), len(more), 0, 0, 0, central.get("attributes", 0), offset)
        directory += entry.name + more
    start = len(body)
    last = {"disk": 0, "start_disk": 0, "here": len(entries), "total": len(entries), "length": len(directory)}
    last = {**last, "offset": start, "comment": len(comment), **end}
    tail = b"PK\5\6" + struct.pack(
        "<HHHHIIH", *(last[key] & (0xFFFF if index < 4 else 0xFFFFFFFF) for index, key in enumerate(last))
    )
    return bytes(body + directory + tail + comment)


def numbers(fields):
    return struct.pack(
        "<HHHHHIII",
        *(fields[key] & (0xFFFF if index < 5 else 0xFFFFFFFF) for index, key in enumerate(FIELDS)),
    )
