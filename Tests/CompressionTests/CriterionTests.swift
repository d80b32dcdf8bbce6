import Compression
import Foundation
import ModelGraph
import Numerics
import TestSupport
import Testing

// Criteria on graphs: which weights and which feature maps they look at, and what is refused.

/// Options under which a ratio removes exactly what it says.
private func exactly(_ change: (inout PruningOptions) -> Void = { _ in }) -> PruningOptions {
  plainOptions {
    $0.groupPolicy = .none
    change(&$0)
  }
}

/// The channels of a parameter's axis that go at `ratio`.
private func removed(
  _ model: CompressibleModel, _ method: CompressionMethod, _ layer: String, _ ratio: Double, _ parameter: String,
  axis: Int = 0, _ options: PruningOptions = exactly(), maps: (any FeatureMapSource)? = nil
) throws -> [Int] {
  let setting = LayerSetting(name: layer, channels: [], values: .ratio(ratio), use: true)
  let planned = try model.plan(
    CompressionRequest(method: method, choice: .layers([setting]), options: options, maps: maps), work: Work())
  guard case .all(let indices) = planned.removed.first(where: { $0.parameter == parameter && $0.axis == axis })?.indices
  else { return [] }
  return indices
}

private func recommendation(
  _ model: CompressibleModel, _ method: CompressionMethod, _ options: PruningOptions = PruningOptions(),
  maps: (any FeatureMapSource)? = nil
) throws -> Recommendation {
  try model.recommend(
    RecommendationRequest(method: method, recommendation: .slamp, goal: .ratio(0.4), options: options, maps: maps),
    work: Work())
}

private func model(_ build: (GraphBuilder) -> Void) throws -> CompressibleModel {
  let g = GraphBuilder()
  build(g)
  return try CompressibleModel(graph: g.build(), sizeBytes: 1000)
}

@Suite("Criteria on weights") struct WeightCriterionTests {
  @Test("A batch normalization scales the filters before it under PR_BN_L2 alone, and under backward")
  func folding() throws {
    // Norms 1, 2, 3, 4; scales 8, 4, 1, 1.
    let model = try model { g in
      let x = g.input("x", [1, 1, 4, 4])
      let w = g("Conv", x, g.floats([1, -2, 3, -4], shape: [4, 1, 1, 1], name: "w"), name: "layer")
      let n = g(
        "BatchNormalization", w, g.floats([8, -4, 1, 1]), g.floats([0, 0, 0, 0]), g.floats([0, 0, 0, 0]),
        g.floats([1, 1, 1, 1]), with: ["epsilon": 0.0])
      g.output(g.conv(g("Relu", n), 4, 5, "v"))
    }
    #expect(try removed(model, .l2, "layer", 0.5, "w") == [0, 1])
    #expect(try removed(model, .l1, "layer", 0.5, "w") == [0, 1])
    #expect(try removed(model, .batchNormL2, "layer", 0.5, "w") == [2, 3])
    #expect(try removed(model, .l2, "layer", 0.5, "w", exactly { $0.policy = .backward }) == [2, 3])
  }

  @Test("A channel that nothing multiplies by more than 0 goes first under PR_GROUP_L2")
  func consumers() throws {
    let model = try model { g in
      let x = g.input("x", [1, 1, 4, 4])
      let w = g("Conv", x, g.floats([3, 2, 3, 3], shape: [4, 1, 1, 1], name: "w"), name: "layer")
      g.output(g("Conv", w, g.floats([4, 4, 0, 4, 4, 4, 0, 4], shape: [2, 4, 1, 1], name: "v")))
    }
    #expect(try removed(model, .l2, "layer", 0.25, "w") == [1])
    #expect(try removed(model, .groupL2, "layer", 0.25, "w") == [2])
  }

  @Test("The layers of a sum are one under backward: filters end to end")
  func joined() throws {
    let model = try model { g in
      let x = g.input("x", [1, 1, 4, 4])
      let a = g("Conv", x, g.floats([3, 0, 2], shape: [3, 1, 1, 1], name: "a"), name: "a")
      let b = g("Conv", x, g.floats([0, 2.9, 2.5], shape: [3, 1, 1, 1], name: "b"), name: "b")
      g.output(g.conv(g("Add", a, b, name: "sum"), 3, 5, "v"))
    }
    // sqrt(9), sqrt(8.41), sqrt(10.25); means 1.5, 1.45, 2.25.
    #expect(try removed(model, .l2, "sum", 0.34, "a", exactly { $0.policy = .backward }) == [1])
    // Total distances of (3, 0), (0, 2.9), (2, 2.5): the last is in the middle.
    #expect(try removed(model, .geometricMedian, "sum", 0.34, "b", exactly { $0.policy = .backward }) == [2])
  }

