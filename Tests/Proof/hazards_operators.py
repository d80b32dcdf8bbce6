"""Hazards of single operators: what sums, what runs along an axis, what is picked by index, and what is fused."""

import numpy as np

from hazards import end, hazard, stem

MS = "com.microsoft"


def tokens(net, width=12, length=5):
    """(batch, length, width)."""
    return net.relu(net.matmul(net.input((net.batch, length, 6)), width))


# MARK: Einsum


def einsum(net, equation, operands, shape):
    return net.node("Einsum", operands, shape, equation=equation)


@hazard()
def einsum_as_linear_layer(net):
    x = tokens(net)
    weight = net.store(net.normal(8, 12, scale=0.4))
    net.output(net.matmul(net.relu(einsum(net, "bnc,oc->bno", [x, weight], (2, 5, 8))), 3))


@hazard()
def einsum_under_an_ellipsis(net):
    x = tokens(net)
    weight = net.store(net.normal(12, 8, scale=0.4))
    y = einsum(net, "...c,co->...o", [x, weight], (2, 5, 8))
    y = einsum(net, "...c,...c->...c", [y, net.store(net.normal(1, 1, 8))], (2, 5, 8))
    net.output(net.matmul(net.relu(y), 3))


@hazard()
def einsum_without_an_arrow(net):
    """The output's letters follow from the inputs': those that occur once, sorted."""
    x = net.relu(net.matmul(net.input((5, 6)), 12))
    y = einsum(net, "zc, ca", [x, net.store(net.normal(12, 8, scale=0.4))], (8, 5))
    net.output(net.matmul(net.transpose(net.relu(y), [1, 0]), 3))


@hazard()
def einsum_attention_with_head_weights(net):
    """Projections (D, H, K) straight to heads, scores, values, and back, all by Einsum."""
    x = tokens(net)
    q, k, v = (
        einsum(net, "bnd,dhk->bhnk", [x, net.store(net.normal(12, 2, width, scale=0.4))], (2, 2, 5, width))
        for width in (6, 6, 8)
    )
    scores = net.unary("Softmax", einsum(net, "bhnk,bhmk->bhnm", [q, k], (2, 2, 5, 5)), axis=-1)
    mixed = einsum(net, "bhnm,bhmk->bnhk", [scores, v], (2, 5, 2, 8))
    y = einsum(net, "bnhk,hkd->bnd", [mixed, net.store(net.normal(2, 8, 12, scale=0.4))], (2, 5, 12))
    net.output(net.matmul(net.binary("Add", x, y), 3))


@hazard()
def einsum_of_three_operands(net):
    x = tokens(net)
    a, b = net.store(net.normal(12, 4, scale=0.5)), net.store(net.normal(4, 8, scale=0.5))
    net.output(net.matmul(net.relu(einsum(net, "bnc,cr,ro->bno", [x, a, b], (2, 5, 8))), 3))


@hazard()
def einsum_that_sums_alone(net):
    """Only one operand has the letter: a sum over tokens, which no weight weighs."""
    x = tokens(net)
    y = einsum(net, "bnc,co->bo", [x, net.store(net.normal(12, 8, scale=0.4))], (2, 8))
    net.output(net.gemm(net.relu(y), 3))


# MARK: recurrence


def recurrent(net, op, x, hidden, directions=1, initial=(), bias=True, lengths=None, peepholes=False, **attributes):
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    steps, batch, width = net.shape(x)
    inputs = [
        x,
        net.store(net.normal(directions, gates * hidden, width, scale=0.5), "rnn_w"),
        net.store(net.normal(directions, gates * hidden, hidden, scale=0.4), "rnn_r"),
        net.store(net.normal(directions, 2 * gates * hidden, scale=0.3), "rnn_b") if bias else "",
        lengths or "",
        *initial,
    ]
    if peepholes:
        inputs += [""] * (7 - len(inputs)) + [net.store(net.normal(directions, 3 * hidden, scale=0.3), "rnn_p")]
    state = (directions, batch, hidden)
    shapes = [(steps, directions, batch, hidden), state, state][: 3 if op == "LSTM" else 2]
    if directions == 2:
        attributes["direction"] = "bidirectional"
    return net.node(op, inputs, shapes, len(shapes), hidden_size=hidden, **attributes)


