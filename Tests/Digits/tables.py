"""What the tables about the digits networks share: networks, a daemon that compresses them, frames of plots.

Invariant: every number comes from the daemon's reply or from running the file that it wrote.
"""

import dataclasses
import pathlib
import sys

import matplotlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Proof"))

import daemon  # puts the client on the path as well
import espalier

MODELS = pathlib.Path(__file__).resolve().parent / "models"
NETWORKS = {"resnet": "Residual CNN", "mobile": "Mobile CNN", "vit": "Transformer"}
# A loss that held-out images can tell from none.
POINT = 0.01


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A share of the original's MACs, accuracy on held-out images, and the file, which the next outcome overwrites."""

    macs: float
    accuracy: float
    path: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Bench:
    """A daemon, and what measures the files that it writes: `accuracy` takes a path."""

    client: espalier.Client
    folder: pathlib.Path
    accuracy: object

    def outcome(self, model, **request):
        """None where the method takes nothing, or not so much; what else goes wrong is raised."""
        path = self.folder / f"compressed{model.suffix}"
        try:
            made = self.client.compress(model, path, overwrite=True, verify=True, **request)
        except espalier.ServerError as error:
            if error.kind in ("nothingToCompress", "target.unreachable"):
                return None
            raise
        return Outcome(made.compressed.macs / made.original.macs, self.accuracy(path), path)


def connect():
    return espalier.connect(daemon.server_path())


def frames(name, titles, height):
    """A figure of that name and its axes, side by side. Same numbers, same bytes."""
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": name, "svg.fonttype": "path", "font.size": 11})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(titles), figsize=(4 * len(titles), height), sharey=True, layout="constrained"
    )
    for axis, title in zip(axes, titles):
        axis.set_title(title, fontsize=12)
        axis.set_xlabel("share of MACs left")
        axis.grid(color="0.9")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure, handles, columns, path):
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=10)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, metadata=metadata, dpi=110)
