"""The command `espalier` as a shell sees it: against scripted servers, and decomposing with the real one."""

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import espalier
from espalier import commands, completion, tables
from espalier.decoding import decode
from espalier.results import Inspection, NewLayer, Recommendation, ReplacedLayer

MODELS = Path(__file__).resolve().parents[1] / "examples" / "models"
RESNET = MODELS / "digits_resnet.onnx"
IMAGES = MODELS / "digits_calibration.npy"
SIZES = {"parameters": 10, "macs": 20, "size_bytes": 40}


def advice(*layers, skipped=()):
    estimate = {"original": SIZES, "compressed": SIZES}
    report = {"available_layers": list(layers), "skipped": list(skipped), "estimate": estimate}
    return decode(Recommendation, report)


def lines(text):
    return [line.split() for line in text.splitlines() if line and not line.startswith("─")]


def test_ranks_and_errors_of_a_recommendation():
    ranks = {"full": [24, 48], "vbmf": [6, 9], "calibrated": [8, 9], "kept": [8, 9], "relative_error": 0.79789}
    vague = {**ranks, "relative_error": 1.0}
    text = tables.recommendation(
        advice(
            {"name": "conv", "channels": [24, 48], "values": [8, 9], "use": True, "ranks": ranks},
            {"name": "lost", "channels": [24, 48], "values": [8, 8], "use": True, "ranks": vague},
            {"name": "stays", "channels": [4, 4], "values": [], "use": False,
             "ranks": {"full": [4, 4], "vbmf": [0, 1]}},
            skipped=[
                {"name": "stays", "reason": "no_low_rank_structure: noise"},
                {"name": "a", "reason": "pointwise: a matrix"},
                {"name": "b", "reason": "pointwise: a matrix"},
                {"name": "c", "reason": "it is excluded"},
            ],
        )
    )  # fmt: skip
    assert lines(text) == [
        "layer channels full rank VBMF rank weight error".split(),
        "conv 24 → 48 24, 48 6, 9 8, 9 ≤ 0.798".split(),
        "lost 24 → 48 24, 48 6, 9 8, 9".split(),
        "stays 4 → 4 4, 4 0, 1 –".split(),
        "left as it is layers such as".split(),
        "pointwise 2 a: a matrix".split(),
        "no_low_rank_structure 1 stays: noise".split(),
        "it is excluded 1 c".split(),
    ]


def test_one_rank_has_an_exact_error_and_data_an_output_error():
    ranks = {"full": [24], "vbmf": [0], "kept": [8], "output_error": 0.3}
    layer = {"name": "fc", "channels": [24, 48], "values": [8], "use": True, "ranks": ranks}
    text = tables.recommendation(advice(layer))
    assert lines(text) == [
        "layer channels full rank VBMF rank output error".split(),
        "fc 24 → 48 24 0 8 0.300".split(),
    ]


def test_channels_of_a_recommendation():
    pruned = {"name": "conv", "channels": [8], "values": [0.25], "use": True}
    kept = {"name": "last", "channels": [4], "values": [], "use": False}
    assert lines(tables.recommendation(advice(pruned, kept)))[:3] == [
        "layer channels values used".split(), "conv 8 0.25 yes".split(), "last 4 no".split(),
    ]  # fmt: skip


def test_methods_chosen_layer_by_layer_and_what_else_was_tried():
    pruned = {"name": "conv", "channels": [8], "values": [0.25], "use": True, "method": "PR_REC"}
    ranks = {"full": [24], "kept": [8]}
    thinner = {"name": "fc", "channels": [24, 48], "values": [8], "use": True, "method": "FD_SVD", "ranks": ranks}
    report = advice(pruned, thinner).raw
    report["trials"] = [{"methods": ["PR_REC"], "error": 0.25}, {"methods": ["PR_REC", "FD_SVD"], "error": 0.125}]
    shown = lines(tables.recommendation(decode(Recommendation, report)))
    assert shown[:3] == [
        "layer method channels values used".split(),
        "conv PR_REC 8 0.25 yes".split(),
        "fc FD_SVD 24 → 48 8 yes".split(),
    ]
    assert shown[-2:] == ["PR_REC + FD_SVD 0.125".split(), "PR_REC 0.250".split()]


