"""The smallest graphs that show where pruning goes wrong, one function each, named for the hazard.

Each builds the least network in which a plausible shortcut (equality where a projection is meant, an even split after an
uneven removal, a setting pruned as data, a scale that follows a shape) gives a wrong answer. Most are prunable and must
then be exact; a few hold nothing that may be removed (`FROZEN`), and say so.

Invariant: every graph runs and none depends on chance but for its weights, which are seeded by its name.
"""
import zlib

import numpy as np
from onnx import TensorProto, helper

from net import Net, typed

HAZARDS = {}
FROZEN = set()
INT_MAX = 2**31 - 1


def hazard(opset=17, dynamic=False, batch=2, frozen=False, dtype="f32"):
    def register(function):
        def build():
            net = Net(zlib.crc32(function.__name__.encode()), opset, dynamic, batch, dtype, plain=True)
            function(net)
            return net.model()
        build.__name__ = function.__name__
        build.__doc__ = function.__doc__
        HAZARDS[function.__name__] = build
        if frozen:
            FROZEN.add(function.__name__)
        return function
    return register


def stem(net, channels=16, size=6, inputs=3):
    return net.relu(net.conv(net.image(inputs, size, size), channels, 3, bias=True))


def end(net, x, out=4):
    net.output(net.conv(x, out, 1, bias=True))


# MARK: order and blocks

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


@hazard()
def reinterpreted_memory(net):
    """24 x 16 read as 16 x 24: every number moves to another row."""
    x = net.reshape(stem(net, 24, 4), [0, 16, 24], (2, 16, 24))
    net.output(net.matmul(x, 5))


# MARK: settings, integers, shapes

@hazard(opset=11)
def settings_are_not_data(net):
    x = stem(net, 4, 4)
    end(net, net.node("Resize", [x, net.float32([]), net.float32([1, 1, 2, 2])], (2, 4, 8, 8), mode="nearest"))


@hazard(opset=13)
def sizes_hold_the_channels(net):
    x = stem(net, 8, 4)
    end(net, net.node("Resize", [x, "", "", net.integers([2, 8, 8, 8])], (2, 8, 8, 8), mode="nearest"))


@hazard(batch=1, opset=11)
def squeeze_without_axes(net):
    """One channel left would be squeezed away with the other axes of length one."""
    x = net.global_pool("GlobalAveragePool", net.relu(net.conv(net.image(3, 4, 4), 2, 3, bias=True)))
    x = net.binary("Add", net.node("Squeeze", [x], (2,)), net.store(net.normal(2)))
    net.output(net.matmul(x, 3))


@hazard(opset=13)
def squeeze_without_axes_matrix(net):
    x = net.global_pool("GlobalAveragePool", net.relu(net.conv(net.image(3, 4, 4), 3, 3, bias=True)))
    net.output(net.gemm(net.node("Squeeze", [x], (2, 3)), 3))


@hazard()
def stepped_slices(net):
    x = stem(net, 12)
    a = net.slice(x, [0], [INT_MAX], [1], [2])
    b = net.slice(x, [-1], [-2**63 + 1], [1], [-2])
    end(net, net.binary("Add", a, b))


@hazard(opset=18)
def even_split_becomes_uneven(net):
    a, b = net.split(stem(net, 16), [8, 8], even=True)
    net.output(net.conv(a, 3, 1))
    net.output(net.conv(net.relu(b), 3, 3))


@hazard(opset=11)
def even_split_without_sizes(net):
    """Before opset 13 an absent attribute means equal parts."""
    a, b, c = net.split(stem(net, 12), [4, 4, 4], even=True)
    end(net, net.concat([c, net.relu(net.conv(a, 4, 3)), b]))


@hazard(opset=13)
def uneven_split_on_a_negative_axis(net):
    a, b = net.split(stem(net, 13), [9, 4], axis=1)
    net.nodes[-1].attribute[0].i = -3
    end(net, net.concat([b, net.unary("Tanh", a), b]))


@hazard()
def negative_and_open_bounds(net):
    x = stem(net, 24)
    end(net, net.concat([net.slice(x, [10], [INT_MAX], [1]), net.slice(x, [-16], [2**63 - 1], [1])]))


@hazard(opset=9)
def slice_by_attributes(net):
    x = stem(net, 16)
    end(net, net.concat([net.slice(x, [4], [INT_MAX], [1]), net.slice(x, [0, 0], [7, INT_MAX], [1, 2])]))


@hazard(dynamic=True)
def scale_follows_the_shape(net):
    x = stem(net, 8)
    number = net.unary("Cast", net.length(x, 1), to=1)
    end(net, net.binary("Div", x, net.unary("Sqrt", number)))


