import Formats
import JSONRPC
import ModelGraph

/// Which model a request is about, and how it is to be read.
struct ModelReference: Sendable {
  let file: WirePath
  /// nil: found out from the file.
  let format: String?
  let inputShapes: [InputShape]
}

extension Params {
  /// The members `model` and `input_shapes`.
  func modelReference() throws(ResponseError) -> ModelReference {
    let value = try require("model", value("model"))
    let inputShapes = try inputShapes()
    guard case .object = value else {
      guard case .string = value else { throw wrong("model", "a path or an object with a path", value) }
      return ModelReference(file: try require("model", path("model")), format: nil, inputShapes: inputShapes)
    }
    let model = try require("model", object("model"))
    return ModelReference(
      file: try model.require("path", model.path("path")), format: try model.string("format"), inputShapes: inputShapes)
  }

  private func inputShapes() throws(ResponseError) -> [InputShape] {
    guard let entries = try objects("input_shapes") else { return [] }
    return try entries.map { entry throws(ResponseError) in
      return InputShape(name: try entry.string("name"), shape: try entry.lengths(), dtype: try entry.dtype("dtype"))
    }
  }

  /// `{"shape": [1, 3, 224, 224]}`, or the older `{"batch": 1, "channel": 3, "dimension": [224, 224]}`.
  private func lengths() throws(ResponseError) -> [Int] {
    if let shape = try ints("shape", atLeast: 0) { return shape }
    let batch = try int("batch", in: 1...Int.max)
    let channel = try int("channel", in: 1...Int.max)
    guard let batch, let channel, let dimension = try ints("dimension", atLeast: 1) else {
      throw .invalidParams(path, "give 'shape', or 'batch', 'channel' and 'dimension'")
    }
    return [batch, channel] + dimension
  }

  private func dtype(_ name: String) throws(ResponseError) -> DType? {
    guard let text = try string(name) else { return nil }
    guard let dtype = DType.allCases.first(where: { $0.wireName == text.lowercased() }) else {
      throw .invalidParams(pointer(name), "'\(text)' is no element type; for example float32 or int64")
    }
    return dtype
  }
}