def test_replaced_layers():
    parts = [NewLayer("conv_in", "Conv", "w.in", [8, 24, 1, 1]), NewLayer("conv_core", "Conv", "w.core", [48, 8, 3, 3])]
    plain = ReplacedLayer("conv", "w", "FD_TK", [8, 48], parts, 0.5)
    assert lines(tables.replacements([plain])) == [
        "replaced rank by weights weight error".split(),
        "conv 8, 48 8×24×1×1 48×8×3×3 0.500".split(),
    ]
    aware = ReplacedLayer("conv", "w", "FD_TK", [8, 48], parts, 0.5, 0.25)
    assert lines(tables.replacements([aware]))[1][-2:] == ["0.500", "0.250"]


def test_decomposable_layers_of_an_inspection():
    layer = {
        "name": "conv", "op": "Conv", "parameter": "w", "channels": [24, 24], "parameters": 1, "macs": 1, "methods": [],
        "decomposition": [
            {"method": "FD_TK", "full_rank": [24, 24], "break_even_rank": [21, 21]},
            {"method": "FD_CP", "full_rank": [24], "break_even_rank": None},
        ],
    }  # fmt: skip
    report = {"model": {"path": "/m", "format": "onnx", "size_bytes": 1}, "cached": False, "inputs": [], "outputs": [],
              "parameters": 1, "macs": 1, "layers": [layer], "groups": []}  # fmt: skip
    assert lines(tables.decompositions(decode(Inspection, report))) == [
        "layer method full rank cheaper up to".split(),
        "conv FD_TK 24, 24 21, 21".split(),
        "conv FD_CP 24 –".split(),
    ]
    del layer["decomposition"]
    assert tables.decompositions(decode(Inspection, report)) == ""


# The command itself


