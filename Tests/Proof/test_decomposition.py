"""Filter decomposition, one layer at a time and in every form: a weight that has exactly the rank it is given must
come out computing what the original computes, and any weight must at full rank. No orientation of factors, no place of
strides, padding, bias or activation can be wrong and pass.
"""

import json

import espalier
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import running

RANK = 5


def low_rank(rng, outputs, inputs, taps=(), rank=RANK):
    """[outputs, inputs, *taps]: of Tucker rank `rank` in both modes, a matrix of that rank without taps."""
    out, inner = rng.normal(size=(outputs, rank)), rng.normal(size=(inputs, rank))
    core = rng.normal(size=(rank, rank, *taps))
    weight = np.tensordot(out, np.tensordot(inner, core, (1, 1)), (1, 1))
    return weight / weight.std()


class Case:
    """One layer between an input and an output; `weight` as its node stores it."""

    def __init__(self, method, op, weight, shape, channels, bias=None, domain="", opset=17, **attributes):
        self.method, self.op, self.weight, self.shape = method, op, weight, shape
        self.channels, self.bias, self.domain, self.opset, self.attributes = channels, bias, domain, opset, attributes
        self.weight_first = attributes.pop("weight_first", False)
        self.through = attributes.pop("through", None)
        self.dtype = attributes.pop("dtype", np.float32)
        self.ir = attributes.pop("ir", 8)

    def model(self):
        stored = [numpy_helper.from_array(self.weight.astype(self.dtype), "layer.weight")]
        nodes, weight = [], "layer.weight"
        for k, (op, attributes) in enumerate(self.through or []):
            nodes.append(helper.make_node(op, [weight], [f"moved{k}"], f"move{k}", **attributes))
            weight = f"moved{k}"
        inputs = [weight, "x"] if self.weight_first else ["x", weight]
        if self.bias is not None:
            stored.append(numpy_helper.from_array(self.bias.astype(self.dtype), "layer.bias"))
            inputs.append("layer.bias")
        nodes.append(helper.make_node(self.op, inputs, ["y"], "layer", domain=self.domain, **self.attributes))
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        declared = [helper.make_tensor_value_info("x", kind, self.shape)]
        if self.ir < 4:
            declared += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in stored]
        graph = helper.make_graph(
            nodes, "one layer", declared, [helper.make_tensor_value_info("y", kind, [None] * len(self.shape))], stored
        )
        opsets = [helper.make_opsetid("", self.opset)]
        if self.domain:
            opsets.append(helper.make_opsetid(self.domain, 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=self.ir)


def cases():
    rng = np.random.default_rng(1)
    bias = rng.normal(size=24)

    def conv(taps, shape, **attributes):
        return Case("FD_TK", "Conv", low_rank(rng, 24, 16, taps), shape, [16, 24], **attributes)

    yield "conv2d", conv((3, 3), [2, 16, 9, 8], bias=bias, pads=[1, 1, 1, 1])
    yield "conv2d without bias", conv((3, 3), [2, 16, 9, 8])
    yield "conv2d strided, dilated, uneven", conv(
        (3, 2), [1, 16, 13, 12], bias=bias, strides=[2, 1], dilations=[2, 3], pads=[2, 0, 1, 3]
    )
    yield "conv2d SAME_UPPER", conv((4, 3), [1, 16, 11, 10], strides=[3, 2], auto_pad="SAME_UPPER")
    yield "conv2d SAME_LOWER", conv((4, 4), [1, 16, 11, 10], bias=bias, strides=[2, 2], auto_pad="SAME_LOWER")
    yield "conv1d", conv((5,), [2, 16, 20], bias=bias, strides=[2], pads=[2, 1])
    yield "conv3d", conv((2, 3, 3), [1, 16, 5, 6, 7], bias=bias, strides=[1, 2, 1], pads=[0, 1, 1, 1, 1, 1])
    yield "conv2d half", conv((3, 3), [1, 16, 8, 8], dtype=np.float16, bias=bias)
    yield "conv2d double", conv((3, 3), [1, 16, 8, 8], dtype=np.float64, bias=bias)
    yield "conv2d IR 3", conv((3, 3), [1, 16, 8, 8], bias=bias, ir=3, opset=9)
    yield "fused conv", conv(
        (3, 3), [1, 16, 8, 8], bias=bias, domain="com.microsoft", activation="LeakyRelu",
        activation_params=[0.3], pads=[1, 1, 1, 1],
    )  # fmt: skip
    transposed = np.swapaxes(low_rank(rng, 24, 16, (3, 4)), 0, 1)
    yield "transposed conv", Case(
        "FD_TK", "ConvTranspose", transposed, [1, 16, 6, 5], [16, 24], bias=bias, strides=[2, 3], pads=[1, 0, 0, 1],
        output_padding=[1, 2],
    )  # fmt: skip
    pointwise = low_rank(rng, 24, 16)[..., None, None]
    yield "pointwise", Case("FD_SVD", "Conv", pointwise, [2, 16, 7, 6], [16, 24], bias=bias)
    yield "pointwise strided and padded", Case(
        "FD_SVD", "Conv", pointwise, [2, 16, 7, 6], [16, 24], bias=bias, strides=[2, 3], pads=[1, 2, 0, 1]
    )
    yield "pointwise 1d", Case("FD_SVD", "Conv", pointwise[..., 0], [2, 16, 7], [16, 24])
    yield "pointwise transposed", Case(
        "FD_SVD", "ConvTranspose", np.swapaxes(pointwise, 0, 1), [1, 16, 5, 5], [16, 24], bias=bias, strides=[2, 2]
    )
    yield "fused pointwise", Case(
        "FD_SVD", "Conv", pointwise, [1, 16, 5, 5], [16, 24], bias=bias, domain="com.microsoft", activation="Tanh"
    )
    matrix = low_rank(rng, 24, 16)
    for a in (0, 1):
        for b in (0, 1):
            shape = [16, 7] if a else [7, 16]
            yield f"gemm transA={a} transB={b}", Case(
                "FD_SVD", "Gemm", matrix if b else matrix.T, shape, [16, 24], bias=bias, transA=a, transB=b, alpha=0.5,
                beta=2.0,
            )  # fmt: skip
            # The weight on the left: out = W x.
            left, data = (matrix.T if a else matrix), ([7, 16] if b else [16, 7])
            yield f"gemm weight left transA={a} transB={b}", Case(
                "FD_SVD", "Gemm", left, data, [16, 24], transA=a, transB=b, alpha=1.5, weight_first=True
            )
    yield "gemm opset 9", Case("FD_SVD", "Gemm", matrix, [7, 16], [16, 24], bias=bias, opset=9, transB=1)
    yield "gemm without bias", Case("FD_SVD", "Gemm", matrix, [7, 16], [16, 24], transB=1)
    yield "matmul", Case("FD_SVD", "MatMul", matrix.T, [2, 3, 7, 16], [16, 24])
    yield "matmul left", Case("FD_SVD", "MatMul", matrix, [2, 3, 16, 7], [16, 24], weight_first=True)
    yield "matmul of a transposed weight", Case(
        "FD_SVD", "MatMul", matrix, [2, 7, 16], [16, 24], through=[("Transpose", {"perm": [1, 0]})]
    )
    yield "matmul behind identity and transpose", Case(
        "FD_SVD", "MatMul", matrix, [7, 16], [16, 24], through=[("Identity", {}), ("Transpose", {})]
    )
    yield "fused matmul", Case(
        "FD_SVD", "FusedMatMul", matrix, [3, 7, 16], [16, 24], domain="com.microsoft", transB=1, alpha=0.25
    )
    yield "fused gemm", Case(
        "FD_SVD", "FusedGemm", matrix, [7, 16], [16, 24], bias=bias, domain="com.microsoft", transB=1, activation="Relu"
    )
    yield "long kernel", Case("FD_TK", "Conv", low_rank(rng, 24, 16, (1, 7)), [1, 16, 5, 16], [16, 24], pads=[0, 3, 0, 3])


def separable_cases():
    """Kernels that are sums of few products of vectors."""
    rng = np.random.default_rng(2)

    def kernel(outputs, inputs, *taps):
        weight = np.zeros((outputs, inputs, *taps))
        for _ in range(3):
            vectors = [rng.normal(size=n) for n in (outputs, inputs, *taps)]
            product = vectors[0]
            for vector in vectors[1:]:
                product = np.multiply.outer(product, vector)
            weight += product
        return weight

    bias = rng.normal(size=12)
    yield "cp 2d", Case("FD_CP", "Conv", kernel(12, 8, 3, 3), [2, 8, 9, 8], [8, 12], bias=bias, pads=[1, 1, 1, 1])
    yield "cp 2d strided, dilated, uneven", Case(
        "FD_CP", "Conv", kernel(12, 8, 3, 2), [1, 8, 15, 12], [8, 12], bias=bias, strides=[2, 3], dilations=[2, 1],
        pads=[2, 0, 1, 1],
    )  # fmt: skip
    yield "cp SAME_UPPER", Case(
        "FD_CP", "Conv", kernel(12, 8, 4, 3), [1, 8, 11, 10], [8, 12], strides=[3, 2], auto_pad="SAME_UPPER"
    )
    yield "cp 1d", Case("FD_CP", "Conv", kernel(12, 8, 5), [2, 8, 20], [8, 12], bias=bias, strides=[2], pads=[2, 1])
    yield "cp 3d", Case("FD_CP", "Conv", kernel(12, 8, 2, 3, 3), [1, 8, 5, 6, 7], [8, 12], bias=bias, strides=[1, 2, 1])
    yield "cp of a row, strided across", Case(
        "FD_CP", "Conv", kernel(12, 8, 1, 5), [1, 8, 9, 16], [8, 12], strides=[2, 2], pads=[1, 2, 0, 2]
    )


CASES = dict(cases())
CASES.update(separable_cases())
for name in ("fused conv", "fused pointwise"):
    CASES[name].op = "FusedConv"


def outputs(model, seed=3):
    model = running.widened(model)
    rng = np.random.default_rng(seed)
    return running.run(model, running.random_inputs(model, rng))[0]


def decompose(client, case, folder, ranks, **arguments):
    source, target = folder / "layer.onnx", folder / "decomposed.onnx"
    onnx.save(case.model(), source)
    setting = espalier.LayerSetting("layer", ranks)
    found = client.compress(
        source, target, compression_method=case.method, layers=[setting], overwrite=True, verify=True, **arguments
    )
    result = onnx.load(target)
    onnx.checker.check_model(result)
    return found, result


def relative(a, b):
    return np.abs(a.astype(np.float64) - b).max() / np.abs(b).max()


@pytest.mark.parametrize("name", CASES)
def test_a_weight_of_low_rank_computes_what_it_did(client, folder, name):
    case = CASES[name]
    ranks = {"FD_TK": [RANK, RANK], "FD_SVD": [RANK], "FD_CP": [3]}[case.method]
    found, result = decompose(client, case, folder, ranks)
    limit = 4e-3 if case.dtype == np.float16 else 1e-4
    assert relative(outputs(result), outputs(case.model())) < limit
    replaced = found.replaced[0]
    assert (replaced.layer, replaced.method, replaced.ranks) == ("layer", case.method, ranks)
    assert replaced.relative_error < limit
    assert found.verification.twin.status == "exact"
    # What it says is what it wrote.
    stored = {t.name: list(t.dims) for t in result.graph.initializer}
    stored.update({n.output[0]: list(n.attribute[0].t.dims) for n in result.graph.node if n.op_type == "Constant"})
    assert [stored[part.parameter] for part in replaced.by] == [part.shape for part in replaced.by]
    # Nothing is left of the old weight, nor of what moved it.
    assert "layer.weight" not in stored
    assert not any(node.op_type in ("Identity", "Transpose") for node in result.graph.node)
    assert found.compressed.parameters == sum(int(np.prod(dims)) for dims in stored.values())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.method != "FD_CP"])
