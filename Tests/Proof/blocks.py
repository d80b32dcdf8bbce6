"""The blocks that random networks are composed of: each takes a (batch, channels, spatial...) value and gives one back.

A block is a habit of real networks (a residual, a gate, a shuffle, a dense concatenation) or an awkward way to write
one (a slice to INT_MAX, a per-channel constant on the left of a division, a flatten in the middle). Blocks draw every
choice from the net's own generator, so a seed is a graph.

Invariant: what a block returns varies with its input, is finite for inputs of ordinary size, and has the input's batch.
"""
import math

import numpy as np

INT_MAX, INT64_MAX = 2**31 - 1, 2**63 - 1
BLOCKS = []


def block(weight=1, dims=(1, 2, 3), opset=9):
    """Registers a block with how often it is drawn, for how many spatial axes, and from which opset."""
    def register(function):
        BLOCKS.append((function, weight, dims, opset))
        return function
    return register


def width(net):
    return net.pick([4, 6, 8, 8, 12, 16])


def divisors(*numbers):
    return [d for d in range(2, min(numbers)) if all(n % d == 0 for n in numbers)]


# MARK: activations

ACTIVATIONS = [
    ("Relu", 9, {}), ("Relu", 9, {}), ("LeakyRelu", 9, {"alpha": 0.1}), ("Sigmoid", 9, {}), ("Tanh", 9, {}),
    ("Elu", 9, {"alpha": 0.7}), ("Selu", 9, {}), ("Softplus", 9, {}), ("Softsign", 9, {}), ("HardSigmoid", 9, {}),
    ("Erf", 9, {}), ("Abs", 9, {}), ("Neg", 9, {}), ("ThresholdedRelu", 10, {"alpha": 0.1}), ("Celu", 12, {"alpha": 0.8}),
    ("HardSwish", 14, {}), ("Mish", 18, {}), ("Gelu", 20, {}), ("Shrink", 9, {"lambd": 0.1, "bias": 0.05}),
    ("Sin", 9, {}), ("Atan", 9, {}), ("Sign", 9, {})]


def activation(net, x):
    kind = net.between(0, 9)
    if kind == 0:
        return net.clip(x, 0.0, 6.0)
    if kind == 1:
        _, c, *spatial = net.shape(x)
        shapes = [(1,), (c, *[1] * len(spatial)), (1, c, *[1] * len(spatial)), (c, *spatial), (spatial[-1],)]
        return net.prelu(x, net.pick(shapes))
    if kind == 2:  # x * sigmoid(x)
        return net.binary("Mul", x, net.unary("Sigmoid", x))
    if kind == 3:
        positive = net.binary("Add", net.unary("Abs", x), net.scalar(0.2))
        return net.unary(net.pick(["Sqrt", "Log", "Reciprocal"]), positive)
    usable = [a for a in ACTIVATIONS if a[1] <= net.opset and not (net.dtype != "f32" and a[0] in ("Shrink", "Celu"))]
    op, _, attributes = net.pick(usable)
    if op == "Sign":
        return net.binary("Add", x, net.unary("Sign", x))
    return net.unary(op, x, **attributes)


@block(3)
def conv_norm_act(net, x):
    x = net.conv(x, width(net), kernel=net.pick([1, 3, 3, 5]), dilation=net.pick([1, 1, 1, 2]))
    if net.chance(0.6):
        x = net.batch_norm(x)
    elif net.chance(0.2):
        x = net.instance_norm(x)
    return activation(net, x) if net.chance(0.9) else x


@block(1)
def pointwise(net, x):
    return activation(net, net.conv(x, width(net), 1))


@block(2)
def depthwise_separable(net, x):
    x = net.depthwise(x, multiplier=net.pick([1, 1, 2, 3]))
    if net.chance(0.5):
        x = net.batch_norm(x)
    x = activation(net, x)
    return net.conv(x, width(net), 1)


@block(2)
def grouped(net, x):
    out = net.pick([8, 12, 16])
    groups = divisors(net.shape(x)[1], out)
    if not groups:
        x = net.relu(net.conv(x, out, 1))
        groups = divisors(out, out)
    return activation(net, net.conv(x, out, 3, group=net.pick(groups)))