def run(server, *arguments):
    """Exit status, standard output and standard error."""
    command = [sys.executable, "-m", "espalier", "--server", server, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture
def scripted(fake, tmp_path):
    """A server's path as the command takes one, from a script."""

    def make(**script):
        path = tmp_path / "server"
        path.write_text(f'#!/bin/sh\nexec {shlex.join(fake.command(**script))} "$@"\n')
        path.chmod(0o755)
        return path

    return make


@pytest.mark.parametrize(
    "arguments,sent",
    [
        (["--ratio", "-0.5"], {"recommendation_method": "VBMF", "recommendation_ratio": -0.5}),
        (["--target", "energy=0.9"], {"recommendation_method": "VBMF", "target": {"energy": 0.9}}),
        (["--target", "macs=0.5", "--dataset", "/d.npy"],
         {"recommendation_method": "VBMF", "target": {"macs": 0.5}, "dataset_path": "/d.npy"}),
        (["--ratio", "0", "--option", "zero_rank=clamp", "--option", "step_size=8"],
         {"recommendation_method": "VBMF", "recommendation_ratio": 0.0,
          "options": {"zero_rank": "clamp", "step_size": 8}}),
    ],
)  # fmt: skip
def test_what_a_decomposition_asks_of_the_server(fake, scripted, arguments, sent):
    refusal = {"id": "$id", "error": {"code": -32803, "message": "enough", "data": {"kind": "busy"}}}
    status, out, err = run(scripted(recommend=[refusal]), "recommend", "/m.onnx", "--method", "FD_TK", *arguments)
    assert (status, out) == (1, "") and "enough" in err
    params = fake.received("recommend")[0]["params"]
    assert params == {"model": "/m.onnx", "compression_method": "FD_TK", "options": {}, **sent}


def test_warnings_of_a_compression_are_shown(scripted):
    answer = {
        "output_path": "/o.onnx", "original": SIZES, "compressed": SIZES, "layers": [], "removed": [], "skipped": [],
        "verification": {"status": "skipped"}, "warnings": ["'conv' has too few taps"],
    }  # fmt: skip
    server = scripted(compress=[{"id": "$id", "result": answer}])
    status, out, _ = run(server, "compress", "/m.onnx", "--ratio", "0.5", "-o", "/o.onnx")
    assert status == 0 and "warning: 'conv' has too few taps\n" in out and "replaced" not in out


@pytest.mark.parametrize(
    "layers,sent",
    [(["conv=16,24"], [("conv", [16, 24])]), (["a=b=8", "c=0.25"], [("a=b", [8]), ("c", [0.25])])],
)
def test_layers_of_ones_own(fake, scripted, layers, sent):
    refusal = {"id": "$id", "error": {"code": -32803, "message": "enough", "data": {"kind": "busy"}}}
    given = [argument for layer in layers for argument in ("--layer", layer)]
    status, _, err = run(
        scripted(compress=[refusal]), "compress", "/m.onnx", "--method", "FD_CP", *given, "-o", "/o.onnx"
    )
    assert status == 1 and "enough" in err
    params = fake.received("compress")[0]["params"]
    assert [(layer["name"], layer["values"]) for layer in params["layers"]] == sent
    # A rank that became 16.0 on the way would be refused.
    assert "16.0" not in repr(params)
    assert not {"recommendation_method", "recommendation_ratio", "target"} & set(params)


@pytest.mark.parametrize(
    "option,text",
    [("--layer", "conv"), ("--layer", "conv="), ("--layer", "conv=x"), ("--target", "0.5"), ("--target", "macs=half")],
)
def test_what_cannot_be_read_is_answered_with_an_example(option, text):
    status, out, err = run("/no/server", "compress", "/m.onnx", option, text, "-o", "/o.onnx")
    assert (status, out) == (2, "") and f"{option}: {text!r} is not such as" in err


def test_methods_are_chosen_and_weights_fitted_anew_from_the_shell(espalierd, tmp_path):
    few = tmp_path / "few.npy"
    np.save(few, np.load(IMAGES)[:64])
    arguments = (RESNET, "--method", "automatic", "--target", "macs=0.5", "--reconstruct", "least_squares")
    status, out, _ = run(espalierd, "recommend", *arguments, "--dataset", few)
    assert status == 0 and "tried on held-out samples" in out and "PR_REC" in out
    status, out, _ = run(espalierd, "compress", *arguments, "--dataset", few, "-o", tmp_path / "smaller.onnx")
    assert status == 0 and "refitted: least_squares on 64 samples" in out
    status, out, err = run(espalierd, "compress", *arguments, "--dry-run")
    assert status == 1 and "dataset.required" in err
    status, _, err = run(espalierd, "compress", RESNET, "--ratio", "0.5", "--reconstruct", "sgd", "--dry-run")
    assert status == 2 and "'least_squares', 'bias'" in err


def test_a_network_is_decomposed_from_the_shell(espalierd, tmp_path):
    output = tmp_path / "smaller.onnx"
    status, out, _ = run(espalierd, "recommend", RESNET, "--method", "FD_TK", "--target", "energy=0.8")
    assert status == 0 and "/blocks/blocks.0/conv1/Conv" in out and "weight error" in out and "single_channel" in out

    arguments = ("compress", RESNET, "--method", "fd_tk", "--target", "macs=0.5", "--dataset", IMAGES, "--verify")
    status, out, err = run(espalierd, *arguments, "-o", output)
    assert status == 0, err
    assert "output error" in out and "verified: approximate" in out and output.stat().st_size < RESNET.stat().st_size

    arguments = ("compress", RESNET, "--method", "FD_CP", "--layer", "/blocks/blocks.0/conv1/Conv=12")
    status, out, err = run(espalierd, *arguments, "-o", tmp_path / "cp.onnx", "--verify")
    assert status == 0, err
    assert "12×24×1×1  12×1×3×1  12×1×1×3  24×12×1×1" in out and "verified: approximate" in out

    arguments = ("compress", RESNET, "--method", "FD_CP", "--target", "macs=0.5", "-o", tmp_path / "other.onnx")
    status, _, err = run(espalierd, *arguments)
    assert status == 1 and "option.invalidCombination" in err


# Whose daemon, which answers, and how it ends


def test_what_is_printed_is_a_table_or_the_answer(espalierd, tmp_path):
    status, out, _ = run(espalierd, "inspect", RESNET, "--json")
    assert status == 0 and json.loads(out)["macs"] == 2846160
    status, out, _ = run(espalierd, "recommend", RESNET, "--ratio", "0.3", "--json")
    assert status == 0 and json.loads(out)["achieved_ratio"] == pytest.approx(0.3, abs=0.02)
    asked = ("sensitivity", RESNET, "--dataset", RESNET.parent / "digits_calibration.npy", "--ratio", "0.25,0.5")
    status, out, _ = run(espalierd, *asked, "--plot", tmp_path / "curves.svg")
    assert status == 0 and out.splitlines()[0].split() == ["group", "channels", "−25", "%", "−50", "%"]
    assert (tmp_path / "curves.svg").read_text().count("<polyline") == 8
    status, out, _ = run(espalierd, *asked, "--json")
    assert status == 0 and len(json.loads(out)["groups"]) == 8
    output = tmp_path / "o.onnx"
    status, out, _ = run(espalierd, "compress", RESNET, "--ratio", "0.3", "-o", output, "--json")
    assert status == 0 and json.loads(out)["output_path"] == str(output) and output.exists()
    status, out, _ = run(espalierd, "compress", RESNET, "--ratio", "0.3", "--dry-run")
    assert status == 0 and "dry run: nothing is written" in out


def test_a_graph_module_has_its_shapes_from_the_command_line(espalierd, tmp_path):
    model = MODELS / "digits_resnet.pt"
    status, _, err = run(espalierd, "inspect", model)
    assert status == 1 and "model.inputShapes" in err and "--input-shape 1,3,224,224" in err
    for shape in ("1,1,8,8", "1x1x8x8", "x=1,1,8,8"):
        status, out, _ = run(espalierd, "inspect", model, "--input-shape", shape)
        assert status == 0 and "2,846,160 MACs" in out
    written = ("-o", tmp_path / "o.pt", "--onnx-output", tmp_path / "o.onnx")
    status, out, _ = run(espalierd, "compress", model, "--input-shape", "1,1,8,8", "--ratio", "0.5", *written)
    assert status == 0 and (tmp_path / "o.pt").exists() and (tmp_path / "o.onnx").exists()
    status, _, err = run(espalierd, "inspect", model, "--input-shape", "large")
    assert status == 2 and "--input-shape" in err


def test_a_sweep_of_methods_and_targets(espalierd, tmp_path):
    table, folder = tmp_path / "t.csv", tmp_path / "out"
    arguments = ("sweep", RESNET, "--methods", "PR_L2,FD_TK", "--target", "macs=0.7,0.5", "--csv", table, "-o", folder)
    status, out, _ = run(espalierd, *arguments)
    assert status == 0 and out.count("certified") == 4 and len(list(folder.iterdir())) == 4
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["compression_method"] for row in rows] == ["PR_L2", "PR_L2", "FD_TK", "FD_TK"]
    assert all(float(row["macs_left"]) <= 0.7 for row in rows)
    status, out, _ = run(espalierd, "sweep", RESNET, "--ratio", "0.3,7", "--json")
    assert status == 0 and [point["error"] is None for point in json.loads(out)] == [True, False]
    status, _, err = run(espalierd, "sweep", RESNET, "--ratio", "7")
    assert status == 1 and "no point of the sweep" in err
    status, _, err = run(espalierd, *arguments)
    assert status == 1 and "is there already" in err


