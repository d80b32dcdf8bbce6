"""Hostile Keras files, the configuration: JSON that is none, settings no layer can have, networks that are none, and what
Keras would run when it loads them."""

import json

from hostile_corpus import EFFECT, HUGE, MARK, PAYLOAD
from hostile_keras_corpus import FORMS, add, changed, configuration


def document(name, change, must_fail=True):
    """For both kinds: `change` alters the parsed JSON, or returns other bytes."""
    for suffix in FORMS:

        def content(suffix=suffix):
            parsed = configuration(suffix)
            text = change(parsed)
            return changed(suffix, text if isinstance(text, bytes) else json.dumps(parsed).encode())

        add(f"json_{name}{suffix.replace('.', '_')}", suffix, content, must_fail)


def layers(parsed):
    return parsed["config"]["layers"]


def layer(parsed, name):
    return next(entry for entry in layers(parsed) if entry["config"]["name"] == name)


def entry(which, /, **members):
    return lambda parsed: layer(parsed, which).update(members)


def setting(which, /, **members):
    return lambda parsed: layer(parsed, which)["config"].update(members)


def without(name, member):
    return lambda parsed: layer(parsed, name).pop(member) and None


def model(**members):
    return lambda parsed: parsed["config"].update(members)


def text(old, new):
    """The JSON as text with a part of it replaced."""

    def change(parsed):
        written = json.dumps(parsed).encode()
        assert old in written
        return written.replace(old, new, 1)

    return change


def source(name, *place):
    """Where the first argument of the layer's only call comes from."""

    def change(parsed):
        tensor = layer(parsed, name)["inbound_nodes"][0]["args"][0]
        tensor["config"]["keras_history"] = list(place)

    return change


def arguments(name, *values):
    return lambda parsed: layer(parsed, name)["inbound_nodes"][0].update(args=list(values))


def tensor(name, node=0, index=0, shape=(None, 8, 8, 8)):
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": list(shape), "dtype": "float32", "keras_history": [name, node, index]},
    }


def renamed(old, new):
    """A layer under another name, everywhere."""

    def change(parsed):
        return json.dumps(parsed).replace(json.dumps(old), json.dumps(new)).encode()

    return change


def nested_sharing(parsed, depth=64):
    """Each model calls the one within it twice: 2^64 calls of one layer."""
    inner = layer(parsed, "twice")
    for level in range(depth):
        wrapped = json.loads(json.dumps(inner))
        first = tensor(f"entry{level}")
        wrapped["config"] = {
            "name": f"level{level}",
            "trainable": True,
            "layers": [
                {
                    "module": "keras.layers", "class_name": "InputLayer", "registered_name": None, "name": f"entry{level}",
                    "config": {"batch_shape": [None, 8, 8, 8], "dtype": "float32", "sparse": False, "name": f"entry{level}"},
                    "inbound_nodes": [],
                },
                {
                    **inner,
                    "name": inner["config"]["name"],
                    "inbound_nodes": [
                        {"args": [first], "kwargs": {}},
                        {"args": [tensor(inner["config"]["name"], 0)], "kwargs": {}},
                    ],
                },
            ],
            "input_layers": [[f"entry{level}", 0, 0]],
            "output_layers": [[inner["config"]["name"], 1, 0]],
        }  # fmt: skip
        wrapped |= {"class_name": "Functional", "module": "keras.src.models.functional", "registered_name": "Functional"}
        wrapped.pop("build_config", None)
        inner = wrapped
    last = layer(parsed, "twice")
    nodes, name = last["inbound_nodes"], last["config"]["name"]
    last.clear()
    last.update(inner)
    last["config"]["name"] = last["name"] = name
    last["inbound_nodes"] = nodes


def deep_models(parsed):
    """Sequentials within one another, two thousand deep, under the depth that JSON itself may have."""
    inner = json.dumps(layer(parsed, "twice")["config"]["layers"])
    for _ in range(2000):
        inner = '[{"module": "keras", "class_name": "Sequential", "registered_name": "Sequential", "config": {"name": "s", "layers": %s}}]' % inner  # noqa: E501
    layer(parsed, "twice")["config"]["layers"] = "HERE"
    return json.dumps(parsed).replace('"HERE"', inner).encode()


def called_very_often(parsed):
    """One layer with very many calls, each on the one before."""
    held = layer(parsed, "relu")
    held["inbound_nodes"] += [{"args": [tensor("relu", index)], "kwargs": {}} for index in range(30_000)]


