import ModelGraph

/// How far networks are from another on samples: root mean square of the distance of their outputs over that of the
/// outputs, the mean over outputs.
struct OutputDeviation {
  private var distances: [Double]
  private var squares: [Double]

  init(outputs: Int) {
    (distances, squares) = ([Double](repeating: 0, count: outputs), [Double](repeating: 0, count: outputs))
  }

  /// - Returns: whether what is expected are numbers; if not, nothing is added up.
  mutating func add(_ output: Int, _ expected: Tensor, _ found: Tensor) -> Bool {
    guard expected.dtype.isFloat, let wanted = FeatureMap(value: ValueID(0), tensor: expected),
      let map = FeatureMap(value: ValueID(0), tensor: found), wanted.elements.count == map.elements.count
    else { return true }
    var (distance, square) = (0.0, 0.0)
    for k in 0..<wanted.elements.count {
      let (a, b) = (Double(wanted.elements[k]), Double(map.elements[k]))
      // What networks exclude on purpose is infinite, and the same in both.
      if a.isInfinite, a == b { continue }
      guard a.isFinite else { return false }
      distance += (a - b) * (a - b)
      square += a * a
    }
    distances[output] += distance
    squares[output] += square
    return true
  }

  var relative: Double {
    let parts = zip(distances, squares).compactMap { distance, square -> Double? in
      // Of a network that computes what is no number, nothing good is said.
      guard distance.isFinite else { return .infinity }
      return square > 0 ? (distance / square).squareRoot() : distance > 0 ? .infinity : nil
    }
    return parts.isEmpty ? 0 : parts.reduce(0, +) / Double(parts.count)
  }

  /// - Parameter uses: which samples count.
  /// - Throws: `datasetNonFinite` if the original computes on one of them what is no number.
  static func of(
    _ networks: [Graph], from original: Graph, runner: any NetworkRunner, uses: (_ sample: Int) -> Bool, work: Work
  ) throws(Failure) -> [Double] {
    let reference = try runner.load(original, work: work)
    var loaded: [any LoadedNetwork] = []
    for network in networks { loaded.append(try runner.load(network, work: work)) }
    var deviations = networks.map { _ in OutputDeviation(outputs: original.outputs.count) }
    try runner.forEachBatch(work: Work(cancellation: work.cancellation)) { batch throws(Failure) in
      guard uses(batch.samples.lowerBound) else { return }
      let inputs = original.inputs.compactMap { batch.inputs[original[$0].name] }
      let expected = try reference.run(inputs, work: work)
      for (k, network) in loaded.enumerated() {
        for (output, (a, b)) in zip(expected, try network.run(inputs, work: work)).enumerated() {
          guard deviations[k].add(output, a, b) else { throw original.notFinite(original.outputs[output]) }
        }
      }
      work.progress(
        Double(batch.samples.upperBound) / Double(max(1, runner.sampleCount)), "comparing on inputs held out")
    }
    return deviations.map(\.relative)
  }
}