def sequence(net, width=6, length=5):
    return net.transpose(tokens(net, width, length), [1, 0, 2])


def last_step(net, y):
    """(steps, directions, batch, hidden) to (batch, directions * hidden) of the last step."""
    steps, directions, batch, hidden = net.shape(y)
    y = net.gather(y, steps - 1, axis=0)
    return net.reshape(net.transpose(y, [1, 0, 2]), [batch, directions * hidden], (batch, directions * hidden))


@hazard()
def lstm_alone(net):
    net.output(net.gemm(last_step(net, recurrent(net, "LSTM", sequence(net), 8)[0]), 3))


@hazard()
def lstm_whose_last_state_is_read(net):
    _, hidden, cell = recurrent(net, "LSTM", sequence(net), 8, bias=False)
    x = net.concat([hidden, cell], axis=2)
    net.output(net.gemm(net.reshape(x, [2, 16], (2, 16)), 3))


@hazard()
def lstm_bidirectional_in_two_layers(net):
    x = sequence(net)
    for _ in range(2):
        y = recurrent(net, "LSTM", x, 6, directions=2)[0]
        x = net.reshape(net.transpose(y, [0, 2, 1, 3]), [0, 0, -1], (5, 2, 12))
    net.output(net.matmul(net.transpose(x, [1, 0, 2]), 3))


@hazard()
def lstm_with_peepholes_and_initial_states(net):
    initial = [net.store(net.normal(1, 2, 8)), net.store(net.normal(1, 2, 8))]
    y = recurrent(net, "LSTM", sequence(net), 8, initial=initial, peepholes=True)[0]
    net.output(net.gemm(last_step(net, y), 3))


@hazard()
def lstm_whose_states_are_made_from_shapes(net):
    """Zeros as long as the batch and as wide as the state, cut apart for two layers."""
    x = sequence(net)
    shape = net.concat([net.integers([2]), net.length(x, 1), net.integers([8])], 0)
    zeros = net.node("ConstantOfShape", [shape], (2, 2, 8))
    for layer in range(2):
        initial = [net.slice(zeros, [layer], [layer + 1], [0])] * 2
        y = recurrent(net, "LSTM", x, 8, initial=initial)[0]
        x = net.squeeze(y, [1])
    net.output(net.matmul(net.transpose(x, [1, 0, 2]), 3))


@hazard()
def gru_of_one_and_of_two_directions(net):
    x = sequence(net)
    x = net.squeeze(recurrent(net, "GRU", x, 8, linear_before_reset=1)[0], [1])
    y = recurrent(net, "GRU", x, 6, directions=2)[0]
    net.output(net.gemm(last_step(net, y), 3))


@hazard()
def gru_with_a_filled_initial_state(net):
    x = sequence(net)
    target = net.concat([net.integers([1]), net.length(x, 1), net.integers([8])], 0)
    state = net.expand(net.scalar(0.25), target, (1, 2, 8))
    y = recurrent(net, "GRU", x, 8, initial=[state], lengths=net.int32([5, 3]))[0]
    net.output(net.gemm(last_step(net, y), 3))


@hazard()
def rnn_with_a_residual_around_it(net):
    x = sequence(net, 8)
    y = net.squeeze(recurrent(net, "RNN", x, 8)[0], [1])
    net.output(net.matmul(net.transpose(net.binary("Add", x, y), [1, 0, 2]), 3))


