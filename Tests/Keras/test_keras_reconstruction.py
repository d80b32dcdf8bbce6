"""Acceptance: weights that are fitted anew are the same, within rounding, whatever the file says of the same network:
PyTorch's module, Keras's two files, and ONNX. Real Keras and PyTorch load what was written."""

import sys

import daemon
import digits_keras
import espalier
import files_keras
import make_digits
import numpy as np
import pytest
import torch
import trained

sys.path.insert(0, str(daemon.ROOT / "Tests" / "Digits"))

import torch_networks

MODELS = make_digits.MODELS


@pytest.fixture(scope="module")
def images():
    with np.load(MODELS / "digits_heldout.npz") as file:
        return file["images"]


def fit(client, model, output, dataset, **more):
    reply = client.compress(
        model, output, compression_method="PR_L2", target={"macs": 0.5}, verify=True, reconstruct="least_squares",
        dataset_path=dataset, **more,
    )  # fmt: skip
    assert reply.reconstruction.kept and reply.reconstruction.error_after < 0.5 * reply.reconstruction.error_before
    return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    calibration = np.load(MODELS / "digits_calibration.npy")[:96]
    np.save(folder / "torch.npy", calibration)
    np.save(folder / "keras.npy", calibration.transpose(0, 2, 3, 1))
    return folder


@pytest.fixture(scope="module")
def original(folder):
    """PyTorch's, fitted anew."""
    with espalier.Client() as client:
        return fit(
            client, MODELS / "digits_resnet.pt", folder / "half.pt", folder / "torch.npy",
            input_shapes=[{"shape": [1, 1, 8, 8]}],
        )  # fmt: skip


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_gets_the_weights_that_pytorch_gets(client, folder, original, images, suffix):
    network = torch.load(original, weights_only=False).eval()
    fitted = fit(client, MODELS / f"digits_resnet{suffix}", folder / f"half{suffix}", folder / "keras.npy")
    model = files_keras.read(fitted)
    whole = torch.load(MODELS / "digits_resnet.pt", weights_only=False).eval()
    _, sources = make_digits.network(whole)
    paths = {id(module): path for path, module in whole.named_modules()}
    compared = 0
    for name, source in sources.items():
        expected = make_digits.numbers(network.get_submodule(paths[id(source)]))
        for here, there in zip(model.get_layer(name).get_weights(), expected, strict=True):
            assert np.linalg.norm(here - there) < 2e-3 * np.linalg.norm(there), name
            compared += 1
    assert compared > 40
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    found = model.predict(images.transpose(0, 2, 3, 1), verbose=0)
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("name, make", [("mobile", digits_keras.mobile), ("vit", digits_keras.vit)])
def test_likenesses_get_the_same_weights_too(client, tmp_path, name, make):
    images = trained.sample()["calibration"][:64]
    network = torch_networks.network(name, trained.MODELS / f"{name}.onnx")
    model, sources = make(network)
    inputs = [images.transpose(0, 2, 3, 1)]
    if name == "vit":
        places = np.arange(network.position.shape[1], dtype=np.int32)
        inputs.append(np.tile(places, (len(images), 1)))
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    assert np.allclose(files_keras.called(model, inputs)[0], expected, atol=1e-4), "not the same network"
    model.save(tmp_path / "net.keras")
    torch_networks.save(network, tmp_path / "net.pt")
    np.savez(tmp_path / "keras.npz", **{entry.name: values for entry, values in zip(model.inputs, inputs)})
    np.save(tmp_path / "torch.npy", images)

    torch_file = fit(
        client, tmp_path / "net.pt", tmp_path / "half.pt", tmp_path / "torch.npy",
        input_shapes=[{"shape": [1, 1, 8, 8]}],
    )  # fmt: skip
    smaller = torch_networks.load(torch_file)
    likeness = files_keras.read(fit(client, tmp_path / "net.keras", tmp_path / "half.keras", tmp_path / "keras.npz"))
    for layer, path in sources.items():
        found = likeness.get_layer(layer).get_weights()
        for here, there in zip(found, digits_keras.values(digits_keras.find(smaller, path)), strict=True):
            assert np.linalg.norm(here - there) < 2e-3 * np.linalg.norm(there), layer