def test_refusals_are_told_in_the_shells_own_words(espalierd, tmp_path):
    output = tmp_path / "o.pt"
    status, out, _ = run(espalierd, "compress", RESNET, "--ratio", "0.5", "-o", output)
    assert status == 0 and "warning: o.pt has the format of" in out
    status, _, err = run(espalierd, "compress", RESNET, "--ratio", "0.5", "-o", output)
    assert status == 1 and "output.exists" in err and "here: --overwrite" in err
    status, _, err = run(espalierd, "recommend", RESNET, "--method", "PR_NN", "--ratio", "0.5")
    assert status == 1 and "here: --dataset images.npy" in err
    status, _, err = run(espalierd, "inspect", RESNET, "--input-shape", "1,3,8,8")
    assert status == 1 and "model.inputShapes" in err and "here:" not in err, "they have said it"
    status, _, err = run(espalierd, "recommend", RESNET, "--method", "automatic", "--ratio", "0.5")
    assert status == 2 and 'the method "automatic" takes a target' in err
    command = [sys.executable, "-m", "espalier"]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 2 and "write the smaller model" in told.stdout


def test_ways_to_end(espalierd, tmp_path):
    assert run("/no/server", "inspect", RESNET)[0] == 3
    assert run(espalierd, "inspect", "/no/model")[0] == 1
    assert run(espalierd, "compress", RESNET, "--ratio", "0.5")[0] == 2
    assert run(espalierd, "recommend", RESNET)[0] == 2
    status, _, err = run(espalierd, "recommend", RESNET, "--ratio", "2")
    assert status == 1 and "at /recommendation_ratio" in err


