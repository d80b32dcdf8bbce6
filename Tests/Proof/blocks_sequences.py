"""Blocks with operators beyond convolutions: Einsum, recurrence, quantized weights, order, index and sampling.

They join the others in `blocks.BLOCKS`; the rules for blocks are in blocks.py.
"""

import math

import numpy as np
from onnx import numpy_helper

from blocks import activation, block, width

MS = "com.microsoft"


def positions(net, x):
    """(batch, channels, space) to (space, batch, channels)."""
    n, c, *spatial = net.shape(x)
    size = math.prod(spatial)
    return net.transpose(net.reshape(x, [0, c, size], (n, c, size)), [2, 0, 1])


def space(net, y, spatial):
    """(space, batch, channels) to (batch, channels, space)."""
    size, n, c = net.shape(y)
    return net.reshape(net.transpose(y, [1, 2, 0]), [0, c, *spatial], (n, c, *spatial))


@block(2, opset=12)
def einsum(net, x):
    n, c, *spatial = net.shape(x)
    out, rank = width(net), len(spatial)
    letters = "hwd"[:rank]
    kind = net.pick(["plain", "implicit", "two", "bilinear"])
    if kind == "bilinear":  # channels met by channels, through a matrix
        core = net.store(net.normal(c, c, scale=0.3))
        y = net.node("Einsum", [x, core], net.shape(x), equation=f"nc{letters},ck->nk{letters}")
        y = net.unary("Tanh", y)
        z = net.node("Einsum", [x, y], (n, *spatial), equation=f"nc{letters},nc{letters}->n{letters}")
        return net.binary("Mul", x, net.unary("Sigmoid", net.unsqueeze(z, [1])))
    weight = net.store(net.normal(out, c, scale=math.sqrt(2 / c)))
    if kind == "two":
        low = net.store(net.normal(4, c, scale=math.sqrt(2 / c)))
        weight = net.store(net.normal(out, 4, scale=math.sqrt(2 / 4)))
        equation = f"nc{letters},rc,or->no{letters}"
        return activation(net, net.node("Einsum", [x, low, weight], (n, out, *spatial), equation=equation))
    equation = f"nc{letters},oc->no{letters}"
    operands = [x, weight]
    if kind == "implicit":
        equation = f"nc{letters}, oc"
        y = net.node("Einsum", operands, (*sorted_lengths(letters, n, out, spatial),), equation=equation)
        order = sorted("no" + letters)
        return activation(net, net.transpose(y, [order.index(letter) for letter in "no" + letters]))
    return activation(net, net.node("Einsum", operands, (n, out, *spatial), equation=equation))


def sorted_lengths(letters, n, out, spatial):
    lengths = dict(zip("no" + letters, (n, out, *spatial)))
    return [lengths[letter] for letter in sorted(lengths)]


@block(2, opset=14)
def recurrent(net, x):
    n, c, *spatial = net.shape(x)
    op = net.pick(["RNN", "GRU", "LSTM"])
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    hidden, directions = net.pick([3, 4, 6]), net.pick([1, 1, 2])
    steps = positions(net, x)
    inputs = [
        steps,
        net.store(net.normal(directions, gates * hidden, c, scale=math.sqrt(1 / c))),
        net.store(net.normal(directions, gates * hidden, hidden, scale=0.5)),
    ]
    state = (directions, n, hidden)
    bias = net.store(net.normal(directions, 2 * gates * hidden, scale=0.3)) if net.chance(0.7) else ""
    if net.chance(0.4) and net.dtype == "f32":
        shape = net.concat([net.integers([directions]), net.length(steps, 1), net.integers([hidden])], 0)
        inputs += [bias, "", net.node("ConstantOfShape", [shape], state)]
    elif bias:
        inputs.append(bias)
    attributes = {"direction": net.pick(["forward", "reverse"]) if directions == 1 else "bidirectional"}
    if op == "GRU" and net.chance(0.5):
        attributes["linear_before_reset"] = 1
    size = math.prod(spatial)
    shapes = [(size, directions, n, hidden), state]
    y, last = net.node(op, inputs, shapes, 2, hidden_size=hidden, **attributes)
    if directions == 1 and net.chance(0.5):
        y = net.squeeze(y, [1])
    else:
        width = directions * hidden
        y = net.reshape(net.transpose(y, [0, 2, 1, 3]), [size, -1, width], (size, n, width))
    y = space(net, y, spatial)
    if net.chance(0.3):  # the last state gates all steps
        gate = net.transpose(last, [1, 0, 2])
        gate = net.reshape(gate, [-1, directions * hidden, *[1] * len(spatial)], (n, directions * hidden, *[1] * len(spatial)))
        y = net.binary("Mul", y, net.unary("Sigmoid", gate))
    return y


def raw(net, array, dtype):
    name = net.fresh("raw")
    net.initializers.append(numpy_helper.from_array(np.asarray(array, dtype), name))
    net.shapes[name] = np.shape(array)
    return name


