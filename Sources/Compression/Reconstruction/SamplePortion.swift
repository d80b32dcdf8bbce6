import ModelGraph

/// Which samples a stage looks at: an even choice, the same for the same data, that a later stage only adds to. Layers
/// near the inputs have many positions in every sample, and what is computed of each takes much memory there; further
/// on it is the other way round.
struct SamplePortion {
  private let share: Double

  /// Fewer are not representative.
  private static let least = 64
  /// Bytes of computed values, of both networks.
  private static let budget = 512 << 20

  /// - Parameters:
  ///   - bytes: what there is to be kept of each sample.
  ///   - layers: with how many positions each sample has of them.
  init(of sampleCount: Int, bytes: Int, layers: [(layer: RefitLayer, positions: Int)]) {
    var count = max(Self.least, Self.budget / max(1, bytes))
    for (layer, positions) in layers where positions > 0 {
      // One of eight judges, and fits nothing.
      count = max(count, (8 * RefitProbe.wanted(layer) / 7 + positions - 1) / positions)
    }
    share = min(1, Double(count) / Double(max(1, sampleCount)))
  }

  static let all = SamplePortion(share: 1)

  private init(share: Double) { self.share = share }

  func holds(_ sample: Int) -> Bool {
    guard share < 1 else { return true }
    // Multiples of the golden ratio lie evenly, however many they are.
    let place = Double(sample + 1) * 0.618_033_988_749_894_9
    return place - place.rounded(.down) < share
  }

  func count(of sampleCount: Int) -> Int { share < 1 ? (0..<sampleCount).count(where: holds) : sampleCount }
}