def test_full_rank_loses_nothing(client, folder, name):
    case = CASES[name]
    rng = np.random.default_rng(5)
    case = Case.__new__(Case)
    case.__dict__.update(CASES[name].__dict__)
    case.weight = rng.normal(size=case.weight.shape)
    ranks = case.channels if case.method == "FD_TK" else [min(case.channels)]
    found, result = decompose(client, case, folder, ranks)
    limit = 4e-3 if case.dtype == np.float16 else 1e-4
    assert relative(outputs(result), outputs(case.model())) < limit
    if case.method == "FD_SVD":
        assert any("at a loss" in warning for warning in found.warnings)


def test_one_mode_at_full_rank_needs_no_layer_of_its_own(client, folder):
    case = CASES["conv2d"]
    for ranks, count, ops in (([16, 5], 2, [9, 1]), ([5, 24], 2, [1, 9])):
        found, result = decompose(client, case, folder, ranks)
        taps = [int(np.prod(part.shape[2:])) for part in found.replaced[0].by]
        assert len(found.replaced[0].by) == count and taps == ops
        assert relative(outputs(result), outputs(case.model())) < 1e-4


def two_layers(rng, tail, shape=(1, 16, 8, 8)):
    """Two pointwise convolutions with one weight, and what `tail` adds."""
    weight = low_rank(rng, 16, 16)[..., None, None].astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w"], ["y"], "second"),
    ]
    stored = [numpy_helper.from_array(weight, "w")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)]
    tail(nodes, stored, outputs)
    graph = helper.make_graph(
        nodes, "shared", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], outputs, stored
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_shared_weight_is_decomposed_once(client, folder):
    rng = np.random.default_rng(7)
    model = two_layers(rng, lambda *_: None)
    onnx.save(model, folder / "shared.onnx")
    found = client.compress(
        folder / "shared.onnx", folder / "out.onnx", compression_method="FD_SVD", target={"energy": 0.9999999},
        options={"min_num_of_value": 1}, overwrite=True, verify=True,
    )  # fmt: skip
    assert [entry.layer for entry in found.replaced] == ["first", "second"]
    result = onnx.load(folder / "out.onnx")
    assert len(result.graph.initializer) == 2
    assert found.compressed.parameters == 2 * 16 * RANK
    assert relative(outputs(result), outputs(model)) < 1e-4


