"""What else Keras files hold and how they may be stored: narrow numbers, packed members, code of somebody, and files that are
no models."""

import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import espalier
import files_keras
import masking_keras
import networks_keras
from test_keras_families import hold_to_the_reply

SMALL = {"recommendation_ratio": 0.4, "options": {"min_num_of_value": 2}}


def network(**settings):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    entry = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(24, 3, activation="relu", name="c1", **settings)(entry)
    x = layers.BatchNormalization(name="norm", **settings)(x)
    x = layers.Conv2D(32, 3, activation="relu", name="c2", **settings)(x)
    x = layers.GlobalAveragePooling2D(name="mean", **settings)(x)
    model = keras.Model(entry, layers.Dense(5, name="head", **settings)(x))
    networks_keras.awaken(model, np.random.default_rng(0))
    return model


def images():
    return [np.random.default_rng(1).standard_normal((2, 12, 12, 3)).astype("float32")]


def check(client, source, output, tolerance, **request):
    """Compresses, and holds the file to the reply and to the masked original."""
    reply = client.compress(source, output, **{**SMALL, **request})
    removed = [entry.to_json() for entry in reply.removed]
    original, whole, compressed = (files_keras.read(path) for path in (source, source, output))
    hold_to_the_reply(whole, source, output, reply)
    models = [original, masking_keras.silence(whole, removed, False), compressed]
    usual, expected, found = ([part.astype("float32") for part in files_keras.predict(m, images())] for m in models)
    assert masking_keras.distance(usual, expected) > 1e-3
    assert masking_keras.distance(expected, found) <= tolerance
    return reply


WIDTHS = {"mixed_float16": 1e-2, "float16": 1e-2, "bfloat16": 3e-2, "float64": 1e-5}
# Keras does not load bfloat16 from its own .h5.
CASES = [(policy, form) for policy in WIDTHS for form in networks_keras.BOTH if (policy, form) != ("bfloat16", ".h5")]


@pytest.mark.parametrize("policy, form", CASES)
def test_numbers_of_other_widths(client, workspace, policy, form):
    source = files_keras.write(network(dtype=policy), workspace / f"narrow{form}")
    kinds = {str(value.dtype) for value in files_keras.weights(source).values()}
    check(client, source, workspace / f"out{form}", WIDTHS[policy])
    assert {str(value.dtype) for value in files_keras.weights(workspace / f"out{form}").values()} == kinds


def test_members_may_be_packed(client, workspace):
    """What people zip themselves is deflated; Keras loads it, and so do we."""
    plain, source = files_keras.write(network(), workspace / "plain.keras"), workspace / "packed.keras"
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    check(client, source, workspace / "out.keras", 1e-5)


def test_datasets_may_be_packed(client, workspace):
    """Chunks, filters and the newer structures of HDF5, as other tools write them."""
    plain, source = files_keras.write(network(), workspace / "plain.h5"), workspace / "packed.h5"
    with h5py.File(plain) as old, h5py.File(source, "w", libver=("v110", "v110")) as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value

        def copy(name, item):
            if isinstance(item, h5py.Group):
                made = new.require_group(name)
            else:
                made = new.create_dataset(name, data=item[()], compression="gzip", shuffle=True, chunks=True)
            for key, value in item.attrs.items():
                made.attrs[key] = value

        old.visititems(copy)
    assert files_keras.read(source).count_params() == network().count_params()
    check(client, source, workspace / "out.h5", 1e-5)


def test_the_suffix_does_not_matter(client, workspace):
    for form, suffix in ((".keras", ".h5"), (".h5", ".bin")):
        source = files_keras.write(network(), workspace / f"model{form}")
        moved = source.rename(workspace / f"moved{suffix}")
        expected = "keras" if form == ".keras" else "keras.h5"
        assert client.inspect(moved).model.format == expected
        moved.unlink()


@keras.saving.register_keras_serializable(package="mine")
class Doubled(layers.Layer):
    def call(self, x):
        return 2 * x

    def compute_output_shape(self, shape):
        return shape


def with_code(layer):
    entry = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(24, 3, activation="relu", name="before")(entry)
    x = layer(x)
    x = layers.Conv2D(32, 3, activation="relu", name="after")(x)
    x = layers.Conv2D(24, 3, name="later")(x)
    return keras.Model(entry, layers.Dense(5, name="head")(layers.Flatten()(x)))


