import Compression
import JSON
import Synchronization

extension PlannedCompression {
  /// - Parameters:
  ///   - output: the written file; nil for a dry run.
  ///   - lists: `lists`, or the same written already.
  func json(output: WirePath?, compressed: ModelSize, lists: JSONObject, verification: JSONValue) -> JSONValue {
    var object: JSONObject = [
      "output_path": output.map { .string($0.spelled) } ?? .null,
      "original": original.json,
      "compressed": compressed.json,
    ]
    for (name, list) in lists.members { object.append(name, list) }
    object.append("verification", verification)
    object.append("warnings", .array(warnings.map(JSONValue.string)))
    object.append("reconstruction", reconstruction?.json)
    if !trials.isEmpty { object.append("trials", .array(trials.map(\.json))) }
    if let goal {
      object.append("requested", goal.json)
      object.append("achieved", RecommendationGoal.achieved(achievedRatio, original, compressed))
    }
    return .object(object)
  }

  /// What the plan alone decides: nearly all of the reply's bytes.
  var lists: JSONObject {
    [
      "layers": .array(layers.map(\.json)),
      "removed": .array(removed.map(\.json)),
      "copied": .array(copied.map(\.json)),
      "replaced": .array(replaced.map(\.json)),
      "adjusted": .array(adjusted.map(\.json)),
      "skipped": .array(skipped.map(\.json)),
    ]
  }
}

/// The lists of a reply, written once, by whoever has time for it first: every channel that goes is a number, and the
/// disk is at work meanwhile.
final class WrittenLists: Sendable {
  private let planned: PlannedCompression
  private let written = Mutex<JSONObject?>(nil)

  init(_ planned: PlannedCompression) { self.planned = planned }

  var object: JSONObject {
    written.withLock { written in
      if let written { return written }
      let object = JSONObject(
        planned.lists.members.map { name, list in (name, WrittenJSON(list).map(JSONValue.written) ?? list) })
      written = object
      return object
    }
  }
}

extension ReplacedLayer {
  fileprivate var json: JSONValue {
    var object: JSONObject = [
      "layer": .string(layer), "parameter": .string(parameter), "method": .string(method.wireName),
      "ranks": .ints(ranks), "by": .array(by.map(\.json)), "relative_error": .double(relativeError),
    ]
    object.append("output_error", outputError.map(JSONValue.double))
    return .object(object)
  }
}

extension ReconstructionReport {
  fileprivate var json: JSONValue {
    var object: JSONObject = [
      "method": .string(mode.rawValue), "samples": .int(sampleCount), "held_out": .int(heldOutCount),
      "kept": .bool(isKept),
    ]
    if normalizations > 0 { object.append("normalizations", .int(normalizations)) }
    object.append("error_before", errorBefore.map(JSONValue.finite))
    object.append("error_after", errorAfter.map(JSONValue.finite))
    object.append("layers", .array(layers.map(\.json)))
    object.append("skipped", .array(skipped.map(\.json)))
    return .object(object)
  }
}

extension ReconstructionReport.Layer {
  fileprivate var json: JSONValue {
    [
      "name": .string(name), "positions": .int(positions), "ridge": ridge.map(JSONValue.double) ?? .null,
      "error_before": .finite(errorBefore), "error_after": .finite(errorAfter),
    ]
  }
}

extension JSONValue {
  /// Null for what is no number.
  fileprivate static func finite(_ number: Double) -> JSONValue { number.isFinite ? .double(number) : .null }
}

extension AdjustedParameter {
  fileprivate var json: JSONValue {
    var object: JSONObject = [
      "layer": .string(layer), "parameter": .string(parameter), "original": original.map(JSONValue.string) ?? .null,
      "reason": .string(reason),
    ]
    if let factor { object.append("factor", .double(factor)) }
    return .object(object)
  }
}

extension ReplacedLayer.Part {
  fileprivate var json: JSONValue {
    ["name": .string(name), "op": .string(op), "parameter": .string(parameter), "shape": .ints(shape)]
  }
}

extension DecompositionMethod {
  /// "FD_SVD", ...
  var wireName: String { CompressionMethod.allCases.first { $0.decomposition == self }?.rawValue ?? "" }
}

extension CopiedVector {
  fileprivate var json: JSONValue {
    [
      "parameter": .string(parameter), "node": .string(node), "input": .int(input), "axis": .int(axis),
      "indices": .ints(indices),
    ]
  }
}

extension RemovedSlices {
  fileprivate var json: JSONValue {
    var object: JSONObject = ["parameter": .string(parameter), "axis": .int(axis)]
    switch indices {
    case .all(let indices): object.append("indices", .ints(indices))
    case .perGroup(let lists): object.append("indices_per_group", .array(lists.map(JSONValue.ints)))
    }
    return .object(object)
  }
}
