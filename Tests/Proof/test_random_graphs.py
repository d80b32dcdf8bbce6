"""Acceptance: over 300 random networks, what is compressed equals the masked original. One test per seed."""

import pytest

import graphs
import plans

SEEDS = 320
power = {"proofs": 0, "removed": 0, "felt": 0, "PR_ID": 0}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_compressed_equals_masked(client, folder, seed):
    model = graphs.random_graph(seed)
    try:
        proofs = plans.prove_all(client, model, folder, seed)
    except plans.CaseFailure as failure:
        pytest.fail(f"seed {seed}: {failure}\n{graphs.describe(model)}", pytrace=False)
    for case, proof in proofs:
        power["PR_ID"] += case.name == "PR_ID"
        power["proofs"] += 1
        power["removed"] += proof.elements_removed > 0
        power["felt"] += proof.effect > 1e-3


def test_the_proofs_had_power():
    """Most compressions removed something, and what they removed mattered: otherwise equality would prove little."""
    assert power["proofs"] >= 2 * SEEDS
    assert power["PR_ID"] >= 0.6 * SEEDS
    assert power["removed"] >= 0.9 * power["proofs"]
    assert power["felt"] >= 0.85 * power["removed"]
