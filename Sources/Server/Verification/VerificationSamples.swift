import Compression
import ModelGraph
import Runtime

/// What a verification feeds: inputs of one shape each, and the shapes of all values under them.
struct VerificationSamples {
  let source: any SampleSource
  let shapes: ShapeTable

  /// Enough to meet values on both sides of what networks branch on, few enough to wait for.
  private static let batches = 3
  private static let seed: UInt64 = 0

  /// Made up, at the lengths the model is usually run with.
  static func generated(for model: CompressibleModel) throws(Failure) -> VerificationSamples {
    let graph = model.graph
    var inputs: [GeneratedInputs.Input] = []
    for id in graph.inputs {
      let value = graph[id]
      guard let dtype = value.dtype, let shape = model.shapes.nominal[id] else {
        throw Failure(
          .datasetRequired,
          "nothing can be made up for input '\(value.name)', whose type or shape is not known; give a dataset_path",
          details: ["input": .string(value.name)])
      }
      inputs.append(
        GeneratedInputs.Input(
          name: value.name, dtype: dtype, shape: shape, bounds: integerBounds(id, dtype, graph, model.shapes.nominal)))
    }
    return VerificationSamples(
      source: try GeneratedInputs(inputs, batches: batches, seed: seed), shapes: model.shapes.nominal)
  }

  /// Integers that pick rows of tables stay within the smallest of these; bytes are images; others are masks and counts,
  /// which let everything through.
  private static func integerBounds(
    _ input: ValueID, _ dtype: DType, _ graph: Graph, _ shapes: ShapeTable
  ) -> ClosedRange<Int> {
    var rows: Int?
    var holders = [input]
    var seen: Set<ValueID> = [input]
    while let value = holders.popLast() {
      for use in graph.uses(of: value) {
        let node = graph[use.node]
        if let table = pickedTable(node, use.input), let shape = shapes[table.value], table.axis < shape.count {
          rows = min(rows ?? .max, shape[table.axis])
        } else if movers.contains(node.op), use.input == 0, let output = node.output(0), seen.insert(output).inserted {
          holders.append(output)
        }
      }
    }
    if let rows { return 0...max(0, rows - 1) }
    return dtype == .uint8 ? 0...255 : 1...1
  }

  /// Operators that hand on the numbers they are given.
  private static let movers: Set = [
    "Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Expand", "Slice", "Concat", "Split",
    "Tile",
  ]

  /// The table of which an input of the node picks rows.
  private static func pickedTable(_ node: Node, _ input: Int) -> (value: ValueID, axis: Int)? {
    switch node.qualifiedOperator {
    case "Gather" where input == 1:
      let axis = node.int("axis", default: 0)
      return axis >= 0 ? node.input(0).map { ($0, axis) } : nil
    case "com.microsoft.EmbedLayerNormalization":
      // Tokens, segments; positions come last.
      let tables = [0: 2, 1: 4, 8: 3]
      return tables[input].flatMap(node.input).map { ($0, 0) }
    default: return nil
    }
  }
}
