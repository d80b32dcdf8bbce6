"""Acceptance: networks of every family, as both of PyTorch's files, pruned by half: PyTorch loads the answer, and it
computes what its masked original does, trains, and can be saved again."""

import pytest
import torch

import files
import masking_torch
import networks

TOLERANCE = 1e-5
CASES = [
    (name, form)
    for name, network in networks.NETWORKS.items()
    for form in ("graph_module", "exported")
    if network.graph_module or form == "exported"
]
RATIO = 0.5
# torch.nn's own attention, a leaf of fx, stays whole.
LITTLE_GOES = {"torchvision_vit"}


@pytest.mark.parametrize("name, form", CASES)
def test_pruned_equals_masked_and_trains(client, tmp_path, name, form):
    original, inputs = networks.made(name)
    suffix = files.SUFFIX[form]
    source = files.write(original, inputs, tmp_path / f"original{suffix}", form)
    output = tmp_path / f"half{suffix}"
    shapes = files.input_shapes(inputs, form)
    reply = client.compress(source, output, recommendation_ratio=RATIO, input_shapes=shapes)
    left = 0.9 if name in LITTLE_GOES else 0.8
    assert reply.compressed.parameters < left * reply.original.parameters, "hardly anything was removed"
    assert reply.compressed.macs < reply.original.macs

    compressed = files.read(output)
    hold_to_the_reply(files.read(source), compressed, reply)
    verdict, unknown = masking_torch.judge(
        original, compressed, reply.removed, inputs, networks.NETWORKS[name].products, TOLERANCE
    )
    assert verdict.status != "wrong", f"{verdict}"
    assert verdict.effect > 1e-3, "what was removed had no effect: nothing was proved"
    assert bool(verdict.mixing) == bool(reply.verification.approximations), f"{verdict}"
    # Only constants that the exporter made itself have names that the module does not know.
    assert not [name for name in unknown if form == "graph_module" and "constant" not in name]

    train(compressed, inputs)
    again = tmp_path / f"again{suffix}"
    save_again(compressed, inputs, again, form)
    with torch.no_grad():
        expected, found = (masking_torch.outputs(module(*inputs)) for module in (compressed, files.read(again)))
    assert masking_torch.distance(expected, found) <= TOLERANCE


def hold_to_the_reply(original, compressed, reply):
    """Of what the original file holds, names, shapes less what the reply says was removed, and who is trained."""
    assert masking_torch.removed_shapes(original, reply.removed) == {
        name: tuple(value.shape) for name, value in compressed.state_dict().items()
    }
    trained = {name: value.requires_grad for name, value in original.named_parameters()}
    assert {name: value.requires_grad for name, value in compressed.named_parameters()} == trained
    # What is tied counts once, also where torch.export.load makes two of it.
    names = {value.data_ptr(): name for name, value in original.named_parameters(remove_duplicate=False)}
    stored = sum(value.numel() for name, value in compressed.named_parameters() if name in names.values())
    assert stored <= reply.compressed.parameters < reply.original.parameters


def train(module, inputs):
    """Ten steps towards numbers made up: every number stays finite, and the loss falls."""
    torch.manual_seed(1)
    has_modes = knows_modes(module)
    if has_modes:
        module.train()
    parameters = [value for value in module.parameters() if value.requires_grad]
    before = [value.detach().clone() for value in parameters]
    with torch.no_grad():
        wanted = [torch.randn_like(value) for value in masking_torch.outputs(module(*inputs))]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        found = masking_torch.outputs(module(*inputs))
        loss = sum(torch.nn.functional.mse_loss(value, want) for value, want in zip(found, wanted))
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert all(value.isfinite().all() for value in parameters)
    assert min(losses[-3:]) < losses[0], f"{losses}"
    assert sum(not torch.equal(old, new) for old, new in zip(before, parameters)) > 0.9 * len(parameters)
    if has_modes:
        module.eval()


def knows_modes(module):
    """Exported programs know no modes."""
    try:
        module.train(module.training)
    except NotImplementedError:
        return False
    return True


def save_again(module, inputs, path, form):
    if form == "graph_module":
        torch.save(module, path)
    else:
        files.write(module, inputs, path, form)
