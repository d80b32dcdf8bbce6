"""Acceptance: weights that are fitted anew are the same, within rounding, whatever the file says of the same network:
PyTorch's module, Keras's two files, and ONNX. Real Keras and PyTorch load what was written."""

import espalier
import files_keras
import make_digits
import numpy as np
import pytest
import torch

MODELS = make_digits.MODELS
CALIBRATION = MODELS / "digits_calibration.npy"


@pytest.fixture(scope="module")
def images():
    with np.load(MODELS / "digits_heldout.npz") as file:
        return file["images"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Writes the file of a network that was fitted anew."""
    folder = tmp_path_factory.mktemp("fitted")

    def make(suffix, dataset, **more):
        path = folder / f"half{suffix}"
        with espalier.Client() as client:
            reply = client.compress(
                MODELS / f"digits_resnet{suffix}", path, compression_method="PR_L2", target={"macs": 0.5}, verify=True,
                overwrite=True, reconstruct="least_squares", dataset_path=dataset, **more,
            )  # fmt: skip
        assert reply.reconstruction.kept and reply.reconstruction.error_after < 0.5 * reply.reconstruction.error_before
        return path

    return make


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_gets_the_weights_that_pytorch_gets(fitted, images, tmp_path, suffix):
    channels_last = tmp_path / "calibration.npy"
    np.save(channels_last, np.load(CALIBRATION).transpose(0, 2, 3, 1))
    original = fitted(".pt", CALIBRATION, input_shapes=[{"shape": [1, 1, 8, 8]}])
    network = torch.load(original, weights_only=False).eval()
    model = files_keras.read(fitted(suffix, channels_last))
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
