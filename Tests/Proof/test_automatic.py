"""A target and no method: channels and ranks chosen together, one plan for both, held against real runs."""

import dataclasses

import espalier
import numpy as np
import onnx
import onnxruntime
import pytest

from trained import EXAMPLES, MODELS, accuracy

METHODS = {"PR_REC", "FD_SVD", "FD_TK"}


@pytest.fixture(scope="module")
def few(sample, folder):
    """Enough to choose by, where it does not matter how well."""
    path = folder / "few_digits_for_choosing.npy"
    np.save(path, sample["calibration"][:96])
    return path


def compress(client, folder, name, share, dataset, **others):
    path = folder / f"{name}_automatic.onnx"
    reply = client.compress(
        MODELS / f"{name}.onnx", path, compression_method="automatic", target={"macs": share}, dataset_path=dataset,
        overwrite=True, verify=True, **others,
    )  # fmt: skip
    return path, reply


@pytest.mark.parametrize("name, share, points", [("resnet", 0.5, 1), ("mobile", 0.3, 3), ("vit", 0.3, 3)])
def test_networks_keep_their_accuracy(client, folder, sample, digits, name, share, points):
    path, reply = compress(client, folder, name, share, digits, reconstruct="least_squares")
    # One image more than that: a sample's share is no finer.
    least = accuracy(MODELS / f"{name}.onnx", sample) - points / 100 - 1 / len(sample["labels"])
    assert accuracy(path, sample) >= least
    assert 0.99 * share <= reply.compressed.macs / reply.original.macs <= share
    assert reply.reconstruction.kept and reply.verification.status == "approximate"
    assert reply.verification.twin.status == "exact"
    assert reply.layers and all(layer.use and layer.method in METHODS and layer.reason for layer in reply.layers)
    assert all(layer.predicted_error > 0 and layer.saved["macs"] > 0 for layer in reply.layers)
    decomposed = {layer.name: layer.values for layer in reply.layers if layer.method.startswith("FD_")}
    assert {layer.layer: layer.ranks for layer in reply.replaced} == decomposed
    assert bool(reply.removed) == any(layer.method == "PR_REC" for layer in reply.layers)
    found = client.verify(MODELS / f"{name}.onnx", path, reply)
    assert found.status == "approximate" and found.twin.status == "exact"


def test_channels_and_ranks_in_one_model_and_what_a_reply_does_not_say(client, folder, few):
    path = folder / "both.onnx"
    reply = client.compress(
        MODELS / "mobile.onnx", path, compression_method="automatic", layers=both(client), dataset_path=few,
        reconstruct="least_squares", overwrite=True, verify=True,
    )  # fmt: skip
    assert reply.removed and reply.replaced
    onnx.checker.check_model(onnx.load(path), full_check=True)

    def verify(**changes):
        return client.verify(MODELS / "mobile.onnx", path, dataclasses.replace(reply, **changes))

    assert verify().twin.status == "exact"
    for changes in (
        {"removed": reply.removed[1:]},
        {"replaced": reply.replaced[1:]},
        {"replaced": [dataclasses.replace(e, ranks=[rank + 1 for rank in e.ranks]) for e in reply.replaced]},
        {"adjusted": []},
    ):
        try:
            found = verify(**changes)
        except espalier.ServerError as refusal:
            assert refusal.kind in (None, "verify.failed"), refusal
        else:
            assert found.status == "failed", changes.keys()


