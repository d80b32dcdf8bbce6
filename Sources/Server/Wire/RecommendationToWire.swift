import Compression
import JSON

extension Recommendation {
  var json: JSONValue {
    var object: JSONObject = [
      "available_layers": .array(availableLayers.map(\.json)),
      "skipped": .array(skipped.map(\.json)),
      "estimate": ["original": original.json, "compressed": compressed.json],
      "requested_ratio": goal.ratio.map(JSONValue.double) ?? .null,
      "achieved_ratio": achievedRatio.map(JSONValue.double) ?? .null,
      "requested": goal.json,
      "achieved": RecommendationGoal.achieved(achievedRatio, original, compressed),
    ]
    object.append("predicted_error", predictedError.map(JSONValue.double))
    if !trials.isEmpty { object.append("trials", .array(trials.map(\.json))) }
    if !warnings.isEmpty { object.append("warnings", .array(warnings.map(JSONValue.string))) }
    return .object(object)
  }
}

extension PlannedCompression.Trial {
  var json: JSONValue {
    ["methods": .array(methods.map { .string($0.rawValue) }), "error": .double(error)]
  }
}

extension RecommendationGoal {
  fileprivate var ratio: Double? {
    switch self {
    case .ratio(let ratio), .calibration(let ratio): ratio
    case .size, .energy: nil
    }
  }

  var json: JSONValue {
    switch self {
    case .ratio(let ratio), .calibration(let ratio): ["ratio": .double(ratio)]
    case .size(let measure, let share): .object([measure.rawValue: .double(share)])
    case .energy(let share): ["energy": .double(share)]
    }
  }

  /// What became of the goal: the share of channels that goes (of pruning), and the shares of the model's sizes that
  /// are left.
  static func achieved(_ ratio: Double?, _ original: ModelSize, _ compressed: ModelSize) -> JSONValue {
    var shares = JSONObject()
    if let ratio { shares.append("ratio", .double(ratio)) }
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
      case .ranks(let ranks): .ints(ranks)
      case .empty: []
      }
    var object: JSONObject = [
      "name": .string(name), "channels": .ints(channels), "values": values, "use": .bool(use),
    ]
    if let marked { object.append("marked", .double(marked)) }
    if let requested { object.append("requested", .double(requested)) }
    if let ranks { object.append("ranks", ranks.json) }
    object.append("predicted_error", predictedError.map(JSONValue.double))
    if let choice {
      object.append("method", .string(choice.method.rawValue))
      if let grounds = choice.grounds {
        object.append("saved", .object([grounds.measure.rawValue: .int(grounds.saved)]))
        object.append("reason", .string(grounds.reason))
      }
    }
    return .object(object)
  }
}

extension RankReport {
  fileprivate var json: JSONValue {
    var object: JSONObject = ["full": .ints(full), "vbmf": estimated.map(JSONValue.ints) ?? .null]
    object.append("calibrated", calibrated.map(JSONValue.ints))
    object.append("kept", kept.map(JSONValue.ints) ?? .null)
    object.append("relative_error", relativeError.map(JSONValue.double))
    object.append("output_error", outputError.map(JSONValue.double))
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
