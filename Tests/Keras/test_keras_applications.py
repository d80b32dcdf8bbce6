"""Acceptance: all of keras.applications, for photographs and with a thousand classes as their authors built them, hold what
the small ones of test_keras_families.py hold. Run by `make test-applications`: an hour or more, and memory for several
copies of the largest, which has 1.4 GB.
"""

import pytest

import networks_keras
from networks_keras import BOTH, V3_ONLY, Network, application, image, pixels
from test_keras_families import Half

pytestmark = pytest.mark.applications
SIZE = 224
# Those that begin with a rescaling want pixels.
FAMILIES = [
    (["ResNet50", "ResNet101", "ResNet152", "ResNet50V2", "ResNet101V2", "ResNet152V2"], image(SIZE, SIZE, 3), BOTH),
    (["MobileNet", "MobileNetV2"], image(SIZE, SIZE, 3), BOTH),
    (["MobileNetV3Small", "MobileNetV3Large"], pixels(SIZE), V3_ONLY),
    ([f"EfficientNetB{index}" for index in range(8)], pixels(SIZE), BOTH),
    ([f"EfficientNetV2{name}" for name in ("B0", "B1", "B2", "B3", "S", "M", "L")], pixels(SIZE), BOTH),
    (["DenseNet121", "DenseNet169", "DenseNet201"], image(SIZE, SIZE, 3), BOTH),
    (["VGG16", "VGG19"], image(SIZE, SIZE, 3), BOTH),
    (["Xception", "InceptionV3", "InceptionResNetV2"], image(SIZE, SIZE, 3), BOTH),
    (["NASNetMobile", "NASNetLarge"], image(SIZE, SIZE, 3), BOTH),
    ([f"ConvNeXt{name}" for name in ("Tiny", "Small", "Base", "Large", "XLarge")], pixels(SIZE), V3_ONLY),
]
NETWORKS = {
    name: Network(application(name, SIZE, classes=1000), inputs, forms)
    for names, inputs, forms in FAMILIES
    for name in names
}


@pytest.mark.parametrize("name", NETWORKS)
def test_pruned_equals_masked_and_trains(client, workspace, name):
    network = NETWORKS[name]
    original, inputs = networks_keras.seeded(network)
    first, *others = network.forms
    half = Half(client, network, original, inputs, first, workspace)
    told = half.told()
    for form in others:
        Half(client, network, original, inputs, form, workspace).hold_to_another(*told)
    verdict = half.prove_and_train()
    left = half.reply.compressed.parameters / half.reply.original.parameters
    print(f"{name}: {left:.0%} of {half.reply.original.parameters / 1e6:.1f} M left, {verdict.difference:.0e} apart")
