import Compression
import JSONRPC

extension Params {
  func compressionMethod() throws(ResponseError) -> CompressionMethod {
    try require("compression_method", choice("compression_method", of: CompressionMethod.self))
  }

  /// The members `recommendation_method`, and `recommendation_ratio` or `target`.
  func recommendation() throws(ResponseError) -> (RecommendationMethod, RecommendationGoal) {
    let method = try choice("recommendation_method", of: RecommendationMethod.self)
    let ratio = try number("recommendation_ratio", "above 0 and below 1: the share of channels to remove") {
      0 < $0 && $0 < 1
    }
    let target = try target()
    if ratio != nil, target != nil {
      throw .invalidParams(pointer("target"), "give either 'recommendation_ratio' or 'target', not both")
    }
    let required = try require("recommendation_method", method)
    if let target { return (required, target) }
    return (required, .ratio(try require("recommendation_ratio", ratio)))
  }

  /// The member `target`: `{"macs": 0.5}` leaves half of the multiply-adds.
  private func target() throws(ResponseError) -> RecommendationGoal? {
    guard let target = try object("target") else { return nil }
    let names = ModelSize.Measure.allCases.map(\.rawValue)
    guard target.names.count == 1, let measure = ModelSize.Measure(rawValue: target.names[0]) else {
      throw .invalidParams(
        pointer("target"), "'target' must have exactly one member, \(names.joined(separator: " or "))")
    }
    let share = try target.number(measure.rawValue, "above 0 and below 1: the share that is to be left") {
      0 < $0 && $0 < 1
    }
    return .size(measure, share: try target.require(measure.rawValue, share))
  }

  /// Refuses members that the contract names but this daemon cannot serve yet; ignoring them would be worse.
  func refuse(_ names: String...) throws(ResponseError) {
    for name in names where value(name) != nil {
      throw .invalidParams(pointer(name), "'\(name)' is not supported by this version; leave it out")
    }
  }
}
