import Compression
import JSONRPC

extension Recommendation {
  var json: JSONValue {
    [
      "available_layers": .array(availableLayers.map(\.json)),
      "skipped": .array(skipped.map(\.json)),
      "estimate": ["original": original.json, "compressed": compressed.json],
      "requested_ratio": goal.ratio.map(JSONValue.double) ?? .null,
      "achieved_ratio": .double(achievedRatio),
      "requested": goal.json,
      "achieved": RecommendationGoal.achieved(achievedRatio, original, compressed),
    ]
  }
}

extension RecommendationGoal {
  fileprivate var ratio: Double? { if case .ratio(let ratio) = self { ratio } else { nil } }

  var json: JSONValue {
    switch self {
    case .ratio(let ratio): ["ratio": .double(ratio)]
    case .size(let measure, let share): .object([measure.rawValue: .double(share)])
    }
  }

  /// What became of the goal: the share of channels that goes, and the shares of the model's sizes that are left.
  static func achieved(_ ratio: Double, _ original: ModelSize, _ compressed: ModelSize) -> JSONValue {
    var shares: JSONObject = ["ratio": .double(ratio)]
    for measure in ModelSize.Measure.allCases where original[measure] > 0 {
      shares.append(measure.rawValue, .double(Double(compressed[measure]) / Double(original[measure])))
    }
    return .object(shares)
  }
}

extension LayerSetting {
  var json: JSONValue {
    let values: JSONValue =
      switch values {
      case .ratio(let ratio): [.double(ratio)]
      case .indices(let indices): .ints(indices)
      case .empty: []
      }
    var object: JSONObject = [
      "name": .string(name), "channels": .ints(channels), "values": values, "use": .bool(use),
    ]
    if let marked { object.append("marked", .double(marked)) }
    if let requested { object.append("requested", .double(requested)) }
    return .object(object)
  }
}

extension SkippedLayer {
  var json: JSONValue { ["name": .string(name), "reason": .string(reason)] }
}

extension ModelSize {
  var json: JSONValue {
    ["parameters": .int(parameters), "macs": .int(macs), "size_bytes": .int(sizeBytes)]
  }
}
