"""Every known hazard with its smallest graph: compressed in three ways, each equal to the masked original."""

import pytest

import graphs
import hazards
import plans


@pytest.mark.parametrize("name", hazards.everything())
def test_hazard(client, folder, name):
    model = hazards.HAZARDS[name]()
    assert graphs.varies(model)
    try:
        proofs = [p for seed in range(3) for p in plans.prove_all(client, model, folder, seed)]
    except plans.CaseFailure as failure:
        pytest.fail(f"{failure}\n{graphs.describe(model)}", pytrace=False)
    removed = sum(proof.elements_removed for _, proof in proofs)
    if name in hazards.FROZEN:
        assert removed == 0
    else:
        assert removed > 0, "nothing was removed, so nothing was proved"
