"""Hazards of what only moves: parts of nothing, single entries of pairs, windows of one place, repeats."""

import numpy as np

from hazards import INT_MAX, end, hazard, stem
from hazards_operators import tokens


def attention(net, x, turn, heads=2):
    """Queries and keys go through `turn` as (batch, heads, length, width), then attention and a residual."""
    batch, length, channels = net.shape(x)
    width = channels // heads

    def split(y):
        return net.transpose(net.reshape(y, [0, 0, heads, width], (batch, length, heads, width)), [0, 2, 1, 3])

    q, k, v = (split(net.matmul(x, channels)) for _ in range(3))
    scores = net.node("MatMul", [turn(q), net.transpose(turn(k), [0, 1, 3, 2])], (batch, heads, length, length))
    scores = net.unary("Softmax", net.binary("Mul", scores, net.scalar(0.4)), axis=-1)
    mixed = net.transpose(net.node("MatMul", [scores, v], (batch, heads, length, width)), [0, 2, 1, 3])
    y = net.matmul(net.reshape(mixed, [0, 0, channels], (batch, length, channels)), channels)
    net.output(net.matmul(net.binary("Add", x, y), 3))


def rotated(net, x, pairs, table):
    """x * cos + pairs * sin; the angles are the same for all heads if there is a table."""
    if not table:
        return net.binary("Add", net.binary("Mul", x, net.scalar(0.8)), net.binary("Mul", pairs, net.scalar(0.6)))
    length, width = net.shape(x)[2:]
    angles = np.repeat(net.uniform(-1, 1, length, width // 2), 2, axis=1)
    cos, sin = net.store(np.cos(angles)), net.store(np.sin(angles))
    return net.binary("Add", net.binary("Mul", x, cos), net.binary("Mul", pairs, sin))


def neighbours(net, x, form):
    """(-x1, x0, -x3, x2, ...), in the forms that files have."""
    batch, heads, length, width = net.shape(x)
    if form == "step":
        first, second = (net.unsqueeze(net.slice(x, [i], [INT_MAX], [3], [2]), [4]) for i in range(2))
    else:
        pairs = net.reshape(x, [0, 0, 0, -1, 2], (batch, heads, length, width // 2, 2))
        if form == "split":
            first, second = net.split(pairs, [1, 1], 4)
        else:
            first, second = (net.unsqueeze(net.gather(pairs, i, 4), [4]) for i in range(2))
    turned = net.concat([net.unary("Neg", second), first], 4)
    return net.reshape(turned, [0, 0, 0, width], (batch, heads, length, width))


@hazard()
def neighbours_turned_by_steps(net):
    """Without a table of angles each head chooses pairs of its own; a step still finds them."""
    attention(net, tokens(net, 16), lambda x: rotated(net, x, neighbours(net, x, "step"), table=False))


@hazard()
def neighbours_turned_by_split(net):
    attention(net, tokens(net, 16), lambda x: rotated(net, x, neighbours(net, x, "split"), table=True))


@hazard()
def neighbours_turned_by_index(net):
    attention(net, tokens(net, 16), lambda x: rotated(net, x, neighbours(net, x, "index"), table=False))


@hazard()
def no_tokens_before_those_that_turn(net):
    def turn(x):
        none, all_ = net.slice(x, [0], [0], [2]), net.slice(x, [0], [INT_MAX], [2])
        return net.concat([none, rotated(net, all_, neighbours(net, all_, "step"), table=True)], 2)

    attention(net, tokens(net, 16), turn)


@hazard()
def no_dims_behind_those_that_turn(net):
    def turn(x):
        turning, rest = net.slice(x, [0], [8], [3]), net.slice(x, [8], [INT_MAX], [3])
        return net.concat([rotated(net, turning, neighbours(net, turning, "step"), table=True), rest], 3)

    attention(net, tokens(net, 16), turn)


@hazard()
def a_part_of_nothing(net):
    a, none, b = net.split(stem(net), [10, 0, 6])
    end(net, net.concat([b, none, a]))


@hazard()
def one_of_each_pair_is_read(net):
    """Nothing ties the entries of a pair: those that are read alone stay."""
    pairs = net.reshape(tokens(net, 16), [0, 0, 8, 2], (2, 5, 8, 2))
    y = net.binary("Add", net.gather(pairs, 1, 3), net.store(net.normal(8)))
    net.output(net.binary("Add", net.matmul(y, 3), net.matmul(net.reshape(pairs, [0, 0, 16], (2, 5, 16)), 3)))


@hazard()
def windows_of_one_place(net):
    """Tokens as an image whose width are the channels; only its height is pooled."""
    x = net.node(
        "AveragePool",
        [net.unsqueeze(tokens(net, 16, 6), [1])],
        (2, 1, 3, 16),
        kernel_shape=[2, 1],
        strides=[2, 1],
    )
    net.output(net.matmul(net.squeeze(x, [1]), 3))


@hazard()
def convolution_over_tokens(net):
    """What mixes tokens is a convolution with tokens as its channels; the channels are its places."""
    x = tokens(net, 16, 6)
    y = net.conv(net.relu(net.conv(x, 10, 1)), 6, 1)
    net.output(net.matmul(net.binary("Add", x, y), 3))


@hazard()
def grouped_convolution_over_tokens(net):
    x = tokens(net, 16, 6)
    net.output(net.matmul(net.relu(net.conv(x, 6, 1, group=3)), 3))


@hazard()
def index_repeated_for_every_channel(net):
    x = tokens(net, 16, 6)
    index = net.node("Tile", [net.integers([[[4], [0], [2]]] * 2), net.integers([1, 1, 16])], (2, 3, 16))
    net.output(net.matmul(net.node("GatherElements", [x, index], (2, 3, 16), axis=1), 3))


@hazard(opset=18)
def patches_laid_over_each_other(net):
    """Channels of 2 x 2 places each, summed into an image."""
    x = net.transpose(tokens(net, 24, 9), [0, 2, 1])
    y = net.node("Col2Im", [x, net.integers([4, 4]), net.integers([2, 2])], (2, 6, 4, 4), strides=[1, 1])
    end(net, y)


@hazard()
def steps_over_two_axes_at_once(net):
    """What is left of every other channel is no longer evenly spaced, and another axis is stepped over with it."""
    x = stem(net, 16)
    ends = [INT_MAX, INT_MAX]
    halves = [net.slice(x, [start, start], ends, [1, 2], [2, 2]) for start in range(2)]
    halves.append(net.slice(x, [-1, 1], [-INT_MAX, INT_MAX], [1, 3], [-2, 1]))
    halves[2] = net.slice(halves[2], [0], ends[:1], [2], [2])
    end(net, net.concat([halves[0], net.relu(halves[1])]))
    net.output(net.conv(net.relu(halves[2]), 3, 1))


@hazard()
def steps_over_two_axes_of_channels(net):
    x = net.input((2, 6))
    a, b = net.unsqueeze(net.matmul(x, 14), [2]), net.unsqueeze(net.matmul(x, 16), [1])
    x = net.slice(net.binary("Mul", a, b), [0, 1], [INT_MAX, INT_MAX], [1, 2], [2, 3])
    x = net.transpose(net.matmul(net.relu(x), 4), [0, 2, 1])
    net.output(net.matmul(x, 3))
