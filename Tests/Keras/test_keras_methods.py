"""Acceptance: every method, every way to say how much, and every option of the daemon on both of Keras's files; Keras runs
what comes of it."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

import espalier
import files_keras
import kernels
import masking_keras
import networks_keras
import plans
from test_keras_families import hold_to_the_reply, hold_what_was_saved, run, train

PRUNING = [method for method in espalier.COMPRESSION_METHODS if method.startswith("PR_") and method != "PR_ID"]
NAMES = ["separable", "unet", "vit"]
FORMS = networks_keras.BOTH
SEES_DATA = ("PR_NN", "PR_SNP", "PR_REC")


@dataclasses.dataclass(frozen=True)
class Held:
    """A network and its file. Keras names layers by what it has built before, so each is built once."""

    name: str
    original: object
    inputs: list
    source: object

    def judge(self, output, reply):
        """That the file is what the reply says, and computes what the masked original does."""
        removed = [entry.to_json() for entry in reply.removed]
        whole = files_keras.read(self.source)
        hold_to_the_reply(whole, self.source, output, reply)
        masking_keras.silence(whole, removed, networks_keras.NETWORKS[self.name].products)
        verdict = masking_keras.judge(self.original, whole, files_keras.read(output), self.inputs, 1e-5)
        assert verdict.status != "wrong" and verdict.effect > 1e-3, f"{verdict}"
        return verdict


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    networks, held = {}, {}

    def get(name, form):
        if name not in networks:
            networks[name] = networks_keras.made(name)
        if (name, form) not in held:
            original, inputs = networks[name]
            path = tmp_path_factory.mktemp("methods") / f"{name}{form}"
            held[name, form] = Held(name, original, inputs, files_keras.write(original, path))
        return held[name, form]

    return get


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Images as Keras has them: channels last."""
    folder = tmp_path_factory.mktemp("samples")

    def get(name):
        path = folder / f"{name}.npy"
        if not path.exists():
            rng = np.random.default_rng(2)
            np.save(path, networks_keras.NETWORKS[name].inputs(rng, 8)[0])
        return path

    return get


# Every method on every network, and on both kinds of files; every network as both.
@pytest.mark.parametrize(
    "method, name, form",
    [(method, name, FORMS[(i + k) % 2]) for i, method in enumerate(PRUNING) for k, name in enumerate(NAMES)],
)
def test_pruning(client, model, samples, workspace, method, name, form):
    held = model(name, form)
    output = workspace / held.source.name
    dataset = samples(name) if method in SEES_DATA else None
    reply = client.compress(
        held.source, output, compression_method=method, recommendation_ratio=0.4, dataset_path=dataset
    )
    held.judge(output, reply)


@pytest.mark.parametrize("form", FORMS)
def test_feature_maps_are_those_of_keras(client, model, samples, workspace, form):
    """PR_NN scores what the network computes: a channel that is nothing but its bias behind a ReLU goes first."""
    original, inputs = networks_keras.made("sequential")
    first = original.get_layer("conv2d")
    kernel, bias = (np.array(value) for value in first.get_weights())
    silent = [3, 7, 11, 12]
    bias[silent] = -1e3
    first.set_weights([kernel, bias])
    source = files_keras.write(original, workspace / f"silent{form}")
    np.save(workspace / "x.npy", np.random.default_rng(3).standard_normal((6, 20, 20, 3)).astype("float32"))
    reply = client.compress(
        source, workspace / f"out{form}", compression_method="PR_NN", dataset_path=workspace / "x.npy",
        recommendation_ratio=0.2, options={"scope": "layer", "policy": "average", "include": [first.name]},
    )  # fmt: skip
    cut = next(entry for entry in reply.removed if entry.parameter == f"{first.name}/kernel")
    assert cut.axis == 3 and {*silent} <= {*cut.indices}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_channels_by_number(client, model, workspace, name, form):
    held = model(name, form)
    inspection = client.inspect(held.source)
    assert {layer.parameter for layer in inspection.layers} <= {name for name, _, _ in kernels.named(held.original)}
    prunable = {group.name for group in inspection.groups if group.prunable and not group.balance}
    layer = next(layer for layer in inspection.layers if layer.name in prunable and layer.channels[1] > 8)
    chosen = [espalier.LayerSetting(layer.name, [0, 3])]
    output = workspace / held.source.name
    reply = client.compress(held.source, output, compression_method="PR_ID", layers=chosen)
    assert any(entry.parameter == layer.parameter and {0, 3} <= {*entry.indices} for entry in reply.removed)
    held.judge(output, reply)


