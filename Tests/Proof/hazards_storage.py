"""Hazards of sharing and storage: tensors with several readers, weights behind operators, forms of constants."""

import numpy as np
from onnx import TensorProto, helper

from hazards import end, hazard, stem
from net import typed


@hazard()
def norms_tied_by_identity(net):
    """Two norms on unrelated streams share one scale: it must not tie the streams, or at least not wrongly."""
    x = net.image(3, 6, 6)
    scale = net.store(net.uniform(0.5, 1.5, 8), "scale")
    again = net.unary("Identity", scale)
    parts = []
    for shared in (scale, again):
        vectors = [
            shared,
            net.store(net.normal(8)),
            net.store(net.normal(8, scale=0.3)),
            net.store(net.uniform(0.5, 1.5, 8)),
        ]
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


@hazard(opset=7)
def operator_set_seven(net):
    """As the oldest networks of the ONNX model zoo are: factors of Upsample and shares of Dropout are attributes."""
    x = stem(net, 8)
    vectors = [net.store(net.uniform(0.5, 1.5, 8)) for _ in range(4)]
    x = net.node("BatchNormalization", [x, *vectors], net.shape(x), spatial=1)
    x = net.node("Upsample", [x], (2, 8, 12, 12), mode="nearest", scales=[1.0, 1.0, 2.0, 2.0])
    x = net.node("Dropout", [x], net.shape(x), ratio=0.3)
    end(net, net.node("Sum", [x, net.conv(x, 8, 1), net.conv(x, 8, 3)], net.shape(x)))


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


@hazard(opset=17)
def weights_inside_a_function(net):
    """A local function called twice; its body holds the operator, the caller holds the weights."""
    x = stem(net, 8)
    body = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    opsets = [helper.make_opsetid("", 17)]
    net.functions.append(helper.make_function("local", "ConvRelu", ["x", "w"], ["y"], body, opsets))
    for _ in range(2):
        weight = net.store(net.normal(8, 8, 3, 3, scale=0.2))
        x = net.node("ConvRelu", [x, weight], net.shape(x), domain="local")
    end(net, x)


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
