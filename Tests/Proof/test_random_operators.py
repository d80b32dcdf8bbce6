"""Operators with operands that may or may not fit together: an answer or a typed error, and the daemon lives on."""

import collections

import espalier
import onnx
import pytest

import operators

MODELS, PARTS = 3000, 20
EVERYWHERE = {"scope": "layer", "step_size": 1, "min_num_of_value": 1}
KINDS = {"nothingToCompress", "layer.unavailable", "resource.limit"}
outcomes = collections.Counter()


def attack(client, folder, seed):
    """Every request that looks at a graph, on the model of one seed. Raises what no model may cause."""
    path = folder / "operator.onnx"
    onnx.save(operators.random_model(seed), path)
    try:
        client.inspect(path, timeout=20)
        outcomes["inspected"] += 1
        for policy, axis in [("average", -1), ("none", -2)]:
            for dry_run in [True, False]:
                client.compress(
                    path,
                    folder / "smaller.onnx",
                    compression_method="PR_RANDOM",
                    recommendation_ratio=0.5,
                    options={**EVERYWHERE, "group_policy": policy, "reshape_channel_axis": axis},
                    dry_run=dry_run,
                    overwrite=True,
                    timeout=20,
                )
        outcomes["compressed"] += 1
    except espalier.ServerError as error:
        assert error.kind in KINDS or (error.kind or "").startswith("model."), f"{error.kind}: {error}"
        outcomes[error.kind] += 1


@pytest.mark.parametrize("part", range(PARTS))
def test_answer_or_typed_error(client, folder, part):
    for seed in range(part, MODELS, PARTS):
        try:
            attack(client, folder, seed)
        except (espalier.EspalierError, AssertionError) as failure:
            pytest.fail(f"seed {seed}: {operators.random_model(seed).graph.name}: {failure!r}", pytrace=False)


def test_the_attacks_reached_the_depth():
    """Models that are refused at the door prove nothing of the rest."""
    assert outcomes["inspected"] >= 0.5 * MODELS
    assert outcomes["compressed"] >= 0.05 * MODELS