def test_a_weight_that_others_read_stays_and_the_layer_is_left_alone(client, folder):
    def tail(nodes, stored, outputs):
        nodes.append(helper.make_node("ReduceSum", ["w"], ["total"], "sum", keepdims=0))
        outputs.append(helper.make_tensor_value_info("total", TensorProto.FLOAT, []))

    model = two_layers(np.random.default_rng(7), tail)
    onnx.save(model, folder / "held.onnx")
    with pytest.raises(espalier.ServerError) as refused:
        client.compress(
            folder / "held.onnx", folder / "out.onnx", compression_method="FD_SVD", target={"energy": 0.9},
            options={"min_num_of_value": 1}, overwrite=True,
        )  # fmt: skip
    assert refused.value.kind == "nothingToCompress" and "no_cost_reduction" in str(refused.value)
    # By hand it is done, and the weight stays.
    settings = [espalier.LayerSetting(name, [RANK]) for name in ("first", "second")]
    found = client.compress(
        folder / "held.onnx", folder / "out.onnx", compression_method="FD_SVD", layers=settings, overwrite=True,
        verify=True,
    )  # fmt: skip
    result = onnx.load(folder / "out.onnx")
    assert "w" in {t.name for t in result.graph.initializer}
    assert found.compressed.parameters == 16 * 16 + 2 * 16 * RANK
    assert any("other nodes read it" in warning for warning in found.warnings)
    assert relative(outputs(result), outputs(model)) < 1e-4


