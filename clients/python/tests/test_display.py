"""What notebooks show: well-formed, self-contained, escaped, of the numbers that results hold; and the magics."""

import re
from html.parser import HTMLParser

import pytest

import espalier
from espalier import notebook
from espalier.decoding import decode
from test_client import INSPECTION
from test_espalierd import MOBILE, MODELS, RESNET

VOID = {"br", "hr", "img", "input", "meta", "link"}


class Tags(HTMLParser):
    """Tags that are open, and a complaint where one closes another."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "iframe", "img", "link", "object")
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attributes)
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)


@pytest.fixture(scope="module")
def client(espalierd):
    with espalier.Client(espalierd) as client:
        yield client


def shown(result):
    text = result._repr_html_()
    # Nothing is fetched from anywhere.
    assert "http" not in text and "url(" not in text and "@import" not in text
    return Tags(text), text


@pytest.mark.parametrize("model", [RESNET, MOBILE])
def test_an_inspection_has_a_row_for_each_layer_and_a_rail_for_each_group(client, model):
    report = client.inspect(model)
    tags, text = shown(report)
    assert tags.seen.count("tr") == 1 + len(report.layers)
    assert tags.seen.count("circle") == sum(1 + len(layer.other_groups) for layer in report.layers)
    shared = [group for group in report.groups if len(group.layers) > 1]
    rows = {layer.name: index for index, layer in enumerate(report.layers)}
    spans = [[rows[name] for name in group.layers] for group in shared]
    assert tags.seen.count("path") == sum(max(span) - min(span) + 1 for span in spans)
    assert f"{report.macs:,}" in tags.words and f"{len(report.groups)} of {len(report.groups)}" in text


def test_rails_that_overlap_lie_beside_one_another(client):
    _, text = shown(client.inspect(MOBILE))
    for row in re.findall(r"<svg.*?</svg>", text):
        lanes = re.findall(r'<path d="M([\d.]+) ', row)
        assert len(lanes) == len(set(lanes))


def test_recommendations_and_compressions_tell_before_and_after(client, tmp_path):
    advice = client.recommend(RESNET, recommendation_ratio=0.5)
    _, text = shown(advice)
    for layer in advice.available_layers:
        kept = layer.channels[0] - round(layer.values[0] * layer.channels[0]) if layer.values else layer.channels[0]
        assert f"{layer.channels[0]} → {kept}" in text
    assert f"{advice.estimate.original.macs:,} → {advice.estimate.compressed.macs:,}" in text
    made = client.compress(RESNET, tmp_path / "o.onnx", layers=advice.available_layers, verify=True)
    _, text = shown(made)
    assert "✓ verified" in text and str(tmp_path / "o.onnx") in text
    chosen = [espalier.LayerSetting("/blocks/blocks.0/conv1/Conv", [0, 1, 5])]
    _, text = shown(client.compress(RESNET, layers=chosen, compression_method="PR_ID", dry_run=True))
    assert "24 → 21" in text and "dry run" in text
    _, text = shown(client.recommend(RESNET, compression_method="FD_TK", target={"macs": 0.5}))
    assert "ranks in" in text
    _, text = shown(client.compress(RESNET, compression_method="FD_TK", target={"macs": 0.5}, dry_run=True))
    assert "error of its weight" in text and "×3×3" in text
    both = [
        espalier.LayerSetting("/blocks/blocks.2/conv1/Conv", [0.25], method="PR_GROUP_L2"),
        espalier.LayerSetting("/blocks/blocks.4/conv1/Conv", [24, 24], method="FD_TK"),
    ]
    _, text = shown(client.compress(RESNET, compression_method="automatic", layers=both, dry_run=True))
    assert "what stays of it" in text and "error of its weight" in text, "channels of some layers, ranks of others"
    _, text = shown(
        client.compress(
            RESNET, dry_run=True, compression_method="automatic", target={"parameters": 0.3}, reconstruct="bias"))
    assert "✓ refitted: bias" in text and "without data" in text


def test_what_files_say_is_escaped():
    layer = {
        **INSPECTION["layers"][0],
        "name": '<img src=x onerror="alert(1)">',
        "reason": "<script>",
        "explanation": '"',
    }
    _, text = shown(decode(espalier.Inspection, {**INSPECTION, "layers": [layer]}))
    assert "&lt;img" in text and "&lt;script&gt;" in text
    shown(decode(espalier.Inspection, {**INSPECTION, "layers": [], "groups": []}))


# Magics


class Shell:
    """What of IPython's shell `%load_ext` talks to."""

    def __init__(self, **names):
        self.user_ns, self.magics = names, {}

    def register_magic_function(self, function, magic_kind, magic_name):
        self.magics[magic_name] = (magic_kind, function)


@pytest.fixture
def shell(client, monkeypatch):
    monkeypatch.setattr(notebook, "_client", client)
    shell = Shell(narrowest=16)
    espalier.load_ipython_extension(shell)
    return shell


def test_the_magic_is_the_command_and_its_cell_the_options(shell, client, tmp_path):
    kind, compress = shell.magics["compress"]
    cell = "# as wide as the hardware likes\nstep_size = 8\nmin_num_of_value = narrowest\nexclude = ['*/blocks.4/*']\n"
    made = compress(f"{RESNET} --ratio 0.5 -o '{tmp_path}/o.onnx'", cell)
    options = {"step_size": 8, "min_num_of_value": 16, "exclude": ["*/blocks.4/*"]}
    same = client.compress(RESNET, tmp_path / "p.onnx", recommendation_ratio=0.5, options=options)
    assert kind == "line_cell" and made.output_path.read_bytes() == same.output_path.read_bytes()
    assert compress(f"{RESNET} --target macs=0.5 --dry-run").output_path is None
    assert shell.magics["inspect_model"][1](f"{MODELS}/digits_resnet.pt --input-shape 1,1,8,8").macs == 2846160


def test_a_magic_that_is_not_understood_does_not_end_the_kernel(shell, capsys):
    compress = shell.magics["compress"][1]
    with pytest.raises(ValueError, match="not understood"):
        compress("model.onnx --ratio much")
    assert "invalid float value" in capsys.readouterr().err
    with pytest.raises(SyntaxError, match="line 1: expected an option"):
        compress(f"{RESNET} --ratio 0.5 --dry-run", "print(1)")
    with pytest.raises(espalier.InvalidParams, match="stepsize"):
        compress(f"{RESNET} --ratio 0.5 --dry-run", "stepsize = 8")
    with pytest.raises(ValueError, match="output_path"):
        compress(f"{RESNET} --ratio 0.5")
