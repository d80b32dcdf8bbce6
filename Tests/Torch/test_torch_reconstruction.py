"""Acceptance: the trained networks as PyTorch's files are fitted anew to the weights that their ONNX files get."""

import sys

import numpy as np
import pytest
import torch

import daemon
import trained

sys.path.insert(0, str(daemon.ROOT / "Tests" / "Digits"))

import torch_networks

# What a ridge leaves open is settled by rounding.
ROUNDING = 2e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    np.save(folder / "images.npy", trained.sample()["calibration"][:64])
    return folder


@pytest.mark.parametrize("name", torch_networks.MAKERS)
def test_pytorch_gets_the_weights_that_onnx_gets(client, folder, name):
    def fitted(model, **more):
        output = folder / f"fitted{model.suffix}"
        reply = client.compress(
            model, output, compression_method="PR_L2", target={"macs": 0.5}, reconstruct="least_squares", verify=True,
            dataset_path=folder / "images.npy", overwrite=True, **more,
        )  # fmt: skip
        assert reply.reconstruction.kept and reply.reconstruction.error_after < 0.5 * reply.reconstruction.error_before
        return output

    source = trained.MODELS / f"{name}.onnx"
    module = torch_networks.network(name, source)
    expected = torch_networks.state(module, fitted(source))
    for suffix, more in (".pt", {"input_shapes": [{"shape": [1, 1, 8, 8]}]}), (".pt2", {}):
        path = folder / f"{name}{suffix}"
        torch_networks.save(module, path)
        found = torch_networks.load(fitted(path, **more)).state_dict()
        for key, value in expected.items():
            assert found[key].shape == value.shape
            assert torch.linalg.norm(found[key] - value) <= ROUNDING * torch.linalg.norm(value), (suffix, key)