@hazard(frozen=True)
def rnn_whose_state_comes_from_outside(net):
    x = net.input((5, 2, 6))
    y, last = recurrent(net, "RNN", x, 8, initial=[net.input((1, 2, 8), "state")])
    net.output(net.matmul(net.squeeze(y, [1]), 3))
    net.output(last)


# MARK: order and index


@hazard()
def gather_elements_of_chosen_tokens(net):
    """The best tokens by a score, each with all its channels: the index is as wide as the channels."""
    x = tokens(net, 8, 6)
    score = net.reduce("ReduceSum", net.matmul(x, 1), [2], 0)
    _, index = net.node("TopK", [score, net.integers([3])], [(2, 3), (2, 3)], 2, axis=1)
    index = net.expand(net.unsqueeze(index, [2]), [2, 3, 8], (2, 3, 8))
    y = net.node("GatherElements", [x, index], (2, 3, 8), axis=1)
    net.output(net.matmul(net.relu(y), 3))


@hazard()
def gather_nd_of_chosen_tokens(net):
    x = tokens(net, 8, 6)
    index = net.integers(np.array([[[4], [1]], [[0], [5]]]))
    y = net.node("GatherND", [x, index], (2, 2, 8), batch_dims=1)
    net.output(net.matmul(net.relu(y), 3))


@hazard(opset=16)
def scatter_nd_over_tokens(net):
    x, y = tokens(net, 8, 6), tokens(net, 8, 6)
    rows = net.reshape(y, [2, 6, 8], (2, 6, 8))
    rows = net.slice(rows, [0], [2], [1])
    index = net.integers(np.array([[[0, 4], [0, 1]], [[1, 0], [1, 5]]]))
    net.output(net.matmul(net.node("ScatterND", [x, index, rows], (2, 6, 8)), 3))


@hazard(opset=16)
def scatter_nd_of_whole_channels(net):
    """Some channels are overwritten by others, which are tied to the places they take."""
    x = net.transpose(stem(net, 8), [1, 0, 2, 3])
    y = net.transpose(stem(net, 3), [1, 0, 2, 3])
    z = net.node("ScatterND", [x, net.integers([[6], [1], [-4]]), y], (8, 2, 6, 6))
    end(net, net.transpose(net.relu(z), [1, 0, 2, 3]))


@hazard(opset=16)
def scatter_elements_over_tokens(net):
    x = tokens(net, 8, 6)
    index = net.expand(net.integers(np.array([[[3], [0]], [[5], [2]]])), [2, 2, 8], (2, 2, 8))
    y = net.node("ScatterElements", [x, index, tokens(net, 8, 2)], (2, 6, 8), axis=1)
    net.output(net.matmul(y, 3))


@hazard()
def sums_and_masks_over_tokens(net):
    x = tokens(net, 8, 5)
    y = net.node("CumSum", [x, net.integers(1)], (2, 5, 8))
    y = net.node("Trilu", [net.transpose(y, [2, 0, 1])], (8, 2, 5), upper=0)
    net.output(net.matmul(net.transpose(y, [1, 2, 0]), 3))


@hazard()
def best_of_each_channel(net):
    x = net.reshape(stem(net, 8), [2, 8, 36], (2, 8, 36))
    best, _ = net.node("TopK", [x, net.integers([4])], [(2, 8, 4), (2, 8, 4)], 2, axis=2)
    net.output(net.gemm(net.reshape(best, [2, 32], (2, 32)), 3))


@hazard()
def channels_repeated_by_tile(net):
    x = net.node("Tile", [stem(net, 6), net.integers([1, 2, 1, 3])], (2, 12, 6, 18))
    end(net, x)


