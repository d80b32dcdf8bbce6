"""Hostile and damaged `.pt` and `.pt2` files, each made from a good one by one wrong thing: `FILES`, by name.

Every layer has its own: the zip container, the pickle, the Python text in it, the JSON of exported programs, the
weights. What could be executed would make the file `MARK` in the working directory or at the path given; nothing may.

    python Tests/Torch/make_hostile.py FOLDER

writes them all. Invariant: the same files every time, in the same order.
"""

import io
import json
import pathlib
import random
import struct
import sys
import warnings
from typing import Callable, NamedTuple

import torch
from torch import nn

import hostile_zip
from hostile_zip import Entry

MARK = "espalier-was-here"
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


# MARK: the good files


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


# MARK: the container


def container(name, change, must_fail=True):
    """For both kinds: `change(entries)` alters the members, and may return how the archive is written."""
    for suffix in (".pt", ".pt2"):

        def content(suffix=suffix):
            entries = members(suffix)
            written = change(entries)
            return written if isinstance(written, bytes) else hostile_zip.write(entries, **(written or {}))

        add(f"zip_{name}{suffix.replace('.', '_')}", suffix, content, must_fail)


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


def storage_longer(entries):
    largest(entries).data += b"\0" * 4


def storage_shorter(entries):
    largest(entries).data = largest(entries).data[:-4]


def storage_empty(entries):
    largest(entries).data = b""


def no_member(*endings):
    def change(entries):
        entries[:] = [entry for entry in entries if not entry.name.endswith(tuple(e.encode() for e in endings))]

    return change


def many_members(entries):
    entries.extend(Entry(b"archive/extra/%d" % index, b"") for index in range(60_000))
    return {"align": 0}


def damaged_checksum(entries):
    for entry in entries:
        if entry.name.endswith((b"data.pkl", b"model.json")):
            entry.central["crc"] = entry.local["crc"] = 0xDEADBEEF


CONTAINER = {
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
    "storage_longer": storage_longer,
    "storage_shorter": storage_shorter,
    "storage_empty": storage_empty,
    "without_program": no_member("data.pkl", "model.json"),
    "big_endian": lambda entries: setattr(member(entries, "byteorder"), "data", b"big"),
    "byte_order_unknown": lambda entries: setattr(member(entries, "byteorder"), "data", b"middle"),
}
for _name, _change in CONTAINER.items():
    container(_name, _change)
