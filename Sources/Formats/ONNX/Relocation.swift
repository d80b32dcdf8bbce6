import ModelGraph

/// Giving the tensors that no plan knows (attributes, subgraphs, functions, training) their new places in external
/// files.
///
/// Each function returns nil where nothing inside moves, so that the bytes stay as they are.
struct Relocation {
  let layout: ExternalLayout

  /// A TensorProto.
  func tensor(_ span: ByteSpan) throws(Failure) -> WireMessage? {
    let message = try TensorMessage(span)
    guard case .external(let reference) = message.storage,
      let placement = layout.placement(of: reference, value: nil)
    else { return nil }
    return try message.relocated(to: placement)
  }

  /// An AttributeProto.
  func attribute(_ span: ByteSpan) throws(Failure) -> WireMessage? {
    typealias Field = ONNXSchema.Attribute
    return try WireMessage.rewriting(span, "AttributeProto") { number, payload throws(Failure) in
      switch number {
      case Field.tensor, Field.tensors: try tensor(payload)
      case Field.graph, Field.graphs: try graph(payload)
      case Field.sparseTensor, Field.sparseTensors: try sparseTensor(payload)
      default: nil
      }
    }
  }

  /// A NodeProto.
  func node(_ span: ByteSpan) throws(Failure) -> WireMessage? {
    try WireMessage.rewriting(span, "NodeProto") { number, payload throws(Failure) in
      number == ONNXSchema.Node.attribute ? try attribute(payload) : nil
    }
  }

  /// A field of the model other than its graph.
  func modelField(_ field: WireField) throws(Failure) -> WireMessage? {
    switch field.number {
    case ONNXSchema.Model.functions:
      try WireMessage.rewriting(field.bytes(), "FunctionProto") { number, payload throws(Failure) in
        number == ONNXSchema.Function.node ? try node(payload) : nil
      }
    case ONNXSchema.Model.trainingInfo:
      try WireMessage.rewriting(field.bytes(), "TrainingInfoProto") { number, payload throws(Failure) in
        ONNXSchema.TrainingInfo.graphs.contains(number) ? try graph(payload) : nil
      }
    default: nil
    }
  }

  /// A GraphProto that is not the model's own.
  private func graph(_ span: ByteSpan) throws(Failure) -> WireMessage? {
    typealias Field = ONNXSchema.Graph
    return try WireMessage.rewriting(span, "GraphProto") { number, payload throws(Failure) in
      switch number {
      case Field.node: try node(payload)
      case Field.initializer: try tensor(payload)
      case Field.sparseInitializer: try sparseTensor(payload)
      default: nil
      }
    }
  }

  private func sparseTensor(_ span: ByteSpan) throws(Failure) -> WireMessage? {
    typealias Field = ONNXSchema.SparseTensor
    return try WireMessage.rewriting(span, "SparseTensorProto") { number, payload throws(Failure) in
      number == Field.values || number == Field.indices ? try tensor(payload) : nil
    }
  }
}