@hazard()
def constant_shared_by_two_reshapes(net):
    x = net.image(16, 4, 4)
    target = net.integers([0, 4, 4, 4, 4])
    a = net.reshape(net.conv(x, 16, 3), target, (2, 4, 4, 4, 4))
    b = net.reshape(x, target, (2, 4, 4, 4, 4))
    flat = net.integers([0, -1])
    net.output(net.gemm(net.reshape(net.relu(a), flat, (2, 256)), 3))
    net.output(net.gemm(net.reshape(b, flat, (2, 256)), 3))


@hazard(dynamic=True)
def slices_of_shapes_to_nothing(net):
    """The exporters' unflatten: the shape up to axis 1, the new lengths, the shape after it; some slices are empty."""
    x = net.reduce("ReduceMean", stem(net, 12), [2, 3], 0)
    shape = net.node("Shape", [x], (2,))
    before = net.slice(shape, [0], [1], [0])
    after = net.slice(shape, [2], [INT_MAX], [0])
    y = net.reshape(x, net.concat([before, net.integers([3, 4]), after], 0), (2, 3, 4))
    y = net.unary("Tanh", net.transpose(y, [0, 2, 1]))
    net.output(net.gemm(net.flatten(y), 4))


@hazard(dynamic=True)
def rank_zero_lengths(net):
    """A length as a scalar, halved, and used as the bound of a Slice."""
    x = stem(net, 12)
    shape = net.node("Shape", [x], (4,))
    half = net.binary("Div", net.node("Gather", [shape, net.integers(1)], (), axis=0), net.integers(2))
    half = net.unsqueeze(half, [0])
    a = net.node("Slice", [x, net.integers([0]), half, net.integers([1])], (2, 6, 6, 6))
    b = net.node("Slice", [x, half, net.integers([INT_MAX]), net.integers([1])], (2, 6, 6, 6))
    end(net, net.binary("Mul", a, net.unary("Sigmoid", b)))


@hazard(dynamic=True)
def expand_to_anothers_shape(net):
    x = stem(net, 8)
    s = net.global_pool("GlobalMaxPool", net.conv(x, 8, 1))
    s = net.expand(s, net.node("Shape", [x], (4,)), (2, 8, 6, 6))
    end(net, net.concat([s, x]))


@hazard()
def expand_one_channel_to_many(net):
    x = stem(net, 8)
    one = net.expand(net.conv(x, 1, 3), [2, 8, 6, 6], (2, 8, 6, 6))
    end(net, net.binary("Add", one, x))


@hazard(dynamic=True)
def flatten_by_computed_size(net):
    """x.view(x.size(0), x.size(1) * x.size(2) * x.size(3))."""
    x = stem(net, 8, 4)
    size = net.length(x, 1)
    for axis in (2, 3):
        size = net.node("Mul", [size, net.length(x, axis)], (1,))
    net.output(net.gemm(net.reshape(x, net.concat([net.length(x, 0), size], 0), (2, 128)), 4))


@hazard(dynamic=True)
def shuffle_by_computed_sizes(net):
    x = stem(net, 12, 4)
    c = net.length(x, 1)
    per = net.node("Div", [c, net.integers([3])], (1,))
    target = net.concat([net.length(x, 0), net.integers([3]), per, net.length(x, 2), net.length(x, 3)], 0)
    y = net.transpose(net.reshape(x, target, (2, 3, 4, 4, 4)), [0, 2, 1, 3, 4])
    end(net, net.reshape(y, net.node("Shape", [x], (4,)), (2, 12, 4, 4)))


# MARK: sharing and storage

@hazard()
def norms_tied_by_identity(net):
    """Two norms on unrelated streams share one scale: it must not tie the streams, or at least not wrongly."""
    x = net.image(3, 6, 6)
    scale = net.store(net.uniform(0.5, 1.5, 8), "scale")
    again = net.unary("Identity", scale)
    parts = []
    for shared in (scale, again):
        vectors = [shared, net.store(net.normal(8)), net.store(net.normal(8, scale=0.3)), net.store(net.uniform(0.5, 1.5, 8))]
        y = net.conv(x, 8, 3)
        parts.append(net.relu(net.node("BatchNormalization", [y, *vectors], net.shape(y))))
    net.output(net.conv(parts[0], 3, 1))
    net.output(net.conv(parts[1], 3, 1))


