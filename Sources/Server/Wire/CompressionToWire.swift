import Compression
import JSONRPC

extension PlannedCompression {
  /// - Parameters:
  ///   - output: the written file; nil for a dry run.
  ///   - verify: whether the client asked for verification.
  func json(output: WirePath?, compressed: ModelSize, verify: Bool) -> JSONValue {
    [
      "output_path": output.map { .string($0.spelled) } ?? .null,
      "original": original.json,
      "compressed": compressed.json,
      "layers": .array(layers.map(\.json)),
      "removed": .array(removed.map(\.json)),
      "copied": .array(copied.map(\.json)),
      "replaced": [],
      "adjusted": [],
      "skipped": .array(skipped.map(\.json)),
      "verification": [
        "status": "skipped",
        "certificate": certificate.json,
        "approximations": .array(approximations.map(\.json)),
        "reason": verify
          ? "no runtime is attached to this version of the daemon; only the certificate was checked"
          : "not asked for (verify); only the certificate was checked",
      ],
      "warnings": .array(warnings.map(JSONValue.string)),
    ]
  }
}

extension Approximation {
  fileprivate var json: JSONValue { ["name": .string(name), "op": .string(op), "reason": .string(reason)] }
}

extension CertificateReport {
  fileprivate var json: JSONValue {
    ["values_checked": .int(valuesChecked), "labels_compared": .int(labelsCompared)]
  }
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