  @Test("PR_RANDOM is the same for the same seed and another for another")
  func random() throws {
    let model = try CompressibleModel(graph: residualNetwork(), sizeBytes: 1000)
    func layers(_ seed: Int) throws -> [Int] {
      try removed(model, .random, "conv_one.a", 0.5, "one.a", exactly { $0.seed = seed })
    }
    #expect(try layers(1) == layers(1) && layers(1).count == 24)
    #expect(try layers(1) != layers(2))
  }

  @Test("Quantised filters are scored by the numbers they stand for")
  func quantised() throws {
    let model = try model { g in
      let x = g.input("x", [1, 1, 4, 4])
      let stored = Tensor(dtype: .int8, shape: [4, 1, 1, 1], bytes: TensorBytes(copying: [10, 20, 30, -40] as [Int8]))
      let w = g(
        "DequantizeLinear", g.stored(stored, name: "w"), g.floats([8, 2, 1, 1]),
        g.stored(Tensor(dtype: .int8, shape: [4], bytes: TensorBytes(copying: [0, 0, 0, 0] as [Int8]))),
        with: ["axis": 0])
      g.output(g.conv(g("Conv", x, w, name: "layer"), 4, 5, "v"))
    }
    for method in [CompressionMethod.l1, .l2, .groupL2, .geometricMedian] {
      #expect(try removed(model, method, "layer", 0.5, "w").contains(0) == false, "\(method)")
    }
  }
}

