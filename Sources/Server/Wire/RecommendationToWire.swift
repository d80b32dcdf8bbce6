import Compression
import JSONRPC

extension Recommendation {
  var json: JSONValue {
    [
      "available_layers": .array(availableLayers.map(\.json)),
      "skipped": .array(skipped.map(\.json)),
      "estimate": ["original": original.json, "compressed": compressed.json],
      "requested_ratio": .double(requestedRatio),
      "achieved_ratio": .double(achievedRatio),
    ]
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
    return ["name": .string(name), "channels": .ints(channels), "values": values, "use": .bool(use)]
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
