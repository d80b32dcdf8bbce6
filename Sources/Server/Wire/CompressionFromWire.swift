import Compression
import JSONRPC
import ModelGraph

extension Params {
  /// nil where methods are to be chosen layer by layer.
  func compressionMethod() throws(ResponseError) -> CompressionMethod? {
    try choice("compression_method", of: CompressionMethod.self)
  }

  func sizeTarget() throws(ResponseError) -> RecommendationGoal? { try target(takesEnergy: false) }

  /// Of a pruning method: the members `recommendation_method`, and `recommendation_ratio` or `target`.
  func recommendation() throws(ResponseError) -> (RecommendationMethod, RecommendationGoal) {
    let method = try choice("recommendation_method", of: RecommendationMethod.self)
    let ratio = try number("recommendation_ratio", "above 0 and below 1: the share of channels to remove") {
      0 < $0 && $0 < 1
    }
    let target = try target(takesEnergy: false)
    try refuseRatioAndTarget(ratio, target)
    let required = try require("recommendation_method", method)
    if required == .vbmf {
      throw ResponseError(
        Failure(.invalidCombination, "VBMF estimates ranks, which pruning methods have none of; use SLAMP"))
    }
    if let target { return (required, target) }
    return (required, .ratio(try require("recommendation_ratio", ratio)))
  }

  /// Of a decomposition: `recommendation_method` VBMF with `recommendation_ratio`, or a `target`, which needs no
  /// method.
  func rankGoal() throws(ResponseError) -> RecommendationGoal {
    let method = try choice("recommendation_method", of: RecommendationMethod.self)
    if method == .slamp {
      throw ResponseError(
        Failure(.invalidCombination, "SLAMP ranks channels, which decompositions keep; use VBMF, or a target"))
    }
    let ratio = try number("recommendation_ratio", "from -1 to 1: lower or higher ranks than VBMF's") {
      -1 <= $0 && $0 <= 1
    }
    let target = try target(takesEnergy: true)
    try refuseRatioAndTarget(ratio, target)
    if let target { return target }
    _ = try require("recommendation_method", method)
    return .calibration(try require("recommendation_ratio", ratio))
  }

  private func refuseRatioAndTarget(_ ratio: Double?, _ target: RecommendationGoal?) throws(ResponseError) {
    if ratio != nil, target != nil {
      throw .invalidParams(pointer("target"), "give either 'recommendation_ratio' or 'target', not both")
    }
  }

  /// The member `target`: `{"macs": 0.5}` leaves half of the multiply-adds, `{"energy": 0.9}` nine tenths of the
  /// squared norm of every weight.
  private func target(takesEnergy: Bool) throws(ResponseError) -> RecommendationGoal? {
    guard let target = try object("target") else { return nil }
    let measures = ModelSize.Measure.allCases.map(\.rawValue)
    let names = measures + (takesEnergy ? ["energy"] : [])
    guard target.names.count == 1, names.contains(target.names[0]) else {
      throw .invalidParams(
        pointer("target"), "'target' must have exactly one member, \(names.joined(separator: " or "))")
    }
    let name = target.names[0]
    let given = try target.number(name, "above 0 and below 1: the share that is to be left") { 0 < $0 && $0 < 1 }
    let share = try target.require(name, given)
    return ModelSize.Measure(rawValue: name).map { .size($0, share: share) } ?? .energy(share)
  }

  /// Refuses members that the contract names but this daemon cannot serve yet; ignoring them would be worse.
  func refuse(_ names: String...) throws(ResponseError) {
    for name in names where value(name) != nil {
      throw .invalidParams(pointer(name), "'\(name)' is not supported by this version; leave it out")
    }
  }
}
