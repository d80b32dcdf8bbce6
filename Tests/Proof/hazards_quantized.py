"""Hazards of quantized graphs: scales and zero points that run along the channels, integer layers, and the forms that
ONNX Runtime's static quantizer writes."""

import numpy as np
from onnx import TensorProto, numpy_helper

from hazards import end, hazard, stem

MS = "com.microsoft"
ACTIVATION = 0.05  # the scale of every quantized activation here


def raw(net, array, dtype, stem="q"):
    """A stored tensor of a given type, whatever the model computes in."""
    name = net.fresh(stem)
    net.initializers.append(numpy_helper.from_array(np.asarray(array, dtype), name))
    net.shapes[name] = np.shape(array)
    return name


def number(net, value, dtype=np.float32):
    return raw(net, value, dtype, "number")


def weight(net, *shape, dtype=np.int8, axis=0, per_channel=True):
    """An integer weight with its scale and zero point, per channel of `axis` or one for all."""
    integers = net.rng.integers(-100, 100, shape).astype(np.int64)
    channels = [shape[axis]] if per_channel else []
    zero = 0
    if dtype == np.uint8:
        integers, zero = integers + 110, 110
    scale = net.uniform(0.002, 0.008, *channels)
    return [
        raw(net, integers, dtype, "weight"),
        raw(net, scale, np.float32, "scale"),
        raw(net, np.full(channels, zero), dtype, "zero"),
    ]


def dequantize(net, stored, axis=0):
    return net.node("DequantizeLinear", stored, net.shape(stored[0]), axis=axis)


def activation(net, dtype=np.uint8):
    return [number(net, ACTIVATION), number(net, 100 if dtype == np.uint8 else 3, dtype)]


def quantize(net, x):
    return net.node("QuantizeLinear", [x, *activation(net)], net.shape(x))


def rounded(net, x):
    """Through integers and back, as a quantizer puts it around every operator."""
    form = activation(net)
    return net.node("DequantizeLinear", [net.node("QuantizeLinear", [x, *form], net.shape(x)), *form], net.shape(x))


