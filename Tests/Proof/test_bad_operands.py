"""Operators whose operands do not fit together, fused attention above all: an answer or a typed error, and the daemon lives on."""

import espalier
import onnx
import pytest
from onnx import TensorProto, helper

HUGE = 2**63 - 1
STANDARD = {"LSTM", "ScatterElements"}
CASES = {
    "value_of_two_axes": ("MultiHeadAttention", [(1, 6, 8), (1, 6, 8), (6, 8)], {"num_heads": 2}),
    "scalar_bias": ("MultiHeadAttention", [(1, 6, 8)] * 3 + [()], {"num_heads": 2}),
    "flat_past": ("MultiHeadAttention", [(1, 6, 8)] * 3 + [None] * 3 + [(8,), (8,)], {"num_heads": 2}),
    "past_of_two_axes": ("GroupQueryAttention", [(1, 6, 8)] * 3 + [(6, 8), (6, 8)], {"num_heads": 2, "kv_num_heads": 2}),
    "negative_sizes": ("Attention", [(1, 6, 8), (8, 24)], {"num_heads": 2, "qkv_hidden_sizes": [-8, 16, 16]}),
    "huge_sizes": ("Attention", [(1, 6, 8), (8, 24)], {"num_heads": 2, "qkv_hidden_sizes": [HUGE, 8, 16]}),
    "bias_of_one_axis": ("LSTM", [(5, 1, 8), (1, 16, 8), (1, 16, 4), (8,)], {"hidden_size": 4}),
    "updates_of_more_axes": ("ScatterElements", [(1, 6, 8), (1, 6, 8), (2, 2, 1, 8)], {}),
    "scalar_rotation": ("RotaryEmbedding", [(), (1, 1), (9, 2), (9, 2)], {}),
}


@pytest.mark.parametrize("name", CASES)
def test_operands_that_do_not_fit(client, folder, name):
    op, shapes, attributes = CASES[name]
    inputs = ["" if shape is None else f"x{k}" for k, shape in enumerate(shapes)]
    node = helper.make_node(op, inputs, ["y"], "fused", domain="" if op in STANDARD else "com.microsoft", **attributes)
    weight = helper.make_tensor("w", TensorProto.FLOAT, [8, 8], [0.5] * 64)
    layers = []
    for k, shape in enumerate(shapes):
        if shape == (1, 6, 8):  # channels that reach the operator
            layers.append(helper.make_node("MatMul", [f"in{k}", "w"], [f"x{k}"], f"layer{k}"))
    fed = [
        helper.make_tensor_value_info(f"in{k}" if shape == (1, 6, 8) else f"x{k}", TensorProto.FLOAT, shape)
        for k, shape in enumerate(shapes)
        if shape is not None
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([*layers, node], name, fed, [output], [weight])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    try:
        client.inspect(path)
    except espalier.ServerError as error:
        assert error.kind.startswith("model.")
    client.ping()
