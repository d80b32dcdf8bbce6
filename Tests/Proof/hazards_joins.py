"""Hazards of joins, broadcasts, outputs and dead ends."""

import numpy as np
from onnx import helper

from hazards import end, hazard, stem


@hazard()
def channels_of_padding(net):
    x = stem(net, 8)
    wide = net.conv(x, 24, 3)
    end(net, net.relu(net.binary("Add", net.pad(x, [0, 8, 0, 0, 0, 8, 0, 0]), wide)))


@hazard()
def coordinates_beside_features(net):
    x = stem(net, 8)
    y = net.concat([net.input((2, 2, 6, 6)), x])
    end(net, net.relu(net.conv(y, 8, 3)))


@hazard()
def stored_map_beside_features(net):
    """A stored position map is concatenated: its channels can go as well as any."""
    x = stem(net, 8)
    end(net, net.relu(net.conv(net.concat([net.store(net.normal(2, 3, 6, 6)), x]), 8, 3)))


@hazard()
def same_label_twice(net):
    x = net.conv(net.image(3, 6, 6), 8, 3)
    y = net.relu(net.concat([x, net.unary("Neg", x)]))
    end(net, net.gather(y, [0, 3, 3, 9, 9, 14, 1, 15]))


@hazard()
def one_channel_taken(net):
    x = stem(net, 8)
    end(net, net.binary("Mul", net.slice(x, [3], [4], [1]), net.conv(x, 6, 3)))


@hazard()
def gather_index_with_ones(net):
    x = net.gather(net.reduce("ReduceMean", stem(net, 8), [2, 3], 0), np.array([5, 1, 2, 7]).reshape(1, 4, 1))
    net.output(net.gemm(net.reshape(x, [0, 4], (2, 4)), 3))


@hazard()
def negative_gather_indices(net):
    end(net, net.gather(stem(net, 8), [-1, 0, -3, 2]))


@hazard()
def dead_branch_and_unused_tensor(net):
    x = stem(net, 8)
    net.relu(net.conv(x, 6, 3))
    net.store(net.normal(8, 8), "unused")
    end(net, x)


@hazard()
def value_that_is_also_an_output(net):
    x = stem(net, 8)
    net.output(x)
    end(net, net.relu(net.conv(x, 10, 3)))


@hazard()
def biases_that_survive_alone(net):
    """Sigmoid of a removed channel is not zero: only its readers may be zeroed."""
    x = net.unary("Sigmoid", net.conv(net.image(3, 6, 6), 8, 3, bias=True))
    x = net.binary("Add", x, net.store(net.normal(8, 1, 1)))
    net.output(net.gemm(net.flatten(net.pool("AveragePool", x, 2, 2)), 4))


@hazard()
def flatten_of_channels_last(net):
    x = net.transpose(stem(net, 8, 4), [0, 2, 3, 1])
    net.output(net.gemm(net.flatten(x), 4))


@hazard()
def slopes_over_every_axis(net):
    x = net.prelu(net.conv(net.image(3, 6, 6), 8, 3), (8, 6, 6))
    x = net.prelu(net.conv(x, 6, 3), (1, 6, 1, 1))
    end(net, net.prelu(net.conv(x, 7, 3), (6,)))


@hazard()
def constants_over_other_axes(net):
    x = net.binary("Add", net.conv(net.image(3, 6, 6), 6, 3), net.store(net.normal(6, 6)))
    x = net.binary("Mul", net.store(net.uniform(0.5, 1.5, 6)), net.relu(x))
    x = net.binary("Sub", net.store(net.normal(1, 6, 1, 1)), x)
    end(net, net.binary("Div", x, net.store(net.uniform(0.5, 1.5, 6, 1, 1))))


@hazard()
def depth_to_space_both_ways(net):
    x = net.depth_to_space(stem(net, 16, 4), 2, "DCR")
    x = net.relu(net.conv(x, 8, 3))
    x = net.depth_to_space(x, 2, "CRD")
    x = net.space_to_depth(net.relu(net.conv(x, 4, 3)), 4)
    end(net, x)


@hazard()
def barrier_in_the_middle(net):
    x = net.unary("Softmax", net.conv(stem(net, 8), 6, 3), axis=1)
    end(net, net.relu(net.conv(x, 8, 3)))


@hazard()
def broadcast_of_two_widths_of_one(net):
    """(N,1,H,W) plus (N,C,1,1): neither has what the other has."""
    x = stem(net, 8)
    a = net.conv(x, 1, 3)
    b = net.global_pool("GlobalAveragePool", net.conv(x, 6, 1))
    end(net, net.relu(net.binary("Add", a, b)))


@hazard()
def subgraph_that_captures(net):
    """An If whose branches read a value of the outer graph by name."""
    x = stem(net, 8)
    flag = net.input((), "flag", dtype=9)
    branches = {}
    for branch, op in (("then_branch", "Relu"), ("else_branch", "Tanh")):
        out = helper.make_tensor_value_info(branch + "_out", 1, [2, 8, 6, 6])
        branches[branch] = helper.make_graph([helper.make_node(op, [x], [branch + "_out"])], branch, [], [out])
    y = net.node("If", [flag], (2, 8, 6, 6), **branches)
    net.declare(y)
    end(net, net.relu(net.conv(y, 8, 3)))


@hazard(dynamic=True)
def local_windows_of_batches(net):
    """Batch folded into the channels' place and back: (B, H, N, d) as (B*H, N, d)."""
    x = net.reshape(stem(net, 8, 4), [-1, 4, 16], (4, 4, 16))
    x = net.unary("Tanh", x)
    end(net, net.reshape(x, [-1, 8, 4, 4], (2, 8, 4, 4)))


@hazard()
def shuffle_between_grouped_layers(net):
    x = net.relu(net.conv(stem(net, 12, 4), 12, 1, group=3))
    x = net.transpose(net.reshape(x, [0, 3, 4, 4, 4], (2, 3, 4, 4, 4)), [0, 2, 1, 3, 4])
    x = net.reshape(x, [0, 12, 4, 4], (2, 12, 4, 4))
    end(net, net.relu(net.conv(net.depthwise(x), 12, 1, group=3)))


@hazard(dynamic=True)
def packed_bias_read_in_parts(net):
    """Cross-attention's packed projection: one weight and one bias, of which each side slices its own part."""
    x, memory = net.relu(net.matmul(net.input((net.batch, 5, 3)), 8)), net.relu(net.matmul(net.input((net.batch, 4, 6)), 8))
    weight, bias = net.store(net.normal(24, 8, scale=0.4)), net.store(net.normal(24, scale=0.3))
    parts = []
    for source, start, end in ((x, 0, 8), (memory, 8, 24)):
        part = net.transpose(net.slice(weight, [start], [end], [0]), [1, 0])
        y = net.node("MatMul", [source, part], (*net.shape(source)[:2], end - start))
        parts.append(net.binary("Add", net.slice(bias, [start], [end], [0]), y))
    q, (k, v) = parts[0], net.split(parts[1], [8, 8], axis=2)
    scores = net.node("MatMul", [q, net.transpose(k, [0, 2, 1])], (net.batch, 5, 4))
    y = net.node("MatMul", [net.unary("Softmax", scores, axis=-1), v], (net.batch, 5, 8))
    net.output(net.matmul(y, 3))