def test_factors_of_a_model_with_a_data_file_go_to_its_data_file(client, folder):
    model = CASES["conv2d"].model()
    onnx.save(CASES["conv2d"].model(), folder / "external.onnx", save_as_external_data=True, location="external.data", size_threshold=0)
    setting = espalier.LayerSetting("layer", [RANK, RANK])
    found = client.compress(
        folder / "external.onnx", folder / "written.onnx", compression_method="FD_TK", layers=[setting], overwrite=True,
        verify=True,
    )  # fmt: skip
    assert found.verification.twin.status == "exact"
    bare = onnx.load(folder / "written.onnx", load_external_data=False)
    assert any(t.data_location == TensorProto.EXTERNAL for t in bare.graph.initializer)
    result = onnx.load(folder / "written.onnx")
    assert relative(outputs(result), outputs(model)) < 1e-4


def test_new_names_are_new_even_to_subgraphs(client, folder):
    """A subgraph binds just the names that the factors would get."""
    case = CASES["conv2d without bias"]
    model = case.model()
    inner = helper.make_graph(
        [helper.make_node("Identity", ["y"], ["layer.input.weight"], "layer_input")],
        "inner", [], [helper.make_tensor_value_info("layer.input.weight", TensorProto.FLOAT, [None] * 4)],
    )  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    model.graph.node.append(
        helper.make_node("If", ["condition"], ["z"], "branch", then_branch=inner, else_branch=inner)
    )
    model.graph.output[0].name = "z"
    onnx.save(model, folder / "inner.onnx")
    found = client.compress(
        folder / "inner.onnx", folder / "out.onnx", compression_method="FD_TK", overwrite=True, verify=True,
        layers=[espalier.LayerSetting("layer", [RANK, RANK])],
    )  # fmt: skip
    result = onnx.load(folder / "out.onnx")
    onnx.checker.check_model(result)
    assert "layer.input.weight" not in {part.parameter for part in found.replaced[0].by}
    assert relative(outputs(result), outputs(model)) < 1e-4


