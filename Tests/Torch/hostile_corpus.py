"""What the corpus of hostile files is made of: the good files, their members, and the list that all are added to.

What could be executed would make the file `MARK` in the working directory; nothing may.
"""

import io
import struct
import warnings
from typing import Callable, NamedTuple

import torch
from torch import nn

import hostile_zip

MARK = "espalier-was-here"
PAYLOAD = f"touch {MARK}"
EFFECT = f"open('{MARK}', 'w')"
HUGE = 2**62


class File(NamedTuple):
    """`must_fail`: no reading of it is right. Others may be answered with an error or a result."""

    suffix: str
    content: Callable[[], bytes]
    must_fail: bool = True


FILES: dict[str, File] = {}


def add(name, suffix, content, must_fail=True):
    assert name not in FILES, name
    FILES[name] = File(suffix, content, must_fail)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(288, 4)
    ).eval()


SHAPE = [1, 3, 8, 8]
_good: dict[str, bytes] = {}


def good(suffix):
    """The bytes of the file that all of a kind are made from."""
    if suffix not in _good:
        buffer = io.BytesIO()
        if suffix == ".pt":
            torch.save(torch.fx.symbolic_trace(network()), buffer)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.export.save(torch.export.export(network(), (torch.zeros(SHAPE),), strict=False), buffer)
        _good[suffix] = buffer.getvalue()
    return _good[suffix]


def members(suffix):
    return hostile_zip.entries_of(good(suffix))


def member(entries, ending):
    return next(entry for entry in entries if entry.name.endswith(ending.encode()))


def with_member(suffix, ending, data):
    entries = members(suffix)
    member(entries, ending).data = data
    return hostile_zip.write(entries)


def without(ending, suffix):
    entries = members(suffix)
    return hostile_zip.write([entry for entry in entries if not entry.name.endswith(ending.encode())])


def text(string):
    data = string.encode()
    return b"X" + struct.pack("<I", len(data)) + data
