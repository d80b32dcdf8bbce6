/// Everything that a well-formed request could not do, as one error type: a stable kind for programs, a message for
/// people (what was expected, what was found, what to do next), and details for both.
package struct Failure: Error, Sendable, CustomStringConvertible {
  package let kind: Kind
  package let message: String
  /// Names and numbers a program may want: the node, the tensor, the limit, the offset.
  package let details: [String: Detail]

  package init(_ kind: Kind, _ message: String, details: [String: Detail] = [:]) {
    (self.kind, self.message, self.details) = (kind, message, details)
  }

  package var description: String { "\(kind.rawValue): \(message)" }

  /// The strings are the wire contract's `data.kind`.
  package enum Kind: String, Sendable, CaseIterable {
    case modelNotFound = "model.notFound"
    case modelUnreadable = "model.unreadable"
    case modelUnsupportedFormat = "model.unsupportedFormat"
    case modelMalformed = "model.malformed"
    case modelUnsupportedOperator = "model.unsupportedOperator"
    case modelUnsafe = "model.unsafe"
    case modelChanged = "model.changed"
    case inputShapeMismatch = "model.inputShapes"
    /// The request itself is wrong as written: answered as InvalidParams, with `details["path"]` a JSON pointer.
    case invalidParams = "params.invalid"
    case invalidCombination = "option.invalidCombination"
    case layerUnknown = "layer.unknown"
    case layerUnavailable = "layer.unavailable"
    case nothingToCompress = "nothingToCompress"
    case outputExists = "output.exists"
    case outputUnwritable = "output.unwritable"
    case resourceLimit = "resource.limit"
    case cancelled = "cancelled"
    /// A result that did not pass its own proof: our bug, nothing was written.
    case certificateFailed = "certificate.failed"
    /// The compressed model, run, is not what it must be: nothing was written.
    case verifyFailed = "verify.failed"
    /// The model cannot be verified by running it, for a reason the message names.
    case verifyImpossible = "verify.impossible"
    /// What was asked for needs a library (ONNX Runtime, OpenBLAS), and there is none, or none that will do.
    case runtimeUnavailable = "runtime.unavailable"
    /// ONNX Runtime refused the model or could not finish a run; the message is its own.
    case runtimeFailed = "runtime.failed"
    /// What was asked for is defined on data, and none was given.
    case datasetRequired = "dataset.required"
    case datasetNotFound = "dataset.notFound"
    case datasetUnreadable = "dataset.unreadable"
    case datasetMalformed = "dataset.malformed"
    /// The data are not what the model takes: names, element types, shapes or their number.
    case datasetMismatch = "dataset.mismatch"
    case datasetChanged = "dataset.changed"
    /// The data make the model compute NaN or infinity where a criterion measures.
    case datasetNonFinite = "dataset.nonFinite"
    /// No choice of channels comes near enough to the wanted size.
    case targetUnreachable = "target.unreachable"
  }

  package enum Detail: Sendable, Equatable {
    case string(String)
    case int(Int)
    case double(Double)
    case strings([String])
    case ints([Int])
  }
}
