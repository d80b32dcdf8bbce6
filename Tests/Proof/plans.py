"""Which compressions one model is put to, and the proof of each: a recommendation, ratios by hand, indices by hand.

Steps of 1 and a minimum of 1 let every layer shrink to awkward widths. The choices are drawn from a seed.

Invariant: every outcome is a proof or an exception; a refusal counts as a pass only where nothing is prunable.
"""

import dataclasses
import pathlib

import espalier
import numpy as np
import onnx

import reference

STRESS = {"step_size": 1, "min_num_of_value": 1}


@dataclasses.dataclass
class Case:
    """One compression: what to ask for, in a form that can be printed and replayed."""

    name: str
    arguments: dict

    def __str__(self):
        return f"{self.name}: {self.arguments}"


def cases(client, path, seed):
    """SLAMP at a ratio, PR_L2 with ratios by hand, PR_ID with random legal indices; none where nothing is prunable."""
    rng = np.random.default_rng([seed, 3])
    groups = [g for g in client.inspect(path).groups if g.prunable]
    if not groups:
        return []
    ratio = float(rng.choice([0.2, 0.4, 0.5, 0.6, 0.8]))
    policy = str(rng.choice(["average", "sum", "count", "none"]))
    options = {**STRESS, "group_policy": policy, "scope": str(rng.choice(["global", "layer"]))}
    listed = client.recommend(path, recommendation_ratio=0.5, options=STRESS).available_layers
    by_hand = [
        dataclasses.replace(layer, values=[round(float(rng.uniform(0.1, 0.95)), 3)], use=True)
        for layer in listed
        if rng.random() < 0.7
    ]
    found = [Case("SLAMP", {"recommendation_ratio": ratio, "options": options})]
    if by_hand:
        found.append(Case("PR_L2", {"layers": by_hand, "options": {**STRESS, "group_policy": policy}}))
    by_index = indices(client, path, groups, {layer.name: layer for layer in listed}, rng)
    if by_index:
        found.append(Case("PR_ID", {"compression_method": "PR_ID", "layers": by_index}))
    return [case for case in found if not removes_nothing(client, path, case, groups)]


def indices(client, path, groups, listed, rng):
    """Random channels of every group, as many from each block where blocks must lose equally many.

    A channel removes its whole unit, so fewer channels than units leave something. Which single channels are frozen,
    and which groups share a count, the lists do not tell: where the daemon refuses, groups are left out one by one.
    """
    chosen, share = [], {}
    for group in groups:
        layer = listed.get(group.name)
        if layer is None:
            continue
        channels = layer.channels[0]
        balance = group.balance or {"blocks": 1, "width": group.size}
        blocks, width = balance["blocks"], balance["width"]
        if channels % blocks:
            continue
        link = min([group.id, *balance.get("linked_with", [])])
        amount = share.setdefault(link, int(rng.integers(0, width)))
        picked = np.sort(rng.permutation(channels // blocks)[: min(amount, width - 1)])
        if picked.size:
            values = [int(block * (channels // blocks) + i) for block in range(blocks) for i in picked]
            chosen.append(dataclasses.replace(layer, values=values, use=True))
    while chosen:
        try:
            client.compress(path, path.parent / "never.onnx", compression_method="PR_ID", layers=chosen, dry_run=True)
            return chosen
        except espalier.ServerError as error:
            if error.code != -32602 and error.kind != "layer.unavailable":
                return chosen  # no refusal but a failure: let the case itself report it
            chosen.pop(int(rng.integers(len(chosen))))
    return []


def removes_nothing(client, path, case, groups):
    """Is this a legitimate request for no channel at all: less than one block's worth, or marks that agree on none?"""
    try:
        client.compress(path, path.parent / "never.onnx", dry_run=True, **case.arguments)
    except espalier.ServerError as error:
        if error.kind != "nothingToCompress":
            return False
        ratio = case.arguments.get("recommendation_ratio")
        blocks = max((g.balance or {"blocks": 1})["blocks"] for g in groups)
        if case.arguments.get("options", {}).get("group_policy") == "count":
            return True
        if ratio is None:
            units = {g.name: g.size // (g.balance or {"blocks": 1})["blocks"] for g in groups}
            return all(layer.values[0] * units[layer.name] < 1 for layer in case.arguments["layers"])
        return ratio * sum(g.size for g in groups) < blocks + 1 or case.arguments["options"]["scope"] == "layer"
    return False


def prove(client, original, path, folder, case, seed=0, **settings):
    """Compresses by the case, proves the file against original and reply, and checks the reply's own figures."""
    output = pathlib.Path(folder) / "compressed.onnx"
    for old in output.parent.glob(output.name + "*"):
        old.unlink()
    reply = client.compress(path, output, **case.arguments)
    removed = [{k: v for k, v in dataclasses.asdict(r).items() if v is not None} for r in reply.removed]
    compressed = onnx.load(output)
    if reply.verification.approximations:
        # Statistics ran across what was removed: no masking of the original gives the same numbers. The twin's must agree.
        verdict = client.verify(path, output, reply)
        is_proved = verdict.status == "exact" or (verdict.status == "approximate" and verdict.twin.status == "exact")
        reference.require(is_proved, f"only {verdict}")
        settings["tolerance"] = float("inf")
    proof = reference.prove(original, compressed, removed, seed, **settings)
    again = client.inspect(output)
    figures = (reply.compressed.parameters, reply.compressed.macs, reply.compressed.size_bytes)
    written = sum(file.stat().st_size for file in output.parent.glob(output.name + "*"))
    found = (again.parameters, again.macs, written)
    reference.require(figures == found, f"the reply promises parameters, MACs, bytes {figures}; the file has {found}")
    left = reply.original.parameters - proof.elements_removed + proof.elements_added
    reference.require(
        reply.compressed.parameters == left,
        f"{reply.original.parameters} parameters less {proof.elements_removed}, and {proof.elements_added} new ones, "
        f"are not {reply.compressed.parameters}",
    )
    reference.require(not proof.elements_removed or reply.compressed.macs < reply.original.macs, "no MACs were saved")
    return proof


def prove_all(client, model, folder, seed):
    """Every case of one model; a failure says what was asked for."""
    path = pathlib.Path(folder) / "original.onnx"
    onnx.save(model, path)
    proofs = []
    for case in cases(client, path, seed):
        try:
            proofs.append((case, prove(client, model, path, folder, case, seed)))
        except Exception as error:  # refusals of the daemon and of ONNX Runtime are failures like any other
            raise CaseFailure(case, error) from error
    return proofs


def decomposable(inspection, method):
    """Two layers that the method takes, and their full ranks."""
    found = [
        (layer, limits.full_rank)
        for layer in inspection.layers
        for limits in layer.decomposition
        if limits.method == method and min(limits.full_rank) > 2
    ]
    return found[:2]


class CaseFailure(AssertionError):
    def __init__(self, case, error):
        self.case = case
        super().__init__(f"{type(error).__name__}: {error}\n  case {case}")