@hazard()
def relative_positions_of_heads(net):
    """A table of biases, one column per head, gathered by a constant index and added to the scores."""
    x = tokens(net, 12, 4)

    def heads(width):
        return net.transpose(net.reshape(net.matmul(x, 2 * width), [0, 0, 2, width], (2, 4, 2, width)), [0, 2, 1, 3])

    q, k, v = heads(6), net.transpose(heads(6), [0, 1, 3, 2]), heads(5)
    index = np.arange(4)[:, None] - np.arange(4)[None] + 3
    bias = net.gather(net.store(net.normal(7, 2)), index.reshape(-1), axis=0)
    bias = net.transpose(net.reshape(bias, [4, 4, 2], (4, 4, 2)), [2, 0, 1])
    scores = net.binary("Add", net.node("MatMul", [q, k], (2, 2, 4, 4)), bias)
    y = net.node("MatMul", [net.unary("Softmax", scores, axis=-1), v], (2, 2, 4, 5))
    y = net.reshape(net.transpose(y, [0, 2, 1, 3]), [0, 0, 10], (2, 4, 10))
    net.output(net.matmul(y, 3))


# MARK: sampling


@hazard(opset=16)
def sampled_on_a_grid(net):
    grid = net.store(net.uniform(-1, 1, 2, 3, 4, 2))
    end(net, net.node("GridSample", [stem(net, 8), grid], (2, 8, 3, 4)))


@hazard(opset=16)
def aligned_regions(net):
    boxes = net.store(np.array([[0.0, 0, 4, 4], [1, 1, 5, 3], [0, 2, 3, 5]]))
    x = net.node("RoiAlign", [stem(net, 8), boxes, net.integers([0, 1, 1])], (3, 8, 2, 2), output_height=2, output_width=2)
    end(net, net.relu(x))


@hazard()
def pooled_regions(net):
    boxes = net.store(np.array([[0.0, 0, 0, 4, 4], [1, 1, 1, 5, 3], [1, 0, 2, 3, 5]]))
    end(net, net.node("MaxRoiPool", [stem(net, 8), boxes], (3, 8, 2, 2), pooled_shape=[2, 2]))


@hazard()
def pooled_and_put_back(net):
    """Positions of maxima count through the channels; a layer between changes nothing about them."""
    x = stem(net, 8)
    pooled, places = net.node("MaxPool", [x], [(2, 8, 3, 3)] * 2, 2, kernel_shape=[2, 2], strides=[2, 2])
    y = net.relu(net.conv(pooled, 8, 3))
    z = net.node("MaxUnpool", [y, places, net.integers([2, 8, 6, 6])], (2, 8, 6, 6), kernel_shape=[2, 2], strides=[2, 2])
    end(net, z)


# MARK: fused by ONNX Runtime


@hazard()
def fused_matrix_products(net):
    x = tokens(net, 8, 5)
    weight = net.store(net.normal(6, 8, scale=0.5))
    y = net.node("FusedMatMul", [x, weight], (2, 5, 6), domain=MS, transB=1, alpha=0.5)
    y = net.node("BiasGelu", [y, net.store(net.normal(6))], (2, 5, 6), domain=MS)
    y = net.node("FastGelu", [net.matmul(y, 8), net.store(net.normal(8))], (2, 5, 8), domain=MS)
    y = net.node("QuickGelu", [net.matmul(y, 8)], (2, 5, 8), domain=MS, alpha=1.7)
    net.output(net.matmul(y, 3))


@hazard()
def fused_convolution(net):
    x = stem(net, 8)
    inputs = [x, net.store(net.normal(8, 2, 3, 3, scale=0.4)), net.store(net.normal(8)), net.conv(x, 8, 1)]
    attributes = {"activation": "Relu", "pads": [1, 1, 1, 1], "group": 4}
    x = net.node("FusedConv", inputs, (2, 8, 6, 6), domain=MS, **attributes)
    y = net.reduce("ReduceMean", x, [2, 3], 0)
    gemm = [y, net.store(net.normal(8, 6, scale=0.4)), net.store(net.normal(6))]
    net.output(net.gemm(net.node("FusedGemm", gemm, (2, 6), domain=MS, activation="Relu"), 3))
