"""The command line as a notebook's magics and the shell share it: what there is to say, and what it means.

`arguments` that people give twice (a method, a dataset, options) are declared once, here.
"""

from __future__ import annotations

import argparse
import functools
import json
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

from .results import LayerSetting
from .session import VERSION

Value = TypeVar("Value")

def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="espalier",
        description="Makes trained neural networks smaller with espalierd.",
        epilog="Works with the shared daemon where it runs, else with one of its own. Exit status: 0 done; 1 refused, "
        "with the reason; 2 a command line that cannot be meant; 3 no daemon; 130 interrupted.",
    )
    main.add_argument("--version", action="version", version=VERSION)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, does: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")

    inspect = add("inspect", "layers, and what can be pruned or decomposed")
    recommend = add("recommend", "how much to take from each layer, or which ranks to give it")
    sensitivity = add("sensitivity", "what each group of channels costs, before any is removed")
    compress = add("compress", "write the smaller model")
    sweep = add("sweep", "compress at many points, and compare")
    models = add("models", "what the running daemon keeps in memory")
    completion = add("completion", "print what makes your shell complete these commands")

    for command in (inspect, recommend, sensitivity, compress, sweep):
        command.add_argument("model", metavar="MODEL")
        command.add_argument(
            "--input-shape",
            dest="input_shapes",
            type=input_shape,
            action="append",
            metavar="[NAME=]1,3,224,224",
            help="lengths of an input that the file leaves open (a PyTorch GraphModule has none); one for each input",
        )
    for command in (recommend, compress, sweep):
        add_choice(command)
        add_reconstruct(command, recommends=command is recommend)
    add_dataset(sensitivity, "samples, a few hundred, without labels: .npy, .npz or a folder of them", required=True)
    add_options(sensitivity)
    sensitivity.add_argument("--ratio", type=numbers, metavar="R,R,...", help="shares to try (default: 0.1 to 0.9)")
    sensitivity.add_argument("--plot", metavar="PATH", help="write the curves here, as SVG")
    for command in (recommend, compress):
        add_amount(command, layers=command is compress)
    compress.add_argument("-o", "--output", metavar="PATH", help="the file to write")
    compress.add_argument("--onnx-output", metavar="PATH", help="write a PyTorch model as ONNX besides")
    compress.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    compress.add_argument("--dry-run", action="store_true", help="decide and prove everything, write nothing")
    compress.add_argument("--verify", action="store_true", help="run the result before it gets its name")
    sweep.add_argument(
        "--ratio", type=numbers, metavar="R,R,...", help="ratios to try (default: 0.1 to 0.7, where no target is given)"
    )
    sweep.add_argument("--target", type=targets, metavar="WHAT=S,S,...", help="what to leave, such as macs=0.7,0.5,0.3")
    sweep.add_argument("--methods", type=words, metavar="M,M,...", help="methods to try, instead of --method")
    sweep.add_argument("-o", "--output-dir", metavar="DIR", help="keep the compressed models here")
    sweep.add_argument("--csv", metavar="PATH", help="write the table here, too")
    models.add_argument("--release", nargs="?", const="", metavar="MODEL", help="drop one from memory, or all")
    models.add_argument("--stop", action="store_true", help="end the daemon")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    for command in (inspect, recommend, sensitivity, compress, sweep, models):
        command.add_argument("--json", action="store_true", help="print the daemon's answer as it is")
        # Kept from hiding, by being absent, what was said before the command.
        add_daemon(command, argparse.SUPPRESS)
    add_daemon(main, None)
    return main


def add_daemon(command: argparse.ArgumentParser, default: Optional[str]) -> None:
    """Whom to ask."""
    pipe, server = "use the daemon that listens on this Unix socket", "start this daemon instead of using a running one"
    command.add_argument("--pipe", metavar="PATH", default=default, help=pipe)
    command.add_argument("--server", metavar="PATH", default=default, help=server)


def add_choice(command: argparse.ArgumentParser) -> None:
    """By what channels are chosen or layers decomposed."""
    command.add_argument(
        "--method",
        default="PR_L2",
        help="compression method (default PR_L2): PR_* remove channels; FD_SVD (matrices and 1x1 convolutions), "
        "FD_TK and FD_CP (other convolutions; FD_CP with --layer only) decompose layers; automatic chooses both, layer "
        "by layer, for a --target, and does so far better with a --dataset",
    )
    add_dataset(
        command,
        "samples, a few hundred, without labels: .npy, .npz or a folder of them. PR_NN, PR_SNP, PR_REC and "
        "--reconstruct least_squares need them; FD_* then keep what layers make of these, not weights",
    )
    add_options(command)