@block(2, opset=13)
def quantized(net, x):
    """A convolution whose weight, and maybe whose input, goes through integers."""
    if net.dtype != "f32" or net.opset > 25:  # what ONNX Runtime knows of
        return activation(net, net.conv(x, width(net)))
    n, c, *spatial = net.shape(x)
    out, kernel = width(net), [1] * len(spatial)
    group = net.pick([1, 1, 1] + [g for g in (2, 4) if c % g == 0 and out % g == 0])
    channels = [] if net.chance(0.3) else [out]
    weight = net.node(
        "DequantizeLinear",
        [
            raw(net, net.rng.integers(-100, 100, (out, c // group, *kernel)), np.int8),
            raw(net, net.uniform(0.004, 0.01, *channels), np.float32),
            raw(net, np.zeros(channels), np.int8),
        ],
        (out, c // group, *kernel),
        axis=0,
    )
    y = net.node("Conv", [x, weight], (n, out, *spatial), group=group, kernel_shape=kernel)
    return activation(net, y)


@block(1, opset=11)
def ordered(net, x):
    """The largest positions of every channel, in order."""
    n, c, *spatial = net.shape(x)
    size = math.prod(spatial)
    y = net.reshape(x, [0, c, size], (n, c, size))
    best, _ = net.node("TopK", [y, net.integers([size])], [(n, c, size)] * 2, 2, axis=net.pick([2, -1]))
    return net.reshape(best, [0, c, *spatial], (n, c, *spatial))


@block(1, opset=13)
def indexed(net, x):
    n, c, *spatial = net.shape(x)
    size = math.prod(spatial)
    y = net.transpose(net.reshape(x, [0, c, size], (n, c, size)), [0, 2, 1])
    kind = net.pick(["elements", "slices", "cumulated", "tiled"])
    if kind == "cumulated":
        y = net.node("CumSum", [y, net.integers(1)], net.shape(y))
    elif kind == "tiled":
        y = net.node("Tile", [y, net.integers([1, 1, 2])], (n, size, 2 * c))
        c = 2 * c
    elif kind == "slices":
        order = net.rng.permutation(size)[:, None]
        y = net.transpose(net.node("GatherND", [net.transpose(y, [1, 0, 2]), net.integers(order)], (size, n, c)), [1, 0, 2])
    else:
        score = net.reduce("ReduceSum", net.matmul(y, 1), [2], 0)
        _, index = net.node("TopK", [score, net.integers([size])], [(n, size)] * 2, 2, axis=1)
        index = net.unsqueeze(index, [2])
        target = net.node("Shape", [y], (3,)) if net.chance(0.5) or net.dynamic else [n, size, c]
        y = net.node("GatherElements", [y, net.expand(index, target, (n, size, c))], (n, size, c), axis=1)
    return net.reshape(net.transpose(y, [0, 2, 1]), [0, c, *spatial], (n, c, *spatial))


@block(1, opset=16)
def overwritten(net, x):
    """Some channels, or some positions, are replaced."""
    n, c, *spatial = net.shape(x)
    count = net.between(1, max(c // 2, 1))
    rows = net.transpose(x, [1, 0, *range(2, 2 + len(spatial))])
    places = net.rng.permutation(c)[:count]
    places = np.where(net.rng.random(count) < 0.3, places - c, places)[:, None]
    new = net.transpose(net.conv(x, count, 1), [1, 0, *range(2, 2 + len(spatial))])
    rows = net.node("ScatterND", [rows, net.integers(places), new], net.shape(rows))
    return net.transpose(rows, [1, 0, *range(2, 2 + len(spatial))])


@block(1, dims=(2,), opset=16)
def sampled(net, x):
    n, c, h, w = net.shape(x)
    if net.dtype != "f32":
        return x
    if h % 2 or w % 2 or net.chance(0.5):
        offsets = net.unary("Tanh", net.transpose(net.conv(x, 2, 3), [0, 2, 3, 1]))
        return net.node("GridSample", [x, offsets], (n, c, h, w))
    pooled, places = net.node("MaxPool", [x], [(n, c, h // 2, w // 2)] * 2, 2, kernel_shape=[2, 2], strides=[2, 2])
    pooled = net.relu(net.binary("Mul", pooled, net.store(net.uniform(0.5, 1.5, c, 1, 1))))
    if net.dynamic:
        return net.binary("Add", x, net.node("MaxUnpool", [pooled, places], (n, c, h, w), kernel_shape=[2, 2], strides=[2, 2]))
    unpooled = [pooled, places] + ([net.integers([n, c, h, w])] if net.chance(0.5) else [])
    return net.binary("Add", x, net.node("MaxUnpool", unpooled, (n, c, h, w), kernel_shape=[2, 2], strides=[2, 2]))


@block(1, opset=14)
def fused(net, x):
    """Matrix products as ONNX Runtime fuses them."""
    if net.dtype != "f32":
        return activation(net, net.conv(x, width(net), 1))
    n, c, *spatial = net.shape(x)
    y, out = positions(net, x), width(net)
    size = math.prod(spatial)
    transposed = net.chance(0.5)
    weight = net.normal(out, c, scale=math.sqrt(2 / c))
    weight = net.store(weight if transposed else weight.T.copy())
    y = net.node("FusedMatMul", [y, weight], (size, n, out), domain=MS, transB=int(transposed), alpha=0.7)
    y = net.node("BiasGelu", [y, net.store(net.normal(out, scale=0.3))], (size, n, out), domain=MS)
    return space(net, y, spatial)
