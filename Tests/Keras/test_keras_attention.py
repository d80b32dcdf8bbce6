"""Acceptance: heads of an attention lose some of their width, and scores stay divided by the root of the original one."""

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

import espalier
import files_keras
import masking_keras
import networks_keras
from test_keras_families import hold_to_the_reply, run

FORMS = networks_keras.BOTH
ALL = {"step_size": 1, "min_num_of_value": 1}


def network(**settings):
    """One attention between layers, whose heads are 16 wide."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    entry = keras.Input((10, 24), name="words")
    x = layers.Dense(48, activation="relu", name="widen")(entry)
    x = layers.MultiHeadAttention(3, 16, name="attention", **settings)(x, x)
    model = keras.Model(entry, layers.Dense(5, name="head")(layers.Flatten()(x)))
    networks_keras.awaken(model, np.random.default_rng(0))
    return model, [np.random.default_rng(1).standard_normal((2, 10, 24)).astype("float32")]


def narrowed(client, source, output, removed=(1, 5, 6), **more):
    """What the queries of all heads lose goes by number."""
    chosen = [espalier.LayerSetting("attention/query", [head * 16 + index for head in range(3) for index in removed])]
    return client.compress(source, output, compression_method="PR_ID", layers=chosen, **more)


def hold(original, inputs, source, output, reply, tolerance=1e-5):
    hold_to_the_reply(files_keras.read(source), source, output, reply)
    whole = masking_keras.silence(files_keras.read(source), [entry.to_json() for entry in reply.removed], True)
    compressed = files_keras.read(output)
    usual, expected, found = (
        [value.astype("float32") for value in files_keras.called(model, inputs)]
        for model in (original, whole, compressed)
    )
    assert masking_keras.distance(usual, expected) > 1e-3, "what was removed had no effect"
    assert masking_keras.distance(expected, found) <= tolerance
    return compressed, found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("settings", [{}, {"use_bias": False}, {"value_dim": 12, "output_shape": 20}], ids=str)
def test_queries_and_keys_lose_the_same_and_scores_keep_their_scale(client, workspace, form, settings):
    original, inputs = network(**settings)
    source, output = files_keras.write(original, workspace / f"whole{form}"), workspace / f"narrow{form}"
    graph = workspace / "narrow.onnx"
    reply = narrowed(client, source, output, onnx_output_path=graph, verify=True)
    roles = {entry.parameter.removeprefix("attention/"): entry for entry in reply.removed}
    kinds = ["kernel", "bias"] if settings.get("use_bias", True) else ["kernel"]
    assert {*roles} == {f"{role}/{kind}" for role in ("query", "key") for kind in kinds}
    assert all(entry.axis == (2 if name.endswith("kernel") else 1) for name, entry in roles.items())
    gone = {tuple(entry.indices) for entry in roles.values()}
    assert gone == {(1, 5, 6)}
    assert {entry.parameter for entry in reply.adjusted} == {f"attention/query/{kind}" for kind in kinds}
    assert all(entry.factor == pytest.approx((13 / 16) ** 0.5, rel=1e-12) for entry in reply.adjusted)
    assert reply.verification.status == "exact"

    compressed, found = hold(original, inputs, source, output, reply)
    attention = compressed.get_layer("attention")
    assert attention.key_dim == 13 and attention.value_dim == settings.get("value_dim", 16) and attention.num_heads == 3
    assert masking_keras.distance(found, run(graph, compressed, inputs)) <= 1e-5
    # Both files are what the reply says; the one holds the factor, the other states the number.
    for path in (output, graph):
        assert client.verify(source, path, reply).status == "exact"


def test_a_file_without_the_factor_is_not_what_was_planned(client, workspace):
    original, _ = network()
    source, output = files_keras.write(original, workspace / "whole.keras"), workspace / "narrow.keras"
    reply = narrowed(client, source, output)
    spoiled = files_keras.read(output)
    projection = spoiled.get_layer("attention").query_dense
    projection.set_weights([value / reply.adjusted[0].factor for value in projection.get_weights()])
    files_keras.write(spoiled, workspace / "spoiled.keras")
    found = client.verify(source, workspace / "spoiled.keras", reply)
    assert found.status == "failed" and "attention/query/kernel" in found.reason


@pytest.mark.parametrize("form", FORMS)
def test_weights_that_are_fitted_anew_have_the_factor_too(client, workspace, form):
    """What the queries' projection reads goes as well, so that it is fitted, and multiplied."""
    original, inputs = network()
    source, output = files_keras.write(original, workspace / f"whole{form}"), workspace / f"fitted{form}"
    data, graph = workspace / "x.npy", workspace / "fitted.onnx"
    np.save(data, np.random.default_rng(4).standard_normal((48, 10, 24)).astype("float32"))
    chosen = [espalier.LayerSetting(name, [0.25]) for name in ("widen", "attention/query")]
    reply = client.compress(
        source, output, compression_method="PR_L2", layers=chosen, options=ALL, dataset_path=data,
        reconstruct="least_squares", onnx_output_path=graph, verify=True,
    )  # fmt: skip
    compressed = files_keras.read(output)
    assert compressed.get_layer("attention").key_dim < 16 and reply.reconstruction.kept
    kinds = [entry.factor is None for entry in reply.adjusted if entry.parameter == "attention/query/kernel"]
    assert sorted(kinds) == [False, True], "fitted, and multiplied"
    assert masking_keras.distance(files_keras.called(compressed, inputs), run(graph, compressed, inputs)) <= 1e-5
    assert client.verify(source, output, reply).status == "approximate"
    assert client.verify(source, graph, reply).status == "approximate"