SYNTAX = {
    "empty": lambda parsed: b"",
    "no_json": lambda parsed: b"{",
    "null": lambda parsed: b"null",
    "list": lambda parsed: b"[]",
    "empty_object": lambda parsed: b"{}",
    "no_text": lambda parsed: b'{"a": "\xff\xfe"}',
    "zero_byte": lambda parsed: b'{"a\\u0000": 1}',
    "deep_lists": lambda parsed: b"[" * 200_000 + b"]" * 200_000,
    "deep_objects": lambda parsed: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep_models": deep_models,
    "member_twice": text(b'"class_name"', b'"class_name": "Functional", "class_name"'),
    "filters_twice": text(b'"filters": 8', b'"filters": 8, "filters": 4'),
    "integer_huge": text(b'"filters": 8', b'"filters": ' + b"8" * 400),
    "nan": text(b'"filters": 8', b'"filters": NaN'),
    "infinity": text(b'"filters": 8', b'"filters": Infinity'),
    "trailing": lambda parsed: json.dumps(parsed).encode() + b"{}",
    "lone_surrogate": text(b'"name": "c1"', b'"name": "\\ud800"'),
}
SETTINGS = {
    "filters_negative": setting("c1", filters=-8),
    "filters_zero": setting("c1", filters=0),
    "filters_other": setting("c1", filters=9),
    "filters_huge": setting("c1", filters=HUGE),
    "filters_beyond_64_bits": setting("c1", filters=2**64 + 8),
    "filters_real": setting("c1", filters=8.5),
    "filters_text": setting("c1", filters="8"),
    "filters_bool": setting("c1", filters=True),
    "filters_null": setting("c1", filters=None),
    "filters_list": setting("c1", filters=[8]),
    "filters_absent": lambda parsed: layer(parsed, "c1")["config"].pop("filters") and None,
    "kernel_zero": setting("c1", kernel_size=[0, 0]),
    "kernel_other": setting("c1", kernel_size=[5, 5]),
    "kernel_huge": setting("c1", kernel_size=[HUGE, HUGE]),
    "kernel_negative": setting("c1", kernel_size=[-3, -3]),
    "kernel_of_one_axis": setting("c1", kernel_size=[3]),
    "kernel_of_three_axes": setting("c1", kernel_size=[3, 3, 1]),
    "strides_zero": setting("c1", strides=[0, 0]),
    "strides_negative": setting("c1", strides=[-1, 1]),
    "strides_text": setting("c1", strides="many"),
    "dilation_zero": setting("c1", dilation_rate=[0, 0]),
    "dilation_huge": setting("c1", dilation_rate=[HUGE, 1], padding="valid"),
    "padding_unknown": setting("c1", padding="reflect"),
    "padding_object": setting("c1", padding={}),
    "layout_unknown": setting("c1", data_format="channels_middle"),
    "groups_zero": setting("c1", groups=0),
    "groups_uneven": setting("c1", groups=2),
    "groups_huge": setting("c1", groups=HUGE),
    "use_bias_text": setting("c1", use_bias="yes"),
    "bias_absent": setting("c1", use_bias=False),
    "activation_unknown": setting("c1", activation="shell"),
    "activation_number": setting("c1", activation=7),
    "activation_list": setting("c1", activation=["relu"]),
    "units_huge": setting("d1", units=HUGE),
    "units_overflowing": setting("d1", units=2**61),
    "units_other": setting("d1", units=13),
    "axis_beyond": setting("norm", axis=9),
    "axis_far_below": setting("norm", axis=-9),
    "axis_huge": setting("norm", axis=HUGE),
    "axis_text": setting("norm", axis="channels"),
    "epsilon_text": setting("norm", epsilon="small"),
    "shape_impossible": setting("rows", target_shape=[63, 8]),
    "shape_negative": setting("rows", target_shape=[-2, 8]),
    "shape_of_two_unknowns": setting("rows", target_shape=[-1, -1]),
    "shape_huge": setting("rows", target_shape=[HUGE, HUGE]),
    "shape_text": setting("rows", target_shape="flat"),
    "shape_zero": setting("rows", target_shape=[0, 8]),
    "input_negative": setting("image", batch_shape=[None, -8, 8, 3]),
    "input_huge": setting("image", batch_shape=[None, HUGE, HUGE, HUGE]),
    "input_real": setting("image", batch_shape=[None, 8.5, 8, 3]),
    "input_text": setting("image", batch_shape="images"),
    "input_of_other_rank": setting("image", batch_shape=[None, 8, 3]),
    "input_without_axes": setting("image", batch_shape=[]),
    "input_null": setting("image", batch_shape=None),
    "input_zero": setting("image", batch_shape=[None, 0, 0, 3]),
    "input_dtype_unknown": setting("image", dtype="float7"),
    "dtype_unknown": setting("c1", dtype="quaternion"),
    "dtype_object": setting("c1", dtype={"class_name": "os.system", "config": {"name": PAYLOAD}}),
}
STRUCTURE = {
    "no_class": lambda parsed: parsed.pop("class_name") and None,
    "no_configuration": lambda parsed: parsed.pop("config") and None,
    "class_number": lambda parsed: parsed.update(class_name=7),
    "configuration_list": lambda parsed: parsed.update(config=[]),
    "configuration_null": lambda parsed: parsed.update(config=None),
    "layers_absent": lambda parsed: parsed["config"].pop("layers") and None,
    "layers_null": model(layers=None),
    "layers_object": model(layers={}),
    "layers_empty": model(layers=[]),
    "layers_numbers": model(layers=[1, 2, 3]),
    "layer_null": lambda parsed: layers(parsed).insert(1, None),
    "layer_list": lambda parsed: layers(parsed).insert(1, []),
    "layer_twice": lambda parsed: layers(parsed).insert(1, layers(parsed)[1]),
    "layer_gone": lambda parsed: layers(parsed).remove(layer(parsed, "norm")),
    "layer_without_class": without("c1", "class_name"),
    "layer_without_configuration": without("c1", "config"),
    "layer_class_number": entry("c1", class_name=7),
    "layer_class_empty": entry("c1", class_name=""),
    "layer_name_differs": entry("c1", name="other"),
    "layer_name_number": setting("c1", name=7),
    "calls_absent": without("c1", "inbound_nodes"),
    "calls_null": entry("c1", inbound_nodes=None),
    "calls_empty": entry("c1", inbound_nodes=[]),
    "calls_number": entry("c1", inbound_nodes=7),
    "calls_of_numbers": entry("c1", inbound_nodes=[7]),
    "call_without_arguments": arguments("c1"),
    "call_of_two": arguments("c1", tensor("image"), tensor("image")),
    "call_of_null": arguments("c1", None),
    "call_of_number": arguments("c1", 7),
    "call_of_text": arguments("c1", "image"),
    "join_of_one_number": arguments("join", 7),
    "join_of_nothing": arguments("join", []),
    "join_of_misfits": arguments("join", [tensor("relu"), tensor("image")]),
    "source_unknown": source("norm", "nobody", 0, 0),
    "source_itself": source("norm", "norm", 0, 0),
    "source_of_other_node": source("norm", "c1", 7, 0),
    "source_of_negative_node": source("norm", "c1", -1, 0),
    "source_of_huge_node": source("norm", "c1", HUGE, 0),
    "source_of_other_tensor": source("norm", "c1", 0, 3),
    "source_short": source("norm", "c1"),
    "source_empty": source("norm"),
    "source_number": source("norm", 1, 2, 3),
    "source_text": source("norm", "c1", "0", "0"),
    "circle": source("c1", "join", 0, 0),
    "circle_of_calls": lambda parsed: layer(parsed, "twice")["inbound_nodes"][0]["args"][0]["config"].update(
        keras_history=["twice", 1, 0]
    ),
    "inputs_absent": lambda parsed: parsed["config"].pop("input_layers") and None,
    "inputs_empty": model(input_layers=[]),
    "inputs_unknown": model(input_layers=[["nobody", 0, 0]]),
    "inputs_number": model(input_layers=7),
    "input_is_no_input": model(input_layers=[["c1", 0, 0]]),
    "outputs_absent": lambda parsed: parsed["config"].pop("output_layers") and None,
    "outputs_empty": model(output_layers=[]),
    "outputs_unknown": model(output_layers=[["nobody", 0, 0]]),
    "outputs_of_other_node": model(output_layers=[["d2", 5, 0]]),
    "outputs_number": model(output_layers=7),
    "input_layer_twice": lambda parsed: layers(parsed).append({**layers(parsed)[0]}),
    "nested_sharing": nested_sharing,
    "nested_layers_number": lambda parsed: layer(parsed, "twice")["config"].update(layers=7),
    "class_unknown": entry("c1", class_name="Conv2E"),
    "model_class_unknown": lambda parsed: parsed.update(class_name="Transformer"),
    "model_is_a_layer": lambda parsed: parsed.update(class_name="Dense", module="keras.layers"),
}
# What Keras resolves when it loads: modules, functions and code. A file with it would carry it to its user.
FUNCTION = {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"}
OBJECT = {"module": "os", "class_name": "system", "config": {"command": PAYLOAD}, "registered_name": None}
CODE = {
    "class_name": "__lambda__",
    "config": {"code": "4wEAAAAAAAAAAAAAAAEAAAADAAAA8wQAAACXAGQAUwA=", "defaults": None, "closure": None},
}
PAYLOADS = {
    "module_os": entry("c1", module="os", class_name="system", config={"name": "c1", "command": PAYLOAD}),
    "module_builtins": entry("c1", module="builtins", class_name="eval", config={"name": "c1", "source": EFFECT}),
    "model_module_os": lambda parsed: parsed.update(module="os", class_name="system", registered_name=None),
    "activation_function": setting("c1", activation=FUNCTION),
    "activation_object": setting("c1", activation=OBJECT),
    "activation_code": setting("c1", activation=CODE),
    "initializer_object": setting("c1", kernel_initializer=OBJECT),
    "initializer_function": setting("c1", kernel_initializer=FUNCTION),
    "regularizer_object": setting("c1", kernel_regularizer=OBJECT),
    "constraint_object": setting("c1", bias_constraint=OBJECT),
    "argument_object": arguments("c1", OBJECT),
    "keyword_code": lambda parsed: layer(parsed, "relu")["inbound_nodes"][0].update(kwargs={"x": CODE}),
    "setting_nobody_reads": setting("relu", harmless=OBJECT),
}


def foreign(class_name, module, settings):
    """An activation that is code of somebody."""

    def change(parsed):
        held = layer(parsed, "relu")
        held.update(class_name=class_name, module=module, registered_name=f"{module}>{class_name}")
        held["config"] = {"name": "relu", "trainable": True, "dtype": "float32", **settings}

    return change


# These may be frozen, or refused.
FOREIGN = {
    "lambda_code": foreign("Lambda", "keras.layers", {"function": CODE, "arguments": {}}),
    "lambda_legacy": foreign("Lambda", "keras.layers", {"function": ["4wEAAAA=", None, None], "function_type": "lambda"}),
    "lambda_named": foreign("Lambda", "keras.layers", {"function": "system", "module": "os", "function_type": "function"}),
    "custom_layer": foreign("Mine", "my_package", {"path": MARK}),
    "torch_module": foreign("TorchModuleWrapper", "keras.layers", {"module": {"buffer_bytes": "gAKVAA=="}, "name": "relu"}),
    "saved_model_layer": foreign("TFSMLayer", "keras.layers", {"filepath": "/etc", "call_endpoint": "serve"}),
}
NAMES = {
    "up": "../../../../etc/passwd",
    "absolute": "/etc/passwd",
    "slash": "a/b",
    "dots": "..",
    "dot": ".",
    "empty": "",
    "zero": "a\0b",
    "newline": "a\nb",
    "long": "n" * 1_000_000,
    "bidirectional": "\u202eeman",
}
for _table in (SYNTAX, SETTINGS, STRUCTURE, PAYLOADS):
    for _name, _change in _table.items():
        document(_name, _change)
for _name, _change in FOREIGN.items():
    document(_name, _change, must_fail=False)
for _name, _value in NAMES.items():
    document(f"name_{_name}", renamed("c1", _value), must_fail=False)
# Other versions may say so, or nobody minds.
document("called_thirty_thousand_times", called_very_often, must_fail=False)
document("nested_without_layers", lambda parsed: layer(parsed, "twice")["config"].update(layers=[]), must_fail=False)
document("layer_name_null", setting("c1", name=None), must_fail=False)
document("compiled_with_code", lambda parsed: parsed.update(compile_config={"loss": CODE}), must_fail=False)
document("built_with_lies", entry("c1", build_config={"input_shape": [None, HUGE, "x", {}]}), must_fail=False)
document("real_huge", lambda parsed: json.dumps(parsed).replace('"momentum": 0.99', '"momentum": 1e999').encode(), False)
