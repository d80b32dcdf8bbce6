"""The masked original: a network with the consumers of removed channels zeroed.

A network without some of its channels computes what the whole network computes when nobody listens to those channels.
So this file takes the original model and the list of slices that a compression says it removed, and zeroes those slices
wherever the operator that reads them sums over them (axis 1 of a Conv's weight, axis 0 of a ConvTranspose's, the
contracted axis of Gemm, MatMul and Einsum). Which axis an operator sums over is read from ONNX's definitions; nothing
is asked of the compressor but the list itself, and no producer, bias, variance or divisor is ever touched.

Where an operator sums over removed channels and no operand is stored (X times X transposed), one operand is multiplied
by a 0/1 mask. Which of its elements belong to removed channels is measured: they are those that change when the removed
producers' numbers change while every earlier consumer is already zeroed.

Invariant: the masked model has the original's nodes, in their order, and its inputs and outputs.
"""

import numpy as np
import onnx
from onnx import numpy_helper

import running

# Operators that only rearrange elements, so that a mask moves through them as the weight does.
MOVES = {
    "Identity",
    "Cast",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Slice",
    "Split",
    "Concat",
    "Gather",
    "Expand",
    "Tile",
    "Pad",
    "DepthToSpace",
    "SpaceToDepth",
    "ScatterND",
}
# Per operator that sums over channels, the inputs it sums over.
CONTRACTIONS = {
    "Conv": (1,),
    "FusedConv": (1,),
    "ConvTranspose": (1,),
    "ConvInteger": (1,),
    "QLinearConv": (3,),
    "Gemm": (0, 1),
    "FusedGemm": (0, 1),
    "QGemm": (0, 3),
    "MatMul": (0, 1),
    "FusedMatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "Einsum": (0, 1, 2),
    "RNN": (1, 2),
    "GRU": (1, 2),
    "LSTM": (1, 2),
}
# Where an integer weight has its zero point, which is what no contribution is written as.
ZERO_POINTS = {"ConvInteger": 3, "QLinearConv": 5, "QGemm": 5, "MatMulInteger": 3, "QLinearMatMul": 5}


def is_data(node, slot):
    """Of an operator that rearranges elements: does input `slot` hold elements, or does it say where they go?"""
    return slot == 0 or node.op_type == "Concat" or (node.op_type == "ScatterND" and slot == 2)


class Unsupported(Exception):
    """The masked original cannot be built for this graph; never a verdict about the compressed one."""


def constants(graph):
    """Every stored tensor by name: initializers and outputs of Constant nodes."""
    stored = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            stored[node.output[0]] = constant_tensor(node)
    return stored


def constant_tensor(node):
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        return tensor
    dtype = np.float32 if attribute.name in ("value_float", "value_floats") else np.int64
    if attribute.name in ("value_string", "value_strings"):
        dtype = object
    return numpy_helper.from_array(np.array(value, dtype), node.output[0])


def removal_mask(shape, entry):
    """True where `entry` says that an element of a tensor of this shape was removed along `entry["axis"]`."""
    mask = np.zeros(shape, bool)
    axis = entry["axis"]
    if "indices_per_group" in entry:
        blocks = entry["indices_per_group"]
        rows = shape[0] // len(blocks)
        for block, indices in enumerate(blocks):
            for index in indices:
                part = [slice(None)] * len(shape)
                part[0], part[axis] = slice(block * rows, (block + 1) * rows), index
                mask[tuple(part)] = True
        return mask
    part = [slice(None)] * len(shape)
    part[axis] = entry["indices"]
    mask[tuple(part)] = True
    return mask


def summed_axes(node, slot, rank):
    """The axes of input `slot` that the operator sums over, by ONNX's definition of it; kernel axes left out."""
    attribute = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    op = node.op_type
    if op in ("Conv", "FusedConv", "ConvInteger", "QLinearConv"):
        return (1,)
    if op == "ConvTranspose":
        return (0,)
    if op in ("Gemm", "FusedGemm", "QGemm"):
        return (0 if attribute.get("transA") else 1,) if slot == 0 else (1 if attribute.get("transB") else 0,)
    if op in ("MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul"):
        if slot == 0:
            return (rank - 2 if attribute.get("transA") else rank - 1,)
        return (rank - 1 if attribute.get("transB") else max(rank - 2, 0),)
    if op in ("RNN", "GRU", "LSTM"):
        return (2,)
    if op == "Einsum":
        return einsum_axes(attribute["equation"].decode().replace(" ", ""), slot, rank)
    return ()


