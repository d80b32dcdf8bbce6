"""Hazards of settings, integers and shape arithmetic: what has to follow a new length, and what must not."""

from hazards import INT_MAX, end, hazard, stem


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
    b = net.slice(x, [-1], [-(2**63) + 1], [1], [-2])
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
    """One channel repeated as often as the other operand has channels: that number is written in the file."""
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


@hazard(dynamic="space")
def height_and_width_unknown(net):
    """A residual network with a gate whose input has symbolic height and width."""
    x = stem(net, 8)
    y = net.relu(net.batch_norm(net.conv(x, 12, 3)))
    s = net.conv(net.relu(net.conv(net.global_pool("GlobalAveragePool", y), 3, 1)), 12, 1)
    y = net.binary("Mul", y, net.unary("Sigmoid", s))
    x = net.relu(net.binary("Add", x, net.conv(y, 8, 3)))
    end(net, net.pool("MaxPool", x))


@hazard(opset=13, dynamic="space")
def resized_to_anothers_size(net):
    """Upsampling to the size of a skip connection, the sizes put together from two shapes as exporters do."""
    x = stem(net, 8)
    small = net.relu(net.conv(net.pool("MaxPool", x), 12, 3))
    own = net.slice(net.node("Shape", [small], (4,)), [0], [2], [0])
    other = net.slice(net.node("Shape", [x], (4,)), [2], [4], [0])
    sizes = net.concat([own, other], 0)
    grown = net.node("Resize", [small, "", "", sizes], (2, 12, 6, 6), mode="nearest")
    end(net, net.relu(net.conv(net.concat([grown, x]), 8, 3)))


@hazard(dynamic="space")
def shuffle_of_unknown_size(net):
    """A channel shuffle between lengths taken from Shape: the channel numbers are constants, all others are not."""
    x = stem(net, 12)
    n, h, w = net.length(x, 0), net.length(x, 2), net.length(x, 3)
    y = net.reshape(x, net.concat([n, net.integers([3, 4]), h, w], 0), (2, 3, 4, 6, 6))
    y = net.transpose(y, [0, 2, 1, 3, 4])
    y = net.reshape(y, net.concat([n, net.integers([12]), h, w], 0), (2, 12, 6, 6))
    end(net, net.relu(net.depthwise(y)))
