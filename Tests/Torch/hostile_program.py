"""Hostile files, exported programs: their JSON, the description of their weights, and their sample inputs."""

import json
import random

import hostile_zip
from hostile_corpus import EFFECT, HUGE, PAYLOAD, add, member, members, with_member, without
from hostile_pickle import before_the_end, calls
from hostile_zip import Entry


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
add("samples_missing", ".pt2", lambda: without("sample_inputs/model.pt", ".pt2"), must_fail=False)
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
