"""The masked original and the twin of a network, from its deaths: what a right compression must equal.

`masked` is the original in which sums skip dead numbers. Where a statistic mixes dead and living numbers (a norm or a
mean across pruned channels), the compressed network cannot equal it: it is approximate by nature. Then the twins are
compared: both networks with every such operator replaced by what is left of it per channel (a norm by its scale and
shift, a mean by a constant), which must be equal again, so that the surgery is proved although the accuracy is not.

Invariant: neither adds or drops an input or output, and a twin differs from its network in mixing operators only.
"""

import dataclasses

import numpy as np
import onnx
from onnx import helper, numpy_helper

import dead
import running


@dataclasses.dataclass
class Verdict:
    """`status` is "exact", "approximate" (the twins are equal) or "wrong". Distances are relative to the largest
    magnitude of an output; `effect` is that of the original from the masked original: at 0 nothing would be proved."""

    status: str
    difference: float
    effect: float
    # Nodes that mix dead and living numbers, by name, and their operators.
    mixing: dict
    # How far the network is from the masked original.
    distance: float


def compare(original, compressed, removed, inputs, tolerance):
    """The verdict on `compressed` for one set of inputs; both models hold float32 or float64 weights."""
    deaths = dead.Deaths(original, removed, inputs)
    whole = masked(deaths)
    expected, found = running.run(whole, inputs), running.run(compressed, inputs)
    effect = difference([deaths.values[o.name] for o in original.graph.output], expected)
    distance = difference(expected, found)
    if not deaths.mixing:
        return Verdict("exact" if distance <= tolerance else "wrong", distance, effect, {}, distance)
    twins = [without_mixing(model, deaths) for model in (whole, compressed)]
    apart = difference(*(running.run(model, inputs) for model in twins))
    mixing = {node.name or output: node.op_type for output, node in deaths.mixing.items()}
    return Verdict("approximate" if apart <= tolerance else "wrong", apart, effect, mixing, distance)


def difference(expected, found):
    """The largest distance over all outputs; infinite where shapes, dtypes or finiteness differ."""
    worst = 0.0
    for want, got in zip(expected, found, strict=True):
        if want.shape != got.shape or want.dtype != got.dtype or not np.isfinite(got).all():
            return float("inf")
        if not np.isfinite(want).all():
            raise ValueError("the original's outputs are not finite: a bad test model")
        if want.size:
            scale = np.abs(want).max() or 1.0
            worst = max(worst, float(np.abs(want.astype(np.float64) - got).max() / scale))
    return worst


def masked(deaths):
    model = onnx.ModelProto()
    model.CopyFrom(deaths.model)
    graph, nodes, made = model.graph, [], set()
    for index, node in enumerate(graph.node):
        for slot, mask in deaths.summed.get(index, ()):
            name = node.input[slot]
            new = f"{name}/masked"
            if name not in deaths.stored and deaths.values[name].dtype in (np.int8, np.uint8):
                continue  # the weights that meet it are masked
            node.input[slot] = new
            if new in made:
                continue
            made.add(new)
            if name in deaths.stored:
                weight = numpy_helper.to_array(deaths.stored[name])
                blank = zero_point(node, deaths.values, weight)
                graph.initializer.append(numpy_helper.from_array(np.where(mask, blank, weight), new))
            else:
                zero = np.zeros((), deaths.values[name].dtype)
                graph.initializer.append(numpy_helper.from_array(~dead.smallest(mask), new + "/alive"))
                graph.initializer.append(numpy_helper.from_array(zero, new + "/zero"))
                nodes.append(helper.make_node("Where", [new + "/alive", name, new + "/zero"], [new], new))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def zero_point(node, values, weight):
    """What no contribution is written as, in the dtype of `weight`."""
    slot = {"QLinearConv": 5, "QLinearMatMul": 5, "QGemm": 5, "ConvInteger": 3, "MatMulInteger": 3}.get(node.op_type)
    if slot is None or slot >= len(node.input) or not node.input[slot]:
        return weight.dtype.type(0)
    zero = values[node.input[slot]]
    rows = "Conv" in node.op_type or any(a.name == "transB" and a.i for a in node.attribute)
    return zero.reshape(-1, *[1] * (weight.ndim - 1)) if zero.size > 1 and rows else zero


def without_mixing(model, deaths):
    """`model` with the operators of `deaths.mixing` replaced; constants keep the magnitudes of the original's run."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph, nodes = twin.graph, []

    def constant(value, name, dtype):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(op, *inputs):
        *inputs, output = inputs
        nodes.append(helper.make_node(op, inputs, [output], f"{output}/twin"))

    for current in graph.node:
        output = next((name for name in current.output if name), None)
        original = deaths.mixing.get(output)
        if original is None:
            nodes.append(current)
            continue
        op, result = current.op_type, deaths.values[output]
        if op in dead.REDUCTIONS:
            # Zero times the result keeps its shape.
            usual = float(np.mean(result))
            copy = onnx.NodeProto()
            copy.CopyFrom(current)
            copy.output[0] = f"{output}/mixed"
            nodes.append(copy)
            node("Mul", copy.output[0], constant(0, f"{output}/zero", result.dtype), f"{output}/gone")
            usual = usual if abs(usual) > 1e-6 else 1.0
            node("Add", f"{output}/gone", constant(usual, f"{output}/usual", result.dtype), output)
            continue
        if op == "DynamicQuantizeLinear":  # the range of the original's run
            levels = [constant(deaths.values[o], f"{o}/usual", deaths.values[o].dtype) for o in original.output[1:]]
            node("QuantizeLinear", current.input[0], *levels, output)
            for level, name in zip(levels, current.output[1:]):
                node("Identity", level, name)
            continue
        parts, x = current.input, sum(deaths.values[n].astype(np.float64) for n in original.input[: addends(op)])
        size = 1 / max(root_mean_square(x), 1e-6)
        if op not in dead.LAYER_NORMS:  # their scale and shift go with them
            size = constant(size * root_mean_square(result), f"{output}/size", result.dtype)
            node("Mul", parts[0], size, output)
            continue
        size = constant(size, f"{output}/size", result.dtype)
        source, scale, shifts = parts[0], parts[1], list(parts[2:3])
        if op.startswith("Skip"):
            simple = "Simplified" in op
            scale, shifts = parts[2], [] if simple else list(parts[3:4])
            bias = list(parts[3:4] if simple else parts[4:5])
            source = current.output[3] if len(current.output) > 3 and current.output[3] else f"{output}/sum"
            biased = any(bias)
            node("Add", parts[0], parts[1], f"{output}/unbiased" if biased else source)
            if biased:
                node("Add", f"{output}/unbiased", bias[0], source)
        node("Mul", source, size, f"{output}/sized")
        node("Mul", f"{output}/sized", scale, f"{output}/scaled" if any(shifts) else output)
        if any(shifts):
            node("Add", f"{output}/scaled", shifts[0], output)
    del graph.node[:]
    graph.node.extend(nodes)
    return twin


def root_mean_square(array):
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


def addends(op):
    return dead.LAYER_NORMS.get(op, 1)