@Suite("Criteria on feature maps") struct FeatureMapCriterionTests {
  @Test("Maps are looked at behind the activation, however it is written")
  func taps() {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 4, 4])
    func tap(_ build: (ValueID) -> (ValueID, expected: ValueID)) -> (NodeID, ValueID) {
      let layer = g.conv(x, 3, 8, "w\(g.build().nodes.count)")
      let (end, expected) = build(layer)
      g.output(g.conv(end, 8, 2, "v\(g.build().nodes.count)"))
      return (NodeID(g.build().values[layer.index].producer?.index ?? -1), expected)
    }
    var cases: [(NodeID, ValueID)] = []
    cases.append(tap { ($0, $0) })
    cases.append(
      tap {
        let y = g("Relu", g.batchNorm($0, 8, "n1")); return (y, y)
      })
    cases.append(
      tap {
        let n = g.batchNorm($0, 8, "n2"); let y = g("Mul", n, g("Sigmoid", n)); return (y, y)
      })
    cases.append(
      tap {
        let erf = g("Erf", g("Div", $0, g.floats([1.4], shape: [])))
        let y = g("Mul", g("Mul", $0, g("Add", erf, g.floats([1], shape: []))), g.floats([0.5], shape: []))
        return (y, y)
      })
    cases.append(
      tap {
        let y = g("Relu", $0); return (g("MaxPool", y, with: ["kernel_shape": [2, 2]]), y)
      })
    // Squeeze and excite gates what the layer made: it is another's work too.
    cases.append(
      tap {
        let y = g("Relu", $0); return (g("Mul", y, g("Sigmoid", g("GlobalAveragePool", y))), y)
      })
    cases.append(
      tap {
        let y = g("Relu", $0); return (g("Add", y, g.conv(x, 3, 8, "other")), y)
      })
    let graph = g.build()
    for (node, expected) in cases {
      #expect(TapPoints.afterActivation(of: node, in: graph) == expected, "\(graph[expected].name)")
    }
  }

  /// The golden residual pair: what the last Add gives decides, not what goes into it.
  @Test("Under backward the output of the last Add is measured")
  func lastAdd() throws {
    struct Contents: Decodable {
      struct Maps: Decodable { let map_a: NestedWeight, map_b: NestedWeight, nuclear_of_sum: [Double], order: [Int] }
      struct Pair: Decodable { let backward_maps: Maps }
      let residual_pair: Pair
    }
    let maps = try golden("policy.json", as: Contents.self).residual_pair.backward_maps
    let model = try model { g in
      let x = g.input("x", ["N", 3, 4, 4])
      let sum = g("Add", g.conv(x, 3, 6, "a"), g.conv(x, 3, 6, "b"), name: "sum")
      g.output(g.conv(g("Relu", sum), 6, 5, "v"))
    }
    var source = SyntheticMaps(model)
    source.batches = [1, 1]
    source.stated = ["sum_out": zip(maps.map_a.elements, maps.map_b.elements).map { Float($0 + $1) }]
    for count in 1...5 {
      let found = try removed(
        model, .nuclearNorm, "sum", Double(count) / 6, "a", exactly { $0.policy = .backward }, maps: source)
      #expect(found == maps.order.prefix(count).sorted())
    }
  }

  @Test("A mean over samples, whatever the batches, of maps, vectors over tokens and single numbers")
  func layouts() throws {
    let model = try model { g in
      let x = g.input("x", ["N", 3, 4, 4])
      let maps = g.conv(x, 3, 6, "a", name: "a")
      let tokens = g(
        "MatMul", g("Transpose", g("Reshape", x, g.ints([0, 3, 16])), with: ["perm": [0, 2, 1]]),
        g.weight([3, 6], name: "b"), name: "b")
      let single = g("Gemm", g("Flatten", g("GlobalAveragePool", x)), g.weight([3, 6], name: "c"), name: "c")
      g.output(
        g.conv(maps, 6, 2, "u"), g("MatMul", tokens, g.weight([6, 2], name: "v")),
        g("Gemm", single, g.weight([6, 2], name: "w")))
    }
    let algebra = try LinearAlgebra()
    let source = SyntheticMaps(model)
    for (layer, axis, shape) in [("a", 0, [4, 4]), ("b", 1, [1, 16]), ("c", 1, [1, 1])] {
      let value = try #require(model.graph.nodes.first { $0.name == layer }?.output(0))
      let elements = source.elements(of: value, first: 0, count: 3).floats
      let size = shape[0] * shape[1]
      var means = [Double](repeating: 0, count: 6)
      for sample in 0..<3 {
        for channel in 0..<6 {
          let map = (0..<size).map { k -> Double in
            let index = layer == "b" ? (sample * 16 + k) * 6 + channel : (sample * 6 + channel) * size + k
            return Double(elements[index])
          }
          means[channel] += try #require(
            map.withUnsafeBufferPointer { NuclearNorm.of($0, rows: shape[0], columns: shape[1], algebra) })
        }
      }
      let order = means.indices.sorted { means[$0] < means[$1] }
      for batches in [[3], [2, 1], [1, 1, 1]] {
        var source = SyntheticMaps(model, identity: "\(batches)")
        source.batches = batches
        #expect(
          try removed(model, .nuclearNorm, layer, 0.5, layer, axis: axis, maps: source) == order.prefix(3).sorted())
      }
    }
  }

  /// Per head against a singular value decomposition of the scores themselves.
  @Test("Query and key neurons go in pairs, per head, by how they bear the scores")
  func pairs() throws {
    let model = try CompressibleModel(graph: transformer(), sizeBytes: 1000)
    let (source, algebra) = (SyntheticMaps(model), try LinearAlgebra())
    let product = try #require(model.graph.nodes.first { $0.name == "one.scores" })
    let queries = source.elements(of: try #require(product.input(0)), first: 0, count: 3).floats
    let keys = source.elements(of: try #require(product.input(1)), first: 0, count: 3).floats
    func q(_ b: Int, _ h: Int, _ t: Int, _ i: Int) -> Double {
      Double(queries[((b * 4 + h) * 9 + t) * 8 + i])
    }
    func k(_ b: Int, _ h: Int, _ t: Int, _ i: Int) -> Double {
      Double(keys[((b * 4 + h) * 8 + i) * 9 + t])
    }
    func length(_ x: [Double]) -> Double { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    var expected: [Int] = []
    for h in 0..<4 {
      var scores = [Double](repeating: 0, count: 8)
      for b in 0..<3 {
        var matrix = [Double](repeating: 0, count: 81)
        for t in 0..<9 { for u in 0..<9 { for i in 0..<8 { matrix[t * 9 + u] += q(b, h, t, i) * k(b, h, u, i) } } }
        let (_, left, right) = try #require(algebra.singularValues(ofSquare: &matrix, size: 9))
        for i in 0..<8 {
          for j in 0..<2 {
            let (u, v) = (
              (0..<9).map { left[j * 9 + $0] * q(b, h, $0, i) }, (0..<9).map { right[j * 9 + $0] * k(b, h, $0, i) }
            )
            let lengths = length((0..<9).map { q(b, h, $0, i) }) * length((0..<9).map { k(b, h, $0, i) })
            scores[i] += abs(u.reduce(0, +)) * abs(v.reduce(0, +)) / lengths
          }
        }
      }
      expected += scores.indices.sorted { scores[$0] < scores[$1] }.prefix(3).sorted().map { h * 8 + $0 }
    }
    let name = try #require(
      try model.coupling(CouplingOptions(), Work()).groups.first { group in group.blocks == 4 }?.name)
    let options = exactly { $0.snpGamma = .fixed(2) }
    for parameter in ["one.q", "one.k"] {
      let found = try removed(model, .snp, name, 0.375, parameter, axis: 1, options, maps: source)
      #expect(found == expected, "\(parameter)")
    }
  }

  @Test("Values go per head where another head has their direction, hidden neurons where another has theirs")
  func redundancy() throws {
    let model = try CompressibleModel(graph: transformer(), sizeBytes: 1000)
    let source = SyntheticMaps(model)
    for (layer, parameter, blocks) in [("v", "one.v", 4), ("up", "one.up", 1)] {
      let weight = try #require(model.graph.values.first { $0.name == parameter }?.tensor)
      let filters = try #require(WeightFilters(weight, axis: 1))
      let all = try scores(FilterGeometry.redundancy.scores(of: [filters], cellCount: filters.count).scores)
      let width = all.count / blocks
      let expected = (0..<blocks).flatMap { block in
        (block * width..<(block + 1) * width).sorted { all[$0] < all[$1] }.prefix(width / 4).sorted()
      }
      let node = try #require(
        model.graph.nodes.first { $0.inputs.contains { $0.map { model.graph[$0].name } == parameter } })
      #expect(
        try removed(model, .snp, node.name, 0.25, parameter, axis: 1, maps: source) == expected, "\(layer)")
    }
  }

  @Test("Without data there is nothing to measure")
  func noData() throws {
    let network = try CompressibleModel(graph: residualNetwork(), sizeBytes: 1000)
    let attention = try CompressibleModel(graph: transformer(), sizeBytes: 1000)
    for (model, method) in [(network, CompressionMethod.nuclearNorm), (attention, .nuclearNorm), (attention, .snp)] {
      let failure = try #require(throws: Failure.self) { try recommendation(model, method) }
      #expect(failure.kind == .datasetRequired && failure.message.contains(method.rawValue))
    }
    // No two activations are multiplied in it: weights are enough.
    #expect(try recommendation(network, .snp).availableLayers.contains(where: \.use))
  }

  @Test("Data on which the model computes infinity are refused, naming the node")
  func notFinite() throws {
    let network = try CompressibleModel(graph: residualNetwork(), sizeBytes: 1000)
    var source = SyntheticMaps(network)
    source.broken = "\(try #require(network.graph.nodes.first { $0.op == "Relu" }).name)_out"
    var failure = try #require(throws: Failure.self) { try recommendation(network, .nuclearNorm, maps: source) }
    #expect(failure.kind == .datasetNonFinite && failure.message.contains("Relu"))
    let attention = try CompressibleModel(graph: transformer(), sizeBytes: 1000)
    let product = try #require(attention.graph.nodes.first { $0.name == "one.scores" })
    var maps = SyntheticMaps(attention)
    maps.broken = attention.graph[try #require(product.input(1))].name
    failure = try #require(throws: Failure.self) { try recommendation(attention, .snp, maps: maps) }
    #expect(failure.kind == .datasetNonFinite && failure.message.contains("Transpose"))
  }

  @Test("Other data, other scores") func cache() throws {
    let model = try CompressibleModel(graph: residualNetwork(), sizeBytes: 1000)
    func gone(_ maps: SyntheticMaps) throws -> [Int] {
      try removed(model, .nuclearNorm, "two.sum", 0.25, "stem", maps: maps)
    }
    let first = try gone(SyntheticMaps(model))
    var other = SyntheticMaps(model, identity: "other")
    // The stream's channels by their number, the first weakest.
    other.stated = ["Relu_2_out": (0..<3 * 32 * 36).map { Float($0 / 36 % 32) }]
    #expect(try gone(SyntheticMaps(model)) == first && first != Array(0..<8))
    #expect(try gone(other) == Array(0..<8))
  }
}