def conv(net, x, out, kernel=1, group=1, **form):
    n, c, *spatial = net.shape(x)
    stored = weight(net, out, c // group, kernel, kernel, **form)
    scale = raw(net, net.uniform(0.001, 0.002, out), np.float32)
    bias = dequantize(net, [raw(net, net.rng.integers(-200, 200, out), np.int32, "bias"), scale])
    inputs = [x, dequantize(net, stored), bias]
    pads = [kernel // 2] * 4
    return net.node("Conv", inputs, (n, out, *spatial), group=group, pads=pads, kernel_shape=[kernel, kernel])


@hazard(opset=13)
def weights_dequantized_per_channel(net):
    x = net.relu(conv(net, net.image(3, 6, 6), 8, 3))
    x = net.relu(conv(net, x, 8, 3, group=2))
    x = net.relu(conv(net, x, 8, 3, group=8))
    net.output(net.gemm(net.reduce("ReduceMean", net.relu(conv(net, x, 12)), [2, 3], 0), 3))


@hazard(opset=13)
def weights_dequantized_by_one_scale(net):
    x = net.relu(conv(net, net.image(3, 6, 6), 8, 3, per_channel=False))
    end(net, net.relu(conv(net, x, 12, 3, per_channel=False, dtype=np.uint8)))


@hazard(opset=13)
def residual_between_quantizations(net):
    x = rounded(net, net.relu(conv(net, rounded(net, net.image(3, 6, 6)), 8, 3)))
    y = rounded(net, conv(net, rounded(net, net.relu(conv(net, x, 12, 3))), 8))
    end(net, rounded(net, net.binary("Add", x, y)))


@hazard(opset=13)
def matrix_dequantized_by_column(net):
    x = net.relu(net.matmul(net.input((2, 5, 6)), 12))
    x = net.relu(net.node("MatMul", [x, dequantize(net, weight(net, 12, 8, axis=1), 1)], (2, 5, 8)))
    net.output(net.matmul(x, 3))


@hazard(opset=13)
def table_quantized_and_back(net):
    """A positional table that goes through integers in the graph."""
    x = net.relu(net.matmul(net.input((2, 5, 6)), 8))
    table = net.store(net.normal(5, 8))
    scale, zero = raw(net, net.uniform(0.02, 0.05, 8), np.float32), raw(net, np.zeros(8), np.int8)
    integers = net.node("QuantizeLinear", [table, scale, zero], (5, 8), axis=-1)
    net.output(net.matmul(net.binary("Add", x, dequantize(net, [integers, scale, zero], -1)), 3))


@hazard(opset=13)
def convolutions_on_integers(net):
    """QLinearConv with group, bias and scales per channel; sums, joins and pools on integers."""
    x = quantize(net, net.image(3, 6, 6))
    form = activation(net)

    def layer(x, out, kernel=1, group=1):
        n, c, *spatial = net.shape(x)
        stored = weight(net, out, c // group, kernel, kernel)
        bias = raw(net, net.rng.integers(-200, 200, out), np.int32, "bias")
        inputs = [x, *form, *stored, *activation(net), bias]
        return net.node("QLinearConv", inputs, (n, out, *spatial), group=group, pads=[kernel // 2] * 4)

    x = layer(x, 8, 3)
    y = layer(layer(x, 8, 3, group=2), 8)
    z = net.node("QLinearAdd", [x, *form, y, *form, *form], net.shape(x), domain=MS)
    z = net.node("QLinearConcat", [*form, z, *form, layer(z, 6), *form], (2, 14, 6, 6), axis=1, domain=MS)
    z = net.node("QLinearGlobalAveragePool", [z, *form, *form], (2, 14, 1, 1), channels_last=0, domain=MS)
    z = net.reshape(z, [0, -1], (2, 14))
    gemm = [z, *form, *weight(net, 14, 6, axis=1), raw(net, net.rng.integers(-99, 99, 6), np.int32), *form]
    z = net.node("QGemm", gemm, (2, 6), alpha=1.0, transA=0, transB=0, domain=MS)
    net.output(net.gemm(net.node("DequantizeLinear", [z, *form], (2, 6)), 3))


@hazard(opset=13)
def matrices_on_integers(net):
    form = activation(net)
    x = quantize(net, net.relu(net.matmul(net.input((2, 5, 6)), 12)))
    for width in (8, 10):
        stored = weight(net, net.shape(x)[-1], width, axis=1)
        x = net.node("QLinearMatMul", [x, *form, *stored, *form], (2, 5, width))
    net.output(net.matmul(net.node("DequantizeLinear", [x, *form], net.shape(x)), 3))


@hazard(opset=13)
def products_of_integers_scaled_later(net):
    """MatMulInteger and ConvInteger; the scales multiply the result."""
    x = stem(net, 8)
    integers, scale, zero = weight(net, 6, 8, 1, 1, dtype=np.uint8, per_channel=False)
    y = net.node("ConvInteger", [quantize(net, x), integers, activation(net)[1], zero], (2, 6, 6, 6))
    y = net.node("Cast", [y], (2, 6, 6, 6), to=TensorProto.FLOAT)
    y = net.relu(net.binary("Mul", y, net.store(net.uniform(0.0001, 0.0003, 6, 1, 1))))
    y = net.reduce("ReduceMean", y, [2, 3], 0)
    integers, scale, zero = weight(net, 6, 8, axis=1)
    z = net.node("MatMulInteger", [quantize(net, y), integers, activation(net)[1], zero], (2, 8))
    z = net.binary("Mul", net.node("Cast", [z], (2, 8), to=TensorProto.FLOAT), scale)
    net.output(net.gemm(net.relu(z), 3))