@hazard()
def bias_shared_by_two_layers(net):
    x = net.image(3, 6, 6)
    bias = net.store(net.normal(8), "bias")
    for kernel in (1, 3):
        weight = net.store(net.normal(8, 3, kernel, kernel, scale=0.4))
        y = net.node("Conv", [x, weight, bias], (2, 8, 6, 6), pads=[kernel // 2] * 4)
        net.output(net.conv(net.relu(y), 3, 1))


@hazard()
def weight_shared_by_different_groups(net):
    x = stem(net, 8)
    weight = net.store(net.normal(8, 4, 3, 3, scale=0.3), "shared")
    a = net.relu(net.conv(x, 8, 3, group=2, weight=weight, pad=1))
    b = net.relu(net.conv(net.conv(x, 4, 1), 8, 3, weight=weight, pad=1))
    end(net, net.concat([a, b]))


@hazard()
def weight_used_twice_in_a_row(net):
    x = stem(net, 8)
    weight = net.store(net.normal(8, 8, 3, 3, scale=0.2), "shared")
    x = net.relu(net.conv(x, 8, 3, weight=weight, pad=1))
    end(net, net.relu(net.conv(x, 8, 3, weight=weight, pad=1)))


@hazard()
def weight_read_transposed(net):
    """One matrix read by Gemm as it is and transposed: an autoencoder with tied weights."""
    x = net.reduce("ReduceMean", stem(net, 12), [2, 3], 0)
    weight = net.store(net.normal(6, 12, scale=0.4), "tied")
    y = net.unary("Tanh", net.node("Gemm", [x, weight], (2, 6), transB=1))
    y = net.unary("Tanh", net.node("Gemm", [y, weight], (2, 12), transB=0))
    net.output(net.gemm(y, 3))


@hazard(opset=16)
def bias_made_by_scatter(net):
    """A bias with a part overwritten by ScatterND: computed from stored tensors alone by an operator without a rule."""
    x = stem(net, 6)
    bias, part = net.store(net.normal(12)), net.store(np.zeros(4))
    made = net.node("ScatterND", [bias, net.integers(np.arange(4, 8)[:, None]), part], (12,))
    weight = net.store(net.normal(12, 6, 1, 1, scale=0.5))
    end(net, net.relu(net.node("Conv", [x, weight, made], (2, 12, 6, 6))))


@hazard()
def weight_stored_transposed(net):
    x = net.reduce("ReduceMean", stem(net, 8), [2, 3], 0)
    weight = net.transpose(net.store(net.normal(10, 8, scale=0.5)), [1, 0])
    x = net.relu(net.node("MatMul", [x, weight], (2, 10)))
    kernel = net.transpose(net.store(net.normal(8, 3, 3, 6, scale=0.3)), [3, 0, 1, 2])
    y = net.node("Conv", [net.relu(net.conv(net.image(3, 6, 6), 8, 3)), kernel], (2, 6, 4, 4))
    net.output(net.gemm(net.concat([x, net.reduce("ReduceMean", net.relu(y), [2, 3], 0)]), 3))


@hazard()
def weight_as_the_left_factor(net):
    """W times x, with x transposed: channels are rows."""
    x = net.reduce("ReduceMean", stem(net, 8), [2, 3], 0)
    x = net.transpose(x, [1, 0])
    y = net.relu(net.node("MatMul", [net.store(net.normal(6, 8, scale=0.5)), x], (6, 2)))
    y = net.node("Gemm", [net.store(net.normal(6, 5, scale=0.5)), y, net.store(net.normal(5, 1))], (5, 2), transA=1)
    net.output(net.node("Gemm", [net.unary("Tanh", y), net.store(net.normal(3, 5))], (2, 3), transA=1, transB=1))


@hazard(opset=9)
def initializers_listed_as_inputs(net):
    end(net, net.batch_norm(stem(net, 8)))
    for tensor in net.initializers:
        net.inputs.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


@hazard(opset=13)
def constants_of_every_form(net):
    """Constants as value_ints, value_float and value_floats attributes."""
    x = stem(net, 8, 4)
    def constant(shape, **value):
        name = net.fresh("constant")
        net.nodes.append(helper.make_node("Constant", [], [name], name, **value))
        net.shapes[name] = shape
        return name
    x = net.binary("Mul", x, constant((), value_float=1.5))
    x = net.reshape(x, constant((3,), value_ints=[0, 8, 16]), (2, 8, 16))
    x = net.binary("Add", net.transpose(x, [0, 2, 1]), constant((8,), value_floats=[0.1 * i for i in range(8)]))
    net.output(net.matmul(x, 3))


@hazard(opset=13, dtype="f16")
def half_precision(net):
    x = net.relu(net.batch_norm(net.conv(net.image(3, 6, 6), 8, 3)))
    net.output(net.gemm(net.flatten(net.prelu(x, (8, 1, 1))), 4))


@hazard(opset=13)
def bfloat16_weights_cast(net):
    x = net.image(3, 6, 6)
    tensor = typed(net.normal(8, 3, 3, 3, scale=0.4), TensorProto.BFLOAT16, "stored")
    net.initializers.append(tensor)
    net.shapes["stored"] = (8, 3, 3, 3)
    weight = net.unary("Cast", "stored", to=1)
    end(net, net.relu(net.node("Conv", [x, weight], (2, 8, 4, 4))))


# MARK: joins and dead ends

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
