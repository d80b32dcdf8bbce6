import Compression
import ModelGraph
import Runtime

/// What a verification feeds: inputs of one shape each, and the shapes of all values under them.
struct VerificationSamples {
  let source: any SampleSource
  let shapes: ShapeTable
  /// Others in case the model cannot run on these; nil where there is no other choice.
  private let shorterLengths: [String: [Int]]?

  /// How many samples the dataset holds, where they come from one.
  var givenCount: Int?

  /// Enough to meet values on both sides of what networks branch on, few enough to wait for.
  private static let batches = 3
  private static let seed: UInt64 = 0
  /// The most samples of a dataset, and the most bytes of outputs that they may make, which are kept for comparing.
  private static let mostSamples = 32
  private static let mostOutputBytes = 256 << 20

  /// Samples for a model, from a dataset if there is one.
  static func make(
    for model: CompressibleModel, dataset: WirePath?, work: Work
  ) throws(Failure) -> VerificationSamples {
    if let dataset { return try read(dataset.path, for: model, work: work) }
    return try generated(for: model)
  }

  /// The first samples of a dataset, as many as there is room for. Those of other shapes than the first are left out:
  /// what a model must equal is made for lengths that are known.
  private static func read(
    _ path: String, for model: CompressibleModel, work: Work
  ) throws(Failure) -> VerificationSamples {
    let graph = model.graph
    let dataset = try Dataset(
      path: path, for: graph.inputs.map { ModelValue(graph[$0]) }, sampleLimit: mostSamples, work: work)
    var samples = try UniformSamples(dataset, work: work)
    let shapes = try graph.inferShapes(given: samples.shapes).nominal
    let outputBytes = graph.outputs.reduce(0) { bytes, id in
      bytes + (shapes[id].map { $0.reduce(graph[id].dtype?.byteWidth ?? 8, *) } ?? 0)
    }
    samples.limit(toBatches: max(batches, mostOutputBytes / max(outputBytes, 1)))
    return VerificationSamples(
      source: samples, shapes: shapes, shorterLengths: nil, givenCount: dataset.givenCount)
  }

  /// Made up, at the lengths the model is usually run with.
  private static func generated(for model: CompressibleModel) throws(Failure) -> VerificationSamples {
    let shapes = model.shapes
    return try generated(
      for: model.graph, shapes.nominal,
      isOpen: { input, axis in shapes.nominalLengths.shapes[input]?[axis] != shapes.analysisLengths.shapes[input]?[axis]
      })
  }

  private static func generated(
    for graph: Graph, _ shapes: ShapeTable, isOpen: (ValueID, Int) -> Bool
  ) throws(Failure) -> VerificationSamples {
    var inputs: [GeneratedInputs.Input] = []
    var shorter: [String: [Int]] = [:]
    for id in graph.inputs {
      let value = graph[id]
      guard let dtype = value.dtype, let shape = shapes[id] else {
        throw Failure(
          .datasetRequired,
          "nothing can be made up for input '\(value.name)', whose type or shape is not known; give a dataset_path",
          details: ["input": .string(value.name)])
      }
      inputs.append(
        GeneratedInputs.Input(
          name: value.name, dtype: dtype, shape: shape, bounds: integerBounds(id, dtype, graph, shapes)))
      shorter[value.name] = shape.enumerated().map { axis, length in
        axis > 0 && isOpen(id, axis) ? max(length / 4, min(length, 4)) : length
      }
    }
    let isShorter = inputs.contains { shorter[$0.name] != $0.shape }
    return VerificationSamples(
      source: try GeneratedInputs(inputs, batches: batches, seed: seed), shapes: shapes,
      shorterLengths: isShorter ? shorter : nil)
  }

  /// For models that take only so many tokens, which nothing but running them shows: open lengths made a quarter.
  /// - Returns: nil where nothing is open, or where the graph's shapes do not fit shorter lengths.
  func shortened(for graph: Graph) throws(Failure) -> VerificationSamples? {
    guard let shorterLengths, let shapes = try? graph.inferShapes(given: shorterLengths) else { return nil }
    let before = self.shapes
    return try Self.generated(for: graph, shapes.nominal) { input, axis in
      before[input]?[axis] != shapes.nominal[input]?[axis]
    }
  }

  /// Integers that pick rows of tables stay within the smallest of these; bytes are images; others are masks and
  /// counts, which let everything through.
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

/// The batches of a source that have the shapes of its first one.
private struct UniformSamples: SampleSource {
  private let source: any SampleSource
  private(set) var sampleCount: Int
  private let batchLength: Int
  /// By input.
  let shapes: [String: [Int]]

  init(_ source: some SampleSource, work: Work) throws(Failure) {
    var shapes: [String: [Int]]?
    var (count, batchLength) = (0, 1)
    try source.forEachBatch(work: Work(cancellation: work.cancellation)) { batch throws(Failure) in
      let found = batch.inputs.mapValues(\.shape)
      shapes = shapes ?? found
      guard found == shapes else { return }
      count += batch.samples.count
      batchLength = batch.samples.count
    }
    guard let shapes else { throw Failure(.datasetMismatch, "the dataset holds no samples") }
    (self.source, self.shapes, sampleCount, self.batchLength) = (source, shapes, count, batchLength)
  }

  mutating func limit(toBatches count: Int) { sampleCount = min(sampleCount, count * batchLength) }

  func forEachBatch(work: Work, _ body: (Batch) throws(Failure) -> Void) throws(Failure) {
    var start = 0
    try source.forEachBatch(work: work) { batch throws(Failure) in
      guard start < sampleCount, batch.inputs.mapValues(\.shape) == shapes else { return }
      let end = start + batch.samples.count
      try body(Batch(samples: start..<end, sampleCount: sampleCount, inputs: batch.inputs))
      start = end
    }
  }
}
