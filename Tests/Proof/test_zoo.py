"""Acceptance: real architectures, from three exporters, pruned and equal to their masked originals.

The models are the skeletons of Tests/Zoo with seeded weights; nothing here knows what any of them is made of. The
convolutional networks that every exporter wrote at full size are put to two ratios and measured by disturbing
producers (masking.py); every architecture of every family is pruned by 0.5 with the defaults and judged by
interpreting the original (dead.py), by its twin where a norm takes statistics across pruned channels.
"""

import dataclasses
import gc

import onnx
import pytest

import families
import plans
import pruning
import skeletons

MAIN = "torchscript"
FULL_SIZE = [
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
]
CASES = [
    (exporter, name, ratio)
    for exporter in (MAIN, "dynamic", "dynamo")
    for name in FULL_SIZE
    for ratio in ((0.3, 0.6) if exporter == MAIN else (0.6,))
]
FAMILY_CASES = [
    (exporter, name)
    for exporter in families.EXPORTERS
    for name in skeletons.available(exporter)
    if name not in FULL_SIZE
]
# A ratio is a share of channels, not of parameters: where one wide, cheap layer has most of them, it pays for all.
MORE_IS_LEFT = {"repvgg_a0", "xcit_nano"}


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
    listed = sorted(name for members in families.FAMILIES.values() for name in members)
    found = {exporter: skeletons.available(exporter) for exporter in families.EXPORTERS}
    assert sorted({name for names in found.values() for name in names}) == listed
    assert all(found.values())
    for exporter in (MAIN, "dynamic", "dynamo"):
        assert {*FULL_SIZE} <= {*found[exporter]}, exporter


@pytest.mark.parametrize("exporter, name, ratio", CASES)
def test_pruned_equals_masked(client, folder, model, exporter, name, ratio):
    path, original = model(exporter, name)
    case = plans.Case("SLAMP", {"recommendation_ratio": ratio, "options": {}})
    proof = plans.prove(client, original, path, folder, case, runs=1, tolerance=pruning.TOLERANCE)
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


@pytest.mark.parametrize("exporter, name", FAMILY_CASES)
def test_every_family_is_pruned_and_right(client, folder, exporter, name):
    outcome = pruning.prune(client, folder, exporter, name)
    hold_to_the_proof(outcome)
    if name in MORE_IS_LEFT:
        assert outcome.parameters > 0.6, "less is left than is known"
        outcome = pruning.prune(client, folder, exporter, name, target={"parameters": 0.5})
        hold_to_the_proof(outcome)
        assert 0.495 <= outcome.parameters <= 0.5
        outcome = pruning.prune(client, folder, exporter, name, recommendation_ratio=0.5, options={"scope": "layer"})
        hold_to_the_proof(outcome)
    assert outcome.parameters <= 0.6
    assert outcome.macs < 0.9


def hold_to_the_proof(outcome):
    verdict = outcome.verdict
    assert verdict.status in ("exact", "approximate"), f"{verdict}"
    assert verdict.effect > 1e-3, "what was removed had no effect: nothing was proved"
    # Whatever mixes pruned and kept numbers is named in the reply.
    assert verdict.mixing.keys() <= outcome.said, f"unsaid: {verdict.mixing.keys() - outcome.said}"
    assert verdict.mixing or not outcome.said
