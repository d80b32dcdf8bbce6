"""More blocks: element-wise constants of every shape, space, layout, numbers that come from shapes, and barriers."""

import math

import numpy as np
from onnx import numpy_helper

from blocks import block, width

# MARK: element-wise with constants


def constant_shape(net, x):
    _, c, *spatial = net.shape(x)
    ones = [1] * len(spatial)
    shapes = [
        (),
        (1,),
        (c, *ones),
        (1, c, *ones),
        (spatial[-1],),
        tuple(spatial),
        (*spatial[:-1], 1),
        (c, *spatial),
        (1, c, *spatial),
        (1, 1, *spatial),
        (1, 1, *ones),
        (c, *ones),
        (1, c, *ones),
    ]
    return net.pick(shapes)


@block(3)
def arithmetic(net, x):
    op = net.pick(["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where"])
    shape = constant_shape(net, x)
    if op in ("Min", "Max"):
        k = net.store(net.uniform(-0.5, 0.5, *shape), "k")
        inputs = [x, k] if net.chance(0.5) else [k, x, net.store(net.uniform(-0.5, 0.5, *constant_shape(net, x)), "k")]
        return net.node(op, inputs, net.shape(x))
    if op == "Pow":
        base = net.binary("Add", net.unary("Abs", x), net.scalar(0.3))
        return net.binary("Pow", base, net.store(net.uniform(0.5, 2, *shape), "k"))
    if op == "Where":
        flags = net.rng.random(shape) < 0.6
        condition = boolean(net, flags)
        other = net.store(net.uniform(-0.5, 0.5, *constant_shape(net, x)), "k")
        return net.node("Where", [condition, x, net.binary("Mul", x, other)], net.shape(x))
    k = net.store(net.uniform(0.5, 1.5, *shape) * net.pick([1, -1]), "k")
    if op == "Div" and net.chance(0.4):
        return net.binary("Div", k, net.binary("Add", net.unary("Abs", x), net.scalar(0.5)))
    return net.binary(op, *((x, k) if op == "Div" or net.chance(0.6) else (k, x)))


def boolean(net, flags):
    """A stored bool tensor; a file can hold it only as such, so a channel axis in it freezes channels."""
    name = net.fresh("flags")
    net.initializers.append(numpy_helper.from_array(np.asarray(flags, np.bool_), name))
    net.shapes[name] = np.shape(flags)
    return name


@block(1)
def compared(net, x):
    """A mask computed from the channels themselves."""
    k = net.store(net.uniform(-0.3, 0.3, *constant_shape(net, x)), "k")
    if net.opset < 9 or net.dtype != "f32":
        return net.binary("Mul", x, k)
    condition = net.binary("Greater", x, k)
    return net.node("Where", [condition, x, net.unary("Tanh", x)], net.shape(x))


# MARK: space


@block(1)
def pooled(net, x):
    if min(net.shape(x)[2:]) < 4:
        return net.unary("Tanh", x)
    op = net.pick(["MaxPool", "AveragePool", "LpPool"])
    if op == "AveragePool" and net.chance(0.5):
        return net.pool(op, x, 3, 1, 1, count_include_pad=net.pick([0, 1]))
    return net.pool(op, x)


@block(1, dims=(1, 2))
def resized(net, x):
    if max(net.shape(x)[2:]) > 6:
        x = net.pool("MaxPool", x)
    return net.conv(net.resize(x, 2, net.pick(["nearest", "nearest", "linear"])), width(net), 3)


@block(1)
def padded(net, x):
    dims = net.rank(x) - 2
    mode = net.pick(["constant", "constant", "reflect", "edge"])
    if mode == "constant" and net.chance(0.5):  # channels of padding
        c = net.shape(x)[1]
        front, back = net.between(0, 3), net.between(1, 3)
        y = net.pad(x, [0, front, *[0] * dims, 0, back, *[0] * dims])
        if net.chance(0.5):
            return net.binary("Add", y, net.conv(x, c + front + back, 1))
        return net.conv(y, width(net), 1)
    value = net.pick([None, 0.5]) if mode == "constant" else None
    return net.conv(net.pad(x, [0, 0, *[1] * dims, 0, 0, *[1] * dims], mode, value), width(net), 3, pad=0)


@block(1, dims=(2,))
def pixel_shuffle(net, x):
    n, c, h, w = net.shape(x)
    if h % 2 == 0 and w % 2 == 0 and net.chance(0.5):
        return net.conv(net.space_to_depth(x, 2), width(net), net.pick([1, 3]))
    if max(h, w) > 6:
        x = net.pool("MaxPool", x)
    y = net.conv(x, net.pick([8, 12, 16]), 1)
    y = net.depth_to_space(net.relu(y), 2, net.pick(["DCR", "CRD"]))
    return net.conv(y, width(net), 3)


# MARK: layout


@block(2)
def channels_last(net, x):
    n, c, *spatial = net.shape(x)
    dims = len(spatial)
    y = net.transpose(x, [0, *range(2, 2 + dims), 1])
    if net.chance(0.5):
        y = net.binary(net.pick(["Add", "Mul"]), y, net.store(net.uniform(0.5, 1.5, *net.pick([(c,), (1, c)]))))
    for _ in range(net.between(1, 2)):
        y = net.matmul(y, width(net))
        if net.chance(0.7):
            bias = net.store(net.normal(net.shape(y)[-1], scale=0.3), "b")
            y = net.binary("Add", *((y, bias) if net.chance(0.5) else (bias, y)))
        y = activation_plain(net, y)
    return net.transpose(y, [0, 1 + dims, *range(1, 1 + dims)])