@block(1)
def aggregated(net, x):
    """A bottleneck with a grouped convolution and a residual."""
    c = net.shape(x)[1]
    y = net.relu(net.conv(x, 8, 1))
    y = net.relu(net.batch_norm(net.conv(y, 8, 3, group=net.pick([2, 4]))))
    return net.relu(net.binary("Add", x, net.conv(y, c, 1)))


@block(1)
def transposed(net, x):
    c, out = net.shape(x)[1], width(net)
    group = net.pick([1, 1] + divisors(c, out))
    x = net.conv_transpose(x, out, kernel=2, stride=2, group=group)
    if max(net.shape(x)[2:]) > 10:
        x = net.pool("MaxPool", x)
    return activation(net, x)


# MARK: joins

@block(3)
def residual(net, x):
    c = net.shape(x)[1]
    y = net.conv(x, width(net), 3)
    y = activation(net, net.batch_norm(y) if net.chance(0.5) else y)
    y = net.conv(y, c, 3)
    if net.chance(0.3):
        y = net.batch_norm(y)
    a, b = (x, y) if net.chance(0.5) else (y, x)
    if net.chance(0.1):
        return net.node(net.pick(["Sum", "Mean", "Max", "Min"]), [a, b], net.shape(x))
    return activation(net, net.binary(net.pick(["Add", "Add", "Add", "Sub", "Mul"]), a, b))


@block(2)
def projected_residual(net, x):
    out = width(net)
    a = net.batch_norm(net.conv(x, out, 3))
    b = net.conv(x, out, 1)
    if net.chance(0.3):
        return net.node("Sum", [a, b, net.conv(x, out, 1)], net.shape(a))
    return net.relu(net.binary("Add", a, b))


@block(2)
def dense(net, x):
    parts = [x]
    for _ in range(net.between(1, 3)):
        y = net.relu(net.batch_norm(net.concat(parts) if len(parts) > 1 else x))
        parts.append(net.conv(y, net.pick([3, 4, 5]), 3))
    return net.conv(net.concat(parts), width(net), 1)


@block(2)
def branches(net, x):
    parts = [net.relu(net.conv(x, net.pick([3, 4, 6]), k)) for k in (1, 3)]
    if net.chance(0.5):
        parts.append(net.conv(net.pool("MaxPool", x, 3, 1, 1) if min(net.shape(x)[2:]) >= 3 else x, 4, 1))
    if net.chance(0.2):
        parts.append(parts[0])
    return activation(net, net.concat(parts))


@block(2)
def gate(net, x):
    """Squeeze and excitation, written in one of the ways exporters do."""
    n, c, *spatial = net.shape(x)
    ones = [1] * len(spatial)
    kind = net.pick(["pool", "mean", "gemm", "sum"])
    hidden = net.pick([3, 4, 6])
    if kind == "pool":
        s = net.global_pool(net.pick(["GlobalAveragePool", "GlobalMaxPool"]), x)
        s = net.conv(net.relu(net.conv(s, hidden, 1)), c, 1)
    elif kind == "mean":
        s = net.reduce("ReduceMean", x, list(range(2, 2 + len(spatial))) if net.chance(0.5) else list(range(-len(spatial), 0)))
        s = net.conv(net.relu(net.conv(s, hidden, 1)), c, 1)
    else:
        s = net.reduce("ReduceMean" if kind == "gemm" else "ReduceMax", x, list(range(2, 2 + len(spatial))), keepdims=0)
        s = net.gemm(net.relu(net.gemm(s, hidden)), c)
        if net.chance(0.5):
            s = net.unsqueeze(s, [2 + i for i in range(len(spatial))])
        else:
            s = net.reshape(s, [-1, c, *ones], (n, c, *ones))
    s = net.unary(net.pick(["Sigmoid", "HardSigmoid"]), s)
    return net.binary("Mul", *((x, s) if net.chance(0.5) else (s, x)))


@block(1)
def spatial_gate(net, x):
    """A one-channel map times all channels: fixed where it is broadcast, absent where it is not."""
    s = net.unary("Sigmoid", net.conv(x, 1, 3))
    return net.binary("Mul", s, x)


