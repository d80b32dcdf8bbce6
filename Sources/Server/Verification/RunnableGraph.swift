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

extension Graph {
  /// How much the runtime rearranges at the least: nothing, so that a network computes what it says, unless it
  /// multiplies bytes. There, processors without instructions for it (AVX-512 VNNI, AVX-VNNI) let sums of two products
  /// overflow 16 bits, so that what a channel gives depends on its neighbours; only from this level on the runtime does
  /// without them.
  var leastOptimization: InferenceSession.OptimizationLevel {
    nodes.contains { Self.byteProducts.contains($0.qualifiedOperator) } ? .extended : .none
  }

  private static let byteProducts: Set = [
    "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "com.microsoft.DynamicQuantizeLSTM",
    "com.microsoft.DynamicQuantizeMatMul", "com.microsoft.MatMulIntegerToFloat", "com.microsoft.QAttention",
    "com.microsoft.QGemm",
  ]
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