def add_reconstruct(command: argparse.ArgumentParser, recommends: bool) -> None:
    """What is done to the weights that are left."""
    command.add_argument(
        "--reconstruct",
        choices=("least_squares", "bias"),
        help="reckon with what compress does under the same word; only of --method automatic"
        if recommends
        else "fit the weights that are left so that the model computes what it did, without labels or training: "
        "least_squares by the --dataset, bias without one",
    )


def add_dataset(command: argparse.ArgumentParser, what: str, required: bool = False) -> None:
    command.add_argument("--dataset", metavar="PATH", required=required, help=what)


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--option", type=option, action="append", default=[], metavar="NAME=VALUE", help="such as step_size=8"
    )


def add_amount(command: argparse.ArgumentParser, layers: bool) -> None:
    """How much is to go."""
    amount = command.add_mutually_exclusive_group(required=True)
    amount.add_argument(
        "--ratio",
        type=float,
        help="share of the channels to remove, 0 to 1; with FD_*, -1 to 1: lower or higher ranks than VBMF's",
    )
    amount.add_argument(
        "--target",
        type=target,
        metavar="WHAT=SHARE",
        help="what to leave of macs, parameters or size_bytes, such as macs=0.5; with FD_* also energy=0.9, of the "
        "squared norm of each layer",
    )
    if layers:
        amount.add_argument(
            "--layer",
            type=layer,
            action="append",
            metavar="NAME=VALUES",
            help="do this to this layer; may be repeated. VALUES is a share to remove, channel numbers (PR_ID), or "
            "ranks (FD_*), such as conv1=16,24",
        )


def choice(arguments: argparse.Namespace) -> Dict[str, Any]:
    """What `recommend` and `compress` share, as the client's methods take it."""
    return {
        "recommendation_ratio": arguments.ratio,
        "target": arguments.target,
        "compression_method": arguments.method,
        "dataset_path": arguments.dataset,
        "input_shapes": arguments.input_shapes,
        "options": dict(arguments.option),
        "reconstruct": arguments.reconstruct,
    }


# Values of arguments


def meant(example: str) -> Callable[[Callable[[str], Value]], Callable[[str], Value]]:
    """What cannot be read is answered with what could have been."""

    def reader(read: Callable[[str], Value]) -> Callable[[str], Value]:
        @functools.wraps(read)
        def checked(text: str) -> Value:
            try:
                return read(text)
            except ValueError:
                raise argparse.ArgumentTypeError(f"{text!r} is not such as {example}") from None

        return checked

    return reader


@meant("macs=0.5")
def target(text: str) -> Dict[str, float]:
    name, _, share = text.partition("=")
    return {name: float(share)}


@meant("macs=0.7,0.5")
def targets(text: str) -> List[Dict[str, float]]:
    name, _, shares = text.partition("=")
    return [{name: float(share)} for share in shares.split(",")]


@meant("0.3,0.5")
def numbers(text: str) -> List[float]:
    return [float(number) for number in text.split(",")]


def words(text: str) -> List[str]:
    return text.split(",")


@meant("conv1=0.25 or conv1=0,5,7")
def layer(text: str) -> LayerSetting:
    """What is done to one layer. A name may hold "=", values do not."""
    name, equals, values = text.rpartition("=")
    if not equals:
        raise ValueError(text)
    found = [float(value) if "." in value else int(value) for value in values.split(",")]
    return LayerSetting(name, found)


@meant("step_size=8")
def option(text: str) -> Tuple[str, Any]:
    """The value is JSON where it reads as such, else a word."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(text)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@meant("1,3,224,224 or mask=1,128")
def input_shape(text: str) -> Dict[str, Any]:
    """ "1,3,224,224" or "1x3x224x224", after a name and "=" where there are several inputs."""
    name, equals, lengths = text.rpartition("=")
    shape = {"shape": [int(length) for length in lengths.replace("x", ",").split(",")]}
    return {"name": name, **shape} if equals else shape
