"""NetsPresso's interface: what its scripts rely on. Its published examples are executed from docs/netspresso.md."""

import json

import pytest

import espalier
from espalier.netspresso import NetsPresso, exceptions
from espalier.netspresso.clients.compressor.v2.schemas import Options, RecommendationOptions
from espalier.netspresso.enums import CompressionMethod, GroupPolicy, RecommendationMethod, Status, StepOp
from test_espalierd import MODELS, RESNET

GRAPH_MODULE = MODELS / "digits_resnet.pt"
SHAPES = [{"batch": 1, "channel": 1, "dimension": [8, 8]}]


@pytest.fixture(scope="module")
def entrance(espalierd):
    with espalier.Client(espalierd) as client:
        yield NetsPresso(email="nobody@example.com", password="none", client=client)


@pytest.fixture
def compressor(entrance):
    return entrance.compressor_v2()


def test_a_recommendation_leaves_model_copy_and_metadata(compressor, tmp_path):
    wanted = dict(compression_method=CompressionMethod.PR_L2, recommendation_method=RecommendationMethod.SLAMP,
                  recommendation_ratio=0.5, input_model_path=str(GRAPH_MODULE), input_shapes=SHAPES)  # fmt: skip
    made = compressor.recommendation_compression(output_dir=str(tmp_path / "out" / "half"), **wanted)
    folder = tmp_path / "out" / "half"
    assert made.status == Status.COMPLETED == "completed"
    assert {path.name for path in folder.iterdir()} == {"half.pt", "half.onnx", "metadata.json"}
    assert (made.compressed_model_path, made.compressed_onnx_model_path) == (f"{folder}/half.pt", f"{folder}/half.onnx")
    told = json.loads((folder / "metadata.json").read_text())
    assert told == made.asdict() and told["status"] == "completed" and told["task_type"] == "compress"
    assert told["compression_info"]["method"] == "PR_L2" and told["compression_info"]["ratio"] == 0.5
    assert told["compression_info"]["options"] == {
        "reshape_channel_axis": -1, "policy": "average", "layer_norm": "standard_score", "group_policy": "average",
        "step_size": 2, "step_op": "round", "reverse": False, "min_num_of_value": 8,
    }  # fmt: skip
    assert told["model_info"]["framework"] == "pytorch" and told["model_info"]["input_shapes"] == SHAPES
    before, after = told["results"]["original_model"], told["results"]["compressed_model"]
    assert before["flops"] == 2 * 2846160 and before["number_of_parameters"] == 178930
    assert after["size"] == (folder / "half.pt").stat().st_size / 2**20 and after["size"] < 0.5 * before["size"]
    assert after["number_of_layers"] == before["number_of_layers"] == 14

    again = compressor.recommendation_compression(output_dir=str(folder), **wanted)
    assert again.compressed_model_path == f"{tmp_path}/out/half (1)/half (1).pt"
    assert (folder / "half.pt").read_bytes() == (tmp_path / "out" / "half (1)" / "half (1).pt").read_bytes()


def test_the_result_is_the_plain_clients(compressor, espalierd, tmp_path):
    compressor.recommendation_compression(
        CompressionMethod.PR_GM, RecommendationMethod.SLAMP, 0.4, RESNET, tmp_path / "a", SHAPES,
        options=RecommendationOptions(step_op=StepOp.ROUND_UP, step_size=4),
    )  # fmt: skip
    with espalier.Client(espalierd) as client:
        options = {"step_op": "round_up", "step_size": 4, "min_num_of_value": 8}
        client.compress(
            RESNET, tmp_path / "b.onnx", recommendation_ratio=0.4, compression_method="PR_GM", options=options
        )
    # NetsPresso calls ONNX models .pt here.
    assert (tmp_path / "a" / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    "method, values, layers",
    [("PR_L2", [0.25], 8), ("PR_ID", [0, 1], 8), ("FD_TK", [8, 8], 10), ("FD_SVD", [4], 3), ("FD_CP", [6], 10)],
)
def test_step_by_step(compressor, method, values, layers, tmp_path):
    model = compressor.upload_model(str(GRAPH_MODULE), SHAPES)
    assert compressor.get_model(model.ai_model_id) is model and model.model_id == model.ai_model_id
    assert model.detail.input_layers[0].dimension == [8, 8] and model.framework == "pytorch"
    info = compressor.select_compression_method(model.ai_model_id, CompressionMethod[method], options=Options())
    assert info.compression_method == method and len(info.available_layers) == layers
    assert all(layer.channels and layer.values == [] for layer in info.available_layers)
    info.available_layers[1].values = values
    made = compressor.compress_model(info, str(tmp_path / "out"))
    assert made.status == Status.COMPLETED, made.error_detail
    assert [layer["values"] for layer in made.compression_info.layers if layer["use"]] == [values]
    smaller = compressor.get_model(made.results.compressed_model.model_id)
    assert smaller.flops < model.flops
    # What was made can be worked on.
    again = compressor.select_compression_method(smaller.ai_model_id, CompressionMethod.PR_L2)
    assert len(again.available_layers) >= 8
    compressor.download_model(smaller.ai_model_id, tmp_path / "copy.pt")
    assert (tmp_path / "copy.pt").read_bytes() == (tmp_path / "out" / "out.pt").read_bytes()