@pytest.mark.parametrize("form", networks_keras.BOTH)
@pytest.mark.parametrize("kind", ["Lambda", "Doubled"])
def test_code_is_refused_by_name(client, workspace, form, kind):
    """Nobody knows what it does or which shapes it returns: the message says which layer of which class, and what to do."""
    layer = layers.Lambda(lambda x: x * 2, name="secret") if kind == "Lambda" else Doubled(name="secret")
    source = files_keras.write(with_code(layer), workspace / f"code{form}")
    output = workspace / f"out{form}"
    with pytest.raises(espalier.ServerError) as refused:
        client.compress(source, output, **SMALL)
    assert refused.value.kind == "model.unsupportedOperator" and not output.exists()
    assert all(word in refused.value.message for word in ("'secret'", kind, "keras.ops", "export"))


@pytest.mark.parametrize("form", networks_keras.BOTH)
def test_what_cannot_be_run_says_so(client, workspace, form):
    model, inputs = networks_keras.made("without_onnx")
    source = files_keras.write(model, workspace / f"model{form}")
    np.save(workspace / "x.npy", inputs[0])
    for request in (
        {"verify": True}, {"onnx_output_path": workspace / "out.onnx"},
        {"compression_method": "PR_NN", "dataset_path": workspace / "x.npy"},
    ):  # fmt: skip
        with pytest.raises(espalier.ServerError) as refused:
            client.compress(source, workspace / f"out{form}", **{**SMALL, **request})
        assert refused.value.kind == "model.unsupportedOperator" and "no form in ONNX" in refused.value.message
    assert {path.name for path in workspace.iterdir()} == {source.name, "x.npy"}


@pytest.mark.parametrize("form", networks_keras.BOTH)
def test_a_state_that_is_kept_between_batches(client, workspace, form):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    entry = keras.Input(batch_shape=(2, 6, 12))
    x = layers.LSTM(24, stateful=True)(layers.Dense(24, activation="relu")(entry))
    source = files_keras.write(keras.Model(entry, layers.Dense(5)(x)), workspace / f"model{form}")
    output = workspace / f"out{form}"
    reply = client.compress(source, output, **SMALL)
    assert "lstm/cell/recurrent_kernel" in {entry.parameter for entry in reply.removed}
    whole, compressed = files_keras.read(source), files_keras.read(output)
    masking_keras.silence(whole, [entry.to_json() for entry in reply.removed], False)
    values = [np.random.default_rng(1).standard_normal((2, 6, 12)).astype("float32")]
    for _ in range(2):
        found = [files_keras.predict(model, values) for model in (whole, compressed)]
        assert masking_keras.distance(*found) <= 1e-5


@pytest.mark.parametrize("form", networks_keras.BOTH)
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_weights_are_refused(client, workspace, mode, form):
    model = network()
    model.quantize(mode)
    source = files_keras.write(model, workspace / f"small{form}")
    with pytest.raises(espalier.ServerError) as refused:
        client.inspect(source)
    assert refused.value.kind == "model.unsupportedOperator"
    assert all(word in refused.value.message for word in ("'head'", "quantized", "quantize()"))


