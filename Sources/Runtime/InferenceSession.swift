import CONNXRuntime
import Glibc
import ModelGraph

/// A model that ONNX Runtime has loaded and can run, from any number of threads at once.
///
/// Loading copies what it needs of the model's bytes. Any value of the model can be had as an output if the caller
/// lists it among the graph's outputs in the bytes it hands over.
package final class InferenceSession: Sendable {
  package enum Model: Sendable {
    case bytes([UInt8])
    /// Bytes that somebody else keeps, such as a mapped file's.
    case view(TensorBytes)
    /// The way for models of more than 2 GB, which have their tensors in other files.
    case file(String)
  }

  package enum OptimizationLevel: Int32, Sendable {
    /// The graph as it is written: for feature maps and for comparing outputs, which fusions change in the last digits.
    case none = 0
    case basic = 1
    case extended = 2
    case all = 99
  }

  package struct Settings: Sendable {
    package var optimization = OptimizationLevel.none
    /// Threads within an operator.
    package var threads = 1
    /// Where the files of external tensors are, for models that come as bytes. A file's lie beside it.
    package var externalDataFolder: String?

    package init(
      optimization: OptimizationLevel = .none, threads: Int = 1, externalDataFolder: String? = nil
    ) {
      (self.optimization, self.threads, self.externalDataFolder) = (optimization, threads, externalDataFolder)
    }
  }

  /// What has to be fed, in the model's order. A rank that the model leaves open and a scalar's look the same to the
  /// library; the shape is nil for both.
  package let inputs: [ModelValue]
  package let outputs: [ModelValue]
  package let runtime: ONNXRuntime
  private let handle: SessionHandle

  /// - Throws: `Failure` of kind runtimeFailed with the library's message, resourceLimit, or cancelled.
  package init(
    _ model: Model, settings: Settings = Settings(), runtime: ONNXRuntime, work: Work
  ) throws(Failure) {
    self.runtime = runtime
    handle = try detached(work: work) { () throws(Failure) in try SessionHandle.load(model, settings, runtime) }
    inputs = try handle.values(onnx_inputs, runtime)
    outputs = try handle.values(onnx_outputs, runtime)
  }

  /// Runs the model once.
  /// - Parameters:
  ///   - inputs: one tensor for every one of the session's inputs; others are refused.
  ///   - outputs: names of the wanted outputs; nothing else is kept in memory for the caller.
  /// - Returns: the outputs in the order asked for. Each keeps the library's own memory, until it is let go.
  /// - Throws: `Failure` of kind runtimeFailed with the library's message (shapes that do not fit, an index beyond a
  ///   table, ...), or cancelled, within milliseconds.
  package func run(_ inputs: [String: Tensor], outputs: [String], work: Work) throws(Failure) -> [Tensor] {
    let stop = try StopSwitch(runtime)
    let (handle, runtime) = (handle, runtime)
    let values = try detached(work: work, stop: { stop.flip() }) { () throws(Failure) in
      try handle.run(inputs, outputs, stop, runtime)
    }
    var results: [Tensor] = []
    for (name, value) in zip(outputs, values) {
      let tensor = try value.tensor(name, runtime)
      // An output that is an input comes back as the very memory that was handed in, which nobody holds for it.
      results.append(inputs.values.contains { $0.overlaps(tensor) } ? tensor.copy : tensor)
    }
    return results
  }
}

extension Tensor {
  /// Whether the two have bytes in common.
  fileprivate func overlaps(_ other: Tensor) -> Bool {
    bytes.base < other.bytes.base + other.bytes.count && other.bytes.base < bytes.base + bytes.count
  }

  fileprivate var copy: Tensor {
    let source = bytes.buffer
    return Tensor(dtype: dtype, shape: shape, bytes: TensorBytes(count: source.count) { $0.copyMemory(from: source) })
  }
}

/// Owns the library's session.
private final class SessionHandle: Sendable {
  nonisolated(unsafe) let raw: OpaquePointer

  private init(_ raw: OpaquePointer) { self.raw = raw }

  deinit { onnx_session_free(raw) }

  static func load(
    _ model: InferenceSession.Model, _ settings: InferenceSession.Settings, _ runtime: ONNXRuntime
  ) throws(Failure) -> SessionHandle {
    var session: OpaquePointer?
    let error = withOptionalCString(settings.externalDataFolder) { folder in
      let settings = onnx_settings(
        optimization_level: settings.optimization.rawValue, threads: Int32(clamping: max(1, settings.threads)),
        external_data_folder: folder)
      return switch model {
      case .bytes(let bytes):
        bytes.withUnsafeBytes {
          text(onnx_session_from_bytes(runtime.library, $0.baseAddress, $0.count, settings, &session))
        }
      case .view(let bytes):
        text(onnx_session_from_bytes(runtime.library, bytes.base, bytes.count, settings, &session))
      case .file(let path): text(onnx_session_from_file(runtime.library, path, settings, &session))
      }
    }
    guard let session else { throw runtime.failure("cannot load the model", error ?? "") }
    return SessionHandle(session)
  }

