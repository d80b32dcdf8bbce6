import Compression
import JSONRPC

extension Params {
  func compressionMethod() throws(ResponseError) -> CompressionMethod {
    try require("compression_method", choice("compression_method", of: CompressionMethod.self))
  }

  /// The members `recommendation_method` and `recommendation_ratio`.
  func recommendation() throws(ResponseError) -> (RecommendationMethod, ratio: Double) {
    let method = try choice("recommendation_method", of: RecommendationMethod.self)
    let ratio = try number("recommendation_ratio", "above 0 and below 1: the share of channels to remove") {
      0 < $0 && $0 < 1
    }
    return (try require("recommendation_method", method), try require("recommendation_ratio", ratio))
  }

  /// Refuses members that the contract names but this daemon cannot serve yet; ignoring them would be worse.
  func refuse(_ names: String...) throws(ResponseError) {
    for name in names where value(name) != nil {
      throw .invalidParams(pointer(name), "'\(name)' is not supported by this version; leave it out")
    }
  }
}
