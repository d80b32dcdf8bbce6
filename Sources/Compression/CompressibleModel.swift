import ModelGraph
import Numerics
import Synchronization

/// A loaded model as the methods see it: the graph and, computed once and shared by all requests, everything derived
/// from it (shapes, coupling, scores, rankings).
///
/// The facade of this module: plain values in, plain values out. Safe to call from any number of threads; two requests
/// that need the same derived value at once may both compute it, and one of the two is kept.
package final class CompressibleModel: Sendable {
  package let graph: Graph
  /// Bytes of the file or files the graph was read from.
  package let sizeBytes: Int
  package let shapes: GraphShapes
  private let findRewritingCost: FindRewritingCost
  private let findWrittenBytes: FindWrittenBytes
  private let derived = Mutex(Derived())

  private struct Derived {
    var analysis: CouplingAnalysis?
    var couplings: [CouplingOptions: ChannelCoupling] = [:]
    /// The scores and the rankings asked for last; methods and options are a handful, so a few are plenty.
    var scores: [(key: ScoreKey, scored: ScoredGroups)] = []
    var rankings: [(key: RankingKey, ranked: RankedModel)] = []
    var cost: CostTable?
    /// Without and with rows of layers; what was found may be that nobody knows.
    var rewritingCosts: [Bool: RewritingCost?] = [:]
    var removalCosts: [CouplingOptions: RemovalCost] = [:]
    var decomposableLayers: DecomposableLayers?
    var spectra: [DecompositionMethod: SpectrumTable] = [:]
    /// On the inputs of the data asked for last.
    var channelMoments: (data: String, moments: ChannelMoments)?
    var whitenedSpectra: [DecompositionMethod: (data: String, table: SpectrumTable)] = [:]
    var automatic: [(key: AutomaticMeasurement.Key, measurement: AutomaticMeasurement)] = []
    var decisions: [(key: AutomaticDecision.Key, decision: AutomaticDecision)] = []
  }

  private static let keptScores = 8
  private static let keptRankings = 8
  private static let keptMeasurements = 2
  private static let keptDecisions = 32

  /// Whether the cost of rows of layers is wanted too.
  package typealias FindRewritingCost = @Sendable (_ ofRows: Bool, Work) throws(Failure) -> RewritingCost?

  /// The bytes of the file or files that a plan makes of the model; nil where only writing them tells.
  package typealias FindWrittenBytes = @Sendable (CompressionPlan, Work) throws(Failure) -> Int?

  /// - Parameters:
  ///   - inputShapes: per graph input name, lengths that override what the file declares.
  ///   - rewritingCost: asks the file's format, when a size on file is to be told.
  ///   - writtenBytes: the same once there is a plan.
  /// - Throws: `Failure` if shapes contradict each other or an input's shape is neither declared nor given.
  package init(
    graph: Graph, sizeBytes: Int, inputShapes: [String: [Int]] = [:], work: Work = Work(),
    rewritingCost: @escaping FindRewritingCost = { _, _ in nil },
    writtenBytes: @escaping FindWrittenBytes = { _, _ in nil }
  ) throws(Failure) {
    (self.graph, self.sizeBytes, findRewritingCost) = (graph, sizeBytes, rewritingCost)
    findWrittenBytes = writtenBytes
    shapes = try graph.inferShapes(given: inputShapes)
  }

  /// What is made of another model, under that model's lengths.
  init(_ graph: Graph, sizeBytes: Int, like other: CompressibleModel) throws(Failure) {
    (self.graph, self.sizeBytes, findRewritingCost) = (graph, sizeBytes, { _, _ in nil })
    findWrittenBytes = { _, _ in nil }
    shapes = try graph.inferShapes(like: other.shapes)
  }

  /// Bytes held beyond the graph's own tensors, estimated from what dominates: labels and scores.
  package var derivedBytes: Int {
    derived.withLock { state in
      let labels = state.analysis?.facts.frozen.count ?? 0
      let cells = state.scores.reduce(0) { $0 + $1.scored.cellCount }
      let tables = Array(state.spectra.values) + state.whitenedSpectra.values.map(\.table)
      let spectra = tables.reduce(0) { $0 + $1.byteCount }
      let moments = state.channelMoments?.moments.byteCount ?? 0
      return moments + labels * (24 + 32 * state.couplings.count) + cells * 24 * (1 + state.rankings.count) + spectra
    }
  }

  // MARK: What is derived, in the order it is

  func analysis(_ work: Work) throws(Failure) -> CouplingAnalysis {
    if let known = derived.withLock({ $0.analysis }) { return known }
    let analysis = try CouplingAnalysis(graph: graph, shapes: shapes.analysis, work: work)
    derived.withLock { if $0.analysis == nil { $0.analysis = analysis } }
    return analysis
  }

  package func coupling(_ couplingOptions: CouplingOptions, _ work: Work) throws(Failure) -> ChannelCoupling {
    if let known = derived.withLock({ $0.couplings[couplingOptions] }) { return known }
    let coupling = try analysis(work).solved(couplingOptions)
    derived.withLock { $0.couplings[couplingOptions] = coupling }
    return coupling
  }

  /// - Parameter found: of PR_REC, told of every group as soon as it is known, unless all were known before.
  func scores(
    _ key: ScoreKey, maps: (any FeatureMapSource)?, _ work: Work,
    found: (@Sendable (_ g: Int, _ vote: DamageCriterion.Vote) -> Void)? = nil
  ) throws(Failure) -> ScoredGroups {
    if let known = derived.withLock({ $0.scores.first { $0.key == key }?.scored }) { return known }
    let coupling = try coupling(key.coupling, work)
    var single = key.coupling
    single.prunesBlocks = false
    let scored = try ScoredGroups(
      coupling, channels: self.coupling(single, work), key: key,
      damage: key.method == .damage ? damage(coupling, key.coupling, maps: maps, work, found: found) : nil, maps: maps,
      work: work)
    derived.withLock { state in
      state.scores.insert((key, scored), at: 0)
      if state.scores.count > Self.keptScores { state.scores.removeLast() }
    }
    return scored
  }

  struct RankingKey: Equatable {
    var score: ScoreKey
    var options: RankingOptions
    var include: [String]?
    var exclude: [String]
  }

  /// The groups that `options` admit, ranked.
  /// - Parameter maps: for the methods that measure feature maps; the others do without.
  func ranking(
    _ method: CompressionMethod, _ options: PruningOptions, maps: (any FeatureMapSource)?, _ work: Work,
    found: (@Sendable (_ g: Int, _ vote: DamageCriterion.Vote) -> Void)? = nil
  ) throws(Failure) -> RankedModel {
    let key = RankingKey(
      score: ScoreKey(method, options, data: maps?.identity), options: RankingOptions(options),
      include: options.include, exclude: options.exclude)
    if let known = derived.withLock({ $0.rankings.first { $0.key == key }?.ranked }) { return known }
    let ranked = try RankedModel(scores(key.score, maps: maps, work, found: found), options: options, work: work)
    derived.withLock { state in
      state.rankings.insert((key, ranked), at: 0)
      if state.rankings.count > Self.keptRankings { state.rankings.removeLast() }
    }
    return ranked
  }

  private func damage(
    _ coupling: ChannelCoupling, _ options: CouplingOptions, maps: (any FeatureMapSource)?, _ work: Work,
    found: (@Sendable (_ g: Int, _ vote: DamageCriterion.Vote) -> Void)?
  ) throws(Failure) -> [DamageCriterion.Vote] {
    guard let maps else { throw CompressionMethod.damage.needsDataset }
    let (votes, moments) = try DamageCriterion(coupling, shapes: shapes.nominal).votes(
      from: maps, known: moments(of: maps), savings: savings(of: coupling, options), work: work, found: found)
    keep(moments, of: maps)
    return votes
  }

  /// Of each group, what its readers lose of what they compute by the removal of some cells, after the best refit: root
  /// mean square over that of its variation; nil where nothing is known of it.
  /// - Parameter cells: by group.
  func predictedErrors(
    of cells: [[Int]], _ coupling: ChannelCoupling, maps: any FeatureMapSource, _ work: Work
  ) throws(Failure) -> [Double?] {
    let (shares, moments) = try DamageCriterion(coupling, shapes: shapes.nominal).shares(
      of: cells, from: maps, known: moments(of: maps), work: work)
    keep(moments, of: maps)
    return shares.map { $0?.squareRoot() }
  }

  func moments(of maps: any FeatureMapSource) -> ChannelMoments? {
    derived.withLock { derived in derived.channelMoments.flatMap { $0.data == maps.identity ? $0.moments : nil } }
  }

  func keep(_ moments: ChannelMoments?, of maps: any FeatureMapSource) {
    guard let moments else { return }
    derived.withLock { $0.channelMoments = (maps.identity, moments) }
  }

  /// Multiply-adds that one cell of each group stands for: of one from every block that loses as many, divided by
  /// these.
  private func savings(of coupling: ChannelCoupling, _ options: CouplingOptions) -> [Double] {
    let cost = removalCost(of: coupling, options)
    return coupling.groups.map { group in
      guard group.width > 0, group.cells.count >= group.blocks * group.width else { return 1 }
      let cells = (0..<group.blocks).map { group.cells[$0 * group.width] }
      guard let after = try? cost.after(cells) else { return 1 }
      return Double(max(1, cost.table.original.macs - after.macs)) / Double(max(1, group.blocks))
    }
  }

  var cost: CostTable {
    if let known = derived.withLock({ $0.cost }) { return known }
    let cost = CostTable(graph: graph, shapes: shapes, sizeBytes: sizeBytes)
    derived.withLock { $0.cost = cost }
    return cost
  }

  func rewritingCost(ofRows: Bool, _ work: Work) throws(Failure) -> RewritingCost? {
    if let known = derived.withLock({ $0.rewritingCosts[ofRows] }) { return known }
    let cost = try findRewritingCost(ofRows, work)
    derived.withLock { $0.rewritingCosts[ofRows] = .some(cost) }
    return cost
  }

  /// What describes nodes and tensors is next to nothing in larger files.
  private static let largestMeasuredFile = 64 << 20

  /// The bytes of what a plan makes of the model's file; nil where nobody knows, or where that of its tensors says
  /// enough.
  func writtenBytes(_ plan: CompressionPlan, _ work: Work) throws(Failure) -> Int? {
    sizeBytes <= Self.largestMeasuredFile ? try findWrittenBytes(plan, work) : nil
  }

  /// A size whose bytes are those of the tensors alone, with what the file takes besides.
  /// - Parameter rows: numbers of layers that stand in the place of one each.
  package func onFile(_ size: ModelSize, rows: [Int] = [], _ work: Work) throws(Failure) -> ModelSize {
    guard let cost = try rewritingCost(ofRows: !rows.isEmpty, work) else { return size }
    var size = size
    size.sizeBytes += cost.rewriting + rows.reduce(0) { $0 + cost.row(of: $1) }
    return size
  }

  /// - Parameter coupling: the one that the model has under `options`.
  func removalCost(of coupling: ChannelCoupling, _ options: CouplingOptions) -> RemovalCost {
    if let known = derived.withLock({ $0.removalCosts[options] }) { return known }
    let removalCost = RemovalCost(coupling, shapes: shapes, table: cost)
    derived.withLock { $0.removalCosts[options] = removalCost }
    return removalCost
  }

  // MARK: Automatic compression

  func measurement(
    _ key: AutomaticMeasurement.Key, measuring: () throws(Failure) -> AutomaticMeasurement
  ) throws(Failure) -> AutomaticMeasurement {
    if let known = derived.withLock({ $0.automatic.first { $0.key == key }?.measurement }) { return known }
    let measurement = try measuring()
    derived.withLock { state in
      state.automatic.insert((key, measurement), at: 0)
      if state.automatic.count > Self.keptMeasurements { state.automatic.removeLast() }
    }
    return measurement
  }

  func decision(_ key: AutomaticDecision.Key) -> AutomaticDecision? {
    derived.withLock { $0.decisions.first { $0.key == key }?.decision }
  }

  func keep(_ decision: AutomaticDecision, _ key: AutomaticDecision.Key) {
    derived.withLock { state in
      state.decisions.insert((key, decision), at: 0)
      if state.decisions.count > Self.keptDecisions { state.decisions.removeLast() }
    }
  }

  // MARK: Decomposition

  var decomposableLayers: DecomposableLayers {
    if let known = derived.withLock({ $0.decomposableLayers }) { return known }
    let layers = DecomposableLayers(graph, shapes: shapes.nominal)
    derived.withLock { $0.decomposableLayers = layers }
    return layers
  }

  /// The singular values of the weights of `layers`, and of what was asked for before.
  /// - Parameter keepsStarts: whether to hand out, not to keep, what factors start from.
  func spectra(
    _ method: DecompositionMethod, of layers: [DecomposableLayer], keepsStarts: Bool = false, _ work: Work
  ) throws(Failure) -> SpectrumTable {
    let known = derived.withLock { $0.spectra[method] } ?? SpectrumTable()
    let missing = layers.filter { known[$0] == nil }
    if missing.isEmpty { return known }
    let found = try SpectrumTable(missing, method, keepsStarts: keepsStarts, LinearAlgebra.loaded(), work: work)
    derived.withLock { derived in
      derived.spectra[method] = (derived.spectra[method] ?? SpectrumTable()).merging(found.withoutStarts)
    }
    return found.merging(known)
  }

  private func takenLayers(_ method: DecompositionMethod) -> [DecomposableLayer] {
    decomposableLayers.layers.filter { DecomposableLayers.reason($0, against: method) == nil }
  }

  /// The same on the inputs that `maps` makes the layers read.
  private func spectra(
    _ method: DecompositionMethod, on maps: any FeatureMapSource, _ work: Work
  ) throws(Failure) -> SpectrumTable {
    if let known = derived.withLock({ $0.whitenedSpectra[method] }), known.data == maps.identity { return known.table }
    let layers = takenLayers(method)
    let plain = try spectra(method, of: layers, work.part(0...0.3))
    let table = try plain.whitened(layers, method, gathering(maps), work: work.part(0.3...1))
    derived.withLock { $0.whitenedSpectra[method] = (maps.identity, table) }
    return table
  }

  /// Whether all singular values that a recommendation looks at are there.
  package func knowsSpectra(for request: DecompositionRequest) -> Bool {
    if let maps = request.maps, request.method != .cp {
      return derived.withLock { $0.whitenedSpectra[request.method]?.data == maps.identity }
    }
    let known = derived.withLock { $0.spectra[request.method] } ?? SpectrumTable()
    return takenLayers(request.method).allSatisfy { known[$0] != nil }
  }

  func gathering(_ maps: any FeatureMapSource) throws(Failure) -> InputGathering {
    InputGathering(
      graph: graph, shapes: shapes.nominal, source: maps, algebra: try LinearAlgebra.loaded(),
      known: maps.known)
  }

  /// The weights from which a request chooses.
  /// - Parameters:
  ///   - only: the layers it names; nil for all that its options admit.
  ///   - isForFactors: whether factors are to follow.
  func rankModel(
    _ request: DecompositionRequest, only: [DecomposableLayer]? = nil, isForFactors: Bool = false, _ work: Work
  ) throws(Failure) -> RankModel {
    let method = request.method
    let table: SpectrumTable
    if let maps = request.maps, method != .cp, only == nil {
      table = try spectra(method, on: maps, work)
    } else {
      let keepsStarts = isForFactors && request.maps == nil
      table = try spectra(method, of: only ?? takenLayers(method), keepsStarts: keepsStarts, work)
    }
    return try RankModel(decomposableLayers, table, method, request.options, only: only)
  }
}
