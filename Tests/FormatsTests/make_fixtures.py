"""Makes the models in Fixtures/ with the onnx package, and for those that end in .before.onnx the .after.onnx that the
same edits, made with onnx and numpy, lead to: the tests compare bytes with them.

    python make_fixtures.py        (needs onnx and numpy)
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent / "Fixtures"
UNKNOWN = b"\xc2\x3e\x03abc\xc8\x3e\x2a"  # field 1000, bytes "abc"; field 1001, varint 42


def values(*shape, dtype=np.float32):
    """Elements that tell where they were: 0, 1, 2, ..."""
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape).astype(dtype)


def raw(name, array):
    return numpy_helper.from_array(array, name)


def info(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, list(shape))


def model(graph, opset=17, ir=8, **more):
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir, **more)


def save(m, name):
    (HERE / name).write_bytes(m.SerializeToString())


def cut(tensor, *kept):
    """The TensorProto with `kept` (a list of indices or None) of each axis, its fields otherwise as they were."""
    array = numpy_helper.to_array(tensor)
    for axis, indices in enumerate(kept):
        if indices is not None:
            array = array.take(indices, axis)
    new = TensorProto()
    new.CopyFrom(tensor)
    del new.dims[:]
    new.dims.extend(array.shape)
    if tensor.HasField("raw_data"):
        new.raw_data = numpy_helper.from_array(np.ascontiguousarray(array)).raw_data
    else:
        flat = numpy_helper.to_array(tensor).reshape(-1)
        positions = np.arange(flat.size).reshape(tuple(tensor.dims))
        for axis, indices in enumerate(kept):
            if indices is not None:
                positions = positions.take(indices, axis)
        for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            old = list(getattr(tensor, field))
            if old:
                width = len(old) // flat.size  # complex numbers are two entries
                del getattr(new, field)[:]
                getattr(new, field).extend(old[p * width + k] for p in positions.reshape(-1) for k in range(width))
    tensor.CopyFrom(new)


def by_name(things, name):
    return next(t for t in things if t.name == name)


def convolutions():
    """Conv, BatchNormalization, Relu, grouped Conv, and a Slice and Reshape that know the width. Fields that nobody
    knows, documentation and metadata everywhere; names that a new one collides with."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", kernel_shape=[3, 3], doc_string="first"),
        helper.make_node("BatchNormalization", ["c1", "s", "b", "m", "v"], ["n1"], name="bn"),
        helper.make_node("Relu", ["n1"], ["r1"], name="relu"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", group=2, kernel_shape=[1, 1]),
        helper.make_node("Reshape", ["c2", "shape"], ["flat"], name="reshape"),
        helper.make_node("Reshape", ["c2", "shape"], ["flat2"], name="reshape_input1"),
        helper.make_node("Slice", ["r1", "starts", "ends", "axes"], ["part"], name="slice"),
        helper.make_node("Shape", ["c2"], ["dynamic"], name="shape_of"),
        helper.make_node("Expand", ["one", "dynamic"], ["y2"], name="expand"),
    ]
    nodes[0].MergeFromString(UNKNOWN)
    nodes[3].attribute[0].MergeFromString(UNKNOWN)
    nodes[4].MergeFromString(UNKNOWN)
    nodes[6].metadata_props.add(key="origin", value="a slice")
    tensors = [
        raw("w1", values(8, 3, 3, 3)), raw("b1", values(8)), raw("s", values(8)), raw("b", values(8)),
        raw("m", values(8)), raw("v", values(8) + 1), raw("w2", values(6, 4, 1, 1)),
        raw("shape", np.array([0, 6, -1])), raw("starts", np.array([0])), raw("ends", np.array([4])),
        raw("axes", np.array([1])), raw("one", values(1)),
    ]
    tensors[0].MergeFromString(UNKNOWN)
    declared = [info("c1", "N", 8, 6, 6), info("r1", "N", 8, 6, 6), info("c2", "N", 6, 6, 6)]
    declared[0].type.tensor_type.shape.dim[1].denotation = "DATA_CHANNEL"
    declared[0].type.tensor_type.shape.dim[1].MergeFromString(UNKNOWN)
    graph = helper.make_graph(
        nodes, "convolutions", [info("x", "N", 3, 8, 8)],
        [info("flat", "N", 6, 36), info("flat2", "N", 6, 36), info("part", "N", 4, 6, 6), info("y2", "N", 6, 6, 6)],
        tensors, doc_string="a graph", value_info=declared)
    graph.MergeFromString(UNKNOWN)
    m = model(graph, producer_name="espalier", producer_version="1.0")
    m.metadata_props.add(key="author", value="nobody")
    m.MergeFromString(UNKNOWN)
    save(m, "convolutions.before.onnx")

    # Keeps channels 1, 2, 4, 7 of conv1; of conv2 rows 0, 2 of group 0 and 4, 5 of group 1.
    kept = [1, 2, 4, 7]
    g = m.graph
    cut(by_name(g.initializer, "w1"), kept)
    for name in "b1", "s", "b", "m", "v":
        cut(by_name(g.initializer, name), kept)
    w2 = numpy_helper.to_array(by_name(g.initializer, "w2"))
    grouped = np.concatenate([w2[[0, 2]][:, [1, 2]], w2[[4, 5]][:, [0, 3]]])
    by_name(g.initializer, "w2").CopyFrom(raw("w2", grouped))
    conv2, reshape, part, expand = (by_name(g.node, n) for n in ("conv2", "reshape", "slice", "expand"))
    conv2.attribute[0].i = 2
    conv2.attribute.append(helper.make_attribute("pads", [0, 0, 0, 0]))
    reshape.input[1] = "reshape_input1_2"  # reshape_input1 is a node
    part.op_type = "Gather"
    del part.input[1:]
    part.input.append("slice_indices")
    part.attribute.append(helper.make_attribute("axis", 1))
    index = list(g.node).index(expand)
    multiply = helper.make_node("Mul", ["dynamic", "expand_input1_mul_by"], ["expand_input1_mul"], "expand_input1_mul")
    add = helper.make_node("Add", ["expand_input1_mul", "expand_input1_add_by"], ["expand_input1_add"],
                           "expand_input1_add")
    expand.input[1] = "expand_input1_add"
    g.node.insert(index, add)
    g.node.insert(index, multiply)
    for name in "starts", "ends", "axes":
        g.initializer.remove(by_name(g.initializer, name))
    g.initializer.extend([
        raw("reshape_input1_2", np.array([0, 4, -1])), raw("slice_indices", np.array([0, 1])),
        raw("expand_input1_mul_by", np.array([1, 0, 1, 1])), raw("expand_input1_add_by", np.array([0, 6, 0, 0])),
    ])
    for name, length in ("c1", 4), ("r1", 4), ("c2", 4):
        by_name(g.value_info, name).type.tensor_type.shape.dim[1].dim_value = length
    save(m, "convolutions.after.onnx")


