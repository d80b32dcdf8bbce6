"""What else prunes these networks without training: Torch-Pruning and onnxsim, brought to the same share of MACs.

Either takes a ratio of channels and knows no MACs, so that the ratio is looked for: the smallest that meets the target.
MACs are the daemon's count for everybody.

Invariant: the networks that are handed in stay as they are.
"""

import copy
import dataclasses
import warnings

import onnx
import onnxsim.pruning
import torch
import torch_pruning
from torch_pruning import importance

import train
from tables import MODELS

# How often the interval of ratios that are left to try is halved.
STEPS = 9


@dataclasses.dataclass(frozen=True)
class Peer:
    """`prune` takes a network's name, its module and a ratio, and writes the pruned network as ONNX to a path. It
    returns the pruned module, or None where it works on files."""

    title: str
    prune: object


def torch_pruned(score, everywhere):
    """A ratio of the channels of every layer, or (`everywhere`) of all channels, wherever they score least."""

    def prune(name, model, ratio, path):
        model = copy.deepcopy(model)
        pruner = torch_pruning.pruner.BasePruner(
            model, torch.zeros(2, 1, 8, 8), importance=score(), pruning_ratio=ratio, global_pruning=everywhere,
            ignored_layers=[model.classifier],
            num_heads={module.qkv: module.heads for module in model.modules() if hasattr(module, "qkv")},
            unwrapped_parameters=[(model.position, 2)] if hasattr(model, "position") else None,
        )  # fmt: skip
        pruner.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            train.export(model, path, train.FOLD_NORMALIZATION)
        return model

    return prune


def sim_pruned(name, model, ratio, path):
    """Simplified first, without which it finds next to nothing to prune."""
    simplified, _ = onnxsim.simplify(str(MODELS / f"{name}.onnx"))
    onnx.save(onnxsim.pruning.apply_structured_pruning(simplified, ratio), path)


PEERS = {
    "torch-l2": Peer("Torch-Pruning, L2, every layer alike", torch_pruned(importance.GroupMagnitudeImportance, False)),
    "torch-l2-global": Peer("Torch-Pruning, L2, global", torch_pruned(importance.GroupMagnitudeImportance, True)),
    "torch-lamp": Peer("Torch-Pruning, LAMP", torch_pruned(importance.LAMPImportance, True)),
    "onnxsim": Peer("onnxsim.pruning", sim_pruned),
}


def at(peer, client, name, model, share, path):
    """`(share of MACs, pruned module or None)` nearest below `share`, with the network in `path`; None where no ratio
    brings it there."""
    original = client.inspect(MODELS / f"{name}.onnx").macs

    def left(ratio):
        pruned = peer.prune(name, model, ratio, path)
        return client.inspect(path).macs / original, pruned

    low, high, best = 0.0, 1.0, None
    for _ in range(STEPS):
        middle = (low + high) / 2
        if left(middle)[0] <= share:
            high = best = middle
        else:
            low = middle
    return None if best is None else left(best)
