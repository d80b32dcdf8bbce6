import JSON
import JSONRPC
import Server
import Testing

/// Requests that are wrong as written: which member, and why, before anything is loaded.
struct ParamsTests {
  private static let compress: JSONObject = [
    "model": "/nowhere/model", "compression_method": "PR_L2", "recommendation_method": "SLAMP",
    "recommendation_ratio": 0.3, "output_path": "/nowhere/out",
  ]

  private func without(_ names: String..., adding members: JSONObject = [:]) -> JSONValue {
    .object(JSONObject(Self.compress.members.filter { !names.contains($0.name) } + members.members))
  }

  private func option(_ name: String, _ value: JSONValue) -> JSONValue {
    without(adding: ["options": .object([name: value])])
  }

  @Test func wrongMembersAreNamed() throws {
    let client = try TestClient.initialized(.forTests())
    let cases: [(JSONValue, String)] = [
      (without("model"), "/model"), (without("model", adding: ["model": 3]), "/model"),
      (without("model", adding: ["model": "relative/path"]), "/model"),
      (without("model", adding: ["model": "file://elsewhere/path"]), "/model"),
      (without("model", adding: ["model": "file:///a%zz"]), "/model"),
      (without("model", adding: ["model": "file:///a%00"]), "/model"),
      (without("model", adding: ["model": ["format": "onnx"]]), "/model/path"),
      (without("model", adding: ["model": ["path": "/x", "format": 1]]), "/model/format"),
      (without("compression_method"), "/compression_method"),
      (without("compression_method", adding: ["compression_method": "PR_XX"]), "/compression_method"),
      (without("recommendation_ratio"), "/recommendation_ratio"),
      (without("recommendation_ratio", adding: ["recommendation_ratio": 0]), "/recommendation_ratio"),
      (without("recommendation_ratio", adding: ["recommendation_ratio": 1.0]), "/recommendation_ratio"),
      (without("recommendation_ratio", adding: ["recommendation_ratio": "0.3"]), "/recommendation_ratio"),
      (without("output_path"), "/output_path"), (without("output_path", adding: ["output_path": "o"]), "/output_path"),
      (without(adding: ["target": ["macs": 0.5]]), "/target"),
      (without(adding: ["dataset_path": "/d"]), "/dataset_path"),
      (without("recommendation_ratio", adding: ["target": ["macs": 1]]), "/target/macs"),
      (without("recommendation_ratio", adding: ["target": ["size_bytes": "half"]]), "/target/size_bytes"),
      (without("recommendation_ratio", adding: ["target": ["flops": 0.5]]), "/target"),
      (without("recommendation_ratio", adding: ["target": ["macs": 0.5, "parameters": 0.5]]), "/target"),
      (without("recommendation_ratio", adding: ["target": 0.5]), "/target"),
      (
        without(
          "recommendation_method", "recommendation_ratio", adding: ["layers": [["name": "a"]], "target": ["macs": 0.5]]),
        "/target"
      ),

      (without(adding: ["reconstruct": true]), "/reconstruct"),
      (without(adding: ["reconstruct": "all"]), "/reconstruct"), (without(adding: ["verify": 1]), "/verify"),
      (without(adding: ["workDoneToken": 1.5]), "/workDoneToken"),
      (without(adding: ["input_shapes": [["shape": [1, "N"]]]]), "/input_shapes/0/shape/1"),
      (without(adding: ["input_shapes": [["batch": 1, "channel": 3]]]), "/input_shapes/0"),
      (without(adding: ["input_shapes": [["shape": [1], "dtype": "float31"]]]), "/input_shapes/0/dtype"),
      (without(adding: ["layers": []]), "/recommendation_method"),
      (
        without("recommendation_method", "recommendation_ratio", adding: ["layers": [["values": [0.5]]]]),
        "/layers/0/name"
      ),
      (
        without("recommendation_method", "recommendation_ratio", adding: ["layers": [["name": "a", "values": [1.5]]]]),
        "/layers/0/values"
      ),
      (
        without("recommendation_method", "recommendation_ratio", adding: ["layers": [["name": "a"], ["name": "a"]]]),
        "/layers/1/name"
      ),
      (without(adding: ["options": []]), "/options"),
      (option("polcy", "sum"), "/options/polcy"), (option("a/b~c", 1), "/options/a~1b~0c"),
      (option("policy", "forward"), "/options/policy"), (option("layer_norm", 1), "/options/layer_norm"),
      (option("seed", -1), "/options/seed"), (option("snp_gamma", 0), "/options/snp_gamma"),
      (option("snp_gamma", 1.5), "/options/snp_gamma"), (option("snp_gamma", "all"), "/options/snp_gamma"),
      (option("step_size", 0), "/options/step_size"), (option("step_size", 2.0), "/options/step_size"),
      (option("step_op", "nearest"), "/options/step_op"),
      (option("reshape_channel_axis", 2), "/options/reshape_channel_axis"),
      (option("min_num_of_value", -1), "/options/min_num_of_value"), (option("reverse", "yes"), "/options/reverse"),
      (option("max_layer_ratio", 0), "/options/max_layer_ratio"), (option("include", "a"), "/options/include"),
      (option("exclude", [1]), "/options/exclude/0"), (option("index_base", 2), "/options/index_base"),
    ]
    for (params, path) in cases {
      let error = try client.error("compress", params)
      #expect(error["code"] == -32602, "\(path): \(error)")
      #expect(error["data"]?["path"] == .string(path), "\(error)")
      #expect(error["message"]?.stringValue?.isEmpty == false)
    }
    try client.finish()
  }

  @Test("Letter case of names does not matter, unknown members beside the options neither")
  func lenient() throws {
    let client = try TestClient.initialized(.forTests())
    for params in [
      without(),
      without(
        "compression_method", "recommendation_method",
        adding: [
          "compression_method": "pr_l2", "recommendation_method": "Slamp", "else": 1,
          "options": ["policy": "SUM", "step_op": "Round_Up"],
        ]),
      without("output_path", adding: ["dry_run": true, "dataset_path": .null]),
      without(adding: ["options": ["include": .null, "max_layer_ratio": 1]]),
    ] {
      #expect(try client.error("compress", params)["data"]?["kind"] == "model.notFound")
    }
    try client.finish()
  }
}