@block(2)
def shuffle(net, x):
    n, c, *spatial = net.shape(x)
    groups = divisors(c)
    if not groups:
        x = net.relu(net.conv(x, 12, 1))
        n, c, *spatial = net.shape(x)
        groups = divisors(c)
    g = net.pick(groups)
    lead = net.pick([-1, 0]) if net.dynamic else net.pick([-1, 0, n])
    wide, back = (n, g, c // g, *spatial), (n, c, *spatial)
    if net.chance(0.4):  # as exporters do it: lengths computed from Shape
        target = net.concat([net.length(x, 0), net.integers([g, c // g, *spatial])], 0)
        y = net.reshape(x, target, wide)
    else:
        y = net.reshape(x, [lead, g, c // g, *spatial], wide)
    y = net.transpose(y, [0, 2, 1, *range(3, 3 + len(spatial))])
    y = net.reshape(y, [lead, c, *spatial] if lead == -1 or net.chance(0.5) else [lead, -1, *spatial], back)
    return net.conv(y, width(net), 1) if net.chance(0.7) else net.depthwise(y)


@block(2)
def split_apart(net, x):
    n, c, *spatial = net.shape(x)
    if c < 4:
        return x
    even = c % 2 == 0 and net.chance(0.5)
    lengths = [c // 2, c - c // 2] if even else [net.between(1, c - 2)]
    if not even:
        lengths.append(c - lengths[0])
    a, b = net.split(x, lengths, axis=net.pick([1, 1, 1 - net.rank(x)]) % net.rank(x), even=even)
    kind = net.pick(["concat", "swap", "conv", "add"])
    if kind == "add" and even:
        return net.binary(net.pick(["Add", "Mul"]), a, net.unary("Sigmoid", b))
    b = net.relu(net.conv(b, net.pick([4, 6]), 3)) if kind in ("conv", "add") else net.unary("Tanh", b)
    return net.concat([b, a] if kind == "swap" else [a, b])


@block(2)
def sliced(net, x):
    n, c, *spatial = net.shape(x)
    if c < 6:
        x = net.relu(net.conv(x, 8, 3))
        c = 8
    half = c // 2
    kinds = ["halves", "negative", "all"] + (["steps", "reverse"] if net.opset >= 10 else [])
    kind = net.pick(kinds)
    if kind == "halves":
        a = net.slice(x, [0], [half], [1])
        b = net.slice(x, [half], [net.pick([INT_MAX, INT64_MAX, c])], [1])
        return net.concat([net.relu(net.conv(b, 4, 3)), a])
    if kind == "negative":
        a = net.slice(x, [-half], [net.pick([INT_MAX, INT64_MAX])], [net.pick([1, 1 - net.rank(x)]) % net.rank(x)])
        return net.binary("Add", a, net.conv(x, half, 1))
    if kind == "steps":
        a = net.slice(x, [0], [INT_MAX], [1], [2])
        b = net.slice(x, [-1], [-INT64_MAX], [1], [-2])
        return net.binary("Add", a, b)
    if kind == "reverse":
        return net.conv(net.slice(x, [-1], [-INT_MAX], [1], [-1]), width(net), 1)
    return net.slice(x, [0, 0], [INT_MAX, INT64_MAX], [1, 2])


@block(1)
def gathered(net, x):
    c = net.shape(x)[1]
    kind = net.pick(["permute", "subset", "repeat", "single"])
    order = net.rng.permutation(c)
    if kind == "subset" and c > 3:
        order = order[: c - 2]
    elif kind == "repeat":
        order = np.concatenate([order, order[:2]])
    elif kind == "single":
        one = net.gather(x, [int(order[0])])
        return net.concat([net.conv(x, 5, 3), one])
    return net.conv(net.gather(x, order - (c if net.chance(0.2) and net.opset >= 11 else 0)), width(net), 3)


# MARK: element-wise with constants

def constant_shape(net, x):
    _, c, *spatial = net.shape(x)
    ones = [1] * len(spatial)
    shapes = [(), (1,), (c, *ones), (1, c, *ones), (spatial[-1],), tuple(spatial), (*spatial[:-1], 1), (c, *spatial),
              (1, c, *spatial), (1, 1, *spatial), (1, 1, *ones), (c, *ones), (1, c, *ones)]
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
    from onnx import numpy_helper
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
        return net.binary("Add", a, net.conv(a, out, 3, weight=weight, pad=1)) if net.chance(0.5) else \
            net.conv(a, out, 3, weight=weight, pad=1)
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
        from onnx import numpy_helper
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