def storage():
    """One tensor of shape (4, 3) for every type, in typed fields and raw, cut to rows 0, 2, 3 and columns 0, 2; and
    Constant nodes in the forms they come in."""
    kinds = {
        "float": TensorProto.FLOAT, "double": TensorProto.DOUBLE, "int64": TensorProto.INT64,
        "int32": TensorProto.INT32, "int16": TensorProto.INT16, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8,
        "uint16": TensorProto.UINT16, "uint32": TensorProto.UINT32, "uint64": TensorProto.UINT64,
        "bool": TensorProto.BOOL, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16,
        "complex64": TensorProto.COMPLEX64, "complex128": TensorProto.COMPLEX128, "float8": TensorProto.FLOAT8E4M3FN,
    }
    nodes, tensors, outputs = [], [], []
    for name, kind in kinds.items():
        array = values(4, 3) - (5 if name.startswith(("int", "float", "double", "bfloat")) else 0)
        array = array % 2 if name == "bool" else array
        for form in "typed", "raw":
            full = f"{name}_{form}"
            dtype = helper.tensor_dtype_to_np_dtype(kind)
            if form == "typed":
                tensors.append(helper.make_tensor(full, kind, [4, 3], array.astype(dtype).reshape(-1)))
            else:
                tensors.append(numpy_helper.from_array(array.astype(dtype), full))
            nodes.append(helper.make_node("Identity", [full], [f"{full}_out"], name=f"id_{full}"))
            outputs.append(info(f"{full}_out", None, None, kind=kind))
    nodes.append(helper.make_node("Constant", [], ["constant"], name="k", value=raw("inner", values(4, 3))))
    nodes.append(helper.make_node("Constant", [], ["floats"], name="kf", value_floats=[0.0, 1.0, 2.0, 3.0]))
    nodes.append(helper.make_node("Constant", [], ["ints"], name="ki", value_ints=[0, 1, -2, 3]))
    nodes.append(helper.make_node("Constant", [], ["scalar"], name="ks", value_float=2.5))
    nodes.append(helper.make_node("Constant", [], ["int"], name="kn", value_int=-7))
    nodes.append(helper.make_node("Constant", [], ["text"], name="kt", value_string="a"))
    for name in "constant", "floats", "ints", "scalar", "int", "text":
        nodes.append(helper.make_node("Identity", [name], [f"{name}_out"], name=f"id_{name}"))
        outputs.append(onnx.ValueInfoProto(name=f"{name}_out"))
    # What the outputs declare is left open: the graph's outputs are not what is tested here.
    m = model(helper.make_graph(nodes, "storage", [], outputs, tensors), opset=24, ir=10)
    save(m, "storage.before.onnx")
    for tensor in m.graph.initializer:
        cut(tensor, [0, 2, 3], [0, 2])
    cut(by_name(m.graph.node, "k").attribute[0].t, [0, 2, 3], [0, 2])
    for name in "kf", "ki":
        attribute = by_name(m.graph.node, name).attribute[0]
        field = attribute.floats if name == "kf" else attribute.ints
        kept = [field[i] for i in (0, 2, 3)]
        del field[:]
        field.extend(kept)
    save(m, "storage.after.onnx")


