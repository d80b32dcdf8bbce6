"""Decompositions of trained networks (Tests/Digits/models) on held-out digits: unlabelled images save accuracy, a
layer's error is the least there is, and full ranks change nothing.

sample.npz beside the networks holds 256 training images without labels and 200 held-out ones with labels;
docs/decomposition.md has the whole measurement.
"""

import espalier
import numpy as np
import onnx
import pytest

import daemon
import running

MODELS = daemon.ROOT / "Tests" / "Digits" / "models"
METHODS = {"resnet": "FD_TK", "mobile": "FD_SVD", "vit": "FD_SVD"}
# uint8 pixels to what the networks were trained on.
BRIGHTEST = np.float32(16)


@pytest.fixture(scope="module")
def sample():
    with np.load(MODELS / "sample.npz") as file:
        return {name: file[name] if name == "labels" else file[name] / BRIGHTEST for name in file}


@pytest.fixture(scope="module")
def dataset(sample, folder):
    path = folder / "digits.npy"
    np.save(path, sample["calibration"])
    return path


def logits(path, images):
    return running.run(onnx.load(path), {"image": images})[0]


def accuracy(path, sample):
    return float((logits(path, sample["images"]).argmax(1) == sample["labels"]).mean())


def decompose(client, folder, name, dataset, **request):
    """The written file and the reply."""
    path = folder / f"{name}_decomposed.onnx"
    reply = client.compress(
        MODELS / f"{name}.onnx", path, compression_method=METHODS[name], dataset_path=dataset, overwrite=True,
        verify=True, **request,
    )  # fmt: skip
    return path, reply


# Losses of accuracy that were measured, plain and data-aware: 0.065 and 0, 0.640 and 0.005, 0.165 and 0.085.
@pytest.mark.parametrize(
    "name, macs, plain_loses, aware_loses",
    [("resnet", 0.4, 0.04, 0.02), ("mobile", 0.6, 0.4, 0.03), ("vit", 0.2, 0.13, 0.11)],
)
def test_data_saves_accuracy(client, folder, sample, dataset, name, macs, plain_loses, aware_loses):
    original = accuracy(MODELS / f"{name}.onnx", sample)
    losses = []
    for given in (None, dataset):
        path, reply = decompose(client, folder, name, given, target={"macs": macs})
        share = reply.compressed.macs / reply.original.macs
        assert macs * 0.99 <= share <= macs
        assert client.inspect(path).macs == reply.compressed.macs
        losses.append(original - accuracy(path, sample))
    assert losses[0] >= plain_loses and losses[1] <= aware_loses


def full_ranks(layer, method):
    return list(layer.channels) if method == "FD_TK" else [min(layer.channels)]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("is_aware", [False, True])
def test_full_ranks_change_nothing(client, folder, sample, dataset, name, is_aware):
    original, method = MODELS / f"{name}.onnx", METHODS[name]
    layers = [
        espalier.LayerSetting(layer.name, full_ranks(layer, method))
        for layer in client.inspect(original).layers if method in layer.methods
    ]  # fmt: skip
    path, reply = decompose(client, folder, name, dataset if is_aware else None, layers=layers)
    assert len(reply.replaced) == len(layers) > 10
    wanted = logits(original, sample["images"])
    assert np.abs(logits(path, sample["images"]) - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("layer", ["/head/head.0/Conv", "/blocks/blocks.3/layers/layers.7/Conv"])
def test_output_error_is_the_least_there_is(client, folder, sample, dataset, layer):
    """No affine map of rank r is nearer to a layer's outputs than their projection on r principal components."""
    rank = 16
    original = MODELS / "mobile.onnx"
    width = next(entry.channels for entry in client.inspect(original).layers if entry.name == layer)
    setting = espalier.LayerSetting(layer, [rank])
    path, reply = decompose(client, folder, "mobile", dataset, layers=[setting])
    value = next(node.output[0] for node in onnx.load(original).graph.node if node.name == layer)

    def outputs(path):
        model = onnx.load(path)
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(value))
        maps = running.run(model, {"image": sample["calibration"]})[-1]
        return np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1]).astype(np.float64)

    wanted, found = outputs(original), outputs(path)
    variances = np.linalg.eigvalsh(np.cov(wanted.T, bias=True))
    least = np.sqrt(variances[:-rank].sum() / variances.sum())
    error = np.sqrt(((found - wanted) ** 2).mean(0).sum() / variances.sum())
    assert least > 0.05
    assert error == pytest.approx(least, rel=1e-3)
    assert reply.replaced[0].output_error == pytest.approx(least, rel=1e-3)
