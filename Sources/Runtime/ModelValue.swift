import CONNXRuntime
import ModelGraph

/// What a model takes or gives under a name.
package struct ModelValue: Sendable, Hashable {
  package let name: String
  /// nil for what is no tensor (sequences, maps).
  package let dtype: DType?
  /// nil where nothing is known, not even the rank.
  package let shape: [Dimension]?

  package init(name: String, dtype: DType?, shape: [Dimension]?) {
    (self.name, self.dtype, self.shape) = (name, dtype, shape)
  }

  /// An input as the graph declares it; unlike a session, a graph knows a scalar from an unknown rank.
  package init(_ value: Value) { self.init(name: value.name, dtype: value.dtype, shape: value.declaredShape) }

  /// "float32 [N, 3, 224, 224]".
  package var typeText: String { "\(dtype.map(String.init(describing:)) ?? "no tensor") \(shapeText(shape))" }
}

/// "[N, 3, ?]".
func shapeText(_ shape: [Dimension]?) -> String {
  guard let shape else { return "of any shape" }
  let lengths = shape.map { dimension in
    switch dimension {
    case .fixed(let length): "\(length)"
    case .symbol(let name): name
    case .unknown: "?"
    }
  }
  return "[\(lengths.joined(separator: ", "))]"
}

func shapeText(_ shape: [Int]) -> String { "[\(shape.map(String.init).joined(separator: ", "))]" }

extension [Dimension] {
  /// Takes over a description of the C layer's.
  init(consuming type: onnx_tensor_type) {
    defer { onnx_tensor_type_free(type) }
    self = (0..<type.rank).map { axis in
      if type.dims[axis] >= 0 { return .fixed(Int(type.dims[axis])) }
      let name = type.symbols[axis].map { String(cString: $0) } ?? ""
      return name.isEmpty ? .unknown : .symbol(name)
    }
  }
}
