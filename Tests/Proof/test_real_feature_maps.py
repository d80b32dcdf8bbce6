"""PR_NN and PR_SNP on real architectures: which channels go, against NumPy on ONNX Runtime's own feature maps.

Taps are found here by following the file's nodes: from a convolution through what works channel by channel to what its
consumers read, and from a softmax back to the product of queries and keys.
"""

import numpy as np
import onnx
import pytest

import running
import skeletons
from test_feature_maps import PLAIN, lowest, nuclear_norms, pair_scores, removed

CHANNELWISE = {"Relu", "BatchNormalization", "Clip", "Identity", "HardSwish", "Sigmoid", "LeakyRelu"}
SHARE = 0.25


class Network:
    """A skeleton with its weights, and what its tensors hold for some inputs."""

    def __init__(self, name, folder):
        self.path = folder / "model.onnx"
        self.model = skeletons.materialize(name, "torchscript")
        onnx.save(self.model, self.path)
        self.readers, self.makers = {}, {}
        for node in self.model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
            for name in node.output:
                self.makers[name] = node
        self.stored = {t.name: t for t in self.model.graph.initializer}

    def values(self, names, inputs):
        """Per name, what it holds for each of the inputs, one after the other: the batch of these files is 1."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        present = {o.name for o in model.graph.output}
        model.graph.output.extend(helper_output(n) for n in names if n not in present)
        session = running.session(model)
        runs = [session.run(names, feeds) for feeds in inputs]
        return [np.concatenate([run[k] for run in runs]).astype(np.float64) for k in range(len(names))]

    def tap(self, node):
        """What the consumers of a convolution read."""
        value = node.output[0]
        while len(self.readers[value]) == 1 and self.readers[value][0].op_type in CHANNELWISE:
            value = self.readers[value][0].output[0]
        return value


def helper_output(name):
    return onnx.helper.make_empty_tensor_value_info(name)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "googlenet", "mobilenet_v2"])
def test_nuclear_norms_of_real_networks(client, tmp_path, name):
    network = Network(name, tmp_path)
    rng = np.random.default_rng(5)
    (entry,) = running.real_inputs(network.model)
    shape = [d.dim_value for d in entry.type.tensor_type.shape.dim]
    samples = rng.normal(size=(2, *shape[1:])).astype(np.float32)
    nodes = {node.name: node for node in network.model.graph.node}
    report = client.inspect(network.path)
    alone = [g for g in report.groups if g.prunable and not g.balance and len(g.layers) == 1]
    compared = 0
    for group in alone[:: max(len(alone) // 3, 1)][:3]:
        node = nodes[group.layers[0]]
        # A depthwise convolution behind it reads the same tensor.
        tap = network.tap(node)
        (maps,) = network.values([tap], [{entry.name: samples[k : k + 1]} for k in range(len(samples))])
        expected = lowest(nuclear_norms(maps), int(SHARE * maps.shape[1] + 1e-9))
        assert removed(client, network.path, samples, "PR_NN", node.input[1], 0, SHARE, group.name) == expected
        compared += 1
    assert compared == 3


@pytest.mark.parametrize("name", ["deit_tiny_distilled", "vit_tiny", "bert_eager"])
def test_attention_neurons_of_real_networks(client, tmp_path, name):
    """Neurons of queries and keys go in pairs, those of values alone, each head choosing its own."""
    network = Network(name, tmp_path)
    rng = np.random.default_rng(5)
    inputs = [running.random_inputs(network.model, rng) for _ in range(3)]
    entries = {k: np.concatenate([feeds[k] for feeds in inputs]) for k in inputs[0]}
    np.savez(tmp_path / "samples.npz", **entries)
    reply = client.compress(
        network.path,
        tmp_path / "never.onnx",
        compression_method="PR_SNP",
        recommendation_ratio=SHARE,
        options={**PLAIN, "scope": "layer"},
        dataset_path=tmp_path / "samples.npz",
        dry_run=True,
    )
    gone = {(r.parameter, r.axis): r.indices for r in reply.removed}
    softmaxes = [node for node in network.model.graph.node if node.op_type == "Softmax"]
    assert softmaxes
    for softmax in softmaxes[:2]:
        scores = network.makers[softmax.input[0]]
        while scores.op_type != "MatMul":
            scores = network.makers[next(i for i in scores.input if i in network.makers)]
        queries, keys = network.values(list(scores.input), inputs)
        _, heads, _, width = queries.shape
        expected = []
        for head in range(heads):
            importance = np.mean([pair_scores(q[head], k[head].T, 0.9) for q, k in zip(queries, keys)], axis=0)
            expected += [head * width + i for i in lowest(importance, int(SHARE * width + 1e-9))]
        ours = [weight_of(network, value) for value in scores.input]
        for k, weight in enumerate(ours):
            total = heads * width
            # A packed projection holds queries, keys and values one after the other.
            start = k * total if weight.dims[1] == 3 * total else 0
            found = [i - start for i in gone[weight.name, 1] if start <= i < start + total]
            assert found == expected, (softmax.name, "qk"[k])

        mixed = next(n for n in network.readers[softmax.output[0]] if n.op_type == "MatMul")
        weight = weight_of(network, mixed.input[1])
        start = 2 * total if weight.dims[1] == 3 * total else 0
        filters = onnx.numpy_helper.to_array(weight).T[start : start + total].astype(np.float64)
        directions = filters / np.linalg.norm(filters, axis=1, keepdims=True)
        redundancy = (1 - np.abs(directions @ directions.T)).sum(1).reshape(heads, width)
        expected = [
            head * width + i for head in range(heads) for i in lowest(redundancy[head], int(SHARE * width + 1e-9))
        ]
        assert [i - start for i in gone[weight.name, 1] if start <= i < start + total] == expected, softmax.name


def weight_of(network, value):
    """The stored matrix whose product `value` is a moved and scaled form of."""
    node = network.makers[value]
    while node.op_type != "MatMul":
        node = network.makers[next(i for i in node.input if i in network.makers and not is_setting(network, i))]
    return next(network.stored[i] for i in node.input if i in network.stored)


def is_setting(network, name):
    """Is this computed from lengths alone?"""
    node = network.makers.get(name)
    return node is not None and (
        node.op_type in ("Shape", "Constant") or all(is_setting(network, i) for i in node.input)
    )
