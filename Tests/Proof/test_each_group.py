"""Every group of coupled channels can be cut alone, by half and down to one: what a recommendation seldom asks for."""

import dataclasses

import espalier
import onnx
import pytest

import plans
import skeletons

NETWORKS = [
    ("llama", "torchscript"),
    ("gemma", "torchscript"),
    ("bert", "torchscript"),
    ("vit_tiny", "torchscript"),
    ("swin_tiny", "torchscript"),
    ("resnet18_groupnorm", "torchscript"),
    ("resnext50_32x4d", "torchscript"),
    ("shufflenet_v2_x1_0", "dynamo"),
    ("densenet121", "dynamo"),
]


@pytest.mark.parametrize("name, form", NETWORKS, ids=["-".join(n) for n in NETWORKS])
def test_each_group_alone(client, folder, name, form):
    path = folder / "model.onnx"
    onnx.save(skeletons.materialize(name, form), path)
    listed = client.recommend(path, recommendation_ratio=0.5, options=plans.STRESS).available_layers
    assert listed
    failures = []
    for layer in listed:
        for ratio in (0.5, 0.99):
            alone = [dataclasses.replace(layer, values=[ratio], use=True)]
            try:
                client.compress(path, folder / "never.onnx", layers=alone, options=plans.STRESS, dry_run=True)
            except espalier.ServerError as error:
                if error.kind != "nothingToCompress":
                    failures.append(f"{layer.name} by {ratio}: {error}")
    assert not failures, "\n".join(failures)
