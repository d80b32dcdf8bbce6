import JSONRPC
import Runtime

extension Params {
  /// What `initializationOptions` tell of where ONNX Runtime is: `onnxruntime`, the library or a directory that holds
  /// it, and `python`, the prefix or the executable of the Python that the client runs in.
  func runtimeHint() throws(ResponseError) -> RuntimeLoader.Hint {
    RuntimeLoader.Hint(library: try path("onnxruntime")?.path, python: try path("python")?.path)
  }
}
