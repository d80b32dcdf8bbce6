"""Models of one operator whose operands and attributes may or may not fit together, by seed: nothing in them may end a daemon.

Half of them begin with a form in which the operator is well used and change one to three things of it; the others take
operands of any rank, element type and number. Operands are inputs, stored tensors, or the channels of a layer.
"""

import random

from onnx import TensorProto, helper

FLOAT, INT64, INT8, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8
MS = "com.microsoft"

# Operator, shapes of its operands (integers in a list are the values of an int64 tensor; None is left out), attributes.
# A shape that ends in a letter: i for int8, u for uint8, q for int64.
_FORMS = [
    ("", "LSTM", [(5, 1, 8), (1, 16, 8), (1, 16, 4), (1, 32)], {"hidden_size": 4}),
    ("", "GRU", [(5, 1, 8), (1, 12, 8), (1, 12, 4), (1, 24)], {"hidden_size": 4}),
    ("", "RNN", [(5, 1, 8), (2, 4, 8), (2, 4, 4), (2, 8)], {"hidden_size": 4, "direction": "bidirectional"}),
    ("", "Einsum", [(1, 4, 8), (8, 2, 4)], {"equation": "bmk,khd->bhmd"}),
    ("", "MatMul", [(2, 4, 8), (8, 4)], {}),
    ("", "Gemm", [(4, 8), (8, 4), (4,)], {"transB": 0}),
    ("", "Conv", [(1, 8, 4, 4), (8, 2, 3, 3), (8,)], {"group": 4, "pads": [1, 1, 1, 1]}),
    ("", "ConvTranspose", [(1, 8, 4, 4), (8, 2, 2, 2), (4,)], {"group": 2, "strides": [2, 2]}),
    ("", "DeformConv", [(1, 8, 4, 4), (4, 8, 1, 1), (1, 2, 4, 4), (4,), (1, 1, 4, 4)], {"offset_group": 1}),
    ("", "QLinearConv", [(1, 8, 4, 4, "u"), (), ("u",), (4, 8, 1, 1, "i"), (4,), (4, "i"), (), ("u",), (4, "n")], {}),
    ("", "QLinearMatMul", [(4, 8, "u"), (), ("u",), (8, 4, "i"), (4,), (4, "i"), (), ("u",)], {}),
    ("", "MatMulInteger", [(4, 8, "u"), (8, 4, "i"), ("u",), (4, "i")], {}),
    ("", "ConvInteger", [(1, 8, 4, 4, "u"), (4, 8, 1, 1, "u"), ("u",), ("u",)], {}),
    ("", "QuantizeLinear", [(1, 8, 4), (8,), (8, "u")], {"axis": 1}),
    ("", "DequantizeLinear", [(1, 8, 4, "u"), (8,), (8, "u")], {"axis": 1}),
    ("", "DynamicQuantizeLinear", [(1, 8, 4)], {}),
    ("", "BatchNormalization", [(1, 8, 4)] + [(8,)] * 4, {}),
    ("", "LayerNormalization", [(1, 4, 8), (8,), (8,)], {"axis": -1}),
    ("", "GroupNormalization", [(1, 8, 4), (8,), (8,)], {"num_groups": 2}),
    ("", "InstanceNormalization", [(1, 8, 4), (8,), (8,)], {}),
    ("", "RMSNormalization", [(1, 4, 8), (8,)], {"axis": -1}),
    ("", "LRN", [(1, 8, 4)], {"size": 3}),
    ("", "Attention", [(1, 4, 8)] * 3, {"q_num_heads": 2, "kv_num_heads": 2}),
    ("", "RotaryEmbedding", [(1, 2, 4, 4), (4, 2), (4, 2), (1, 4, "q")], {"num_heads": 2}),
    ("", "Softmax", [(1, 4, 8)], {"axis": -1}),
    ("", "TopK", [(1, 8, 4), [2]], {"axis": 1}),
    ("", "CumSum", [(1, 8, 4), [1]], {}),
    ("", "Trilu", [(8, 8)], {"upper": 1}),
    ("", "ReverseSequence", [(4, 2, 8), [4, 2]], {"batch_axis": 1, "time_axis": 0}),
    ("", "Gather", [(8, 4), (2, 3, "q")], {"axis": 0}),
    ("", "GatherElements", [(1, 8, 4), (1, 2, 4, "q")], {"axis": 1}),
    ("", "GatherND", [(2, 8, 4), (2, 1, "q")], {"batch_dims": 1}),
    ("", "ScatterElements", [(1, 8, 4), (1, 2, 4, "q"), (1, 2, 4)], {"axis": 1}),
    ("", "ScatterND", [(8, 4), (2, 1, "q"), (2, 4)], {}),
    ("", "GridSample", [(1, 8, 4, 4), (1, 2, 2, 2)], {}),
    ("", "RoiAlign", [(1, 8, 4, 4), (2, 4), (2, "q")], {"output_height": 2, "output_width": 2}),
    ("", "MaxRoiPool", [(1, 8, 4, 4), (2, 5)], {"pooled_shape": [2, 2]}),
    ("", "MaxUnpool", [(1, 8, 2, 2), (1, 8, 2, 2, "q")], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("", "MaxPool", [(1, 8, 4, 4)], {"kernel_shape": [2, 2]}),
    ("", "CenterCropPad", [(1, 8, 4), [6, 2]], {"axes": [1, 2]}),
    ("", "Tile", [(1, 8, 4), [1, 2, 1]], {}),
    ("", "Expand", [(1, 8, 1), [2, 8, 4]], {}),
    ("", "Pad", [(1, 8, 4), [0, 1, 0, 0, 1, 0]], {}),
    ("", "Slice", [(1, 8, 4), [1], [8], [1], [2]], {}),
    ("", "Split", [(1, 8, 4), [2, 6]], {"axis": 1}),
    ("", "Concat", [(1, 8, 4), (1, 4, 4)], {"axis": 1}),
    ("", "Reshape", [(1, 8, 4), [0, 2, -1, 4]], {"allowzero": 0}),
    ("", "Transpose", [(1, 8, 4)], {"perm": [0, 2, 1]}),
    ("", "Squeeze", [(1, 8, 4), [0]], {}),
    ("", "Unsqueeze", [(8, 4), [0, -1]], {}),
    ("", "Flatten", [(1, 8, 4)], {"axis": 1}),
    ("", "DepthToSpace", [(1, 8, 4, 4)], {"blocksize": 2, "mode": "CRD"}),
    ("", "SpaceToDepth", [(1, 8, 4, 4)], {"blocksize": 2}),
    ("", "Resize", [(1, 8, 4, 4), None, None, [1, 8, 8, 8]], {}),
    ("", "ReduceMean", [(1, 8, 4), [1]], {"keepdims": 0}),
    ("", "ReduceSum", [(1, 8, 4), [-1]], {"noop_with_empty_axes": 1}),
    ("", "ArgMax", [(1, 8, 4)], {"axis": 1}),
    ("", "OneHot", [(4, "q"), [8], (2,)], {"axis": -1}),
    ("", "Where", [(1, 8, 1, "b"), (8, 1), (1, 8, 4)], {}),
    ("", "Add", [(1, 8, 4), (8, 1)], {}),
    ("", "PRelu", [(1, 8, 4), (8, 1)], {}),
    ("", "Clip", [(1, 8, 4), (), ()], {}),
    (MS, "Attention", [(1, 4, 8), (8, 24), (24,)], {"num_heads": 2}),
    (MS, "MultiHeadAttention", [(1, 4, 8)] * 3 + [(24,)], {"num_heads": 2}),
    (MS, "GroupQueryAttention", [(1, 4, 8), (1, 4, 4), (1, 4, 4), None, None, [3], [4]], {"num_heads": 4, "kv_num_heads": 2}),
    (MS, "SkipLayerNormalization", [(1, 4, 8)] * 2 + [(8,)] * 3, {}),
    (MS, "SkipSimplifiedLayerNormalization", [(1, 4, 8)] * 2 + [(8,)], {}),
    (MS, "EmbedLayerNormalization", [(1, 4, "n"), (1, 4, "n"), (8, 8), (4, 8), (2, 8), (8,), (8,)], {}),
    (MS, "RotaryEmbedding", [(1, 4, 8), (1, 4, "q"), (8, 2), (8, 2)], {"num_heads": 2}),
    (MS, "QLinearAdd", [(1, 8, "u"), (), ("u",), (1, 8, "u"), (), ("u",), (), ("u",)], {}),
    (MS, "QLinearMul", [(1, 8, "u"), (), ("u",), (8, "u"), (), ("u",), (), ("u",)], {}),
    (MS, "QLinearConcat", [(), ("u",), (1, 8, "u"), (), ("u",), (1, 4, "u"), (), ("u",)], {"axis": 1}),
    (MS, "QLinearGlobalAveragePool", [(1, 8, 4, 4, "u"), (), ("u",), (), ("u",)], {"channels_last": 0}),
    (MS, "QGemm", [(4, 8, "u"), (), ("u",), (8, 4, "i"), (4,), (4, "i"), (4, "n"), (), ("u",)], {}),
    (MS, "FusedConv", [(1, 8, 4, 4), (4, 8, 1, 1), (4,), (1, 4, 4, 4)], {"activation": "Relu"}),
    (MS, "FusedGemm", [(4, 8), (8, 4), (4,)], {"activation": "Relu"}),
    (MS, "FusedMatMul", [(2, 8, 4), (2, 8, 4)], {"transA": 1}),
    (MS, "BiasGelu", [(1, 4, 8), (8,)], {}),
    (MS, "FastGelu", [(1, 4, 8), (8,)], {}),
    (MS, "BiasSplitGelu", [(1, 4, 8), (8,)], {}),
    (MS, "BiasAdd", [(1, 4, 8), (8,), (1, 4, 8)], {}),
    (MS, "MatMulIntegerToFloat", [(4, 8, "u"), (8, 4, "i"), (), (4,), ("u",), (4, "i"), (4,)], {}),
    (MS, "DynamicQuantizeMatMul", [(4, 8), (8, 4, "i"), (4,), (4, "i"), (4,)], {}),
]
_TYPES = {"i": INT8, "u": UINT8, "q": INT64, "n": TensorProto.INT32, "b": TensorProto.BOOL}
_NUMBERS = [-(2**63), -9, -2, -1, 0, 1, 2, 3, 4, 8, 2**31, 2**63 - 1]
_ATTRIBUTES = ["axis", "group", "num_heads", "hidden_size", "num_groups", "layout", "batch_dims", "offset_group", "transA",
               "transB", "kv_num_heads", "q_num_heads", "blocksize", "keepdims", "channels_last", "interleaved",
               "rotary_embedding_dim", "do_rotary", "unidirectional", "stash_type", "num_outputs"]  # fmt: skip
_LISTS = ["perm", "pads", "strides", "dilations", "kernel_shape", "axes", "split", "qkv_hidden_sizes", "pooled_shape"]
_EQUATIONS = ["ab,bc->ac", "...a,a->...", "aab,b->a", "ij,jk", "bhwc,hkc->bhwk", "a,b", "->", "ab->ba", "a...,b->..."]


def _operand(form):
    """Shape, element type and values (None: ones) of an operand as a form gives it."""
    if isinstance(form, list):
        return [len(form)], INT64, list(form)
    shape = [length for length in form if isinstance(length, int)]
    letter = next((length for length in form if isinstance(length, str)), None)
    return shape, _TYPES.get(letter, FLOAT), None


def _arbitrary(draw):
    shape = [draw.choice([0, 1, 1, 2, 2, 4, 4, 8, 8]) for _ in range(draw.randint(0, 5))]
    return shape, draw.choice([FLOAT] * 4 + list(_TYPES.values())), None


def _changed(draw, operands, attributes):
    """One thing of an operator made another."""
    kind = draw.randrange(7)
    place = draw.randrange(max(len(operands), 1))
    if not operands or kind == 0:
        operands.insert(place, _arbitrary(draw))
    elif kind == 1:
        operands[place] = None if draw.random() < 0.5 else _arbitrary(draw)
    elif kind == 2:
        del operands[place]
    elif kind == 3 and operands[place] is not None:
        shape, dtype, values = operands[place]
        if draw.random() < 0.5 and shape:
            shape = shape[1:] if draw.random() < 0.5 else shape[:-1]
        else:
            shape = [*shape, 1] if draw.random() < 0.5 else [draw.choice([1, 2, 8]), *shape]
        operands[place] = (shape, dtype, None)
    elif kind == 4 and operands[place] is not None and operands[place][0]:
        shape, dtype, values = operands[place]
        axis = draw.randrange(len(shape))
        shape = [*shape[:axis], draw.choice([0, 1, 2, 3, 4, 8, 16]), *shape[axis + 1 :]]
        operands[place] = (shape, dtype, None)
    elif kind == 5 and operands[place] is not None and operands[place][2]:
        shape, dtype, values = operands[place]
        values[draw.randrange(len(values))] = draw.choice(_NUMBERS)
    else:
        name = draw.choice(sorted(attributes) or _ATTRIBUTES) if draw.random() < 0.6 else draw.choice(_ATTRIBUTES + _LISTS)
        value = attributes.get(name)
        if name == "equation":
            attributes[name] = draw.choice(_EQUATIONS)
        elif isinstance(value, list) or name in _LISTS:
            attributes[name] = [draw.choice(_NUMBERS[1:-2]) for _ in range(draw.randint(1, 6))]
        elif isinstance(value, str):
            attributes[name] = draw.choice(["", "x", "reverse", "bidirectional", "DCR", "linear"])
        else:
            attributes[name] = draw.choice(_NUMBERS)


def _size(shape):
    count = 1
    for length in shape:
        count *= length
    return count


def random_model(seed):
    draw = random.Random(seed)
    domain, op, forms, attributes = draw.choice(_FORMS)
    attributes = {name: list(value) if isinstance(value, list) else value for name, value in attributes.items()}
    if draw.random() < 0.6:
        operands = [None if form is None else _operand(form) for form in forms]
        for _ in range(draw.randint(0, 3)):
            _changed(draw, operands, attributes)
    else:
        operands = [_arbitrary(draw) for _ in range(draw.randint(0, 9))]
        for _ in range(2):
            _changed(draw, [], attributes)
    nodes, stored, fed, names = [], [], [], []
    for k, operand in enumerate(operands):
        if operand is None:
            names.append("")
            continue
        shape, dtype, values = operand
        name = f"x{k}"
        names.append(name)
        if values is not None or draw.random() < (0.1 if k == 0 else 0.5):
            stored.append(helper.make_tensor(name, dtype, shape, values or [1] * _size(shape)))
        elif dtype == FLOAT and len(shape) >= 2 and draw.random() < 0.8:
            # The channels of a layer, on the last axis, or on the second of four.
            fed.append(helper.make_tensor_value_info(f"in{k}", dtype, shape))
            axis = 1 if len(shape) == 4 and draw.random() < 0.5 else len(shape) - 1
            width = shape[axis]
            weight = [width, width, 1, 1] if axis == 1 and len(shape) == 4 else [width, width]
            stored.append(helper.make_tensor(f"w{k}", dtype, weight, [0.01 * n for n in range(_size(weight))]))
            layer = "Conv" if len(weight) == 4 else "MatMul"
            nodes.append(helper.make_node(layer, [f"in{k}", f"w{k}"], [name], f"layer{k}"))
        else:
            fed.append(helper.make_tensor_value_info(name, dtype, shape))
    outputs = [f"y{k}" for k in range(draw.choice([1, 1, 1, 2, 3]))]
    nodes.append(helper.make_node(op, names, outputs, "operator", domain=domain, **attributes))
    ends = list(outputs)
    end = draw.random()
    if end < 0.35:  # a layer reads its channels
        shape = draw.choice([[8, 4], [8, 4], [4, 4], [4, 8, 1, 1]])
        stored.append(helper.make_tensor("last", FLOAT, shape, [0.01 * n for n in range(_size(shape))]))
        nodes.append(helper.make_node("Conv" if len(shape) == 4 else "MatMul", ["y0", "last"], ["z"], "last_layer"))
        ends[0] = "z"
    elif end < 0.9:  # or a sum, whatever their axis
        for k, name in enumerate(outputs):
            nodes.append(helper.make_node("ReduceSum", [name], [f"z{k}"], f"sum{k}", keepdims=0))
        ends = [f"z{k}" for k in range(len(outputs))]
    outputs = [helper.make_tensor_value_info(name, FLOAT, None) for name in ends]
    graph = helper.make_graph(nodes, f"{op} {seed}", fed, outputs, stored)
    opsets = [helper.make_opsetid("", draw.choice([9, 11, 12, 13, 17, 18, 21, 23])), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
