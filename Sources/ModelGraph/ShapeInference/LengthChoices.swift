/// The candidates that `Graph.inferShapes(given:)` tries for open lengths, most likely first.
enum NominalLengths {
  private static let batches = [1, 2, 4, 8, 16, 32]
  private static let channels = [3, 1, 4, 2]
  /// Input sizes of common vision networks, then of small ones.
  private static let spatial = [224, 256, 299, 384, 512, 640, 320, 128, 96, 64, 32, 28]
  private static let sequences = [128, 64, 256, 512, 32, 16, 77, 8]

  /// Rounds of candidates: lengths along space and time vary first, then channels, then the batch; what does not vary
  /// has its first choice. Lengths given by the caller never vary.
  /// - Parameter mentioned: lengths that occur in the model's lists of integers. An exporter that declares a length
  ///   open may all the same have written the one it saw into the graph.
  static func phases(_ axes: InputAxes, mentioned: [Int]) -> [[[Int]]] {
    let (spatial, sequences) = (spatial + mentioned, sequences + mentioned)
    func chosen(_ role: InputAxes.Role, _ attempt: Int) -> Int {
      let list =
        switch role {
        case .batch: batches
        case .channel: channels
        case .spatial: spatial
        case .sequence: sequences
        }
      return list[min(attempt, list.count - 1)]
    }
    func candidates(varying roles: Set<InputAxes.Role>, attempts: Int) -> [[Int]] {
      guard axes.open.contains(where: { roles.contains($0.role) && $0.given == nil }) else { return [] }
      return (1..<attempts).map { attempt in
        axes.open.map { $0.given ?? chosen($0.role, roles.contains($0.role) ? attempt : 0) }
      }
    }
    let first = axes.open.map { $0.given ?? chosen($0.role, 0) }
    return [
      [first] + candidates(varying: [.spatial, .sequence], attempts: max(spatial.count, sequences.count)),
      [first] + candidates(varying: [.channel], attempts: channels.count),
      [first] + candidates(varying: [.batch], attempts: batches.count),
    ].enumerated().filter { $0.offset == 0 || $0.element.count > 1 }.map(\.element)
  }
}

/// Lengths of which no factor occurs elsewhere in the model.
struct AnalysisLengths {
  private let axes: InputAxes
  private let constants: Set<Int>

  init(_ axes: InputAxes, constants: Set<Int>) { (self.axes, self.constants) = (axes, constants) }

  /// Candidates in order of preference: a prime for each open length; the same times a power of two (times 7 for
  /// windows of 7) where the network halves lengths; smaller primes, for tables of positions; a prime for the batch
  /// alone. Each also with one common length for all unnamed axes in the same place, where there are several.
  /// - Parameter nominal: the nominal choice, which lengths that must not vary fall back to.
  func candidates(nominal: [Int]) -> [[Int]] {
    var result: [[Int]] = []
    func add(_ candidate: [Int]) {
      if !result.contains(candidate) { result.append(candidate) }
    }
    let large = primes(from: 1009)
    for shared in [false, true] {
      let large = shared ? sharing(large) : large
      func combined(_ length: (Int) -> Int) -> [Int] {
        axes.open.indices.map { axes.open[$0].role == .batch ? large[$0] : length($0) }
      }
      for multiple in [1, 32, 64, 224, 256] { add(combined { large[$0] * multiple }) }
      for start in [101, 37] {
        let small = shared ? sharing(primes(from: start)) : primes(from: start)
        add(combined { small[$0] })
      }
      add(combined { nominal[$0] })
    }
    return result
  }

  /// Distinct primes, one per open length, that divide no constant of the model.
  private func primes(from start: Int) -> [Int] {
    var primes: [Int] = []
    var number = start
    while primes.count < axes.open.count {
      let isPrime = number > 1 && !(2..<number).lazy.prefix { $0 * $0 <= number }.contains { number % $0 == 0 }
      if isPrime, !constants.contains(where: { $0 != 0 && $0 % number == 0 }) { primes.append(number) }
      number += 1
    }
    return primes
  }

  /// `lengths` with the first one of each place for all unnamed axes there.
  private func sharing(_ lengths: [Int]) -> [Int] {
    var first: [InputAxes.Position: Int] = [:]
    return zip(axes.open, lengths).map { axis, length in
      guard axis.symbol == nil else { return length }
      let place = InputAxes.Position(axis: axis.position.axis, rank: axis.position.axis == 0 ? 0 : axis.position.rank)
      defer { first[place] = first[place] ?? length }
      return first[place] ?? length
    }
  }
}