def refusal(client, folder, case, **arguments):
    onnx.save(case.model(), folder / "refused.onnx")
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(espalier.ServerError) as refused:
        client.compress(folder / "refused.onnx", folder / "never.onnx", **arguments)
    assert sorted(path.name for path in folder.iterdir()) == before
    return refused.value


@pytest.mark.parametrize(
    "ranks, method, said",
    [
        ([0, 3], "FD_TK", "at least 1"),
        ([17, 3], "FD_TK", "from 1 to"),
        ([3], "FD_TK", "in_rank"),
        ([3, 3], "FD_SVD", "[rank]"),
        ([3, 2.5], "FD_TK", "values"),
    ],
)
def test_ranks_that_no_layer_has_are_refused(client, folder, ranks, method, said):
    setting = espalier.LayerSetting("layer", ranks)
    error = refusal(client, folder, CASES["conv2d"], compression_method=method, layers=[setting])
    assert error.code == -32602 and said in str(error)


@pytest.mark.parametrize(
    "case, method, code",
    [
        ("conv2d", "FD_SVD", "spatial_kernel"),
        ("pointwise", "FD_TK", "pointwise"),
        ("matmul", "FD_CP", "pointwise"),
        ("transposed conv", "FD_CP", "transposed_convolution"),
    ],
)
def test_a_method_that_does_not_take_a_layer_says_which_does(client, folder, case, method, code):
    setting = espalier.LayerSetting("layer", [3, 3] if method == "FD_TK" else [3])
    error = refusal(client, folder, CASES[case], compression_method=method, layers=[setting])
    assert error.kind == "layer.unavailable" and code in str(error)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"compression_method": "FD_TK", "recommendation_method": "SLAMP", "recommendation_ratio": 0.5}, "VBMF"),
        ({"compression_method": "PR_L2", "recommendation_method": "VBMF", "recommendation_ratio": 0.5}, "SLAMP"),
        ({"compression_method": "FD_CP", "recommendation_ratio": 0.5}, "ranks of your own"),
        ({"compression_method": "FD_CP", "target": {"energy": 0.5}}, "ranks of your own"),
    ],
)
def test_methods_and_recommenders_that_do_not_go_together(client, folder, arguments, said):
    error = refusal(client, folder, CASES["conv2d"], **arguments)
    assert error.kind == "option.invalidCombination" and said in str(error)


@pytest.mark.parametrize("ratio", [-1.01, 1.01])
def test_vbmf_takes_ratios_from_minus_one_to_one(client, folder, ratio):
    error = refusal(client, folder, CASES["conv2d"], compression_method="FD_TK", recommendation_ratio=ratio)
    assert error.code == -32602 and "/recommendation_ratio" in json.dumps(error.data)


def degenerate(weight):
    return Case("FD_TK", "Conv", weight, [1, 16, 8, 8], [16, 24])


@pytest.mark.parametrize(
    "weight, code",
    [
        (np.zeros((24, 16, 3, 3)), "zero_weight"),
        (np.full((24, 16, 3, 3), np.nan), "non_finite_weights"),
        (np.where(np.arange(24 * 144).reshape(24, 16, 3, 3) == 100, np.inf, 1.0), "non_finite_weights"),
    ],
)
def test_degenerate_weights_have_a_reason(client, folder, weight, code):
    error = refusal(client, folder, degenerate(weight), compression_method="FD_TK", recommendation_ratio=0)
    assert error.kind == "nothingToCompress" and code in str(error)
    setting = espalier.LayerSetting("layer", [3, 3])
    error = refusal(client, folder, degenerate(weight), compression_method="FD_TK", layers=[setting])
    assert error.kind == "layer.unavailable" and code in str(error)


