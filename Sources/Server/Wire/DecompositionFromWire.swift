import Compression
import JSONRPC

extension Params {
  /// The members `replaced` and `adjusted`, as a reply of `compress` has them; nil if nothing is replaced.
  func decompositionListing() throws(ResponseError) -> DecompositionListing? {
    guard let entries = try objects("replaced"), !entries.isEmpty else { return nil }
    let replaced = try entries.map { entry throws(ResponseError) in
      let method = try entry.require("method", entry.choice("method", of: CompressionMethod.self))
      let parts = try entry.require("by", entry.objects("by")).map { part throws(ResponseError) in
        (
          name: try part.require("name", part.string("name")),
          parameter: try part.require("parameter", part.string("parameter"))
        )
      }
      let error = try entry.number("relative_error", "a number of at least 0") { $0 >= 0 }
      return DecompositionListing.Entry(
        layer: try entry.require("layer", entry.string("layer")),
        method: try entry.require("method", method.decomposition),
        ranks: try entry.require("ranks", entry.ints("ranks", atLeast: 1)), by: parts,
        relativeError: try entry.require("relative_error", error))
    }
    var adjusted: [String: String] = [:]
    for entry in try objects("adjusted") ?? [] where try !entry.isOfRefilled {
      adjusted[try entry.require("layer", entry.string("layer"))] = try entry.require(
        "parameter", entry.string("parameter"))
    }
    return DecompositionListing(replaced: replaced, adjusted: adjusted, refilled: try refilledParameters())
  }

  /// Entries of `adjusted` that keep the name they had and hold numbers that nothing else tells: those with a factor
  /// follow from what is removed.
  func refilledParameters() throws(ResponseError) -> [RefilledParameter] {
    var refilled: [RefilledParameter] = []
    for entry in try objects("adjusted") ?? [] where try entry.isOfRefilled && entry.value("factor") == nil {
      refilled.append(
        RefilledParameter(
          layer: try entry.require("layer", entry.string("layer")),
          parameter: try entry.require("parameter", entry.string("parameter"))))
    }
    return refilled
  }

  private var isOfRefilled: Bool {
    get throws(ResponseError) {
      guard let original = value("original")?.stringValue else { return false }
      return try string("parameter") == original
    }
  }
}