@pytest.mark.parametrize("form", FORMS)
def test_layers_are_named_as_keras_names_them(client, model, form):
    inspection = client.inspect(model("unet", form).source)
    original = model("unet", form).original
    names = {layer.name for layer in original.layers}
    assert {layer.name for layer in inspection.layers} <= names
    assert inspection.model.format == ("keras" if form == ".keras" else "keras.h5")
    assert inspection.model.framework == "keras 3.15.1"
    assert [(port.name, port.shape[1:]) for port in inspection.inputs] == [("image", [32, 32, 3])]
    assert inspection.outputs[0].shape[1:] == [32, 32, networks_keras.CLASSES]
    assert inspection.parameters == original.count_params()


OPTIONS = [
    {"step_size": 8},
    {"step_size": 4, "step_op": "round_up"},
    {"step_op": "none", "min_num_of_value": 1},
    {"scope": "layer", "policy": "sum"},
    {"layer_norm": "tss_norm", "group_policy": "none"},
    {"layer_norm": "linear_scaling", "group_policy": "count"},
    {"layer_norm": "softmax_norm", "group_policy": "sum", "allocation": "lamp_per_channel"},
    {"policy": "backward", "reverse": True},
    {"reshape_channel_axis": -2},
    {"exact_only": True},
    {"max_layer_ratio": 0.3},
    {"allocation": "score", "seed": 4},
]


@pytest.mark.parametrize("index", range(len(OPTIONS)), ids=lambda index: "-".join(map("{0[0]}={0[1]}".format, OPTIONS[index].items())))
def test_options(client, model, workspace, index):
    options = OPTIONS[index]
    for k, name in enumerate(("separable", "vit")):
        held = model(name, FORMS[(index + k) % 2])
        output = workspace / held.source.name
        reply = client.compress(held.source, output, recommendation_ratio=0.4, options=options)
        verdict = held.judge(output, reply)
        assert not (options.get("exact_only") and verdict.mixing)


@pytest.mark.parametrize("form", FORMS)
def test_layers_left_out_stay(client, model, workspace, form):
    held = model("unet", form)
    output = workspace / held.source.name
    reply = client.compress(
        held.source, output, recommendation_ratio=0.4, options={"exclude": ["up*", "conv2d"], "min_num_of_value": 2}
    )
    held.judge(output, reply)
    before, after = (files_keras.read(path) for path in (held.source, output))
    for name in ("up1", "up2", "conv2d"):
        assert before.get_layer(name).filters == after.get_layer(name).filters


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", [{"parameters": 0.5}, {"macs": 0.4}, {"size_bytes": 0.6}], ids=str)
def test_target(client, model, workspace, target, form):
    held = model("separable", form)
    output = workspace / held.source.name
    reply = client.compress(
        held.source, output, target=target, options={"step_size": 1, "min_num_of_value": 1}, verify=True
    )
    held.judge(output, reply)
    (kind, share), = target.items()  # fmt: skip
    left, whole = getattr(reply.compressed, kind), getattr(reply.original, kind)
    assert share - 0.02 < left / whole <= share
    assert reply.compressed.size_bytes == output.stat().st_size
    assert reply.verification.status == "exact"


@pytest.mark.parametrize("form", FORMS)
def test_recommended_layers_make_the_same_file(client, model, workspace, form):
    """By ratio, by the layers that were recommended, and again: the same bytes."""
    held = model("vit", form)
    paths = [workspace / f"{index}{form}" for index in range(3)]
    advice = client.recommend(held.source, recommendation_ratio=0.3)
    client.compress(held.source, paths[0], recommendation_ratio=0.3)
    client.compress(held.source, paths[1], layers=advice.available_layers)
    client.release()
    reply = client.compress(held.source, paths[2], recommendation_ratio=0.3)
    assert paths[0].read_bytes() == paths[1].read_bytes() == paths[2].read_bytes()
    assert client.verify(held.source, paths[0], reply).status in ("exact", "approximate")
    dry = client.compress(held.source, workspace / f"never{form}", recommendation_ratio=0.3, dry_run=True)
    assert dry.removed == reply.removed and not (workspace / f"never{form}").exists()


def test_what_was_compressed_can_be_compressed_again(client, model, workspace):
    for form in FORMS:
        held = model("vit", form)
        once, twice = workspace / f"once{form}", workspace / f"twice{form}"
        client.compress(held.source, once, recommendation_ratio=0.3)
        reply = client.compress(once, twice, recommendation_ratio=0.3, options={"min_num_of_value": 2})
        again = Held("vit", files_keras.read(once), held.inputs, once)
        again.judge(twice, reply)