def test_a_running_daemon_is_asked_and_a_private_one_where_none_runs(espalierd, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("ESPALIER_SERVER", espalierd)

    def espalier_command(*arguments):
        command = [sys.executable, "-m", "espalier", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert espalier_command("inspect", RESNET) and espalier_command("models") == "no shared daemon is running\n"
    with espalier.connect() as client:
        espalier_command("inspect", RESNET)
        assert [model.path for model in client.models()] == [RESNET]
        assert str(RESNET) in espalier_command("models")
        assert espalier_command("models", "--release", RESNET) == f"{RESNET}\n" and client.models() == []
        espalier_command("models", "--stop")
    assert espalier_command("models", "--json") == "[]\n"


def completed(script, line):
    """What bash offers after `line`."""
    words = line.split(" ")
    code = f"""{script}
COMP_WORDS=({" ".join(shlex.quote(word) for word in words)}) COMP_CWORD={len(words) - 1}
_espalier; printf '%s\\n' "${{COMPREPLY[@]}}" """
    return set(subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_bash_completes_commands_options_and_values():
    script = completion.script("bash", commands.parser())
    assert completed(script, "espalier ") >= {"inspect", "recommend", "compress", "sweep", "models", "--help"}
    assert completed(script, "espalier co") == {"compress", "completion"}
    assert completed(script, "espalier compress m.onnx --in") == {"--input-shape"}
    assert completed(script, "espalier compress --method FD_") == {"FD_TK", "FD_SVD", "FD_CP"}
    assert completed(script, "espalier recommend --target m") == {"macs="}
    assert completed(script, "espalier completion z") == {"zsh"}
    assert completed(script, "espalier inspect m") == set(), "files, by the shell itself"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_all_that_can_be_said_can_be_completed(shell):
    out = subprocess.run([sys.executable, "-m", "espalier", "completion", shell], capture_output=True, text=True).stdout
    for name, command in completion.subcommands(commands.parser()).items():
        assert name in out
        for action in completion.options(command):
            for spelling in action.option_strings:
                assert (spelling if shell != "fish" else f" {spelling.lstrip('-')} ") in out