@pytest.mark.parametrize("name, share", [("mobile", 0.4), ("vit", 0.5)])
def test_what_is_recommended_is_what_is_done(client, folder, few, name, share):
    model, given = MODELS / f"{name}.onnx", {"dataset_path": few, "reconstruct": "least_squares", "overwrite": True}
    advice = client.recommend(
        model, target={"macs": share}, dataset_path=few, reconstruct="least_squares", compression_method="automatic")
    chosen, listed = folder / "chosen.onnx", folder / "listed.onnx"
    reply = client.compress(model, chosen, target={"macs": share}, compression_method="automatic", **given)
    assert advice.available_layers == reply.layers
    assert advice.estimate.compressed.macs == reply.compressed.macs
    # Handed back, it gives the same file.
    again = client.compress(model, listed, layers=advice.available_layers, compression_method="automatic", **given)
    assert listed.read_bytes() == chosen.read_bytes()
    assert [(e.name, e.method, e.values) for e in again.layers] == [(e.name, e.method, e.values) for e in reply.layers]


def both(client):
    """Layers of the mobile network by either method: some channels, and then few ranks."""
    model = MODELS / "mobile.onnx"
    channels = client.recommend(model, compression_method="PR_L2", recommendation_ratio=0.2).available_layers
    ranks = client.recommend(model, compression_method="FD_SVD", target={"energy": 0.5}).available_layers
    return [
        *(dataclasses.replace(entry, method="PR_REC") for entry in channels if entry.use),
        *(dataclasses.replace(entry, method="FD_SVD", values=[2]) for entry in ranks if entry.use),
    ]


def test_what_is_recommended_can_be_edited(client, folder, few):
    model = MODELS / "mobile.onnx"
    listed = both(client)
    ranks = next(e for e in listed if e.method == "FD_SVD")
    edited = [dataclasses.replace(e, values=[3]) if e is ranks else e for e in listed]
    reply = client.compress(
        model, folder / "edited.onnx", layers=edited, compression_method="automatic", dataset_path=few, overwrite=True,
        verify=True)
    assert {e.layer: e.ranks for e in reply.replaced}[ranks.name] == [3]
    assert reply.verification.status == "approximate" and reply.verification.twin.status in ("exact", None)
    for change, path in (
        ({"method": "PR_ID", "values": [1]}, "/layers/0/method"), ({"method": None}, "/layers/0/method"),
        ({"values": [1000]}, None),
    ):  # fmt: skip
        with pytest.raises(espalier.ServerError) as refusal:
            client.compress(
                model, dry_run=True, layers=[dataclasses.replace(ranks, **change)], compression_method="automatic")
        assert path is None or refusal.value.data["path"] == path


@pytest.mark.parametrize("measure", ["macs", "parameters", "size_bytes"])
def test_without_data_it_works_and_says_what_is_missing(client, folder, measure):
    path = folder / "blind.onnx"
    reply = client.compress(
        MODELS / "resnet.onnx", path, compression_method="automatic", target={measure: 0.6}, overwrite=True, verify=True
    )
    assert any("dataset_path" in warning for warning in reply.warnings)
    left = reply.raw["compressed"][measure] / reply.raw["original"][measure]
    assert 0.59 < left <= 0.6
    assert reply.verification.status in ("exact", "approximate")
    assert all(layer.method in METHODS | {"PR_GROUP_L2"} for layer in reply.layers)


@pytest.mark.parametrize(
    "name, share, method", [("resnet", 0.3, "FD_TK"), ("mobile", 0.5, "FD_SVD"), ("vit", 0.5, "FD_SVD")]
)
def test_without_a_refit_it_is_not_clearly_worse_than_one_method(client, folder, sample, digits, name, share, method):
    wanted = outputs(MODELS / f"{name}.onnx", sample["images"])

    def error(path):
        return np.linalg.norm(outputs(path, sample["images"]) - wanted) / np.linalg.norm(wanted)

    compressed, reply = compress(client, folder, name, share, digits)
    assert reply.trials
    alone = folder / f"{name}_alone.onnx"
    client.compress(
        MODELS / f"{name}.onnx", alone, compression_method=method, target={"macs": share}, dataset_path=digits,
        overwrite=True,
    )  # fmt: skip
    assert error(compressed) <= 1.05 * error(alone)