@pytest.mark.parametrize("form", FORMS)
def test_pairs_that_bear_nothing_go_first(client, workspace, form):
    original, inputs = network()
    silent = [2, 7, 8, 13]
    for projection in (original.get_layer("attention").query_dense, original.get_layer("attention").key_dense):
        kernel, bias = projection.get_weights()
        kernel[:, :, silent], bias[:, silent] = 0, 0
        projection.set_weights([kernel, bias])
    source, output = files_keras.write(original, workspace / f"whole{form}"), workspace / f"narrow{form}"
    np.save(workspace / "x.npy", np.random.default_rng(4).standard_normal((4, 10, 24)).astype("float32"))
    reply = client.compress(
        source, output, compression_method="PR_SNP", dataset_path=workspace / "x.npy", recommendation_ratio=0.25,
        options={**ALL, "scope": "layer", "include": ["attention/query", "attention/key"]}, verify=True,
    )  # fmt: skip
    cut = next(entry for entry in reply.removed if entry.parameter == "attention/query/kernel")
    assert cut.axis == 2 and cut.indices == silent and reply.verification.status == "exact"
    found = files_keras.called(files_keras.read(output), inputs)
    assert masking_keras.distance(files_keras.called(original, inputs), found) <= 1e-5


def test_a_width_that_was_left_out_is_written(client, workspace):
    """Without a `value_dim`, values are as wide as keys."""
    original, inputs = network()
    plain, source = files_keras.write(original, workspace / "plain.keras"), workspace / "whole.keras"
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(source, "w") as edited:
        for name in archive.namelist():
            data = archive.read(name)
            if name == "config.json":
                config = json.loads(data)
                (entry,) = (layer for layer in config["config"]["layers"] if layer["class_name"] == "MultiHeadAttention")
                entry["config"]["value_dim"] = None
                data = json.dumps(config)
            edited.writestr(name, data)
    reply = narrowed(client, source, workspace / "narrow.keras")
    compressed, _ = hold(original, inputs, source, workspace / "narrow.keras", reply)
    assert compressed.get_layer("attention").value_dim == 16


def test_numbers_of_other_widths(client, workspace):
    """A product with a factor is rounded once more: where that is coarse, heads keep their width."""
    original, inputs = network(dtype="float64")
    source, output = files_keras.write(original, workspace / "whole.keras"), workspace / "narrow.keras"
    reply = narrowed(client, source, output)
    hold(original, inputs, source, output, reply, tolerance=1e-6)
    assert client.verify(source, output, reply).status == "exact"
    original, inputs = network(dtype="float16")
    source = files_keras.write(original, workspace / "coarse.keras")
    (queries,) = (layer for layer in client.inspect(source).layers if layer.name == "attention/query")
    assert not [method for method in queries.methods if method.startswith("PR_")] and queries.reason
    with pytest.raises(espalier.ServerError) as refused:
        narrowed(client, source, output, overwrite=True)
    assert refused.value.kind == "layer.unavailable"


@pytest.mark.parametrize("form", FORMS)
def test_grouped_queries_return_as_many_channels_as_come_in(client, workspace, form):
    """Keras builds the one as wide as the other; inspect says so."""
    original, _ = networks_keras.made("grouped_cross")
    source, output = files_keras.write(original, workspace / f"whole{form}"), workspace / f"narrow{form}"
    found = {layer.name: layer for layer in client.inspect(source).layers}
    group = found["queries"].group
    assert group is not None and {found[name].group for name in ("values", "cross/attention_output")} == {group}
    assert found["keys"].group != group
    widths = {found[f"cross/{role}"].group for role in ("query", "key", "value")}
    assert len(widths) == 1 and None not in widths
    chosen = [espalier.LayerSetting("queries", [0, 3]), espalier.LayerSetting("cross/value", [0, 3, 8, 11])]
    client.compress(source, output, compression_method="PR_ID", layers=chosen)
    attention = files_keras.read(output).get_layer("cross")
    assert attention.head_dim == 6 and attention._query_dense.kernel.shape == (62, 4, 6)
    assert attention._output_dense.kernel.shape == (4, 6, 62)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name, length", [("open_sequence", 41), ("open_image", 17), ("open_video", 5)])
def test_lengths_stay_open_around_what_onnx_has_no_form_for(client, workspace, form, name, length):
    """The file takes other lengths than anybody has tried; what is to be run is refused, naming the layer."""
    original, inputs = networks_keras.made(name)
    source, output = files_keras.write(original, workspace / f"whole{form}"), workspace / f"half{form}"
    reply = client.compress(source, output, recommendation_ratio=0.5)
    compressed = files_keras.read(output)
    assert compressed.count_params() == reply.compressed.parameters < original.count_params()
    longer = np.random.default_rng(3).standard_normal((1, length, *inputs[0].shape[2:])).astype("float32")
    assert np.isfinite(files_keras.called(compressed, [longer])[0]).all()
    with pytest.raises(espalier.ServerError) as refused:
        client.compress(source, workspace / "never.keras", recommendation_ratio=0.5, verify=True)
    assert refused.value.kind == "model.unsupportedOperator"
