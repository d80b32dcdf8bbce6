"""Hazards of order and of blocks: flat axes that hold several factors, groups, heads, shuffles."""

from hazards import end, hazard, stem


@hazard()
def flat_order_after_transpose(net):
    """Channels laid flat in another order after a shuffle: each block must keep the same local indices."""
    x = stem(net, 32, 4)
    x = net.reshape(x, [0, 2, 16, 4, 4], (2, 2, 16, 4, 4))
    x = net.transpose(x, [0, 2, 1, 3, 4])
    end(net, net.reshape(x, [0, 32, 4, 4], (2, 32, 4, 4)))


@hazard()
def vector_per_block(net):
    x = net.reshape(stem(net, 12, 4), [0, 3, 4, 16], (2, 3, 4, 16))
    x = net.binary("Mul", x, net.store(net.uniform(0.5, 1.5, 3, 1, 1)))
    end(net, net.reshape(x, [0, 12, 4, 4], (2, 12, 4, 4)))


@hazard()
def table_per_index(net):
    x = net.reshape(stem(net, 12, 4), [0, 3, 4, 16], (2, 3, 4, 16))
    x = net.binary("Mul", x, net.store(net.uniform(0.5, 1.5, 1, 4, 1)))
    end(net, net.reshape(x, [0, 12, 4, 4], (2, 12, 4, 4)))


@hazard(frozen=True)
def fixed_factor_from_an_input(net):
    x = net.binary("Mul", net.conv(net.image(3, 6, 6), 8, 3), net.input((1, 8, 1, 1)))
    end(net, x)


@hazard()
def absent_factor_from_an_input(net):
    x = net.binary("Mul", net.conv(net.image(3, 6, 6), 8, 3), net.input((1, 1, 6, 6)))
    end(net, x)


@hazard()
def grouped_weight_two_sets(net):
    x = net.relu(net.conv(stem(net), 24, 3, group=4, bias=True))
    x = net.relu(net.conv(x, 16, 3, group=2))
    end(net, x)


@hazard()
def two_group_counts_on_one_stream(net):
    """A residual of 32 channels read by 4 groups and by 8 groups: equal matrices of different shape."""
    x = stem(net, 32, 4)
    x = net.binary("Add", x, net.conv(x, 32, 3, group=4))
    x = net.binary("Add", x, net.conv(x, 32, 3, group=8))
    end(net, x)


@hazard()
def groups_that_become_depthwise(net):
    x = net.conv(stem(net, 16), 16, 3, group=4)
    end(net, net.relu(x))


@hazard()
def grouped_after_grouped_transposed(net):
    x = net.conv_transpose(stem(net, 12, 4), 8, group=2)
    end(net, net.relu(net.conv(net.relu(x), 12, 3, group=4)))


@hazard()
def concat_across_group_borders(net):
    """Two layers of 6 and 10 channels joined and read by 4 groups of 4: groups straddle the joint."""
    x = stem(net, 8)
    x = net.concat([net.relu(net.conv(x, 6, 3)), net.relu(net.conv(x, 10, 1))])
    end(net, net.relu(net.conv(x, 8, 3, group=4)))


@hazard()
def depthwise_with_multiplier(net):
    x = net.relu(net.batch_norm(net.depthwise(stem(net, 8), multiplier=3)))
    end(net, net.relu(net.depthwise(x, multiplier=2)))


@hazard()
def one_output_per_group(net):
    """Four inputs and one output per group: the outputs are the groups."""
    end(net, net.relu(net.conv(stem(net, 16), 4, 3, group=4)))


@hazard()
def two_canonical_orders(net):
    x = stem(net, 8, 4)
    q = net.reshape(net.conv(x, 8, 1), [0, 2, 4, 16], (2, 2, 4, 16))
    k = net.transpose(net.reshape(net.conv(x, 8, 3), [0, 4, 2, 16], (2, 4, 2, 16)), [0, 2, 1, 3])
    end(net, net.reshape(net.binary("Add", q, k), [0, 8, 4, 4], (2, 8, 4, 4)))


@hazard()
def gather_on_a_block_axis(net):
    """One projection to (3, heads, width), its three parts taken by Gather."""
    x = net.reshape(stem(net, 8, 4), [0, 8, 16], (2, 8, 16))
    qkv = net.matmul(net.transpose(x, [0, 2, 1]), 24)
    qkv = net.transpose(net.reshape(qkv, [0, 16, 3, 2, 4], (2, 16, 3, 2, 4)), [2, 0, 3, 1, 4])
    q, k, v = [net.node("Gather", [qkv, net.integers(i)], (2, 2, 16, 4), axis=0) for i in range(3)]
    y = net.binary("Mul", net.binary("Add", q, k), net.unary("Sigmoid", v))
    y = net.reshape(net.transpose(y, [0, 2, 1, 3]), [0, 16, 8], (2, 16, 8))
    net.output(net.matmul(y, 5))


@hazard()
def symmetric_product(net):
    """X times X transposed times X: channels are summed over with no stored operand."""
    x = net.reshape(stem(net, 8, 4), [0, 8, 16], (2, 8, 16))
    gram = net.node("MatMul", [net.transpose(x, [0, 2, 1]), x], (2, 16, 16))
    y = net.node("MatMul", [x, net.unary("Tanh", gram)], (2, 8, 16))
    end(net, net.reshape(y, [0, 8, 4, 4], (2, 8, 4, 4)))


@hazard()
def maximum_over_pieces(net):
    x = net.reshape(stem(net, 16, 4), [0, 2, 8, 4, 4], (2, 2, 8, 4, 4))
    end(net, net.reduce("ReduceMax", x, [1], 0))


@hazard()
def accidental_factor(net):
    """Batch 2 beside a factor 2 of the channels: lengths that agree by accident."""
    x = net.reshape(stem(net, 8, 4), [2, 2, 4, 4, 4], (2, 2, 4, 4, 4))
    x = net.transpose(x, [0, 2, 1, 3, 4])
    end(net, net.reshape(x, [2, 8, 4, 4], (2, 8, 4, 4)))


@hazard(frozen=True)
def reinterpreted_memory(net):
    """24 x 16 read as 16 x 24: every number moves to another row, so all channels are one unit."""
    x = net.reshape(stem(net, 24, 4), [0, 16, 24], (2, 16, 24))
    net.output(net.matmul(x, 5))
