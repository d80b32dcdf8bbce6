import Compression
import Formats
import JSON
import ModelGraph

extension Inspection {
  func json(_ reference: ModelReference, _ document: DocumentDescription, cached: Bool) -> JSONValue {
    var model: JSONObject = ["path": .string(reference.file.spelled), "format": .string(document.format)]
    model.append("framework", document.framework.map(JSONValue.string) ?? .null)
    model.append("opset", document.opset.map(JSONValue.int))
    model.append("size_bytes", .int(document.sizeBytes))
    var object: JSONObject = ["model": .object(model), "cached": .bool(cached)]
    object.append("inputs", .array(inputs.map(\.json)))
    object.append("outputs", .array(outputs.map(\.json)))
    object.append("parameters", .int(size.parameters))
    object.append("macs", .int(size.macs))
    if !assumedLengths.isEmpty {
      object.append(
        "assumed_lengths", .array(assumedLengths.map { ["symbol": .string($0.symbol), "length": .int($0.length)] }))
    }
    object.append("layers", .array(layers.map(\.json)))
    object.append("groups", .array(groups.map(\.json)))
    return .object(object)
  }
}

extension Port {
  fileprivate var json: JSONValue {
    [
      "name": .string(name),
      "dtype": dtype.map { .string($0.wireName) } ?? .null,
      "shape": shape.map { .array($0.map(\.json)) } ?? .null,
    ]
  }
}

extension Dimension {
  /// A length, a symbol's name, or null.
  fileprivate var json: JSONValue {
    switch self {
    case .fixed(let length): .int(length)
    case .symbol(let name): .string(name)
    case .unknown: .null
    }
  }
}

extension LayerReport {
  fileprivate var json: JSONValue {
    var object: JSONObject = [
      "name": .string(name), "op": .string(op), "parameter": .string(parameter), "channels": .ints(channels),
    ]
    object.append("kernel", kernel.map(JSONValue.ints))
    object.append("groups", groups.map(JSONValue.int))
    object.append("parameters", .int(parameters))
    object.append("macs", .int(macs))
    object.append("methods", .array(methods.map { .string($0.rawValue) }))
    object.append("decomposition", decomposition.map { .array($0.map(\.json)) })
    object.append("group", group.map(JSONValue.int) ?? .null)
    if !otherGroups.isEmpty { object.append("other_groups", .ints(otherGroups)) }
    object.append("coupled_with", .array(coupledWith.map(JSONValue.string)))
    object.append("explanation", .string(explanation))
    object.append("reason", reason.map(JSONValue.string))
    return .object(object)
  }
}

extension RankLimits {
  fileprivate var json: JSONValue {
    [
      "method": .string(method.rawValue), "full_rank": .ints(full),
      "break_even_rank": breakEven.map(JSONValue.ints) ?? .null,
    ]
  }
}

extension GroupReport {
  fileprivate var json: JSONValue {
    var object: JSONObject = [
      "id": .int(id), "name": .string(name), "size": .int(size),
      "channels": .int(channels), "prunable": .bool(prunable),
      "layers": .array(layers.map(JSONValue.string)),
    ]
    object.append(
      "balance",
      balance.map { ["blocks": .int($0.blocks), "width": .int($0.width), "linked_with": .ints($0.linkedWith)] })
    object.append("reason", reason.map(JSONValue.string))
    return .object(object)
  }
}