DECOMPOSED = [
    ("unet", "FD_TK"),
    ("unet", "FD_CP"),
    ("separable", "FD_SVD"),
    ("vit", "FD_SVD"),
    ("nested_shared", "FD_TK"),
    ("one_dimensional", "FD_TK"),
    ("sequential", "FD_CP"),
    ("channels_first", "FD_TK"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name, method", DECOMPOSED)
def test_decomposition_at_full_rank_is_the_original(client, model, workspace, name, form, method):
    """At full rank nothing is lost but rounding; CP, which has no such rank, is held to the error that it reports."""
    held = model(name, form)
    layers = plans.decomposable(client.inspect(held.source), method)
    assert layers, "nothing to decompose"
    full = method != "FD_CP"
    chosen = [
        espalier.LayerSetting(layer.name, list(ranks) if full else [max(1, ranks[0] // 2)])
        for layer, ranks in layers
    ]
    output, graph = workspace / held.source.name, workspace / "thin.onnx"
    reply = client.compress(
        held.source, output, compression_method=method, layers=chosen, onnx_output_path=graph, verify=True
    )
    assert reply.verification.twin.status == "exact"
    assert {entry.parameter for entry in reply.replaced} == {layer.parameter for layer, _ in layers}
    compressed = files_keras.read(output)
    shapes = {name: list(variable.shape) for name, variable, _ in kernels.named(compressed)}
    for entry in reply.replaced:
        assert entry.parameter not in shapes
        assert all(shapes[part.parameter] == part.shape for part in entry.by)
    assert reply.compressed.parameters == files_keras.size(output)
    predicted = files_keras.predict(compressed, held.inputs)
    apart = masking_keras.distance(files_keras.predict(held.original, held.inputs), predicted)
    if full:
        assert apart <= 1e-4
    else:
        assert 1e-4 < apart < 2 and all(0 < entry.relative_error < 1 for entry in reply.replaced)
    assert masking_keras.distance(predicted, run(graph, compressed, held.inputs)) <= 1e-4
    train(compressed, held.inputs, predicted)
    hold_what_was_saved(compressed, held.inputs, workspace / f"again{form}")


AMOUNTS = [
    ("FD_TK", {"target": {"energy": 0.9}}),
    ("FD_TK", {"target": {"macs": 0.7}}),
    ("FD_SVD", {"target": {"energy": 0.9}}),
    ("FD_SVD", {"recommendation_method": "VBMF", "recommendation_ratio": 0.5, "options": {"zero_rank": "clamp"}}),
    ("FD_TK", {"recommendation_method": "VBMF", "recommendation_ratio": 0.2, "options": {"zero_rank": "clamp"}}),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method, amount", AMOUNTS, ids=str)
def test_decomposition_by_recommendation(client, model, workspace, form, method, amount):
    held = model("unet" if method == "FD_TK" else "vit", form)
    output = workspace / held.source.name
    reply = client.compress(held.source, output, compression_method=method, verify=True, **amount)
    assert reply.replaced and reply.verification.twin.status == "exact"
    found = [files_keras.predict(network, held.inputs) for network in (held.original, files_keras.read(output))]
    assert masking_keras.distance(*found) <= 3 * reply.verification.max_rel_error + 0.3


@pytest.mark.parametrize("form", FORMS)
def test_decomposition_on_data(client, model, samples, workspace, form):
    held = model("unet", form)
    output = workspace / held.source.name
    reply = client.compress(
        held.source, output, compression_method="FD_TK", target={"energy": 0.8}, dataset_path=samples("unet")
    )
    assert reply.replaced and all(entry.output_error is not None for entry in reply.replaced)
    assert files_keras.read(output).count_params() < held.original.count_params()


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_that_is_called_twice_is_excluded_or_decomposed_as_one(client, model, workspace, form):
    held = model("nested_shared", form)
    names = {layer.name for layer in client.inspect(held.source).layers if "FD_TK" in layer.methods}
    first, second = next((name, name + "#1") for name in sorted(names) if name + "#1" in names)

    def replaced(**options):
        output = workspace / f"{len([*workspace.iterdir()])}{form}"
        reply = client.compress(
            held.source, output, compression_method="FD_TK", target={"energy": 0.7}, options=options, verify=True
        )
        assert files_keras.read(output).count_params() == reply.compressed.parameters
        return {entry.layer for entry in reply.replaced}

    everything = replaced()
    assert {first, second} <= everything
    for name in (first, second):
        assert replaced(exclude=[name]) == everything - {first, second}
        assert replaced(include=[name]) == {first, second}


def test_pruned_then_decomposed(client, model, workspace):
    """The layers that came in the place of others are layers like all others."""
    for form in FORMS:
        held = model("unet", form)
        thin, both = workspace / f"thin{form}", workspace / f"both{form}"
        client.compress(held.source, thin, compression_method="FD_TK", target={"energy": 0.8})
        reply = client.compress(thin, both, recommendation_ratio=0.3, options={"min_num_of_value": 2})
        Held("unet", files_keras.read(thin), held.inputs, thin).judge(both, reply)


def test_onnx_besides(client, model, workspace):
    """Refusals: a path that is there, and nothing of the pair is written then."""
    held = model("vit", ".keras")
    graph = workspace / "there.onnx"
    graph.write_bytes(b"taken")
    with pytest.raises(espalier.ServerError) as refused:
        client.compress(held.source, workspace / "out.keras", recommendation_ratio=0.3, onnx_output_path=graph)
    assert refused.value.kind == "output.exists"
    assert [path.name for path in workspace.iterdir()] == ["there.onnx"] and graph.read_bytes() == b"taken"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [(), (5,)], ids=["rows", "tokens"])
@pytest.mark.parametrize("is_functional", [False, True], ids=["sequential", "functional"])
def test_the_last_layer_is_decomposed_like_others(client, workspace, form, tokens, is_functional):
    """What the model returns keeps the name that Keras gives it, and the file is what the reply says."""
    keras.utils.set_random_seed(0)
    entry, *rest = keras.Input((*tokens, 24)), layers.Dense(32, activation="relu", name="body"), layers.Dense(16, name="head")
    original = keras.Sequential([entry, *rest])
    if is_functional:
        original = keras.Model(entry, rest[1](rest[0](entry)))
    inputs = [np.random.default_rng(0).standard_normal((32, *tokens, 24)).astype("float32")]
    source, output = files_keras.write(original, workspace / f"whole{form}"), workspace / f"out{form}"
    np.save(workspace / "x.npy", inputs[0])
    chosen = [espalier.LayerSetting("body", [24]), espalier.LayerSetting("head", [16])]
    for dataset in (None, workspace / "x.npy"):
        reply = client.compress(
            source, output, compression_method="FD_SVD", layers=chosen, overwrite=True, verify=True, dataset_path=dataset
        )
        assert [entry.layer for entry in reply.replaced] == ["body", "head"]
        found = files_keras.read(output)
        shapes = {value.path.removeprefix(f"{found.name}/"): tuple(value.shape) for value in found.variables}
        listed = {part.parameter: tuple(part.shape) for entry in reply.replaced for part in entry.by}
        assert {name: shapes[name] for name in listed} == listed
        outputs, kept = ([port.name for port in client.inspect(path).outputs] for path in (source, output))
        assert outputs == kept == ["head"]
        expected, new = (files_keras.predict(model, inputs)[0] for model in (original, found))
        assert np.abs(expected - new).max() <= 1e-4
        assert client.verify(source, output, reply, dataset_path=dataset).status == "approximate"


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_that_loses_channels_and_is_decomposed_has_the_bias_of_what_is_left(client, workspace, form):
    """At full rank the row of layers computes what the pruned layer does."""
    keras.utils.set_random_seed(0)
    bias = dict(bias_initializer="random_normal", activation="relu")
    source = files_keras.write(
        keras.Sequential(
            [keras.Input((12, 12, 3)), layers.Conv2D(16, 3, name="first", **bias), layers.Conv2D(24, 3, name="conv", **bias),
             layers.GlobalAveragePooling2D(), layers.Dense(40, name="dense", **bias), layers.Dense(5, name="head")]
        ),
        workspace / f"whole{form}",
    )  # fmt: skip
    pruned = [espalier.LayerSetting(name, [0.25], method="PR_L2") for name in ("conv", "dense")]
    ranks = [
        espalier.LayerSetting("conv", [16, 18], method="FD_TK"), espalier.LayerSetting("dense", [18], method="FD_SVD")
    ]
    outputs = []
    for listed in (pruned, pruned + ranks):
        output = workspace / f"out{form}"
        reply = client.compress(
            source, output, compression_method="automatic", layers=listed, overwrite=True, verify=True,
            options={"step_size": 1, "min_num_of_value": 1},
        )  # fmt: skip
        found = files_keras.read(output)
        assert found.count_params() == reply.compressed.parameters
        outputs.append(files_keras.predict(found, [np.random.default_rng(0).standard_normal((4, 12, 12, 3), "float32")])[0])
    assert len(reply.replaced) == 2 and reply.verification.twin.status == "exact"
    assert np.abs(outputs[0] - outputs[1]).max() <= 1e-5 * max(1, np.abs(outputs[0]).max())