def test_what_goes_wrong_is_in_the_metadata_of_v2_and_raised_by_v1(entrance, compressor, tmp_path):
    def ask(compressor, folder, method="PR_L2", recommender="slamp", ratio=0.5, model=GRAPH_MODULE, shapes=SHAPES):
        return compressor.recommendation_compression(
            CompressionMethod(method), RecommendationMethod(recommender), ratio, str(model), tmp_path / folder, shapes
        )

    cases = [
        (dict(ratio=1.0), exceptions.NotValidSlampRatioException, ""),
        (dict(method="FD_TK", recommender="vbmf", ratio=-2), exceptions.NotValidVbmfRatioException, ""),
        (dict(shapes=[]), exceptions.NotFillInputLayersException, ""),
        (dict(model="/no/such.pt"), exceptions.NotValidInputModelPath, ""),
        (dict(method="PR_L2", recommender="vbmf"), espalier.ServerError, "option.invalidCombination"),
        (dict(method="PR_NN"), espalier.ServerError, "dataset.required"),
    ]
    for number, (arguments, exception, kind) in enumerate(cases):
        made = ask(compressor, str(number), **arguments)
        assert made.status == "error" and made.error_detail.error_code == kind
        assert made.error_detail.name == exception.__name__ and made.error_detail.message
        assert json.loads((tmp_path / str(number) / "metadata.json").read_text())["status"] == "error"
        with pytest.raises(exception):
            ask(entrance.compressor(), str(number), **arguments)
    info = compressor.select_compression_method(compressor.upload_model(RESNET).ai_model_id, CompressionMethod.PR_L2)
    assert compressor.compress_model(info, tmp_path / "none").error_detail.name == "EmptyCompressionParamsException"
    with pytest.raises(exceptions.PyNPException, match="reshape_channel_axis"):
        Options(reshape_channel_axis=3)
    with pytest.raises(exceptions.UnknownModelException):
        compressor.get_model("of another process")


def test_an_interruption_is_a_status(entrance, compressor, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(espalier.Client, "compress", interrupted)
    assert compressor.automatic_compression(RESNET, tmp_path / "a").status == Status.STOPPED
    assert entrance.compressor().automatic_compression(RESNET, tmp_path / "b") is None
    assert json.loads((tmp_path / "b" / "metadata.json").read_text())["status"] == "stopped"


def test_models_are_forgotten_and_files_stay(compressor, tmp_path):
    made = compressor.automatic_compression(RESNET, tmp_path / "a", compression_ratio=0.3)
    original, smaller = made.results.original_model.model_id, made.results.compressed_model.model_id
    compressor.delete_model(original)
    assert compressor.get_model(smaller)
    compressor.delete_model(original, recursive=True)
    for identifier in (original, smaller):
        with pytest.raises(exceptions.UnknownModelException):
            compressor.get_model(identifier)
    assert RESNET.exists() and (tmp_path / "a" / "a.onnx").exists()


def test_words_are_strings_and_what_is_missing_says_where_it_is(entrance):
    from espalier.netspresso.enums.compression import GroupPolicy as FromBelow

    assert (
        FromBelow is GroupPolicy
        and GroupPolicy.COUNT == "count"
        and CompressionMethod("PR_SNP") is CompressionMethod.PR_SNP
    )
    with pytest.raises(AttributeError, match="NetsPresso's own"):
        entrance.trainer()
    with pytest.raises(ImportError, match="DeviceName .* import it from netspresso.enums"):
        from espalier.netspresso.enums import DeviceName  # noqa: F401
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        entrance.colour