def einsum_axes(equation, slot, rank):
    inputs, arrow, output = equation.partition("->")
    if not arrow:
        output = "".join(letter for letter in inputs if letter.isalpha() and inputs.count(letter) == 1)
    front, dots, back = inputs.split(",")[slot].partition("...")
    letters = list(front) + [None] * (rank - len(front) - len(back)) + list(back) if dots else list(front)
    return tuple(i for i, letter in enumerate(letters) if letter and letter not in output)


class Masker:
    """Builds the masked original of one model for one list of removed slices."""

    def __init__(self, original, removed):
        self.model = onnx.ModelProto()
        self.model.CopyFrom(original)
        self.graph = self.model.graph
        self.stored = constants(self.graph)
        # Per value computed from stored tensors alone: masks of removed elements, one per removed (parameter, axis).
        self.masks = {}
        for entry in removed:
            shape = tuple(self.stored[entry["parameter"]].dims)
            key = (entry["parameter"], entry["axis"])
            self.masks.setdefault(entry["parameter"], {})[key] = removal_mask(shape, entry)
        self.producing = dict(self.masks)  # by stored tensor; what is derived from them joins only self.masks
        self.weight_only = set(self.stored)
        self.nodes = []

    def masked(self):
        activations = []
        for node in self.graph.node:
            if node.op_type in CONTRACTIONS:
                self.mask_operands(node)
                if self.is_between_activations(node):
                    activations.append(len(self.nodes))
            elif node.op_type != "Constant" and node.input and all(n in self.weight_only for n in node.input if n):
                self.carry(node)
            self.nodes.append(node)
        self.rebuild()
        if activations and self.masks:
            self.mask_activations()
        return self.model

    def is_between_activations(self, node):
        slots = CONTRACTIONS[node.op_type]
        return len(slots) > 1 and not any(
            node.input[slot] in self.weight_only for slot in slots if slot < len(node.input)
        )

    def mask_operands(self, node):
        for slot in CONTRACTIONS[node.op_type]:
            name = node.input[slot] if slot < len(node.input) else ""
            if name not in self.masks:
                continue
            rank = next(iter(self.masks[name].values())).ndim
            axes = summed_axes(node, slot, rank)
            dead = np.zeros(next(iter(self.masks[name].values())).shape, bool)
            for mask in self.masks[name].values():
                if any((mask != mask.take([0], axis)).any() for axis in axes):
                    dead |= mask
            if dead.any():
                node.input[slot] = self.zeroed(name, dead, self.zero_point(node))

    def zero_point(self, node):
        slot = ZERO_POINTS.get(node.op_type)
        if slot is None or slot >= len(node.input) or not node.input[slot]:
            return 0
        zero = numpy_helper.to_array(self.stored[node.input[slot]])
        if zero.size > 1 and (zero != zero.flat[0]).any():
            raise Unsupported("zero points that differ from channel to channel")
        return zero.flat[0]

    def zeroed(self, name, dead, zero=0):
        """A new value: `name` with the dead elements zeroed."""
        new = f"{name}/masked/{len(self.nodes)}"
        self.weight_only.add(new)
        if name in self.producing:  # as a consumer it is masked, as a producer of removed channels it is not
            self.producing[new] = {key: mask & ~dead for key, mask in self.producing[name].items()}
        if name in self.stored:
            weight = numpy_helper.to_array(self.stored[name])
            self.graph.initializer.append(numpy_helper.from_array(np.where(dead, weight.dtype.type(zero), weight), new))
        else:
            self.graph.initializer.append(numpy_helper.from_array((~dead).astype(np.float32), new + "/mask"))
            self.nodes.append(onnx.helper.make_node("Mul", [name, new + "/mask"], [new], new))
        return new

    def carry(self, node):
        """Moves masks through an operator on stored tensors only (a transposed or cast weight)."""
        self.weight_only.update(node.output)
        carried = {key for name in node.input for key in self.masks.get(name, {})}
        for key in carried:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                mask = self.masks.get(node.input[0], {}).get(key)
                results = [mask] if mask is not None else []
            elif node.op_type in MOVES:
                data = [
                    self.masks.get(name, {}).get(key) if is_data(node, i) else None
                    for i, name in enumerate(node.input)
                ]
                results = self.move(node, data)
            else:
                parts = [self.masks[n][key] for n in node.input if key in self.masks.get(n, {})]
                shape = self.shape_of(node.output[0])
                try:
                    results = [np.broadcast_to(np.logical_or.reduce(np.broadcast_arrays(*parts)), shape)]
                except ValueError:
                    raise Unsupported(f"{node.op_type} between the stored tensor {key[0]!r} and its use") from None
            for name, mask in zip(node.output, results):
                self.masks.setdefault(name, {})[key] = mask

    def move(self, node, data):
        inputs = {}
        for i, name in enumerate(node.input):
            if not name:
                continue
            if is_data(node, i):
                mask = data[i] if data[i] is not None else np.zeros(self.shape_of(name), bool)
                inputs[name] = mask.astype(np.float32)
            else:
                inputs[name] = numpy_helper.to_array(self.stored[name])
        moved = onnx.NodeProto()
        moved.CopyFrom(node)
        if node.op_type == "Cast":
            moved.attribute[0].i = onnx.TensorProto.FLOAT
        return [r > 0.5 for r in running.run_node(moved, inputs, self.model.opset_import)]

    def shape_of(self, name):
        if name in self.stored:
            return tuple(self.stored[name].dims)
        if name in self.masks:
            return next(iter(self.masks[name].values())).shape
        inferred = onnx.shape_inference.infer_shapes(self.model)
        for info in inferred.graph.value_info:
            if info.name == name:
                return tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        raise Unsupported(f"no shape is known for {name!r}")

    def rebuild(self):
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)

    # MARK: products of activations

    def mask_activations(self):
        """Masks one operand of every product of two activations, front to back: later masks depend on earlier ones."""
        index = 0
        while index < len(self.graph.node):
            node = self.graph.node[index]
            if node.op_type in CONTRACTIONS and self.is_between_activations(node):
                dead = self.measure(node.input[0])
                if dead.any():
                    rank = dead.ndim
                    axes = summed_axes(node, 0, rank)
                    if any((dead != dead.take([0], axis)).any() for axis in axes):
                        self.insert_mask(index, dead)
                        index += 1
            index += 1

    def measure(self, name):
        """Which elements of an activation change when the removed producers do; the batch axis is folded to 1."""
        probe = onnx.ModelProto()
        probe.CopyFrom(self.model)
        del probe.graph.output[:]
        probe.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        rng = np.random.default_rng(0)
        changed = None
        for _ in range(16):  # often enough for every unit to be awake once, beyond whatever rectifier it passes
            inputs = running.random_inputs(self.model, rng, batch=2)
            disturbed = onnx.ModelProto()
            disturbed.CopyFrom(probe)
            for tensor in disturbed.graph.initializer:
                if tensor.name in self.producing:
                    self.disturb(tensor, rng)
            for node in disturbed.graph.node:
                if node.op_type == "Constant" and node.output[0] in self.producing:
                    tensor = constant_tensor(node)
                    self.disturb(tensor, rng)
                    del node.attribute[:]
                    node.attribute.append(onnx.helper.make_attribute("value", tensor))
            difference = running.run(probe, inputs)[0] != running.run(disturbed, inputs)[0]
            changed = difference if changed is None else changed | difference
        return changed.any(axis=0, keepdims=True)

    def disturb(self, tensor, rng):
        array = numpy_helper.to_array(tensor).copy()
        dead = np.logical_or.reduce(list(self.producing[tensor.name].values()))
        positive = (array > 0).all()  # a variance, say, without which all would be NaN
        array[dead] += rng.normal(0, 3, int(dead.sum())).astype(array.dtype)
        if positive:
            array[dead] = np.abs(array[dead])
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    def insert_mask(self, index, dead):
        node = self.graph.node[index]
        mask, new = f"{node.output[0]}/mask", f"{node.input[0]}/masked/{index}"
        self.graph.initializer.append(numpy_helper.from_array((~dead).astype(np.float32), mask))
        multiply = onnx.helper.make_node("Mul", [node.input[0], mask], [new], new)
        node.input[0] = new
        self.graph.node.insert(index, multiply)


def masked_original(original, removed):
    """`original` (weights already float32, see `running.widened`) with the consumers of `removed` zeroed."""
    return Masker(original, removed).masked()
