"""Random small networks, one per seed: blocks (blocks*.py) in sequence, with side branches, several inputs and outputs,
and a head. `random_graph(seed)` is the whole interface; the same seed gives the same bytes.

Invariant: the model passes onnx.checker with full check, runs, and no output is constant.
"""

import math

import numpy as np
import onnx

import blocks
import blocks_sequences  # noqa: F401  registers its blocks with the others
import blocks_shapes  # noqa: F401
import net as nets
import running

NEWEST = onnx.defs.onnx_opset_version()
OPSETS = list(range(9, NEWEST + 1))


def random_graph(seed):
    """The first draw of this seed's sequence whose outputs are finite and follow the input."""
    for attempt in range(20):
        model = draw(seed, attempt)
        if varies(model):
            return model
    raise RuntimeError(f"seed {seed} draws only constant networks")


def varies(model):
    """Do all outputs change with the input, by more than rounding, in both of two directions?"""
    wide = running.widened(model)
    session, rng = running.session(wide), np.random.default_rng(0)
    first, *others = [session.run(None, running.random_inputs(wide, rng, 2)) for _ in range(3)]
    for other in others:
        for a, b in zip(first, other):
            if not np.isfinite(a).all() or np.abs(a - b).max() < 1e-3 * np.abs(a).max():
                return False
    return True


def draw(seed, attempt):
    rng = np.random.default_rng([seed, attempt, 1])
    opset = OPSETS[int(rng.integers(len(OPSETS)))] if rng.random() < 0.7 else int(rng.choice([11, 13, 17, 18]))
    dtype = str(rng.choice(["f32"] * 10 + ["f16", "f64"]))
    net = nets.Net(
        [seed, attempt, 2], opset, dynamic=bool(rng.random() < 0.4), batch=int(rng.integers(1, 4)), dtype=dtype
    )
    dims = net.pick([1, 2, 2, 2, 2, 2, 2, 3])
    spatial = [net.pick([4, 5, 6, 8]) for _ in range(dims)] if dims < 3 else [4, 4, 4]
    x = net.image(net.pick([1, 3, 4]), *spatial)
    x = net.relu(net.conv(x, blocks.width(net), 3))
    side = []
    usable = [(f, w) for f, w, d, o in blocks.BLOCKS if dims in d and opset >= o]
    weights = np.array([w for _, w in usable], float)
    for _ in range(net.between(2, 5)):
        x = usable[int(net.rng.choice(len(usable), p=weights / weights.sum()))][0](net, x)
        if max(net.shape(x)[2:]) > 12:
            x = net.pool("MaxPool", x)
        if net.shape(x)[1] > 40:
            x = net.conv(x, 12, 1)
        if net.chance(0.25):
            side.append(x)
        elif side and net.chance(0.4):
            x = join(net, x, net.pick(side))
        if net.chance(0.08):
            net.output(x)
        if net.chance(0.06):
            x = modulated(net, x)
        if net.chance(0.05):
            net.relu(net.conv(x, 4, 1))  # nobody reads it
    head(net, x)
    return net.model()


def join(net, x, other):
    """Brings an earlier value to the current resolution and joins it: a skip connection across blocks."""
    a, b = net.shape(x), net.shape(other)
    if a[2:] != b[2:]:
        other = net.global_pool("GlobalAveragePool", other)
        if net.chance(0.5):
            return net.binary("Add", x, net.conv(other, a[1], 1))
        other = net.expand(other, [1, 1, *a[2:]], (*b[:2], *a[2:]))
        return net.concat([x, other])
    if a == b and net.chance(0.6):
        return net.binary("Add", x, other)
    if net.chance(0.5):
        return net.concat([other, x])
    return net.binary("Add", x, net.conv(other, a[1], 1))


def modulated(net, x):
    """A second graph input: another image, per-channel factors, or a map over space."""
    n, c, *spatial = net.shape(x)
    kind = net.pick(["image", "channels", "map"])
    if kind == "image":
        y = net.conv(net.image(2, *spatial), net.pick([c, 4]), 3)
        return net.binary("Add", x, y) if net.shape(y) == net.shape(x) else net.concat([y, x])
    if kind == "channels":
        return net.binary("Mul", x, net.input((n, c, *[1] * len(spatial))))
    return net.binary("Mul", x, net.input((n, 1, *spatial)))


def head(net, x):
    n, c, *spatial = net.shape(x)
    kind = net.pick(["flatten", "flatten", "pool", "pool", "reshape", "none", "conv", "view"])
    if kind == "none":
        return net.output(net.unary("Tanh", x) if net.chance(0.5) else x)
    if kind == "conv":
        return net.output(net.conv(x, net.between(2, 5), net.pick([1, 3])))
    if kind == "pool":
        x = net.global_pool(net.pick(["GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool"]), x)
        if net.chance(0.3) and not (net.dynamic or n == 1 or c == 1):
            x = net.squeeze(x, None)
        else:
            x = net.pick(
                [
                    lambda: net.flatten(x),
                    lambda: net.squeeze(x, list(range(2, 2 + len(spatial)))),
                    lambda: net.reshape(x, [0, -1], (n, c)),
                ]
            )()
    else:
        size = c * math.prod(spatial)
        if net.chance(0.2):  # channels innermost
            x = net.transpose(x, [0, *range(2, 2 + len(spatial)), 1])
        if kind == "flatten":
            x = net.flatten(x, net.pick([1, 1, 1 - net.rank(x)]) % net.rank(x))
        elif kind == "view":
            x = net.reshape(x, net.concat([net.length(x, 0), net.integers([-1])], 0), (n, size))
        else:
            x = net.reshape(x, [-1, size] if net.chance(0.5) else [0, -1], (n, size))
    if net.chance(0.5):
        x = net.relu(net.gemm(x, net.pick([6, 10])))
    if net.chance(0.5):
        net.output(net.gemm(x, net.between(2, 5)))
    else:
        net.output(net.binary("Add", net.matmul(x, 4), net.store(net.normal(4, scale=0.3), "b")))


def describe(model):
    """The graph as text, small enough to read in a failure."""
    import onnx.printer

    lines = []
    for line in onnx.printer.to_text(model).splitlines():
        lines.append(line if len(line) <= 240 else line[:200] + " ...")
    return "\n".join(lines)
