"""Acceptance: real architectures, from three exporters, pruned by 0.3 and 0.6, equal to their masked originals.

The models are the skeletons of Tests/Zoo with seeded weights. Every architecture is pruned at both ratios as one
exporter writes it and at one ratio as the others do; nothing here knows what any of them is made of.
"""

import dataclasses
import gc

import onnx
import pytest

import plans
import skeletons

MAIN = "torchscript"
CASES = [
    (exporter, name, ratio)
    for exporter in (MAIN, "dynamic", "dynamo")
    for name in skeletons.available(exporter)
    for ratio in ((0.3, 0.6) if exporter == MAIN else (0.6,))
]
# Rounding alone, measured as the distance between two evaluations of the same network, grows with depth.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def model(folder):
    """The model on disk and in memory, kept while consecutive tests ask for the same one."""
    held = {}

    def get(exporter, name):
        if (exporter, name) not in held:
            held.clear()
            gc.collect()
            path = folder / "zoo.onnx"
            proto = skeletons.materialize(name, exporter)
            onnx.save(proto, path)
            held[exporter, name] = (path, proto)
        return held[exporter, name]

    yield get
    (folder / "zoo.onnx").unlink(missing_ok=True)


def test_the_zoo_is_complete():
    wanted = {
        "resnet18",
        "resnet50",
        "mobilenet_v2",
        "densenet121",
        "shufflenet_v2_x1_0",
        "googlenet",
        "squeezenet1_0",
        "unet",
        "resnext50_32x4d",
        "efficientnet_b0",
        "regnet_y_400mf",
        "mobilenet_v3_large",
        "vgg11_bn",
    }
    for exporter in (MAIN, "dynamic", "dynamo"):
        assert wanted <= set(skeletons.available(exporter)), exporter


@pytest.mark.parametrize("exporter, name, ratio", CASES)
def test_pruned_equals_masked(client, folder, model, exporter, name, ratio):
    path, original = model(exporter, name)
    case = plans.Case("SLAMP", {"recommendation_ratio": ratio, "options": {}})
    proof = plans.prove(client, original, path, folder, case, runs=1, tolerance=TOLERANCE)
    recommendation = client.recommend(path, recommendation_ratio=ratio)
    before, after = recommendation.estimate.original, recommendation.estimate.compressed
    assert proof.effect > 1e-2, "what was removed had no effect: nothing was proved"
    # A layer that loses a share r of its inputs and outputs keeps (1 - r)^2 of its weights; what is frozen (class
    # outputs, image channels) keeps all, and a global budget takes more from wide layers.
    achieved = recommendation.raw["achieved_ratio"]
    assert achieved <= ratio
    assert after.parameters / before.parameters < 1 - 0.7 * achieved
    assert after.macs / before.macs < 1 - 0.4 * achieved
    # Narrow blocks of group convolutions keep their minimum each, and the rest of the network pays for them.
    if not any(group.balance for group in client.inspect(path).groups):
        assert achieved > 0.9 * ratio
        assert after.parameters / before.parameters > (1 - ratio) ** 2 * 0.2
        assert after.macs / before.macs > (1 - ratio) ** 2 * 0.2
    report = {"parameters": after.parameters / before.parameters, "macs": after.macs / before.macs}
    print(f"\n{exporter} {name} {ratio}: left {report}, {dataclasses.asdict(proof)}")
