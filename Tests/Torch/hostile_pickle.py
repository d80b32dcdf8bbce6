"""Hostile files, the pickle of a GraphModule: calls of globals, damaged streams, tensors outside their storage."""

import io
import struct
import warnings

import torch

from hostile_corpus import HUGE, MARK, PAYLOAD, SHAPE, add, member, members, network, text, with_member


def pickled(name, change, must_fail=True):
    """`change` makes a new `data.pkl` of the good one."""
    add(
        f"pickle_{name}",
        ".pt",
        lambda: with_member(".pt", "data.pkl", change(member(members(".pt"), "data.pkl").data)),
        must_fail,
    )


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
    ("torch.nn.functional", "relu", "x"),
    ("torch.nn.functional", "threshold", "x"),
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
pickled(
    "stack_global", before_the_end(b"\x80\x04" + text("posix") + text("system") + b"\x93" + text(PAYLOAD) + b"\x85R.")
)
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
pickled(
    "integer_of_255_bytes",
    in_place_of(text("training") + b"q\x02\x89", text("training") + b"q\x02\x8a\xff" + b"\x7f" * 255),
    must_fail=False,
)
pickled("lists_200000_deep", lambda data: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")
pickled("tuples_200000_deep", lambda data: b"\x80\x02N" + b"\x85" * 200_000 + b".")
pickled("marks_200000", lambda data: b"\x80\x02" + b"(" * 200_000 + b".")
pickled("tuples_shared_2_to_the_60", lambda data: b"\x80\x02N" + b"q\x000h\x00h\x00\x86" * 60 + b".")
pickled("list_that_holds_itself", lambda data: b"\x80\x02]q\x00h\x00a.")
pickled("dict_that_holds_itself", lambda data: b"\x80\x02}q\x00" + text("a") + b"h\x00s.")
pickled(
    "memo_of_a_million",
    lambda data: b"\x80\x02N" + b"".join(b"r" + struct.pack("<I", i) for i in range(200_000)) + b".",
)
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