  func values(_ side: onnx_side, _ runtime: ONNXRuntime) throws(Failure) -> [ModelValue] {
    var count = 0
    if let error = text(onnx_session_count(raw, side, &count)) {
      throw runtime.failure("cannot describe the model", error)
    }
    var values: [ModelValue] = []
    for index in 0..<count {
      var name: UnsafeMutablePointer<CChar>?
      var type = onnx_tensor_type()
      if let error = text(onnx_session_describe(raw, side, index, &name, &type)) {
        throw runtime.failure("cannot describe the model", error)
      }
      let dtype = DType(rawValue: Int(type.dtype))
      let shape = [Dimension](consuming: type)
      values.append(ModelValue(name: text(name) ?? "", dtype: dtype, shape: shape.isEmpty ? nil : shape))
    }
    return values
  }

  func run(
    _ inputs: [String: Tensor], _ outputs: [String], _ stop: StopSwitch, _ runtime: ONNXRuntime
  ) throws(Failure) -> [RunValue] {
    let arguments = CStrings(inputs.map(\.key) + outputs)
    let tensors = inputs.map(\.value)
    let dims = tensors.flatMap { $0.shape.map(Int64.init) }
    var values = [OpaquePointer?](repeating: nil, count: outputs.count)
    let error = dims.withUnsafeBufferPointer { dims in
      var start = 0
      let records = tensors.enumerated().map { position, tensor in
        defer { start += tensor.shape.count }
        return onnx_input(
          name: arguments.pointers[position], dtype: Int32(tensor.dtype.rawValue), rank: tensor.shape.count,
          dims: dims.baseAddress.map { $0 + start }, data: tensor.bytes.base, bytes: tensor.bytes.count)
      }
      return withExtendedLifetime((tensors, arguments)) {
        text(
          onnx_session_run(
            raw, stop.raw, records, records.count, Array(arguments.pointers[inputs.count...]), outputs.count, &values))
      }
    }
    if let error { throw runtime.failure("cannot run the model", error) }
    return values.compactMap { $0.map(RunValue.init) }
  }
}

/// Owns the switch that ends one run.
private final class StopSwitch: Sendable {
  nonisolated(unsafe) let raw: OpaquePointer

  init(_ runtime: ONNXRuntime) throws(Failure) {
    var control: OpaquePointer?
    let error = text(onnx_run_control_create(runtime.library, &control))
    guard let control else { throw runtime.failure("cannot start a run", error ?? "") }
    raw = control
  }

  deinit { onnx_run_control_free(raw) }

  func flip() { onnx_run_control_stop(raw) }
}

/// Owns a value that a run gave, and with it the memory of the tensor made of it.
private final class RunValue: Sendable {
  nonisolated(unsafe) private let raw: OpaquePointer

  init(_ raw: OpaquePointer) { self.raw = raw }

  deinit { onnx_value_free(raw) }

  func tensor(_ name: String, _ runtime: ONNXRuntime) throws(Failure) -> Tensor {
    var type = onnx_tensor_type()
    var data: UnsafeRawPointer?
    if let error = text(onnx_value_describe(raw, &type, &data)) {
      throw runtime.failure("cannot read an output", error)
    }
    let code = Int(type.dtype)
    let shape = [Dimension](consuming: type).map { if case .fixed(let length) = $0 { length } else { 0 } }
    guard let dtype = DType(rawValue: code), let width = dtype.byteWidth else {
      throw Failure(
        .runtimeFailed, "output '\(name)' is no tensor of numbers; only those can be read",
        details: ["value": .string(name)])
    }
    // The library gives no address for no elements.
    let bytes = data.map { TensorBytes(base: $0, count: shape.reduce(width, *), owner: self) }
    return Tensor(dtype: dtype, shape: shape, bytes: bytes ?? TensorBytes(copying: [UInt8]()))
  }
}

/// Strings as C wants them, for as long as the object lives.
private final class CStrings {
  let pointers: [UnsafePointer<CChar>?]

  init(_ strings: [String]) { pointers = strings.map { UnsafePointer(strdup($0)) } }

  deinit { for pointer in pointers { free(UnsafeMutablePointer(mutating: pointer)) } }
}

private func withOptionalCString<R>(_ string: String?, _ body: (UnsafePointer<CChar>?) -> R) -> R {
  guard let string else { return body(nil) }
  return string.withCString { body($0) }
}
