"""Model files that are wrong, each with the kinds of error that may answer it. An empty set of kinds means that any
typed error or a good answer will do (what is wrong matters only to who runs the model): the claim is that nothing
crashes, hangs or exhausts memory.

Invariant: every file is small; what is large about it is only what it claims.
"""

import itertools

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

import net as nets

MALFORMED = {"model.malformed"}
REFUSED = {
    "model.malformed",
    "model.unsupportedOperator",
    "model.unsupportedFormat",
    "resource.limit",
    "model.inputShapes",
}
FILES = {}
HUGE = 2**62


def file(kinds):
    def register(function):
        FILES[function.__name__] = (function, kinds)
        return function

    return register


def good():
    """A small network that can be pruned."""
    net = nets.Net(11, 17, plain=True)
    x = net.relu(net.batch_norm(net.conv(net.image(3, 8, 8), 16, 3, bias=True)))
    x = net.relu(net.conv(x, 24, 3, bias=True))
    net.output(net.gemm(net.flatten(x), 5, trans_b=True, bias=True))
    return net.model()


def chain(nodes, initializers=(), shape=(1, 8, 4, 4), opset=17, outputs=("y",), dims=None):
    """A model around `nodes`, from x to y."""
    x = helper.make_tensor_value_info("x", 1, dims or shape)
    ys = [helper.make_tensor_value_info(name, 1, None) for name in outputs]
    model = helper.make_model(
        helper.make_graph(list(nodes), "g", [x], ys, list(initializers)), opset_imports=[helper.make_opsetid("", opset)]
    )
    model.ir_version = 8
    return model


def floats(name, *dims):
    return numpy_helper.from_array(np.ones(dims, np.float32), name)


