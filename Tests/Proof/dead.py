"""Which numbers of a network die with the slices removed from it, found by interpreting the original on one input.

A number is dead when no living number goes into it: an element that was removed from a stored tensor, or what an
operator makes of dead numbers alone (sums: where every product has a dead factor; norms and element-wise operators:
where an operand is dead). Nothing is asked of the compressor but the list of removed slices; how an operator moves
numbers is read from ONNX's definition of it. masking.py measures the same by disturbing producers; this file follows
every operator instead, which norms across channels and long chains of attention need.

Invariant: `dead` holds a mask of the value's shape for every value with dead numbers, and no other value.
"""

import collections

import numpy as np
import onnx
from onnx import helper, numpy_helper

import masking
import running

CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}
PRODUCTS = {
    "MatMul": 1,
    "FusedMatMul": 1,
    "MatMulInteger": 1,
    "Gemm": 1,
    "FusedGemm": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
}
RECURRENT = {"RNN", "GRU", "LSTM"}
FUSED_ATTENTION = {"Attention", "MultiHeadAttention", "GroupQueryAttention"}
POOLS = {
    "MaxPool",
    "AveragePool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    "Resize",
    "Upsample",
    "GridSample",
}
REDUCTIONS = {
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceProd",
    "ReduceLogSum",
    "ReduceLogSumExp",
}
# Per norm over the last axes: how many inputs are added up before it.
LAYER_NORMS = {
    "LayerNormalization": 1,
    "RMSNormalization": 1,
    "SimplifiedLayerNormalization": 1,
    "SkipLayerNormalization": 2,
    "SkipSimplifiedLayerNormalization": 2,
}
OTHER_NORMS = {"InstanceNormalization", "GroupNormalization", "LpNormalization", "LRN", "MeanVarianceNormalization"}
# What follows the first input alone.
FOLLOWERS = {"Softmax", "LogSoftmax", "CumSum", "Trilu", "Dropout", "Clip", "QuantizeLinear", "DequantizeLinear"}
SHAPES = {"Shape", "Size", "ConstantOfShape", "Range", "RandomNormalLike", "EyeLike"}
BARRIERS = {"ArgMax", "ArgMin", "TopK", "NonZero", "NonMaxSuppression", "Loop", "Scan", "If"}


class Unknown(Exception):
    """No rule says what dies behind an operator; never a verdict about the compressed model."""