@pytest.mark.parametrize("count", [12, 40])
def test_what_is_tried_is_judged_by_samples_that_had_no_part_in_it(client, folder, sample, count):
    images = sample["calibration"][:count]
    path = folder / f"judging_{count}.npy"
    np.save(path, images)
    judging = images[3::4] if count < 16 else images[7::8]
    wanted, tried = outputs(MODELS / "mobile.onnx", judging), 0
    # Which sizes either way may be best for is the daemon's to say.
    for share in 0.8, 0.7, 0.6, 0.5, 0.4, 0.3:
        compressed, reply = compress(client, folder, "mobile", share, path, reconstruct="least_squares")
        if reply.trials:
            error = np.linalg.norm(outputs(compressed, judging) - wanted) / np.linalg.norm(wanted)
            assert min(abs(trial.error / error - 1) for trial in reply.trials) < 1e-3
        tried += bool(reply.trials)
    assert tried


def outputs(path, images):
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])


def test_groups_of_which_samples_tell_nothing_go_by_their_weights(client, folder):
    """Every weight is computed in the graph, as those of networks that standardize them."""
    random = np.random.default_rng(3)
    nodes, stored, value, channels = [], [], "x", 3
    for index, width in enumerate([24, 32, 32, 5]):
        weight = random.normal(size=(width, channels, 3, 3)).astype(np.float32)
        stored += [
            onnx.numpy_helper.from_array(weight, f"w{index}"),
            onnx.numpy_helper.from_array(random.uniform(0.1, 1, (width, 1, 1, 1)).astype(np.float32), f"gain{index}"),
        ]
        nodes += [
            onnx.helper.make_node("Mul", [f"w{index}", f"gain{index}"], [f"computed{index}"]),
            onnx.helper.make_node("Conv", [value, f"computed{index}"], [f"c{index}"], pads=[1, 1, 1, 1]),
            onnx.helper.make_node("Relu", [f"c{index}"], [f"y{index}"]),
        ]
        value, channels = f"y{index}", width
    graph = onnx.helper.make_graph(
        nodes, "computed",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])],
        [onnx.helper.make_tensor_value_info(value, 1, [1, 5, 8, 8])], stored,
    )  # fmt: skip
    path, data = folder / "computed.onnx", folder / "computed.npy"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    np.save(data, random.normal(size=(32, 3, 8, 8)).astype(np.float32))
    reply = client.compress(
        path, folder / "computed_smaller.onnx", compression_method="automatic", target={"parameters": 0.5},
        dataset_path=data, verify=True, options={"min_num_of_value": 1},
    )  # fmt: skip
    assert 0.495 <= reply.compressed.parameters / reply.original.parameters <= 0.5
    assert reply.removed and reply.verification.status == "exact"
    assert all("by their weights" in layer.reason for layer in reply.layers)


def test_other_formats(client, folder):
    images = np.load(EXAMPLES / "digits_calibration.npy")[:96]
    # Keras has channels last.
    datasets = {"keras": folder / "last.npy"}
    np.save(datasets["keras"], images.transpose(0, 2, 3, 1))
    np.save(folder / "first.npy", images)
    for kind, shapes in ("pt", [{"shape": [1, 1, 8, 8]}]), ("keras", None):
        reply = client.compress(
            EXAMPLES / f"digits_resnet.{kind}", folder / f"alike.{kind}", compression_method="automatic",
            target={"macs": 0.5}, overwrite=True, input_shapes=shapes, verify=True,
            dataset_path=datasets.get(kind, folder / "first.npy"),
            reconstruct="least_squares",
        )  # fmt: skip
        assert reply.verification.status == "approximate" and reply.verification.twin.status == "exact", kind
        assert 0.495 <= reply.compressed.macs / reply.original.macs <= 0.5


def test_a_size_that_cannot_be_reached_is_refused(client, folder, few):
    for dataset in None, few:
        with pytest.raises(espalier.ServerError) as refusal:
            compress(client, folder, "vit", 0.001, dataset)
        assert refusal.value.kind == "target.unreachable"
