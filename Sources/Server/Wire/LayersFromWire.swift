import Compression
import JSONRPC

extension Params {
  /// The member `layers` of a compress request: what `recommend` gave as `available_layers`, or the user's own.
  ///
  /// `use: false` leaves a layer alone. Where no entry says `use`, all count; where some do, false is what the others
  /// mean, as in the field's public client.
  /// - Parameter method: of all entries; nil where each names its own.
  func layerSettings(_ method: CompressionMethod?) throws(ResponseError) -> [LayerSetting]? {
    guard let entries = try objects("layers") else { return nil }
    var someSayUse = false
    for entry in entries where try entry.bool("use") != nil { someSayUse = true }
    // A layer that loses channels may be decomposed besides.
    var (seen, decomposed) = (Set<String>(), Set<String>())
    return try entries.map { entry throws(ResponseError) in
      let name = try entry.require("name", entry.string("name"))
      let own = try entry.method(method)
      let isNew = own.decomposition == nil ? seen.insert(name).inserted : decomposed.insert(name).inserted
      guard isNew else { throw .invalidParams(entry.pointer("name"), "the layer '\(name)' is listed twice") }
      var setting = LayerSetting(
        name: name, channels: try entry.ints("channels", atLeast: 0) ?? [], values: try entry.values(own),
        use: try entry.bool("use") ?? !someSayUse,
        marked: try entry.number("marked", "a share above 0 and at most 1") { 0 < $0 && $0 <= 1 })
      if method == nil { setting.choice = MethodChoice(method: own) }
      return setting
    }
  }

  /// Of an entry.
  private func method(_ ofAll: CompressionMethod?) throws(ResponseError) -> CompressionMethod {
    let own = try choice("method", of: CompressionMethod.self)
    guard let ofAll else {
      let own = try require("method", own)
      guard own.isCriterion || own == .svd || own == .tucker else {
        throw .invalidParams(
          pointer("method"), "\(own.rawValue) takes the whole request: name it as 'compression_method'")
      }
      return own
    }
    guard own == nil || own == ofAll else {
      throw .invalidParams(
        pointer("method"),
        "the request's method is \(ofAll.rawValue); leave 'compression_method' out for entries of several")
    }
    return ofAll
  }

  private func values(_ method: CompressionMethod) throws(ResponseError) -> LayerSetting.Values {
    guard let value = value("values") else { return .empty }
    guard let elements = value.arrayValue else { throw wrong("values", "an array", value) }
    if elements.isEmpty { return .empty }
    switch method {
    case .indices:
      let indices = try ints("values", atLeast: 0) ?? []
      return .indices(indices)
    case .svd, .tucker, .cp:
      let ranks = try ints("values", atLeast: 1) ?? []
      let count = method == .tucker ? 2 : 1
      guard ranks.count == count else {
        throw .invalidParams(
          pointer("values"),
          "for \(method.rawValue), 'values' is \(count == 2 ? "[in_rank, out_rank]" : "[rank]")")
      }
      return .ranks(ranks)
    default:
      guard elements.count == 1, let ratio = elements[0].numberValue, 0 < ratio, ratio <= 1 else {
        throw .invalidParams(
          pointer("values"), "for \(method.rawValue), 'values' is one number above 0 and at most 1: the share removed")
      }
      return .ratio(ratio)
    }
  }
}