def activation_plain(net, x):
    return net.unary(net.pick(["Relu", "Tanh", "Sigmoid", "Erf", "LeakyRelu"]), x)


@block(1)
def tokens(net, x):
    """Space flattened to tokens and back, with a linear residual between."""
    n, c, *spatial = net.shape(x)
    t = math.prod(spatial)
    y = net.reshape(x, [0, c, -1] if net.chance(0.5) else [0, 0, -1], (n, c, t))
    y = net.transpose(y, [0, 2, 1])
    h = net.matmul(activation_plain(net, net.matmul(y, net.pick([6, 8]))), c)
    y = net.binary("Add", y, h)
    if net.chance(0.3):
        y = net.binary("Add", y, net.store(net.normal(1, t, 1, scale=0.3), "position"))
    elif net.chance(0.3):
        y = net.binary("Add", y, net.store(net.normal(1, t, c, scale=0.3), "position"))
    y = net.transpose(y, [0, 2, 1])
    return net.reshape(y, [0, c, *spatial] if net.chance(0.5) else [-1, c, *spatial], (n, c, *spatial))


@block(1)
def renamed(net, x):
    """Operators that change nothing or only the look of the shape."""
    kind = net.pick(["identity", "dropout", "cast", "unsqueeze", "expand"])
    if kind == "identity":
        return net.unary("Identity", x)
    if kind == "dropout":
        return net.dropout(x)
    if kind == "cast" and net.dtype == "f32":
        return net.unary("Cast", net.unary("Cast", x, to=11), to=1)
    if kind == "unsqueeze":
        axis = net.between(1, net.rank(x))
        return net.squeeze(net.unsqueeze(x, [axis]), [axis])
    if kind == "expand":
        n, c, *spatial = net.shape(x)
        s = net.global_pool("GlobalAveragePool", x)
        target = net.pick([[1, 1, *spatial], [1, c, *spatial], None])
        target = net.node("Shape", [x], (net.rank(x),)) if target is None else target
        return net.binary("Add", x, net.expand(s, target, net.shape(x)))
    return net.relu(x)


@block(1)
def shared(net, x):
    """One weight, two convolutions."""
    c = net.shape(x)[1]
    dims = net.rank(x) - 2
    out = net.pick([c, width(net)])
    weight = net.store(net.normal(out, c, *[3] * dims, scale=math.sqrt(2 / (c * 3**dims))), "shared_w", "initializer")
    if any(n < 3 for n in net.shape(x)[2:]):
        return x
    a = net.relu(net.conv(x, out, 3, weight=weight, pad=1))
    if out == c:
        return (
            net.binary("Add", a, net.conv(a, out, 3, weight=weight, pad=1))
            if net.chance(0.5)
            else net.conv(a, out, 3, weight=weight, pad=1)
        )
    return net.concat([a, net.conv(net.unary("Tanh", x), out, 3, weight=weight, pad=1)])


# MARK: numbers from shapes, and barriers


@block(1)
def scaled_by_shape(net, x):
    """Divided by the square root of the number of channels, computed from Shape: must stay the old number."""
    c = net.length(x, 1)
    number = net.unary("Cast", c, to={"f32": 1, "f16": 10, "f64": 11}[net.dtype])
    return net.binary("Mul", net.binary("Div", x, net.unary("Sqrt", number)), net.scalar(2.0))


@block(1)
def barrier(net, x):
    """Operators that read the channel axis as a whole: nothing that reaches them may be pruned away wrongly."""
    n, c, *spatial = net.shape(x)
    kinds = ["softmax", "lrn", "normalize", "scatter", "compress"] + (["cumsum", "topk"] if net.opset >= 11 else [])
    if net.dtype != "f32":
        kinds = ["softmax", "scatter"]
    kind = net.pick(kinds)
    if kind == "softmax":
        if net.opset < 13:
            return net.binary("Add", x, net.unary("Softmax", x, axis=1))
        return net.unary("Softmax", x, axis=1)
    if kind == "lrn":
        return net.unary("LRN", x, size=3) if len(spatial) == 2 else net.unary("Softmax", x, axis=1)
    if kind == "normalize":
        return net.unary("LpNormalization", x, axis=1)
    if kind == "cumsum":
        axis = net.fresh("axis")
        net.initializers.append(numpy_helper.from_array(np.asarray(1, np.int64), axis))
        net.shapes[axis] = ()
        return net.node("CumSum", [x, axis], net.shape(x))
    if kind == "topk":
        k = max(1, c - 2)
        return net.node("TopK", [x, net.integers([k])], [(n, k, *spatial)] * 2, 2, axis=1)[0]
    if kind == "compress":
        flags = np.ones(c, bool)
        flags[::3] = False
        kept = int(flags.sum())
        return net.node("Compress", [x, boolean(net, flags)], (n, kept, *spatial), axis=1)
    op = "Scatter" if net.opset < 11 else "ScatterElements"
    if net.dynamic:
        return net.unary("Softmax", x, axis=1)
    indices = net.integers(np.zeros((n, 1, *[1] * len(spatial)), np.int64))
    update = net.store(net.normal(n, 1, *[1] * len(spatial)), "update")
    return net.node(op, [x, indices, update], net.shape(x), axis=1)