def everything(model, inputs):
    """Every value of the graph, by name, as ONNX Runtime computes it."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    outputs = {o.name for o in probe.graph.output}
    for node in probe.graph.node:
        for name in node.output:
            if name and name not in outputs:
                outputs.add(name)
                probe.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = running.session(probe)
    values = dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs)))
    stored = {name: numpy_helper.to_array(t) for name, t in masking.constants(model.graph).items()}
    return {**stored, **inputs, **values}


def smallest(mask, keeping=None):
    """The mask with length 1 along every axis on which it does not depend, but for the axis `keeping`."""
    for axis in range(mask.ndim):
        if axis != keeping and (mask == mask.take([0], axis)).all():
            mask = mask.take([0], axis)
    return mask


class Deaths:
    """`dead`: masks by value; `summed`: per node index, (input slot, mask) of dead numbers that the node sums up;
    `mixing`: nodes, by first output, that mix dead and living numbers in a statistic."""

    def __init__(self, model, removed, inputs):
        self.model = model
        self.stored = masking.constants(model.graph)
        self.values = everything(model, inputs)
        self.dead, self.summed, self.mixing = {}, collections.defaultdict(list), {}
        for entry in removed:
            shape = tuple(self.stored[entry["parameter"]].dims)
            mask = masking.removal_mask(shape, entry)
            self.dead[entry["parameter"]] = mask | self.dead.get(entry["parameter"], False)
        for index, node in enumerate(model.graph.node):
            if node.op_type in SHAPES or not any(name in self.dead for name in node.input):
                continue
            if node.op_type in BARRIERS:
                raise Unknown(f"{node.op_type} {node.name!r} reads dead numbers")
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            self.follow(index, node, attributes, [self.mask(name) for name in node.input])

    def mask(self, name):
        if not name:
            return None
        return self.dead.get(name, np.zeros(np.shape(self.values[name]), bool))

    def put(self, name, mask):
        if name and name in self.values:
            mask = np.broadcast_to(mask, np.shape(self.values[name]))
            if mask.any():
                self.dead[name] = mask

    def sums(self, index, node, *slots):
        for slot in slots:
            if slot < len(node.input) and node.input[slot] in self.dead:
                self.summed[index].append((slot, self.dead[node.input[slot]]))

    def mixes(self, node, mask, axes):
        """Notes a statistic over `axes` in which some numbers are dead and some are not."""
        whole = mask.all(axes, keepdims=True)
        if (whole != mask.any(axes, keepdims=True)).any():
            self.mixing[node.output[0]] = node
        return whole

    def follow(self, index, node, attributes, masks):
        op = node.op_type
        if op in CONVOLUTIONS:
            self.convolution(index, node, attributes, masks)
        elif op in PRODUCTS:
            self.product(index, node, attributes, masks)
        elif op == "Einsum":
            self.sums(index, node, *range(len(masks)))
            living = [(~mask).astype(np.float32) for mask in masks]
            self.put(node.output[0], np.einsum(attributes["equation"].decode(), *living) == 0)
        elif op in RECURRENT:
            self.recurrent(index, node, attributes, masks)
        elif op in FUSED_ATTENTION:
            self.attention(index, node, attributes, masks)
        elif op in masking.MOVES - {"Identity", "Cast"} | {"GatherElements", "GatherND"}:
            self.move(node, attributes, masks)
        elif op in REDUCTIONS:
            self.reduction(node, attributes, masks)
        elif op in LAYER_NORMS:
            mask = np.logical_or.reduce(masks[: LAYER_NORMS[op]])
            first = attributes.get("axis", -1) % mask.ndim if op == "LayerNormalization" else mask.ndim - 1
            self.mixes(node, mask, tuple(range(first, mask.ndim)))
            for name in (node.output[0], *node.output[3:4]):
                self.put(name, mask)
        elif op in OTHER_NORMS:
            self.other_norm(node, attributes, masks[0])
        elif op == "DynamicQuantizeLinear":
            self.mixes(node, masks[0], tuple(range(masks[0].ndim)))
            self.put(node.output[0], masks[0])
        elif op == "QLinearConcat":
            self.put(node.output[0], np.concatenate(masks[2::3], attributes["axis"]))
        elif op in POOLS:
            self.pool(node, masks[0])
        elif op == "BatchNormalization":
            self.batch_norm(node, attributes, masks)
        elif op in FOLLOWERS:
            self.put(node.output[0], masks[0])
        else:
            self.elementwise(node, masks)

    def convolution(self, index, node, attributes, masks):
        slot = CONVOLUTIONS[node.op_type]
        x, weight, groups = masks[0], masks[slot], attributes.get("group", 1)
        self.sums(index, node, 0, slot)
        lives = ~x.reshape(*x.shape[:2], -1).all((0, 2)).reshape(groups, -1)
        weight = ~weight.reshape(*weight.shape[:2], -1).all(2)
        if node.op_type == "ConvTranspose":
            products = np.einsum("gi,gio->go", lives.astype(int), weight.reshape(*lives.shape, -1).astype(int))
        else:
            products = np.einsum(
                "gi,goi->go", lives.astype(int), weight.reshape(groups, -1, lives.shape[1]).astype(int)
            )
        rank = self.values[node.output[0]].ndim
        self.put(node.output[0], (products == 0).reshape(1, -1, *[1] * (rank - 2)))

    def product(self, index, node, attributes, masks):
        slot = PRODUCTS[node.op_type]
        self.sums(index, node, 0, slot)
        x, y = masks[0], masks[slot]
        x = x.swapaxes(-1, -2) if attributes.get("transA") else x
        y = y.swapaxes(-1, -2) if attributes.get("transB") else y
        x, y = smallest(x, keeping=x.ndim - 1), smallest(y, keeping=max(y.ndim - 2, 0))
        self.put(node.output[0], (~x).astype(np.float32) @ (~y).astype(np.float32) == 0)

    def recurrent(self, index, node, attributes, masks):
        self.sums(index, node, *range(len(masks)))
        recurrence = masks[2]
        states = recurrence.reshape(recurrence.shape[0], -1, *[attributes["hidden_size"]] * 2).all((1, 3))
        self.put(node.output[0], states[None, :, None, :])
        for name in node.output[1:]:
            self.put(name, states[:, None, :])

    def attention(self, index, node, attributes, masks):
        """Queries and keys are summed over; what a dead value would have given is dead in the output."""
        if node.op_type == "Attention" and node.domain == "com.microsoft":
            self.sums(index, node, 0, 1, 2)
            weight = masks[1]
            widths = attributes.get("qkv_hidden_sizes") or [weight.shape[1] // 3] * 3
            self.put(node.output[0], weight[:, widths[0] + widths[1] :].all(0))
            return
        if len(masks) < 3 or masks[1] is None or masks[2] is None:
            raise Unknown(f"{node.op_type} {node.name!r} with queries, keys and values in one")
        self.sums(index, node, 0, 1)
        value, shape = masks[2], np.shape(self.values[node.output[0]])
        if value.ndim == 4:
            lanes = value.all(2, keepdims=True)
            self.put(node.output[0], np.repeat(lanes, shape[1] // lanes.shape[1], 1))
        else:
            heads = attributes.get("num_heads") or attributes["q_num_heads"]
            shared = attributes.get("kv_num_heads") or heads
            lanes = value.all(1).reshape(len(value), shared, -1)
            self.put(node.output[0], np.repeat(lanes, heads // shared, 1).reshape(len(value), 1, -1))

    def move(self, node, attributes, masks):
        op, shape = node.op_type, np.shape(self.values[node.output[0]])
        if op in ("Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            self.put(node.output[0], masks[0].reshape(shape))
        elif op == "Concat":
            self.put(node.output[0], np.concatenate(masks, attributes["axis"]))
        elif op == "Gather":
            self.put(node.output[0], np.take(masks[0], self.values[node.input[1]], attributes.get("axis", 0)))
        elif op == "Expand":
            self.put(node.output[0], masks[0])
        else:
            inputs = {}
            for slot, name in enumerate(node.input):
                data = slot == 0 or (op == "ScatterND" and slot == 2)
                if name:
                    inputs[name] = masks[slot].astype(np.float32) if data else self.values[name]
            if op == "Pad" and len(node.input) > 2 and node.input[2]:
                inputs[node.input[2]] = np.zeros((), np.float32)
            plain = [entry for entry in self.model.opset_import if entry.domain == ""]
            for name, moved in zip(node.output, running.run_node(node, inputs, plain)):
                self.put(name, moved > 0.5)

    def reduction(self, node, attributes, masks):
        axes = attributes.get("axes")
        if axes is None and len(node.input) > 1 and node.input[1]:
            axes = self.values[node.input[1]].tolist()
        rank = masks[0].ndim
        axes = tuple(axis % rank for axis in axes) if axes else tuple(range(rank))
        whole = self.mixes(node, masks[0], axes)
        self.put(node.output[0], whole.reshape(np.shape(self.values[node.output[0]])))

    def other_norm(self, node, attributes, mask):
        view, axes = mask, tuple(range(2, mask.ndim))
        if node.op_type == "GroupNormalization":
            view, axes = mask.reshape(mask.shape[0], attributes["num_groups"], -1), (2,)
        elif node.op_type == "LpNormalization":
            axes = (attributes.get("axis", -1) % mask.ndim,)
        elif node.op_type == "LRN":
            axes = (1,)
        elif node.op_type == "MeanVarianceNormalization":
            axes = tuple(attributes.get("axes", (0, 2, 3)))
        self.mixes(node, view, axes)
        self.put(node.output[0], mask)

    def pool(self, node, mask):
        lanes = mask.all(tuple(range(2, mask.ndim)), keepdims=True)
        if (lanes != mask).any():
            raise Unknown(f"{node.op_type} {node.name!r} over places of which some are dead")
        self.put(node.output[0], lanes)

    def batch_norm(self, node, attributes, masks):
        x = masks[0]
        vectors = [mask.reshape(-1, *[1] * (x.ndim - 2)) for mask in masks[1:]]
        if attributes.get("training_mode"):
            self.mixes(node, x, tuple(axis for axis in range(x.ndim) if axis != 1))
        self.put(node.output[0], np.logical_or.reduce([x, *[np.broadcast_to(v, x.shape) for v in vectors]]))

    def elementwise(self, node, masks):
        shape = np.shape(self.values[node.output[0]])
        try:
            mask = np.logical_or.reduce([np.broadcast_to(m, shape) for m in masks if m is not None])
        except ValueError:
            raise Unknown(f"no rule for {node.op_type} {node.name!r}") from None
        for name in node.output:
            if np.shape(self.values.get(name)) == shape:
                self.put(name, mask)
