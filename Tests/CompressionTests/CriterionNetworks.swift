import Compression
import ModelGraph
import TestSupport

// Two small networks on which every criterion runs, and feature maps for them that no model had to compute.

extension GraphBuilder {
  /// Batch normalization with stored statistics; scales differ from channel to channel.
  func batchNorm(_ x: ValueID, _ channels: Int, _ name: String) -> ValueID {
    let scale = (0..<channels).map { 0.5 + Float($0 * 7 % channels) / Float(channels) }
    let variance = (0..<channels).map { 0.5 + Float($0 * 5 % channels) / Float(channels) }
    return self(
      "BatchNormalization", x, floats(scale, name: "\(name).scale"), weight([channels], name: "\(name).bias"),
      weight([channels], name: "\(name).mean"), floats(variance, name: "\(name).variance"), name: name)
  }
}

/// Two residual blocks of 32 channels with group convolutions of 8 groups, batch normalization and activations of one
/// node and of two.
func residualNetwork() -> Graph {
  let g = GraphBuilder()
  var stream = g("Relu", g.batchNorm(g.conv(g.input("x", ["N", 3, 6, 6]), 3, 32, "stem"), 32, "stem_norm"))
  for block in ["one", "two"] {
    let a = g("Relu", g.batchNorm(g.conv(stream, 32, 48, "\(block).a"), 48, "\(block).a_norm"))
    let k = g.batchNorm(g.conv(a, 48, 48, "\(block).k", groups: 8), 48, "\(block).k_norm")
    let swish = g("Mul", k, g("Sigmoid", k))
    let c = g.batchNorm(g.conv(swish, 48, 32, "\(block).c"), 32, "\(block).c_norm")
    stream = g("Relu", g("Add", c, stream, name: "\(block).sum"))
  }
  let pooled = g("Flatten", g("GlobalAveragePool", stream))
  g.output(g("Gemm", pooled, g.weight([10, 32], name: "head"), g.weight([10], name: "head.bias"), with: ["transB": 1]))
  return g.build()
}

/// Two blocks of attention (4 heads of 8) and of hidden neurons over 9 tokens of 32 channels, as vision transformers
/// have them.
func transformer() -> Graph {
  let g = GraphBuilder()
  let patches = g(
    "Conv", g.input("x", ["N", 3, 12, 12]), g.weight([32, 3, 4, 4], name: "patch"), with: ["strides": [4, 4]])
  let flat = g("Reshape", patches, g.ints([0, 32, 9]))
  var stream = g("Add", g("Transpose", flat, with: ["perm": [0, 2, 1]]), g.weight([1, 9, 32], name: "position"))
  for block in ["one", "two"] {
    func linear(_ x: ValueID, _ inputs: Int, _ outputs: Int, _ name: String) -> ValueID {
      g(
        "Add", g("MatMul", x, g.weight([inputs, outputs], name: "\(block).\(name)")),
        g.weight([outputs], name: "\(block).\(name).bias"))
    }
    func heads(_ name: String, _ order: [Int]) -> ValueID {
      g("Transpose", g("Reshape", linear(stream, 32, 32, name), g.ints([0, 9, 4, 8])), with: ["perm": .ints(order)])
    }
    let scores = g("MatMul", heads("q", [0, 2, 1, 3]), heads("k", [0, 2, 3, 1]), name: "\(block).scores")
    let attention = g("Softmax", g("Mul", scores, g.floats([0.125], shape: [])), with: ["axis": -1])
    let mixed = g("Transpose", g("MatMul", attention, heads("v", [0, 2, 1, 3])), with: ["perm": [0, 2, 1, 3]])
    stream = g("Add", stream, linear(g("Reshape", mixed, g.ints([0, 9, 32])), 32, 32, "o"))
    let hidden = linear(stream, 32, 64, "up")
    let gelu = g(
      "Mul", hidden, g("Add", g("Erf", g("Div", hidden, g.floats([1.4142135], shape: []))), g.floats([1], shape: [])))
    stream = g("Add", stream, linear(gelu, 64, 32, "down"), name: "\(block).sum")
  }
  g.output(g("MatMul", g("ReduceMean", stream, with: ["axes": [1], "keepdims": 0]), g.weight([32, 10], name: "head")))
  return g.build()
}

/// Feature maps that follow from a value's number and an element's position alone, or that a test states.
struct SyntheticMaps: FeatureMapSource {
  let identity: String
  let model: CompressibleModel
  /// Samples per batch; the model's batch in all its values is 1.
  var batches = [2, 1]
  var stated: [String: [Float]] = [:]
  /// The value in which one element is infinite.
  var broken: String?

  var sampleCount: Int { batches.reduce(0, +) }

  init(_ model: CompressibleModel, identity: String = "synthetic") { (self.model, self.identity) = (model, identity) }

  func run(
    _ values: [ValueID], work: Work, _ body: ([FeatureMap]) throws(Failure) -> Void
  ) throws(Failure) {
    var first = 0
    for batch in batches {
      let start = first
      try body(values.compactMap { FeatureMap(value: $0, tensor: elements(of: $0, first: start, count: batch)) })
      first += batch
    }
  }

  /// The elements of samples `first ..< first + count`.
  func elements(of id: ValueID, first: Int, count: Int) -> Tensor {
    var shape = model.shapes.nominal[id] ?? []
    let size = shape.dropFirst().reduce(1, *)
    shape[0] = count
    let name = model.graph[id].name
    var elements: [Float] = []
    for sample in first..<first + count {
      if let stated = stated[name] {
        elements += stated[sample * size..<(sample + 1) * size]
      } else {
        var random = SeededGenerator(seed: UInt64(id.index * 1009 + sample))
        elements += (0..<size).map { _ in Float.random(in: -1...1, using: &random) }
      }
    }
    if broken == name { elements[size / 2] = .infinity }
    return Tensor(float32: elements, shape: shape)
  }
}

extension Tensor {
  /// A copy of float32 elements.
  var floats: [Float] {
    withExtendedLifetime(self) {
      (0..<elementCount).map { bytes.base.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
    }
  }
}
