"""The blocks that random networks are composed of: each takes a (batch, channels, spatial...) value and gives one back.

A block is a habit of real networks (a residual, a gate, a shuffle, a dense concatenation) or an awkward way to write
one (a slice to INT_MAX, a per-channel constant on the left of a division, a flatten in the middle). Blocks draw every
choice from the net's own generator, so a seed is a graph.

Invariant: what a block returns varies with its input, is finite for inputs of ordinary size, and has the input's batch.
"""

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
    ("Relu", 9, {}),
    ("Relu", 9, {}),
    ("LeakyRelu", 9, {"alpha": 0.1}),
    ("Sigmoid", 9, {}),
    ("Tanh", 9, {}),
    ("Elu", 9, {"alpha": 0.7}),
    ("Selu", 9, {}),
    ("Softplus", 9, {}),
    ("Softsign", 9, {}),
    ("HardSigmoid", 9, {}),
    ("Erf", 9, {}),
    ("Abs", 9, {}),
    ("Neg", 9, {}),
    ("ThresholdedRelu", 10, {"alpha": 0.1}),
    ("Celu", 12, {"alpha": 0.8}),
    ("HardSwish", 14, {}),
    ("Mish", 18, {}),
    ("Gelu", 20, {}),
    ("Shrink", 9, {"lambd": 0.1, "bias": 0.05}),
    ("Sin", 9, {}),
    ("Atan", 9, {}),
    ("Sign", 9, {}),
]


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
        s = net.reduce(
            "ReduceMean", x, list(range(2, 2 + len(spatial))) if net.chance(0.5) else list(range(-len(spatial), 0))
        )
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


@block(1)
def shared_vector(net, x):
    """Two layers that share a bias, or whose norms share a scale, directly or through Identity; joined or not."""
    out = width(net)
    vector = net.store(net.uniform(0.4, 1.4, out), "shared", "initializer")
    parts = []
    for kernel in (1, 3):
        own = net.unary("Identity", vector) if net.chance(0.3) else vector
        y = net.conv(x, out, kernel, bias=False)
        if net.chance(0.5):
            y = net.binary("Mul", y, net.unsqueeze(own, list(range(1, net.rank(x) - 1))))
        else:
            others = [net.store(v) for v in (net.normal(out), net.normal(out, scale=0.3), net.uniform(0.5, 1.5, out))]
            y = net.node("BatchNormalization", [y, own, *others], net.shape(y))
        parts.append(activation(net, y))
    return net.concat(parts) if net.chance(0.6) else net.binary("Add", *parts)
