"""Acceptance: every method of the daemon runs on both of PyTorch's files, and PyTorch runs what comes of it."""

import pytest
import torch

import espalier
import files
import masking_torch
import networks
import plans

PRUNING = [method for method in espalier.COMPRESSION_METHODS if method.startswith("PR_") and method != "PR_ID"]
NAMES = ["mobilenet_v3", "vit"]
FORMS = ["graph_module", "exported"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Network, inputs and file of each case, made once."""
    held = {}

    def get(name, form):
        if (name, form) not in held:
            original, inputs = networks.made(name)
            path = tmp_path_factory.mktemp("methods") / f"{name}{files.SUFFIX[form]}"
            held[name, form] = (original, inputs, files.write(original, inputs, path, form))
        return held[name, form]

    return get


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    numpy = pytest.importorskip("numpy")
    path = tmp_path_factory.mktemp("samples") / "images.npy"
    torch.manual_seed(2)
    numpy.save(path, torch.randn(8, 3, 64, 64).numpy())
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", PRUNING)
def test_pruning(client, model, samples, tmp_path, name, form, method):
    original, inputs, source = model(name, form)
    output = tmp_path / source.name
    reply = client.compress(
        source,
        output,
        compression_method=method,
        recommendation_ratio=0.4,
        dataset_path=samples if method in ("PR_NN", "PR_SNP", "PR_REC") else None,
        input_shapes=files.input_shapes(inputs, form),
    )
    verdict, _ = masking_torch.judge(
        original, files.read(output), reply.removed, inputs, networks.NETWORKS[name].products, 1e-5
    )
    assert verdict.status != "wrong" and verdict.effect > 1e-3, f"{verdict}"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_channels_by_number(client, model, tmp_path, name, form):
    original, inputs, source = model(name, form)
    shapes = files.input_shapes(inputs, form)
    inspection = client.inspect(source, input_shapes=shapes)
    prunable = {group.name for group in inspection.groups if group.prunable and not group.balance}
    layer = next(layer for layer in inspection.layers if layer.name in prunable and layer.channels[1] > 8)
    chosen = [espalier.LayerSetting(layer.name, [0, 3])]
    output = tmp_path / source.name
    reply = client.compress(source, output, compression_method="PR_ID", layers=chosen, input_shapes=shapes)
    assert any(entry.parameter == layer.parameter and {0, 3} <= {*entry.indices} for entry in reply.removed)
    verdict, _ = masking_torch.judge(
        original, files.read(output), reply.removed, inputs, networks.NETWORKS[name].products, 1e-5
    )
    assert verdict.status != "wrong", f"{verdict}"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name, method", [("vgg", "FD_TK"), ("vgg", "FD_SVD"), ("vgg", "FD_CP"), ("vit", "FD_SVD")])
def test_decomposition_at_full_rank_is_the_original(client, model, tmp_path, name, form, method):
    """At full rank nothing is lost but rounding; CP, which has no such rank, is held to the error that it reports."""
    original, inputs, source = model(name, form)
    shapes = files.input_shapes(inputs, form)
    layers = plans.decomposable(client.inspect(source, input_shapes=shapes), method)
    assert layers, "nothing to decompose"
    chosen = [espalier.LayerSetting(layer.name, list(ranks)) for layer, ranks in layers]
    if method == "FD_CP":
        chosen = [espalier.LayerSetting(layer.name, [max(1, ranks[0] // 2)]) for layer, ranks in layers]
    output = tmp_path / source.name
    reply = client.compress(source, output, compression_method=method, layers=chosen, input_shapes=shapes)
    compressed = files.read(output)
    assert {entry.parameter for entry in reply.replaced} == {layer.parameter for layer, _ in layers}
    state = compressed.state_dict()
    for entry in reply.replaced:
        assert entry.parameter not in state
        assert all(list(state[part.parameter].shape) == list(part.shape) for part in entry.by)
    with torch.no_grad():
        apart = masking_torch.distance(*(masking_torch.outputs(m(*inputs)) for m in (original, compressed)))
    if method == "FD_CP":
        assert 1e-4 < apart < 2 and all(0 < entry.relative_error < 1 for entry in reply.replaced)
    else:
        assert apart <= 1e-4
    for module in (original, compressed):
        for value in module.parameters():
            value.grad = None
        sum(value.square().sum() for value in masking_torch.outputs(module(*inputs))).backward()
    idle = {name for name, value in original.named_parameters() if value.grad is None}
    assert all(
        value.grad is not None
        for name, value in compressed.named_parameters()
        if value.requires_grad and name not in idle
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["FD_TK", "FD_SVD"])
def test_decomposition_by_target(client, model, tmp_path, form, method):
    original, inputs, source = model("vgg", form)
    output = tmp_path / source.name
    reply = client.compress(
        source,
        output,
        compression_method=method,
        target={"energy": 0.9},
        verify=True,
        input_shapes=files.input_shapes(inputs, form),
    )
    assert reply.replaced and reply.verification.twin.status == "exact"
    with torch.no_grad():
        apart = masking_torch.distance(*(masking_torch.outputs(m(*inputs)) for m in (original, files.read(output))))
    assert apart <= 3 * reply.verification.max_rel_error + 0.3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("has_data", [False, True], ids=["weights", "data"])
@pytest.mark.parametrize("tokens", [(), (5,)], ids=["rows", "tokens"])
def test_decomposed_linear_layers_are_what_the_reply_says(client, tmp_path, form, has_data, tokens):
    """Linear layers read matrices as a Gemm and anything else as a product, and are linear layers again in the file."""
    numpy = pytest.importorskip("numpy")
    torch.manual_seed(0)
    original = torch.nn.Sequential(torch.nn.Linear(24, 40), torch.nn.ReLU(), torch.nn.Linear(40, 16)).eval()
    inputs = (torch.randn(2, *tokens, 24),)
    source, output = (tmp_path / f"{name}{files.SUFFIX[form]}" for name in ("whole", "out"))
    files.write(original, inputs, source, form)
    shapes, dataset = files.input_shapes(inputs, form), None
    if has_data:
        dataset = tmp_path / "x.npy"
        numpy.save(dataset, torch.randn(32, *tokens, 24).numpy())
    reply = client.compress(
        source, output, compression_method="FD_SVD", target={"energy": 0.5}, dataset_path=dataset,
        input_shapes=shapes, verify=True, options={"step_size": 1, "min_num_of_value": 1},
    )  # fmt: skip
    assert reply.replaced
    state = files.read(output).state_dict()
    for part in (part for entry in reply.replaced for part in entry.by):
        assert list(state[part.parameter].shape) == list(part.shape)
    assert all(entry.parameter in state for entry in reply.adjusted) and bool(reply.adjusted) == has_data
    proved = client.verify(source, output, reply, dataset_path=dataset, input_shapes=shapes)
    assert (proved.status, proved.twin.status) == ("approximate", "exact")