def integers(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def claiming(dims, raw=b"\0" * 64, data_type=1):
    """A Conv whose weight claims `dims`."""
    weight = TensorProto(name="w", data_type=data_type, dims=dims, raw_data=raw)
    return chain([helper.make_node("Conv", ["x", "w"], ["y"])], [weight])


# MARK: what is stored

for number, dims in enumerate(
    [
        [HUGE, HUGE],
        [2**40, 8, 3, 3],
        [-8, 8, 3, 3],
        [2**32, 2**32, 1, 1],
        [8, 8, 3, 3],
        [2**63 - 1],
        [3037000500, 3037000500, 1, 1],
        [1] * 5000,
    ]
):
    FILES[f"dims_{number}"] = (lambda dims=dims: claiming(dims), MALFORMED | {"resource.limit"})


@file(MALFORMED | {"model.unsupportedOperator"})
def unknown_dtype():
    return claiming([8, 8, 1, 1], data_type=99)


@file(set())
def string_weight():
    model = claiming([8, 8, 1, 1], b"", 8)
    model.graph.initializer[0].string_data.extend([b"a"] * 64)
    return model


@file(MALFORMED)
def typed_data_too_short():
    model = claiming([8, 8, 1, 1], b"")
    model.graph.initializer[0].float_data.extend([1.0] * 7)
    return model


@file(MALFORMED)
def missing_initializer():
    return chain([helper.make_node("Conv", ["x", "nowhere"], ["y"])])


@file(MALFORMED)
def same_initializer_twice():
    return chain([helper.make_node("Conv", ["x", "w"], ["y"])], [floats("w", 8, 8, 1, 1), floats("w", 4, 8, 1, 1)])


@file(set())
def name_that_is_no_text():
    raw = good().SerializeToString()
    return raw.replace(b"Relu_", b"\xff\xfe\xfd\xfc\xfb")


# MARK: the graph


@file(MALFORMED)
def cycle():
    return chain(
        [
            helper.make_node("Add", ["x", "b"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Relu", ["b"], ["y"]),
        ]
    )


@file(MALFORMED)
def node_that_reads_itself():
    return chain([helper.make_node("Add", ["x", "y"], ["y"])])


@file(MALFORMED)
def two_nodes_one_output():
    return chain([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Tanh", ["x"], ["y"])])


@file(MALFORMED)
def output_of_nothing():
    return chain([helper.make_node("Relu", ["x"], ["z"])])


@file(MALFORMED)
def no_graph():
    model = good()
    model.ClearField("graph")
    return model


@file(MALFORMED | {"model.unsupportedFormat"})
def empty_file():
    return b""


@file(MALFORMED | {"model.unsupportedOperator"})
def no_opset():
    model = good()
    del model.opset_import[:]
    return model


@file(REFUSED)
def opset_of_the_far_future():
    model = good()
    model.opset_import[0].version = 9999
    return model


@file(REFUSED)
def opset_overflow():
    model = good()
    model.opset_import[0].version = -(2**63)
    return model


@file(set())
def hundred_thousand_nodes():
    names = ["x", *[f"n{i}" for i in range(100_000)]]
    return chain([helper.make_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)], outputs=[names[-1]])


@file(REFUSED)
def nested_subgraphs():
    """An If in an If in an If, deeper than protobuf's own readers follow."""
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["o"])], "g", [], [helper.make_tensor_value_info("o", 1, None)]
    )
    raw = inner.SerializeToString()
    for _ in range(5000):
        attribute = field(1, b"then_branch") + field(6, raw) + varint(20 << 3) + varint(AttributeProto.GRAPH)
        node = field(1, b"c") + field(2, b"o") + field(4, b"If") + field(5, attribute)
        raw = field(1, node) + field(2, b"g")
    return varint(1 << 3) + varint(8) + field(7, raw) + field(8, varint(2 << 3) + varint(17))


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def function(name, calls):
    nodes = [helper.make_node(callee, ["a"], [f"v{i}"], domain="local") for i, callee in enumerate(calls)]
    nodes.append(helper.make_node("Sum", [f"v{i}" for i in range(len(calls))] or ["a"], ["b"]))
    return helper.make_function(
        "local", name, ["a"], ["b"], nodes, [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    )


def with_functions(functions):
    model = chain([helper.make_node(functions[0].name, ["x"], ["y"], domain="local")])
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.functions.extend(functions)
    return model


@file(MALFORMED | {"resource.limit"})
def function_that_calls_itself():
    return with_functions([function("f", ["f"])])


@file(MALFORMED | {"resource.limit"})
def functions_that_call_each_other():
    return with_functions([function("f", ["g"]), function("g", ["f"])])


@file(MALFORMED | {"resource.limit"})
def functions_that_multiply():
    """Forty functions, each calling the next twice: a million million nodes when written out."""
    return with_functions([function(f"f{i}", [f"f{i + 1}"] * 2 if i < 40 else []) for i in range(41)])


# MARK: attributes and operators


def conv(**attributes):
    return lambda: chain([helper.make_node("Conv", ["x", "w"], ["y"], **attributes)], [floats("w", 8, 8, 3, 3)])


for name, attributes in {
    "group_zero": {"group": 0},
    "group_negative": {"group": -4},
    "group_uneven": {"group": 3},
    "group_huge": {"group": HUGE},
    "stride_zero": {"strides": [0, 1]},
    "stride_negative": {"strides": [-1, 1]},
    "stride_short": {"strides": [1]},
    "dilation_huge": {"dilations": [HUGE, 1]},
    "dilation_zero": {"dilations": [0, 0]},
    "kernel_zero": {"kernel_shape": [0, 3]},
    "kernel_wrong": {"kernel_shape": [5, 5]},
    "pads_negative_huge": {"pads": [-HUGE, 0, -HUGE, 0]},
    "kernel_larger_than_input": {"dilations": [9, 9]},
}.items():
    FILES["conv_" + name] = (conv(**attributes), REFUSED)
FILES["conv_pads_huge"] = (conv(pads=[HUGE] * 4), REFUSED)


def simple(op, inputs=(), kinds=REFUSED, opset=17, shape=(1, 8, 4, 4), **attributes):
    def build():
        names = [t.name for t in inputs]
        return chain([helper.make_node(op, ["x", *names], ["y"], **attributes)], inputs, opset=opset, shape=shape)

    return build, kinds


FILES |= {
    "reshape_huge": simple("Reshape", [integers("t", HUGE, HUGE)]),
    "reshape_two_unknown": simple("Reshape", [integers("t", -1, -1)]),
    "reshape_minus_two": simple("Reshape", [integers("t", -2, 8)]),
    "reshape_zero_beyond": simple("Reshape", [integers("t", 1, 8, 16, 1, 0)]),
    "reshape_does_not_fit": simple("Reshape", [integers("t", 1, 7, -1)]),
    "expand_huge": simple("Expand", [integers("t", 2**40, 8, 4, 4)], set()),
    "expand_overflow": simple("Expand", [integers("t", HUGE, HUGE, 1, 8, 4, 4)]),
    "tile_huge": simple("Tile", [integers("t", HUGE, HUGE, 1, 1)]),
    "tile_negative": simple("Tile", [integers("t", -1, 1, 1, 1)]),
    "pad_huge": simple("Pad", [integers("t", 0, 0, 0, HUGE, 0, 0, 0, HUGE)]),
    "pad_too_negative": simple("Pad", [integers("t", 0, -9, 0, 0, 0, 0, 0, 0)]),
    "pad_short": simple("Pad", [integers("t", 0, 1)]),
    "transpose_repeats": simple("Transpose", perm=[0, 1, 1, 2]),
    "transpose_out_of_range": simple("Transpose", perm=[0, 1, 2, 9]),
    "transpose_short": simple("Transpose", perm=[1, 0]),
    "softmax_axis": simple("Softmax", kinds=set(), axis=100),
    "flatten_axis": simple("Flatten", axis=-100),
    "concat_axis": simple("Concat", [floats("w", 1, 8, 4, 4)], axis=7),
    "concat_mismatch": simple("Concat", [floats("w", 1, 8, 4, 5)], axis=1),
    "split_negative": simple("Split", [integers("t", -8, 16)], axis=1),
    "split_wrong_sum": simple("Split", [integers("t", 9)], axis=1),
    "slice_step_zero": simple("Slice", [integers("s", 0), integers("e", 8), integers("a", 1), integers("p", 0)]),
    "slice_step_least": simple(
        "Slice", [integers("s", 7), integers("e", -(2**63)), integers("a", 1), integers("p", -(2**63))], set()
    ),
    "slice_axes_repeat": simple("Slice", [integers("s", 0, 0), integers("e", 8, 4), integers("a", 1, 1)], set()),
    "gather_beyond": simple("Gather", [integers("i", 8)], set(), axis=1),
    "gather_least": simple("Gather", [integers("i", -(2**63))], set(), axis=1),
    "squeeze_long": simple("Squeeze", [integers("a", 1)]),
    "unsqueeze_twice": simple("Unsqueeze", [integers("a", 1, 1)]),
    "depth_to_space_zero": simple("DepthToSpace", blocksize=0),
    "depth_to_space_huge": simple("DepthToSpace", blocksize=2**62),
    "depth_to_space_uneven": simple("DepthToSpace", blocksize=3),
    "maxpool_without_kernel": simple("MaxPool"),
    "maxpool_stride_zero": simple("MaxPool", kernel_shape=[2, 2], strides=[0, 0]),
    "resize_huge": simple(
        "Resize", [floats("roi", 0), numpy_helper.from_array(np.array([1, 1, 1e30, 1e30], np.float32), "s")]
    ),
    "resize_nan": simple(
        "Resize", [floats("roi", 0), numpy_helper.from_array(np.array([1, 1, np.nan, 1], np.float32), "s")]
    ),
    "einsum_nonsense": simple("Einsum", equation="->->"),
    "einsum_empty": simple("Einsum", equation=""),
    "gemm_rank": simple("Gemm", [floats("w", 8, 8)]),
    "matmul_mismatch": simple("MatMul", [floats("w", 5, 8)]),
    "batch_norm_short": simple("BatchNormalization", [floats(n, 7) for n in "abcd"]),
    "add_mismatch": simple("Add", [floats("w", 5, 1, 1)]),
    "attribute_of_wrong_type": simple("Softmax", kinds=set(), axis="one"),
    "too_few_inputs": simple("Conv"),
    "unknown_operator": simple("Frobnicate", kinds=set()),
    "other_domain": simple("Frobnicate", kinds=set(), domain="com.nobody"),
}


@file(set())
def too_many_outputs():
    return chain([helper.make_node("Relu", ["x"], ["y", "z", "w"])])


@file(set())
def fill_of_a_million_million():
    """A constant fold that would need terabytes."""
    return chain(
        [
            helper.make_node("ConstantOfShape", ["n"], ["big"]),
            helper.make_node("Shape", ["big"], ["s"]),
            helper.make_node("Expand", ["x", "s"], ["y"]),
        ],
        [integers("n", 2**40)],
    )


@file(set())
def range_of_a_million_million():
    return chain(
        [helper.make_node("Range", ["a", "b", "c"], ["r"]), helper.make_node("Gather", ["x", "r"], ["y"], axis=1)],
        [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("a", 0), ("b", 2**40), ("c", 1))],
    )


@file(set())
def division_by_a_zero_length():
    return chain(
        [helper.make_node("Div", ["a", "b"], ["t"]), helper.make_node("Reshape", ["x", "t"], ["y"])],
        [integers("a", 8, 16), integers("b", 0, 1)],
    )


@file(set())
def division_of_the_least_integer():
    return chain(
        [helper.make_node("Div", ["a", "b"], ["t"]), helper.make_node("Reshape", ["x", "t"], ["y"])],
        [integers("a", -(2**63)), integers("b", -1)],
    )


@file(set())
def product_that_overflows():
    return chain(
        [helper.make_node("Mul", ["a", "a"], ["t"]), helper.make_node("Reshape", ["x", "t"], ["y"])],
        [integers("a", HUGE)],
    )


@file(set())
def input_of_astronomical_size():
    """Multiply-adds beyond 2^63."""
    return chain(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)],
        [floats("w", 8, 8, 3, 3)],
        shape=(2**31, 8, 2**31, 2**31),
    )


@file(set())
def input_of_negative_size():
    """Some exporters write -1 for a length they do not know."""
    return chain([helper.make_node("Conv", ["x", "w"], ["y"])], [floats("w", 8, 8, 3, 3)], shape=(1, 8, -4, 4))


@file(set())
def thousand_axes():
    return chain([helper.make_node("Relu", ["x"], ["y"])], shape=(2,) * 1000)


def external(location, offset=None, length=None):
    """A model whose weight lies in another file."""
    model = claiming([8, 8, 1, 1], b"")
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            weight.external_data.add(key=key, value=str(value))
    return model
