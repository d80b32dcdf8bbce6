"""Acceptance: the example that users of the original service know: half of a GraphModule, PR_L2 by SLAMP."""

import torch
import torch.fx

import networks


def test_half_of_a_graph_module(client, tmp_path):
    torch.manual_seed(0)
    model = networks.models.resnet18(weights=None).eval()
    source = tmp_path / "resnet18.pt"
    torch.save(torch.fx.symbolic_trace(model), source)
    folder = tmp_path / "compressed"
    folder.mkdir()
    shapes = [{"batch": 1, "channel": 3, "dimension": [224, 224]}]

    inspection = client.inspect(source, input_shapes=shapes)
    assert inspection.parameters == sum(
        value.numel() for value in model.state_dict().values() if value.is_floating_point()
    )
    assert inspection.inputs[0].shape == [1, 3, 224, 224]
    advice = client.recommend(
        source,
        compression_method="PR_L2",
        recommendation_method="SLAMP",
        recommendation_ratio=0.5,
        options={"policy": "average", "group_policy": "average", "layer_norm": "standard_score"},
        input_shapes=shapes,
    )
    assert {layer.name for layer in inspection.layers} <= {name for name, _ in model.named_modules()}
    assert [layer.values for layer in advice.available_layers if layer.use]

    output = folder / "resnet18.pt"
    reply = client.compress(
        source,
        output,
        compression_method="PR_L2",
        recommendation_method="SLAMP",
        recommendation_ratio=0.5,
        input_shapes=shapes,
    )
    assert reply.output_path == output and [path.name for path in folder.iterdir()] == ["resnet18.pt"]
    assert reply.compressed.parameters < 0.5 * reply.original.parameters
    assert reply.compressed.size_bytes == output.stat().st_size

    compressed = torch.load(output, weights_only=False)
    assert isinstance(compressed, torch.fx.GraphModule)
    assert isinstance(compressed.conv1, torch.nn.Conv2d) and compressed.layer1 is not None
    assert {name for name, _ in compressed.named_parameters()} == {name for name, _ in model.named_parameters()}
    with torch.no_grad():
        assert compressed(torch.randn(2, 3, 224, 224)).shape == (2, 1000)
