import Formats
import Glibc
import ModelGraph
import Runtime

// Graphs that were made or changed here, on their way into the runtime.

extension ONNXWriter {
  /// The model, loaded: from memory, or where it is too large for one message from a temporary file.
  /// - Parameter settings: with the folder of files that subgraphs name.
  func session(
    _ settings: InferenceSession.Settings, runtime: ONNXRuntime, work: Work
  ) throws(Failure) -> InferenceSession {
    if fitsOneMessage {
      return try InferenceSession(.view(bytes(work: work)), settings: settings, runtime: runtime, work: work)
    }
    let directory = try ScratchDirectory()
    defer { withExtendedLifetime(directory) {} }
    let path = directory.path + "/model.onnx"
    _ = try write(to: path, overwrite: false, work: work)
    // A file's other files lie beside it.
    var settings = settings
    settings.externalDataFolder = nil
    return try InferenceSession(.file(path), settings: settings, runtime: runtime, work: work)
  }
}

extension ModelDocument {
  /// Where tensors lie that subgraphs keep in other files.
  var folder: String? {
    guard let path = files.first?.path, let end = path.lastIndex(of: "/") else { return nil }
    return String(path[..<end])
  }
}

/// A directory of the system's for temporary files, gone with the object.
private final class ScratchDirectory {
  let path: String

  init() throws(Failure) {
    let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    // mkdtemp fills in the last six characters.
    var template = Array("\(base)/espalier-\(String(repeating: "X", count: 6))".utf8CString)
    guard let made = mkdtemp(&template) else {
      throw Failure(.resourceLimit, "cannot make a temporary directory in \(base): \(String(cString: strerror(errno)))")
    }
    path = String(cString: made)
  }

  deinit {
    for name in ["model.onnx", "model.onnx.data"] { unlink("\(path)/\(name)") }
    rmdir(path)
  }
}