def with_given_values():
    """As embeddings that were trained elsewhere come into a model: Keras makes variables of these before it loads others."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    given = lambda *shape: keras.initializers.Constant(rng.standard_normal(shape).astype("float32"))  # noqa: E731
    entry = keras.Input((9,), dtype="int32", name="words")
    x = layers.Embedding(40, 48, embeddings_initializer=given(40, 48), trainable=False, name="table")(entry)
    x = layers.Dense(64, kernel_initializer=given(48, 64), bias_initializer=given(64), activation="relu", name="wide")(x)
    x = layers.PReLU(shared_axes=[1], alpha_initializer=keras.initializers.Constant([0.2] * 64), name="slopes")(x)
    x = layers.Dense(32, bias_initializer=keras.initializers.Constant(0.5), name="narrow")(x)
    return keras.Model(entry, layers.Dense(5, name="head")(layers.GlobalAveragePooling1D()(x)))


@pytest.mark.parametrize("form", networks_keras.BOTH)
def test_arrays_of_starting_values(client, workspace, form):
    """They fit one shape only."""
    original, words = with_given_values(), [np.random.default_rng(1).integers(1, 40, (4, 9)).astype("int32")]
    source, output, thin = (workspace / f"{name}{form}" for name in ("whole", "half", "thin"))
    files_keras.write(original, source)
    reply = client.compress(source, output, **SMALL)
    assert any("'table', 'wide', 'slopes'" in warning for warning in reply.warnings), reply.warnings
    assert {"table/embeddings", "wide/kernel", "slopes/alpha"} <= {entry.parameter for entry in reply.removed}
    whole, compressed = files_keras.read(source), files_keras.read(output)
    hold_to_the_reply(whole, source, output, reply)
    masking_keras.silence(whole, [entry.to_json() for entry in reply.removed], False)
    assert masking_keras.distance(*(files_keras.predict(model, words) for model in (whole, compressed))) <= 1e-5
    assert compressed.get_layer("narrow").bias_initializer.value == 0.5

    chosen = [espalier.LayerSetting("wide", [48])]
    client.compress(source, thin, compression_method="FD_SVD", layers=chosen)
    assert masking_keras.distance(*(files_keras.predict(m, words) for m in (original, files_keras.read(thin)))) <= 1e-4


def several_axes():
    entry = keras.Input((12, 12, 3))
    x = layers.UnitNormalization(axis=[1, 2], name="odd")(layers.Conv2D(24, 3, name="c1")(entry))
    return keras.Model(entry, layers.Dense(5)(layers.Flatten()(layers.Conv2D(24, 3)(x))))


def adapted():
    model = network()
    model.get_layer("head").enable_lora(2)
    return model


@pytest.mark.parametrize("make, name", [(several_axes, "odd"), (adapted, "head")])
def test_what_keras_loses_in_its_own_legacy_files(client, workspace, make, name):
    """It writes them, and has another network back: only .keras files are taken."""
    keras.backend.clear_session()
    model = make()
    with pytest.raises(espalier.ServerError) as refused:
        client.inspect(files_keras.write(model, workspace / "model.h5"))
    assert refused.value.kind == "model.unsupportedFormat"
    assert f"'{name}'" in refused.value.message and ".keras" in refused.value.message
    source, output = files_keras.write(model, workspace / "model.keras"), workspace / "out.keras"
    reply = client.compress(source, output, **SMALL)
    whole = masking_keras.silence(files_keras.read(source), [entry.to_json() for entry in reply.removed], False)
    found = [files_keras.predict(held, images()) for held in (whole, files_keras.read(output))]
    assert masking_keras.distance(*found) <= 1e-5


def weights_alone(folder):
    path = folder / "only.weights.h5"
    network().save_weights(path)
    return path


def saved_model(folder):
    """As TensorFlow writes it; its protobuf alone is not read."""
    (folder / "saved" / "variables").mkdir(parents=True)
    (folder / "saved" / "saved_model.pb").write_bytes(b"\x08\x01\x12\x0a\x0a\x08serve\x00\x00")
    return folder / "saved"


def operations_in_a_legacy_file(folder):
    """Which Keras writes and does not read."""
    path = files_keras.write(networks_keras.operations(), folder / "operations.h5")
    with pytest.raises(ValueError):
        files_keras.read(path)
    return path


def other_hdf5(folder):
    with h5py.File(folder / "table.h5", "w") as file:
        file["measurements"] = np.zeros(5)
    return folder / "table.h5"


def other_zip(folder):
    with zipfile.ZipFile(folder / "table.keras", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    return folder / "table.keras"


@pytest.mark.parametrize(
    "make, kind",
    [
        (weights_alone, "model.unsupportedFormat"),
        (saved_model, "model.unsupportedFormat"),
        (operations_in_a_legacy_file, "model.unsupportedFormat"),
        (other_hdf5, "model.malformed"),
        (other_zip, "model.unsupportedFormat"),
    ],
)
def test_no_models_are_refused_with_advice(client, workspace, make, kind):
    with pytest.raises(espalier.ServerError) as refused:
        client.inspect(make(workspace))
    assert refused.value.kind == kind, f"{refused.value}"
    assert make is other_zip or ".keras" in refused.value.message


def test_shapes_that_are_left_open(client, workspace):
    """Fully convolutional networks take images of any size."""
    keras.backend.clear_session()
    entry = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(24, 3, activation="relu")(entry)
    x = layers.Conv2D(32, 3, activation="relu")(layers.MaxPooling2D()(x))
    model = keras.Model(entry, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    for form in networks_keras.BOTH:
        source = files_keras.write(model, workspace / f"open{form}")
        # Where nothing is said, they are taken for photographs.
        assert 0 < client.inspect(source, input_shapes=[{"shape": [1, 20, 20, 3]}]).macs < client.inspect(source).macs
        check(client, source, workspace / f"out{form}", 1e-5)
