import Compression
import ModelGraph
import TestSupport
import Testing

// Channels and ranks chosen together from weights alone, and the joint plan that comes of it. With data it is proved on
// real networks (Tests/Proof/test_automatic.py).

@Suite struct AutomaticTests {
  /// Three products with a bias each: the first makes channels of which some matter little, the second is nearly of low
  /// rank, the third is neither.
  private func model(_ size: Int = 64) throws -> CompressibleModel {
    var random = SeededGenerator(seed: 11)
    func number() -> Float { Float.random(in: -1...1, using: &random) }
    let g = GraphBuilder()
    let x = g.input("x", [4, .init(integerLiteral: size)])
    let first = (0..<size * size).map { k in number() * (k % size % 3 == 0 ? 1e-3 : 1) }
    let (left, right) = ((0..<size * 4).map { _ in number() }, (0..<size * 4).map { _ in number() })
    let second = (0..<size * size).map { k in
      (0..<4).reduce(1e-3 * number()) { $0 + left[k / size * 4 + $1] * right[k % size * 4 + $1] }
    }
    var value = x
    for (index, weight) in [first, second, (0..<size * 10).map { _ in number() }].enumerated() {
      let width = weight.count / size
      let product = g("MatMul", value, g.floats(weight, shape: [size, width], name: "w\(index)"))
      let sum = g("Add", product, g.floats((0..<width).map { _ in number() }, name: "b\(index)"))
      value = index < 2 ? g("Relu", sum) : sum
    }
    g.output(value)
    return try CompressibleModel(graph: g.build(), sizeBytes: 4 * (2 * size * size + 12 * size + 10) + 1000)
  }

  private func request(_ share: Double, _ measure: ModelSize.Measure = .macs) -> AutomaticRequest {
    var (pruning, decomposition) = (PruningOptions(defaultsOf: .groupL2), DecompositionOptions())
    (pruning.minNumOfValue, decomposition.minNumOfValue) = (1, 1)
    return AutomaticRequest(
      measure: measure, share: share,
      means: JointMeans(criterion: .groupL2, pruning: pruning, decomposition: decomposition))
  }

  @Test("The target is met from below, within a percent", arguments: [0.3, 0.5, 0.8], ModelSize.Measure.allCases)
  func meetsTarget(share: Double, measure: ModelSize.Measure) throws {
    // Wide enough that a channel or a rank is less than a percent of what is left.
    let planned = try model(384).plan(request(share, measure), work: Work())
    let left = Double(planned.compressed[measure]) / Double(planned.original[measure])
    #expect(left <= share && left >= 0.99 * share)
    #expect(
      planned.layers.allSatisfy {
        $0.choice?.grounds?.measure == measure && $0.choice?.grounds?.reason.isEmpty == false
      })
    #expect(planned.warnings.contains { $0.contains("dataset_path") })
  }

  @Test("What is nearly of low rank is decomposed; channels that matter little go") func choosesBoth() throws {
    let model = try model()
    let planned = try model.plan(request(0.4), work: Work())
    #expect(planned.replaced.contains { $0.parameter == "w1" && $0.ranks[0] <= 8 })
    #expect(!planned.removed.isEmpty)
    // The smaller graph is the one that both plans together make, with the sizes that were told.
    let smaller = try model.graph.applying(planned.plan, work: Work())
    let again = try CompressibleModel(graph: smaller, sizeBytes: 0).inspect(work: Work())
    #expect(again.size.macs == planned.compressed.macs && again.size.parameters == planned.compressed.parameters)
    #expect(planned.certificate.valuesChecked > 0 && planned.certificate.labelsCompared > 0)
  }

  @Test("What a reply says leads to the same plan") func replays() throws {
    let model = try model()
    let planned = try model.plan(request(0.4), work: Work())
    let compressed = try model.graph.applying(planned.plan, work: Work())
    let removal = RemovalListing(removed: planned.removed, copied: planned.copied)
    func listing(_ change: (inout DecompositionListing.Entry) -> Void = { _ in }) -> DecompositionListing {
      DecompositionListing(
        replaced: planned.replaced.map { replaced in
          var entry = DecompositionListing.Entry(
            layer: replaced.layer, method: replaced.method, ranks: replaced.ranks,
            by: replaced.by.map { ($0.name, $0.parameter) }, relativeError: replaced.relativeError)
          change(&entry)
          return entry
        }, adjusted: [:])
    }
    let again = try model.plan(removal, listing(), in: compressed, work: Work())
    #expect(again.removed == planned.removed)
    #expect(again.replaced.map(\.relativeError) == planned.replaced.map(\.relativeError))
    #expect(again.compressed.macs == planned.compressed.macs)
    #expect(throws: Failure.self) {
      try model.plan(removal, listing { $0.ranks[0] += 1 }, in: compressed, work: Work())
    }
    #expect(throws: Failure.self) {
      try model.plan(removal, listing { $0.relativeError += 0.1 }, in: compressed, work: Work())
    }
  }

  @Test("What was chosen, listed, gives the same plan; changed, another") func listed() throws {
    let model = try model()
    let request = request(0.4)
    let planned = try model.plan(request, work: Work())
    let again = try self.model().plan(ListedRequest(layers: planned.layers, means: request.means), work: Work())
    #expect(again.removed == planned.removed)
    #expect(again.replaced.map(\.layer) == planned.replaced.map(\.layer))
    #expect(again.replaced.map(\.ranks) == planned.replaced.map(\.ranks))
    #expect(again.compressed == planned.compressed)
    #expect(again.plan.constants.count == planned.plan.constants.count)
    #expect(again.layers.map(\.values) == planned.layers.map(\.values))
    #expect(
      zip(again.plan.constants, planned.plan.constants).allSatisfy {
        $0.tensor.bytes.buffer.elementsEqual($1.tensor.bytes.buffer)
      })
    var fewer = planned.layers
    let place = try #require(fewer.firstIndex { $0.choice?.method == .svd })
    fewer[place].values = .ranks([3])
    let changed = try model.plan(ListedRequest(layers: fewer, means: request.means), work: Work())
    #expect(changed.replaced.contains { $0.ranks == [3] } && changed.removed == planned.removed)
    fewer[place].values = .ranks([1000])
    #expect { try model.plan(ListedRequest(layers: fewer, means: request.means), work: Work()) } throws: {
      ($0 as? Failure)?.kind == .invalidParams
    }
    #expect { try model.plan(ListedRequest(layers: [], means: request.means), work: Work()) } throws: {
      ($0 as? Failure)?.kind == .nothingToCompress
    }
  }

  @Test("Two requests that are equal get equal answers") func repeats() throws {
    let (a, b) = (try model().plan(request(0.5), work: Work()), try model().plan(request(0.5), work: Work()))
    #expect(a.layers == b.layers && a.removed == b.removed)
    #expect(
      zip(a.plan.constants, b.plan.constants).allSatisfy {
        $0.tensor.bytes.buffer.elementsEqual($1.tensor.bytes.buffer)
      })
  }

  @Test("A size that nothing reaches is refused, and so is a model without weights") func refuses() throws {
    #expect { try model().plan(request(1e-4), work: Work()) } throws: { ($0 as? Failure)?.kind == .targetUnreachable }
    let g = GraphBuilder()
    g.output(g("Relu", g.input("x", [2, 3])))
    let empty = try CompressibleModel(graph: g.build(), sizeBytes: 100)
    #expect { try empty.plan(request(0.5), work: Work()) } throws: {
      [.targetUnreachable, .nothingToCompress].contains(($0 as? Failure)?.kind)
    }
  }
}