container("many_members", many_members, must_fail=False)
container("damaged_checksum", damaged_checksum, must_fail=False)
container("comment", lambda entries: {"comment": b"PK\5\6" + b"\0" * 40}, must_fail=False)
for _suffix in (".pt", ".pt2"):
    for _part in range(1, 20):
        add(
            f"cut_at_{_part}_of_20{_suffix.replace('.', '_')}",
            _suffix,
            lambda suffix=_suffix, part=_part: good(suffix)[: len(good(suffix)) * part // 20],
        )
add("zip_without_first_storage", ".pt", lambda: without("data/0"))
add("zip_without_weights_config", ".pt2", lambda: without("model_weights_config.json", suffix=".pt2"))
add("zip_without_first_weight", ".pt2", lambda: without("weight_0", suffix=".pt2"))


def without(ending, suffix=".pt"):
    entries = members(suffix)
    no_member(ending)(entries)
    return hostile_zip.write(entries)


# MARK: the pickle


def with_member(suffix, ending, data):
    entries = members(suffix)
    member(entries, ending).data = data
    return hostile_zip.write(entries)


def pickled(name, change, must_fail=True):
    """`change` makes a new `data.pkl` of the good one."""
    add(
        f"pickle_{name}",
        ".pt",
        lambda: with_member(".pt", "data.pkl", change(member(members(".pt"), "data.pkl").data)),
        must_fail,
    )


PAYLOAD = f"touch {MARK}"


def text(string):
    data = string.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def calls(module, name, *arguments, opcode=b"R"):
    """A stream that calls a global when a pickle machine runs it."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(map(text, arguments)) + b"t" + opcode + b"."


def before_the_end(stream):
    """The good stream with another one run for its effect, just before it ends."""
    return lambda data: data[:-1] + stream[2:-1] + b"0."


def in_place_of(old, new):
    def change(data):
        assert old in data, old
        return data.replace(old, new, 1)

    return change


FORBIDDEN = [
    ("posix", "system", PAYLOAD),
    ("os", "system", PAYLOAD),
    ("nt", "system", PAYLOAD),
    ("builtins", "eval", f"open('{MARK}','w')"),
    ("builtins", "exec", f"open('{MARK}','w')"),
    ("__builtin__", "eval", f"open('{MARK}','w')"),
    ("__builtin__", "getattr", "x"),
    ("builtins", "__import__", "os"),
    ("subprocess", "getoutput", PAYLOAD),
    ("subprocess", "Popen", PAYLOAD),
    ("runpy", "run_path", "x"),
    ("importlib", "import_module", "os"),
    ("torch.hub", "load", "x"),
    ("torch", "load", "x"),
    ("torch.serialization", "load", "x"),
    ("torch.utils.cpp_extension", "load_inline", "x"),
    ("torch.jit", "load", "x"),
    ("torch.fx.graph_module", "_forward_from_src", "x"),
    ("torch.fx.graph_module", "_exec_with_source", f"open('{MARK}','w')"),
    ("torch.nn.modules.module", "os.system", PAYLOAD),
    ("torch._utils.os", "system", PAYLOAD),
    ("numpy.core.multiarray", "_reconstruct", "x"),
    ("shutil", "rmtree", "x"),
    ("pickle", "loads", "x"),
    ("collections", "namedtuple", "x"),
    ("torch._utils", "_rebuild_device_tensor_from_numpy", "x"),
]
for _module, _name, _argument in FORBIDDEN:
    _key = f"{_module}.{_name}".replace(".", "_")
    pickled(f"calls_{_key}", before_the_end(calls(_module, _name, _argument)))
pickled("is_nothing_but_a_call", lambda data: calls("posix", "system", PAYLOAD))
pickled("newobj_of_popen", before_the_end(calls("subprocess", "Popen", PAYLOAD, opcode=b"\x81")))
pickled("stack_global", before_the_end(b"\x80\x04" + text("posix") + text("system") + b"\x93" + text(PAYLOAD) + b"\x85R."))
pickled("inst", before_the_end(b"\x80\x02(" + text(PAYLOAD) + b"iposix\nsystem\n."))
pickled("obj", before_the_end(b"\x80\x02(cposix\nsystem\n" + text(PAYLOAD) + b"o."))
pickled("extension", before_the_end(b"\x80\x02\x82\x01."))
pickled("extension4", before_the_end(b"\x80\x02\x84\xff\xff\xff\x7f."))
pickled("persistent_text", before_the_end(b"\x80\x02P0\n."))
pickled("next_buffer", before_the_end(b"\x80\x05\x97."))
pickled("newobj_ex", before_the_end(b"\x80\x04cposix\nsystem\n)}\x92."))
pickled("unknown_opcode", before_the_end(b"\x80\x02\xff."))
pickled("class_is_forbidden", in_place_of(b"ctorch.nn.modules.conv\nConv2d\n", b"csubprocess\nPopen\n"))
pickled("class_of_the_user", in_place_of(b"ctorch.nn.modules.conv\nConv2d\n", b"c__main__\nMine\n"))
pickled("tracer_is_forbidden", in_place_of(b"ctorch.fx._symbolic_trace\nTracer\n", b"cposix\nsystem\n"))
pickled("root_is_forbidden", in_place_of(b"ctorch.fx.graph_module\nreduce_graph_module\n", b"cposix\nsystem\n"))
pickled("rebuilder_is_forbidden", in_place_of(b"ctorch._utils\n_rebuild_tensor_v2\n", b"cposix\nsystem\n"))
pickled("storage_is_forbidden", in_place_of(b"ctorch\nFloatStorage\n", b"cposix\nsystem\n"))
pickled("global_with_escape", in_place_of(b"ctorch\nFloatStorage\n", b"ctorch\nFloat\xffStorage\n"))
pickled("global_without_end", lambda data: data[:2] + b"c" + b"a" * 100_000)
pickled("empty", lambda data: b"")
pickled("only_stop", lambda data: b".")
pickled("no_stop", lambda data: data[:-1])
pickled("more_behind_stop", lambda data: data + calls("posix", "system", PAYLOAD), must_fail=False)
pickled("protocol_200", lambda data: b"\x80\xc8" + data[2:])
pickled("stack_underflow", lambda data: b"\x80\x02ttt.")
pickled("no_mark", lambda data: b"\x80\x02KKt.")
pickled("reduce_of_a_number", lambda data: b"\x80\x02K\x01)R.")
pickled("build_of_a_number", lambda data: b"\x80\x02K\x01}b.")
pickled("setitems_of_a_string", lambda data: b"\x80\x02" + text("x") + b"(K\x01K\x02u.")
pickled("setitems_odd", lambda data: b"\x80\x02}(K\x01u.")
pickled("append_to_a_number", lambda data: b"\x80\x02K\x01K\x02a.")
pickled("unhashable_key", lambda data: b"\x80\x02}]K\x01s.")
pickled("memo_unset", lambda data: b"\x80\x02h\xfe.")
pickled("memo_far", lambda data: b"\x80\x02Nr\xff\xff\xff\x7f.")
pickled("string_longer_than_the_file", lambda data: b"\x80\x02X\xff\xff\xff\x7fabc.")
pickled("string_of_4_gigabytes", lambda data: b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"abc.")
pickled("string_no_text", in_place_of(text("training"), b"X\x08\0\0\0" + b"\xff" * 8))
pickled("string_half_a_surrogate", in_place_of(text("training"), b"X\x08\0\0\0\xed\xa0\x80train"))
pickled("integer_of_2_gigabytes", lambda data: b"\x80\x02\x8b\xff\xff\xff\x7f.")
pickled("integer_of_255_bytes", in_place_of(text("training") + b"q\x02\x89", text("training") + b"q\x02\x8a\xff" + b"\x7f" * 255))
pickled("lists_200000_deep", lambda data: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")
pickled("tuples_200000_deep", lambda data: b"\x80\x02N" + b"\x85" * 200_000 + b".")
pickled("marks_200000", lambda data: b"\x80\x02" + b"(" * 200_000 + b".")
pickled("tuples_shared_2_to_the_60", lambda data: b"\x80\x02N" + b"q\x000h\x00h\x00\x86" * 60 + b".")
pickled("list_that_holds_itself", lambda data: b"\x80\x02]q\x00h\x00a.")
pickled("dict_that_holds_itself", lambda data: b"\x80\x02}q\x00" + text("a") + b"h\x00s.")
pickled("memo_of_a_million", lambda data: b"\x80\x02N" + b"".join(b"r" + struct.pack("<I", i) for i in range(200_000)) + b".")
pickled("state_dict", lambda data: b"\x80\x02}" + text("weight") + b"Ns.")
pickled("text_protocol", lambda data: b"(dp0\nS'a'\np1\nI1\ns.")


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


add("pickle_eager_module", ".pt", lambda: saved(network()))
add("pickle_only_weights", ".pt", lambda: saved(network().state_dict()))
add("pickle_only_a_tensor", ".pt", lambda: saved(torch.zeros(3)))
add("pickle_old_archive", ".pt", lambda: old_archive())
add("torchscript", ".pt", lambda: scripted())
add("pickle_bare", ".pt", lambda: calls("posix", "system", PAYLOAD))
add("pickle_bare_2", ".pt2", lambda: calls("posix", "system", PAYLOAD))


def old_archive():
    buffer = io.BytesIO()
    torch.save(network().state_dict(), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def scripted():
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network(), torch.zeros(SHAPE)), buffer)
    return buffer.getvalue()


# Tensors as the pickle describes them: K0 (offset), sizes, strides of the first weight (8, 3, 3, 3).
SIZES, STRIDES = b"(K\x08K\x03K\x03K\x03t", b"(K\x1bK\tK\x03K\x01t"


def long(number):
    data = number.to_bytes((number.bit_length() + 8) // 8 or 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


# The persistent id of the first storage ends with its number of elements.
COUNT = b"K\xd8t"


def storage_key(key):
    def change(data):
        at = data.index(text("0"), data.index(b"FloatStorage"))
        return data[:at] + text(key) + data[at + len(text("0")) :]

    return change


def weight(name, sizes=None, strides=None):
    def change(data):
        at = data.index(SIZES)
        for old, new in ((SIZES, sizes), (STRIDES, strides)):
            if new is not None:
                here = data.index(old, at)
                data = data[:here] + b"(" + b"".join(map(long, new)) + b"t" + data[here + len(old) :]
        return data

    pickled(f"weight_{name}", change)


weight("larger_than_its_storage", sizes=[9, 3, 3, 3])
weight("negative_size", sizes=[-8, 3, 3, 3])
weight("huge_sizes", sizes=[HUGE, HUGE, HUGE, HUGE])
weight("sizes_that_overflow_to_zero", sizes=[2**32, 2**32, 1, 1])
weight("negative_stride", strides=[-27, 9, 3, 1])
weight("huge_stride", strides=[HUGE, 9, 3, 1])
weight("strides_short", strides=[1])
weight("sizes_of_1000_axes", sizes=[1] * 1000, strides=[1] * 1000)
weight("size_beyond_64_bits", sizes=[2**70, 3, 3, 3])
weight("zero_strides_that_claim_much", sizes=[2**40, 3, 3, 3], strides=[0, 0, 0, 0])
weight("zero_channels", sizes=[0, 3, 3, 3])
pickled("module_name_goes_up", in_place_of(text("0"), text("../../../../etc/passwd")))
pickled("storage_key_goes_up", storage_key("../../../../etc/passwd"))
pickled("storage_key_absolute", storage_key("/etc/passwd"))
pickled("storage_key_missing", storage_key("777"))
pickled("storage_key_empty", storage_key(""))
pickled("storage_elements_more", in_place_of(COUNT, b"K\xd9" + COUNT[2:]))
pickled("storage_elements_huge", in_place_of(COUNT, long(HUGE) + COUNT[2:]))
pickled("storage_elements_negative", in_place_of(COUNT, long(-1) + COUNT[2:]))
pickled("storage_of_other_type", in_place_of(b"ctorch\nFloatStorage\n", b"ctorch\nDoubleStorage\n"))
pickled("attribute_missing", in_place_of(text("groups"), text("groupz")))
pickled("groups_zero", in_place_of(text("groups") + b"qcK\x01", text("groups") + b"qcK\0"))


# MARK: the Python text


def code_of(data):
    start = data.index(b"\n\n\ndef forward")
    length = struct.unpack("<I", data[start - 4 : start])[0]
    return start - 5, data[start : start + length].decode()


def coded(name, change, must_fail=True):
    """`change` makes a new forward of the good one's text."""

    def content(data):
        at, old = code_of(data)
        new = change(old)
        return data[:at] + text(new) + data[at + 5 + len(old.encode()) :]

    pickled(f"code_{name}", content, must_fail)


def line(statement):
    """The statement as the last line before the return."""
    return lambda code: code.replace("    return", f"    {statement}\n    return", 1)


EFFECT = f"open('{MARK}', 'w')"
STATEMENTS = {
    "import": "import os",
    "import_and_call": f"import os; os.system('{PAYLOAD}')",
    "dunder_import": f"a = __import__('os').system('{PAYLOAD}');  a = None",
    "open": f"a = {EFFECT};  a = None",
    "eval": f"a = eval(\"{EFFECT}\");  a = None",
    "exec": f"exec(\"{EFFECT}\")",
    "lambda": f"a = (lambda: {EFFECT})();  a = None",
    "comprehension": f"a = [{EFFECT} for b in range(3)];  a = None",
    "conditional": f"a = 1 if {EFFECT} else 2;  a = None",
    "nested_call": f"a = torch.relu({EFFECT});  a = None",
    "call_in_subscript": f"a = _5[{EFFECT}];  a = None",
    "class": f"class A: a = {EFFECT}",
    "with": f"with {EFFECT} as a: pass",
    "while": "while True: pass",
    "for": "for a in _5: pass",
    "if": f"if True: {EFFECT}",
    "try": "try: pass",
    "global": "global torch",
    "del": "del _5",
    "assert": f"assert {EFFECT}",
    "raise": "raise ValueError",
    "yield": "a = yield _5",
    "await": "a = await _5",
    "walrus": f"a = (b := {EFFECT});  a = None",
    "f_string": "a = torch.relu(f'{" + f"open(\\'{MARK}\\')" + "}');  a = None",
    "decorator": "@eval",
    "attribute_of_class": "a = self.__class__;  a = None",
    "attribute_of_dict": "a = self.__dict__;  a = None",
    "attribute_globals": "a = self.forward.__globals__;  a = None",
    "subclasses": "a = torch.Tensor.__subclasses__();  a = None",
    "torch_load": "a = torch.load('x');  a = None",
    "torch_hub": "a = torch.hub.load('x', 'y');  a = None",
    "torch_os": f"a = torch.os.system('{PAYLOAD}');  a = None",
    "torch_ops_load": "a = torch.ops.load_library('x');  a = None",
    "torch_save": f"a = torch.save(_5, '{MARK}');  a = None",
    "from_file": f"a = torch.from_file('{MARK}', True, 10);  a = None",
    "getattr_dunder": "a = getattr(self, '__class__');  a = None",
    "assigns_to_self": "self.a = _5",
    "assigns_to_torch": "torch.relu = print",
    "assigns_to_subscript": "_5[0] = 1",
    "augmented": "_5 += 1",
    "star": "a = torch.cat(*_5);  a = None",
    "double_star": "a = torch.relu(**_5);  a = None",
    "unknown_module": 'a = getattr(self, "99")(_5);  a = None',
    "unknown_name": "a = torch.relu(nobody);  a = None",
    "unclosed_text": "a = 'never closed",
    "unclosed_bracket": "a = torch.relu((((_5",
    "closed_too_often": "a = torch.relu(_5)))",
    "zero_byte": "a = \0",
    "no_text": "a = \ud7ff\u202e",
    "tabs": "\ta = 1",
    "backslash": "a = \\\n1",
    "semicolons": "a = 1; b = 2; c = 3",
    "comment_hides": f"a = 1 # \r    {EFFECT}",
    "form_feed": f"a = 1\f{EFFECT}",
    "carriage_return": f"a = 1\r    {EFFECT}",
    "triple_quotes": f"'''\n    '''; {EFFECT}",
    "huge_integer": "a = torch.relu(_5, " + "9" * 5000 + ");  a = None",
    "huge_exponent": "a = _5 * 1e999999;  a = None",
    "deep_brackets": "a = torch.relu(" + "(" * 50_000 + ")" * 50_000 + ");  a = None",
    "deep_lists": "a = torch.relu(" + "[" * 50_000 + "]" * 50_000 + ");  a = None",
    "deep_minus": "a = " + "-" * 50_000 + "1;  a = None",
    "long_name": "a" * 1_000_000 + " = _5",
}
# Statements that the text's own grammar might well have, and that say nothing dangerous.
HARMLESS = {"huge_exponent", "no_text", "long_name", "deep_minus", "tabs", "assert", "unknown_name"}
for _name, _statement in STATEMENTS.items():
    coded(_name, line(_statement), must_fail=_name not in HARMLESS)
coded("empty", lambda code: "")
coded("no_return", lambda code: code[: code.index("    return")])
coded("two_functions", lambda code: code + code.replace("forward", "backward"))
coded("decorated", lambda code: code.replace("def forward", f"@{EFFECT}\ndef forward", 1))
coded("default_is_a_call", lambda code: code.replace("(self, input)", f"(self, input = {EFFECT})", 1))
coded("annotation_is_a_call", lambda code: code.replace("forward(self, input", f"forward(self, input : {EFFECT}", 1))
coded("other_name", lambda code: code.replace("def forward", "def __init__", 1))
coded("async", lambda code: code.replace("def forward", "async def forward", 1))
coded("statement_before", lambda code: f"{EFFECT}\n" + code)
coded("statement_behind", lambda code: code + f"\n{EFFECT}\n")
coded("wraps_a_builtin", lambda code: 'torch.fx._symbolic_trace.wrap("eval")\n' + code, must_fail=False)
coded("two_megabytes", lambda code: code.replace("    return", "    a = torch.relu(_5);  a = None\n" * 50_000 + "    return"), must_fail=False)

IMPORTS = {
    "system": f"import os\nos.system('{PAYLOAD}')",
    "expression": EFFECT,
    "semicolon": f"import torch; {EFFECT}",
    "relu_is_system": "from os import system as relu",
    "star": "from os import *",
    "torch_is_os": "import os as torch",
    "continued": f"import torch \\\n, os",
    "none_type_is_a_call": f"NoneType = {EFFECT}",
    "relative": "from . import x",
    "bracketed": "from os import (system)",
}
for _name, _statement in IMPORTS.items():
    pickled(
        f"imports_{_name}",
        lambda data, statement=_statement: replace_imports(data, statement),
    )


def replace_imports(data, statement):
    at = data.index(b"NoneType = type(None)")
    length = struct.unpack("<I", data[at - 4 : at])[0]
    old = data[at : at + length].decode()
    return data[: at - 5] + text(old + "\n" + statement) + data[at + length :]


# MARK: the JSON of exported programs


def program(name, change, must_fail=True, ending="models/model.json"):
    """`change` alters the parsed JSON, or returns other bytes."""

    def content():
        entries = members(".pt2")
        held = member(entries, ending)
        parsed = json.loads(held.data)
        changed = change(parsed)
        held.data = changed if isinstance(changed, bytes) else json.dumps(parsed).encode()
        return hostile_zip.write(entries)

    add(f"json_{name}", ".pt2", content, must_fail)


def weights_config(name, change, must_fail=True):
    program(f"weights_{name}", change, must_fail, ending="model_weights_config.json")


def graph(parsed):
    return parsed["graph_module"]["graph"]


def node(index, **members_):
    return lambda parsed: graph(parsed)["nodes"][index].update(members_)


def first_value(**members_):
    def change(parsed):
        next(iter(graph(parsed)["tensor_values"].values())).update(members_)

    return change


def put(value, *path):
    """Sets the member at the path; the last step may be a function of the holder."""

    def change(parsed):
        for step in path[:-1]:
            parsed = parsed[step]
        parsed[path[-1]] = value

    return change


def expression(value):
    return first_value(sizes=[{"as_expr": {"expr_str": value, "hint": {"as_int": 8}}}] + [{"as_int": 3}] * 3)


GRAPH = ("graph_module", "graph")
PROGRAMS = {
    "empty": lambda parsed: b"",
    "no_json": lambda parsed: b"{",
    "null": lambda parsed: b"null",
    "list": lambda parsed: b"[]",
    "no_text": lambda parsed: b'{"a": "\xff\xfe"}',
    "zero_byte": lambda parsed: b'{"a\\u0000": 1}',
    "deep_lists": lambda parsed: b"[" * 200_000 + b"]" * 200_000,
    "deep_objects": lambda parsed: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "member_twice": lambda parsed: json.dumps(parsed).encode()[:-1] + b', "schema_version": {"major": 8, "minor": 20}}',
    "integer_huge": lambda parsed: json.dumps(parsed).encode().replace(b'"major": 8', b'"major": ' + b"8" * 400),
    "real_huge": lambda parsed: json.dumps(parsed).encode().replace(b'"major": 8', b'"major": 1e999'),
    "trailing": lambda parsed: json.dumps(parsed).encode() + b"{}",
    "major_9": put(9, "schema_version", "major"),
    "major_5": put(5, "schema_version", "major"),
    "major_text": put("8", "schema_version", "major"),
    "no_version": lambda parsed: parsed.pop("schema_version") and None,
    "no_graph": lambda parsed: parsed["graph_module"].pop("graph") and None,
    "no_signature": lambda parsed: parsed["graph_module"].pop("signature") and None,
    "nodes_object": put({}, *GRAPH, "nodes"),
    "nodes_null": put(None, *GRAPH, "nodes"),
    "nodes_empty": put([], *GRAPH, "nodes"),
    "node_null": put(None, *GRAPH, "nodes", 0),
    "node_twice": lambda parsed: graph(parsed)["nodes"].insert(1, graph(parsed)["nodes"][0]),
    "nodes_backwards": lambda parsed: graph(parsed)["nodes"].reverse(),
    "outputs_empty": put([], *GRAPH, "outputs"),
    "outputs_unknown": put([{"as_tensor": {"name": "nobody"}}], *GRAPH, "outputs"),
    "inputs_empty": put([], *GRAPH, "inputs"),
    "inputs_twice": lambda parsed: graph(parsed)["inputs"].append(graph(parsed)["inputs"][0]),
    "values_empty": put({}, *GRAPH, "tensor_values"),
    "argument_unknown": node(0, inputs=[{"name": "input", "arg": {"as_tensor": {"name": "nobody"}}, "kind": 1}]),
    "argument_of_two_kinds": node(0, inputs=[{"name": "input", "arg": {"as_int": 1, "as_none": True}, "kind": 1}]),
    "argument_of_no_kind": node(0, inputs=[{"name": "input", "arg": {}, "kind": 1}]),
    "argument_of_unknown_kind": node(0, inputs=[{"name": "input", "arg": {"as_python": EFFECT}, "kind": 1}]),
    "node_without_inputs": node(0, inputs=[]),
    "node_without_outputs": node(0, outputs=[]),
    "output_taken": node(1, outputs=[{"as_tensor": {"name": "conv2d"}}]),
    "target_system": node(0, target="os.system"),
    "target_eval": node(0, target="builtins.eval"),
    "target_import": node(0, target="torch.os.system"),
    "target_empty": node(0, target=""),
    "target_number": node(0, target=7),
    "target_load_library": node(0, target="torch.ops.load_library"),
    "dtype_unknown": first_value(dtype=999),
    "dtype_text": first_value(dtype="FLOAT"),
    "layout_sparse": first_value(layout=1),
    "sizes_negative": first_value(sizes=[{"as_int": -8}] + [{"as_int": 3}] * 3),
    "sizes_huge": first_value(sizes=[{"as_int": HUGE}] * 4),
    "sizes_short": first_value(sizes=[{"as_int": 8}]),
    "sizes_real": first_value(sizes=[{"as_int": 8.5}] + [{"as_int": 3}] * 3),
    "expression_import": expression(f"__import__('os').system('{PAYLOAD}')"),
    "expression_lambda": expression(f"(lambda: {EFFECT})()"),
    "expression_attribute": expression("Integer(1).__class__"),
    "expression_deep": expression("Mul(" * 50_000 + "1" + ")" * 50_000),
    "expression_power": expression("Pow(Integer(10), Pow(Integer(10), Integer(10)))"),
    "expression_unclosed": expression("Mul(Integer(2), "),
    "guards_code": put([f"__import__('os').system('{PAYLOAD}')"], "guards_code"),
    "range_text": put({f"{EFFECT}": {"min_val": 1, "max_val": 2}}, "range_constraints"),
    "parameter_unknown": put("nobody", "graph_module", "signature", "input_specs", 0, "parameter", "parameter_name"),
    "parameter_twice": put("1.weight", "graph_module", "signature", "input_specs", 0, "parameter", "parameter_name"),
    "spec_unknown": put({"python": EFFECT}, "graph_module", "signature", "input_specs", 0),
    "specs_short": lambda parsed: parsed["graph_module"]["signature"]["input_specs"].pop() and None,
    "stride_zero": lambda parsed: stride(parsed, 0),
    "stride_huge": lambda parsed: stride(parsed, HUGE),
}
# What only tells people something, or what other versions may say.
TOLERABLE = {"range_text", "guards_code", "sizes_short", "layout_sparse", "dtype_text", "values_empty", "real_huge"}
for _name, _change in PROGRAMS.items():
    program(_name, _change, _name not in TOLERABLE)


def stride(parsed, value):
    inputs = graph(parsed)["nodes"][0]["inputs"]
    inputs[:] = [argument for argument in inputs if argument["name"] != "stride"]
    inputs.append({"name": "stride", "arg": {"as_ints": [value, value]}, "kind": 1})


def entry(**members_):
    return lambda parsed: parsed["config"]["0.weight"].update(members_)


def meta(**members_):
    return lambda parsed: parsed["config"]["0.weight"]["tensor_meta"].update(members_)


def integers(*values):
    return [{"as_int": value} for value in values]


CONFIGS = {
    "empty": lambda parsed: b"",
    "list": lambda parsed: b"[]",
    "without_one": lambda parsed: parsed["config"].pop("0.weight") and None,
    "null": put(None, "config", "0.weight"),
    "path_goes_up": entry(path_name="../../../../../etc/passwd"),
    "path_absolute": entry(path_name="/etc/passwd"),
    "path_missing": entry(path_name="weight_777"),
    "path_empty": entry(path_name=""),
    "path_number": entry(path_name=7),
    "path_of_the_program": entry(path_name="../../models/model.json"),
    "pickled": entry(use_pickle=True),
    "sizes_larger": meta(sizes=integers(9, 3, 3, 3)),
    "sizes_negative": meta(sizes=integers(-8, 3, 3, 3)),
    "sizes_huge": meta(sizes=integers(HUGE, HUGE, HUGE, HUGE)),
    "sizes_overflow": meta(sizes=integers(2**32, 2**32, 1, 1)),
    "sizes_zero_strides": meta(sizes=integers(2**40, 3, 3, 3), strides=integers(0, 0, 0, 0)),
    "strides_negative": meta(strides=integers(-27, 9, 3, 1)),
    "strides_huge": meta(strides=integers(HUGE, 9, 3, 1)),
    "strides_short": meta(strides=integers(1)),
    "offset_beyond": meta(storage_offset={"as_int": 10**9}),
    "offset_negative": meta(storage_offset={"as_int": -1}),
    "offset_huge": meta(storage_offset={"as_int": HUGE}),
    "dtype_unknown": meta(dtype=999),
    "dtype_wider": meta(dtype=8),
    "dtype_other": meta(dtype=5),
    "layout_sparse": meta(layout=1),
    "symbolic_size": meta(sizes=[{"as_expr": {"expr_str": "s0", "hint": {"as_int": 8}}}, *integers(3, 3, 3)]),
}
for _name, _change in CONFIGS.items():
    weights_config(_name, _change)


def sample_inputs(data):
    return lambda: with_member(".pt2", "sample_inputs/model.pt", data())


def hostile_samples():
    """The archive within the archive, which PyTorch unpickles when it loads the program."""
    entries = hostile_zip.entries_of(member(members(".pt2"), "sample_inputs/model.pt").data)
    held = member(entries, "data.pkl")
    held.data = before_the_end(calls("posix", "system", PAYLOAD))(held.data)
    return hostile_zip.write(entries)


add("samples_call_system", ".pt2", sample_inputs(hostile_samples))
add("samples_bare_pickle", ".pt2", sample_inputs(lambda: calls("posix", "system", PAYLOAD)))
add("samples_noise", ".pt2", sample_inputs(lambda: random.Random(3).randbytes(500)), must_fail=False)
add("samples_missing", ".pt2", lambda: without("sample_inputs/model.pt", suffix=".pt2"), must_fail=False)
add("compiled_code", ".pt2", lambda: with_extra("data/aotinductor/model/a.so", b"\x7fELF"))
add("format_other", ".pt2", lambda: with_member(".pt2", "archive_format", b"pt3"))
add("format_version_99", ".pt2", lambda: with_member(".pt2", "archive_version", b"99"))
add("old_exported_program", ".pt2", lambda: old_program())


def with_extra(name, data):
    entries = members(".pt2")
    root = entries[0].name.split(b"/")[0]
    return hostile_zip.write([*entries, Entry(root + b"/" + name.encode(), data)])


def old_program():
    names = ("serialized_exported_program.json", "serialized_state_dict.pt", "serialized_constants.pt")
    return hostile_zip.write([*(Entry(name.encode(), b"{}") for name in names), Entry(b"version", b"5.3")])


# MARK: noise


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
