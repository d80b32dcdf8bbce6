import CONNXRuntime
import Glibc
import ModelGraph

/// A loaded ONNX Runtime: the one door to running models.
///
/// A process loads at most one (`RuntimeLoader` sees to that) and keeps it: its threads and thread-local data forbid
/// unloading. Everything that goes wrong in it comes back as a `Failure` with its own message.
package final class ONNXRuntime: Sendable {
  /// The file it was loaded from.
  package let path: String
  /// "1.32.0".
  package let version: String
  nonisolated(unsafe) let library: OpaquePointer

  enum LoadError: Error {
    case tooOld(String)
    case unloadable(String)
  }

  init(path: String) throws(LoadError) {
    var library: OpaquePointer?
    var isTooOld = false
    let error = text(onnx_library_open(path, &library, &isTooOld))
    guard let library else { throw isTooOld ? .tooOld(error ?? "") : .unloadable(error ?? "") }
    (self.path, self.library) = (path, library)
    version = String(cString: onnx_library_version(library))
  }

  /// The oldest version that has all that is used here.
  static var minimumVersion: String { "1.\(onnx_minimum_minor_version)" }

  func failure(_ doing: String, _ error: String) -> Failure {
    Failure(
      .runtimeFailed, "ONNX Runtime \(version) \(doing): \(error)",
      details: ["runtime": .string(version), "reason": .string(error)])
  }
}

/// Takes over a message of the C layer's.
func text(_ message: UnsafeMutablePointer<CChar>?) -> String? {
  guard let message else { return nil }
  defer { free(message) }
  return String(cString: message)
}
