import ModelGraph

// Where data enters the criteria: a source runs the model over samples and hands out values of the graph, probes take
// from them what they need. Neither side holds more than a batch.

/// A value of the graph as the model computed it for one batch of samples.
package struct FeatureMap {
  package let value: ValueID
  private let tensor: Tensor
  package var shape: [Int] { tensor.shape }
  /// Row-major, `shape.product` of them; as long-lived as the map.
  var elements: UnsafeBufferPointer<Float> {
    UnsafeBufferPointer(start: tensor.bytes.base.assumingMemoryBound(to: Float.self), count: tensor.elementCount)
  }

  /// - Returns: nil for a tensor that holds no real numbers.
  package init?(value: ValueID, tensor: Tensor) {
    self.value = value
    let isAligned = UInt(bitPattern: tensor.bytes.base) % UInt(MemoryLayout<Float>.alignment) == 0
    if tensor.dtype == .float32, isAligned {
      self.tensor = tensor
    } else if let numbers = tensor.realNumbers {
      self.tensor = Tensor(float32: numbers.map(Float.init), shape: tensor.shape)
    } else {
      return nil
    }
  }
}

/// Something that can run the model over samples.
package protocol FeatureMapSource: Sendable {
  /// Tells these samples from others, also of later requests (paths, sizes, time stamps): scores are kept under it.
  var identity: String { get }
  /// Samples in all.
  var sampleCount: Int { get }
  /// Where an even choice of positions is enough: what is known of such already; nil where all count.
  var known: ChannelMoments? { get }

  /// Runs the model over all samples, batch by batch, and hands over `values` of each batch, in their order.
  ///
  /// - Parameters:
  ///   - values: of floating-point type, computed by nodes or fed.
  ///   - body: called once per batch, in the order of the samples; what it throws ends the run.
  func run(
    _ values: [ValueID], work: Work, _ body: ([FeatureMap]) throws(Failure) -> Void
  ) throws(Failure)
}

extension FeatureMapSource {
  package var known: ChannelMoments? { nil }
}

/// A measurement on feature maps, accumulated batch by batch.
protocol FeatureMapProbe: AnyObject {
  /// The values it needs at the same time.
  var values: [ValueID] { get }
  /// - Parameter maps: one per value, in order.
  func add(_ maps: [FeatureMap], work: Work) throws(Failure)
}

enum FeatureMapPass {
  /// Bytes of feature maps of one run at nominal lengths; what needs more is spread over several passes over the data.
  private static let budget = 256 << 20

  /// Shows every probe every batch.
  static func run(
    _ probes: [any FeatureMapProbe], source: any FeatureMapSource, shapes: ShapeTable, work: Work
  ) throws(Failure) {
    let passes = passes(probes, shapes)
    for (k, pass) in passes.enumerated() {
      let values = Array(Set(pass.flatMap(\.values))).sorted()
      let position = Dictionary(uniqueKeysWithValues: values.enumerated().map { ($1, $0) })
      let (begin, end) = (Double(k) / Double(passes.count), Double(k + 1) / Double(passes.count))
      try source.run(values, work: work.part(begin...end)) { maps throws(Failure) in
        for probe in pass {
          try work.checkCancellation()
          try probe.add(probe.values.compactMap { position[$0].map { maps[$0] } }, work: work)
        }
      }
    }
  }

  private static func passes(_ probes: [any FeatureMapProbe], _ shapes: ShapeTable) -> [[any FeatureMapProbe]] {
    var result: [[any FeatureMapProbe]] = []
    var (held, bytes) = (Set<ValueID>(), 0)
    for probe in probes {
      let added = Set(probe.values).subtracting(held).reduce(0) { $0 + (shapes[$1]?.reduce(4, *) ?? 0) }
      if result.isEmpty || bytes + added > budget {
        result.append([])
        held = []
        bytes = 0
      }
      result[result.count - 1].append(probe)
      let fresh = Set(probe.values).subtracting(held)
      bytes += fresh.reduce(0) { $0 + (shapes[$1]?.reduce(4, *) ?? 0) }
      held.formUnion(fresh)
    }
    return result
  }
}

extension Graph {
  /// What a probe says of a value that is not finite.
  func notFinite(_ value: ValueID) -> Failure {
    let made = self[value].producer.map { "\(self[$0].op) '\(displayName($0))' computes" } ?? "the data are"
    return Failure(
      .datasetNonFinite,
      "\(made) NaN or infinity in '\(self[value].name)'; importance cannot be measured on it: check the data and their scale",
      details: ["value": .string(self[value].name)])
  }
}

/// Whether what is fed holds NaN or infinity, where a method measures nothing behind it.
final class FedValuesProbe: FeatureMapProbe {
  let values: [ValueID]
  private let graph: Graph

  /// - Returns: nil if nothing that is fed could.
  init?(_ graph: Graph) {
    self.graph = graph
    values = graph.inputs.filter { graph[$0].dtype?.isFloat ?? false }
    guard !values.isEmpty else { return nil }
  }

  func add(_ maps: [FeatureMap], work: Work) throws(Failure) {
    for map in maps where !map.elements.allSatisfy(\.isFinite) { throw graph.notFinite(map.value) }
  }
}