def test_a_constant_weight_has_rank_one(client, folder):
    case = degenerate(np.full((24, 16, 3, 3), 0.3))
    onnx.save(case.model(), folder / "constant.onnx")
    found = client.compress(
        folder / "constant.onnx", folder / "out.onnx", compression_method="FD_TK", recommendation_ratio=0,
        options={"min_num_of_value": 1}, overwrite=True, verify=True,
    )  # fmt: skip
    assert found.replaced[0].ranks == [1, 1]
    assert relative(outputs(onnx.load(folder / "out.onnx")), outputs(case.model())) < 1e-4


def test_what_a_recommendation_says_is_what_a_compression_does(client, folder):
    rng = np.random.default_rng(11)
    weight = low_rank(rng, 64, 48, (3, 3), rank=10) + 0.1 * rng.normal(size=(64, 48, 3, 3))
    case = Case("FD_TK", "Conv", weight, [1, 48, 10, 10], [48, 64], pads=[1, 1, 1, 1])
    onnx.save(case.model(), folder / "noisy.onnx")
    for goal in ({"recommendation_ratio": 0}, {"recommendation_ratio": 0.4}, {"target": {"macs": 0.5}},
                 {"target": {"energy": 0.95}}, {"recommendation_ratio": -0.5}):  # fmt: skip
        said = client.recommend(folder / "noisy.onnx", compression_method="FD_TK", **goal)
        done = client.compress(
            folder / "noisy.onnx", folder / "a.onnx", compression_method="FD_TK", overwrite=True, **goal
        )
        fed = client.compress(
            folder / "noisy.onnx", folder / "b.onnx", compression_method="FD_TK", layers=said.available_layers,
            overwrite=True,
        )  # fmt: skip
        assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()
        assert said.estimate.compressed.parameters == done.compressed.parameters == fed.compressed.parameters
        assert said.estimate.compressed.macs == done.compressed.macs
        ranks = said.available_layers[0].raw["ranks"] if hasattr(said.available_layers[0], "raw") else None
        assert ranks is None or done.replaced[0].relative_error <= ranks["relative_error"] * (1 + 1e-9)
    vbmf = client.recommend(folder / "noisy.onnx", compression_method="FD_TK", recommendation_ratio=0)
    assert vbmf.available_layers[0].values == [10, 10]


@pytest.mark.parametrize("name", ["conv2d strided, dilated, uneven", "gemm transA=1 transB=0", "cp 2d", "conv2d half"])
def test_a_written_file_is_verified_again_and_a_spoilt_one_is_not(client, folder, name):
    case = CASES[name]
    ranks = {"FD_TK": [3, 4], "FD_SVD": [3], "FD_CP": [2]}[case.method]
    found, result = decompose(client, case, folder, ranks)
    model = folder / "layer.onnx"
    verification = client.verify(model, folder / "decomposed.onnx", found)
    assert (verification.status, verification.twin.status) == ("approximate", "exact")

    def spoilt(change):
        copy = onnx.ModelProto()
        copy.CopyFrom(result)
        change(copy.graph)
        onnx.save(copy, folder / "spoilt.onnx")
        try:
            return client.verify(model, folder / "spoilt.onnx", found).status
        except espalier.ServerError as error:
            return error.kind

    def scaled(graph):
        array = numpy_helper.to_array(graph.initializer[-1])
        graph.initializer[-1].CopyFrom(numpy_helper.from_array(array * array.dtype.type(1.05), graph.initializer[-1].name))

    def bias(graph):
        for tensor in graph.initializer:
            if tensor.name == "layer.bias":
                array = numpy_helper.to_array(tensor) + 1
                tensor.CopyFrom(numpy_helper.from_array(array.astype(case.dtype), tensor.name))

    def settings(graph):
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in ("strides", "pads", "alpha") and attribute.name:
                    if attribute.ints:
                        attribute.ints[0] += 1
                    else:
                        attribute.f *= 2
                    return

    assert spoilt(lambda graph: None) == "approximate"
    for change in (scaled, bias, settings):
        if change is settings and not case.attributes:
            continue
        assert spoilt(change) in ("failed", "verify.failed"), change.__name__
