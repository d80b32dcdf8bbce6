import Compression
import JSON
import ModelGraph

extension PlannedCompression {
  /// The member `verification` of a reply.
  /// - Parameters:
  ///   - report: nil where nothing was run.
  ///   - reasonIfSkipped: why that is.
  func verificationJSON(_ report: VerificationReport?, reasonIfSkipped: String) -> JSONValue {
    var object: JSONObject = [
      "status": .string(report?.status.rawValue ?? "skipped"),
      "certificate": certificate.json,
      "approximations": .array(approximations.map(\.json)),
    ]
    guard let report else {
      object.append("reason", .string(reasonIfSkipped))
      return .object(object)
    }
    report.distance.append(to: &object)
    if let twin = report.twin {
      var found: JSONObject = ["status": .string(report.status == .approximate ? "exact" : "failed")]
      twin.append(to: &found)
      object.append("twin", .object(found))
    }
    object.append("tolerance", .double(report.tolerance))
    object.append("noise", .double(report.noise))
    object.append("samples", .int(report.sampleCount))
    object.append("samples_given", report.givenCount.map(JSONValue.int))
    if let reason = report.reason { object.append("reason", .string(reason)) }
    return .object(object)
  }
}

extension VerificationReport {
  /// What a compression whose file failed answers; nothing was written.
  var failure: Failure {
    var details: [String: Failure.Detail] = ["tolerance": .double(tolerance)]
    let worst = twin ?? distance
    if worst.maxRelative.isFinite {
      details["max_abs_error"] = .double(worst.maxAbsolute)
      details["max_rel_error"] = .double(worst.maxRelative)
    }
    return Failure(
      .verifyFailed,
      "the compressed model did not pass verification and nothing was written: \(reason ?? ""). This is a defect of "
        + "Espalier; please report it", details: details)
  }
}

extension OutputDistance {
  /// Null where there is no number: outputs that cannot be compared, or differ where they should be zero.
  fileprivate func append(to object: inout JSONObject) {
    let isMeasured = mismatch == nil && count > 0
    object.append("max_abs_error", isMeasured ? .double(maxAbsolute) : .null)
    object.append("max_rel_error", isMeasured && maxRelative.isFinite ? .double(maxRelative) : .null)
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