def old_initializers():
    """IR version 3: every initializer is an input of the graph too, and new constants must be nodes."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Reshape", ["c", "shape"], ["y"], name="reshape"),
    ]
    tensors = [raw("w", values(4, 2, 1, 1)), raw("shape", np.array([1, 4, -1]))]
    inputs = [info("x", 1, 2, 5, 5), info("w", 4, 2, 1, 1), info("shape", 3, kind=TensorProto.INT64)]
    m = model(helper.make_graph(nodes, "old", inputs, [info("y", 1, "C", 25)], tensors), opset=9, ir=3)
    save(m, "old.before.onnx")
    g = m.graph
    cut(g.initializer[0], [1, 3])
    g.input[1].type.tensor_type.shape.dim[0].dim_value = 2
    del g.initializer[1], g.input[2]
    g.node[1].input[1] = "reshape_input1"
    constant = helper.make_node("Constant", [], ["reshape_input1"], name="reshape_input1")
    constant.attribute.append(helper.make_attribute("value", raw(None, np.array([1, 2, -1]))))
    g.node.insert(1, constant)
    save(m, "old.after.onnx")


def control_flow():
    """If inside Loop inside the graph, reading an initializer, a computed value and an input from outside, under names
    that the subgraphs also use for their own."""
    then = helper.make_graph(
        [helper.make_node("Add", ["w", "inner"], ["t"]), helper.make_node("Mul", ["t", "x"], ["t2"])],
        "then", [], [info("t2", 4)])
    other = helper.make_graph([helper.make_node("Identity", ["inner"], ["e"])], "else", [], [info("e", 4)])
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "hidden"], ["inner"]),
            helper.make_node("If", ["go"], ["chosen"], then_branch=then, else_branch=other),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [info("i", kind=TensorProto.INT64), info("go", kind=TensorProto.BOOL), info("state", 4)],
        [info("go_on", kind=TensorProto.BOOL), info("chosen", 4)],
        [raw("own", values(4))])
    nodes = [
        helper.make_node("Relu", ["x"], ["hidden"], name="relu"),
        helper.make_node("Loop", ["count", "", "hidden"], ["y"], name="loop", body=body),
    ]
    tensors = [raw("w", values(4)), raw("count", np.array(3)), raw("unused", values(4))]
    m = model(helper.make_graph(nodes, "control", [info("x", 4)], [info("y", 4)], tensors), opset=17)
    onnx.checker.check_model(m)
    save(m, "control_flow.onnx")


def functions():
    """Functions that call functions, with attributes passed on, defaulted and left out, an output that is an input, an
    input left out, a call inside a branch, and names that the graph already has."""
    domain = "local"
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    scale = helper.make_function(
        domain, "Scale", ["v", "optional"], ["out", "same"],
        [
            helper.make_node("LeakyRelu", ["v"], ["t"], name="act"),
            helper.make_node("Add", ["t", "t"], ["out"]),
            helper.make_node("Identity", ["v"], ["same"]),
        ],
        imports, attributes=["unused"])
    reference = onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    scale.node[0].attribute.append(reference)
    scale.attribute_proto.append(helper.make_attribute("slope", 0.25))
    outer = helper.make_function(
        domain, "Outer", ["a", "c"], ["r", "a"],
        [
            helper.make_node("Scale", ["a"], ["t", ""], domain=domain, name="inner"),
            helper.make_node("If", ["c"], ["r"], name="choose",
                             then_branch=helper.make_graph(
                                 [helper.make_node("Scale", ["t"], ["t3", "t4"], domain=domain)], "then", [],
                                 [info("t3", 4)]),
                             else_branch=helper.make_graph(
                                 [helper.make_node("Sub", ["t", "a"], ["t3"])], "else", [], [info("t3", 4)])),
        ],
        imports, attributes=["s"])
    outer.node[0].attribute.append(
        onnx.AttributeProto(name="slope", ref_attr_name="s", type=onnx.AttributeProto.FLOAT))
    never = helper.make_function(domain, "Never", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], imports)
    nodes = [
        helper.make_node("Outer", ["x", "c"], ["y", "x2"], domain=domain, name="call", s=0.5),
        helper.make_node("Outer", ["x2", "c"], ["z"], domain=domain, name="call"),
        helper.make_node("Abs", ["z"], ["call/t"], name="abs"),
        helper.make_node("Scale", ["call/t", ""], ["w"], domain=domain),
        helper.make_node("Add", ["y", "w"], ["sum"], name="add"),
    ]
    graph = helper.make_graph(
        nodes, "g", [info("x", 4), info("c", kind=TensorProto.BOOL)], [info("sum", 4), info("y", 4)])
    m = helper.make_model(
        graph, opset_imports=imports, functions=[scale, outer, never], ir_version=10)
    onnx.checker.check_model(m)
    save(m, "functions.onnx")


def external():
    """Weights in a file beside the model: back to back, then after a gap for alignment; a tied pair; a tensor of a
    subgraph; a Constant; a checksum; lengths left out."""
    data = bytearray()

    def place(name, array, align=1, **more):
        tensor = raw(name, array)
        data.extend(bytes(-len(data) % align))
        entries = {"location": "external.before.onnx.data", "offset": str(len(data)), **more}
        if name != "b":
            entries["length"] = str(len(tensor.raw_data))
        data.extend(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        return tensor

    w = place("w", values(4, 3))
    b = place("b", values(4), checksum="0" * 40)
    branch = place("branch", values(4))
    constant = place("", values(4), align=4096)
    tied = TensorProto()
    tied.CopyFrom(w)
    tied.name = "tied"
    other = helper.make_graph([helper.make_node("Identity", ["s"], ["e"])], "else", [], [info("e", 1, 4)])
    then = helper.make_graph([helper.make_node("Add", ["s", "branch"], ["t"])], "then", [], [info("t", 1, 4)], [branch])
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="gemm", transB=1),
        helper.make_node("Gemm", ["x", "tied"], ["h2"], name="gemm2", transB=1),
        helper.make_node("Constant", [], ["k"], name="k", value=constant),
        helper.make_node("Add", ["h", "k"], ["s"], name="add"),
        helper.make_node("If", ["c"], ["y"], name="if", then_branch=then, else_branch=other),
    ]
    graph = helper.make_graph(
        nodes, "external", [info("x", 1, 3), info("c", kind=TensorProto.BOOL)], [info("y", 1, 4), info("h2", 1, 4)],
        [w, b, tied])
    save(model(graph), "external.before.onnx")
    (HERE / "external.before.onnx.data").write_bytes(data)


def disorder():
    """Nodes in an order in which they cannot run."""
    nodes = [
        helper.make_node("Add", ["b", "c"], ["y"], name="last"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Neg", ["x"], ["a"], name="first"),
        helper.make_node("Abs", ["x"], ["c"], name="third"),
    ]
    save(model(helper.make_graph(nodes, "disorder", [info("x", 4)], [info("y", 4)])), "disorder.onnx")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for make in convolutions, storage, old_initializers, control_flow, functions, external, disorder:
        make()
