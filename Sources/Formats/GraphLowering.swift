import ModelGraph

/// What lowering a framework's program to the one graph has in common, whichever framework: nodes that are named after
/// the call they come from, and what is known of the values so far.
protocol GraphLowering {
  var assembler: GraphAssembler { get set }
  /// What nodes are named after.
  var base: String { get }
  /// The program contradicts itself at the call that is lowered.
  func malformed(_ why: String) -> Failure
  /// There is no form in ONNX for the call that is lowered.
  func unsupported(_ why: String) -> Failure
}

extension GraphLowering {
  /// Appends a node with one result, named after the call.
  mutating func node(
    _ op: String, _ operands: [ValueID?], _ attributes: [String: Attribute] = [:], as suffix: String = "",
    dtype: DType? = nil
  ) throws(Failure) -> ValueID {
    try nodes(op, operands, attributes, count: 1, as: suffix, dtype: dtype)[0]
  }

  mutating func nodes(
    _ op: String, _ operands: [ValueID?], _ attributes: [String: Attribute] = [:], count: Int, as suffix: String = "",
    dtype: DType? = nil
  ) throws(Failure) -> [ValueID] {
    let name = suffix.isEmpty ? base : "\(base).\(suffix)"
    do throws(Failure) {
      return try assembler.node(op, operands, attributes, name: name, outputCount: count, dtype: dtype)
    } catch {
      throw malformed(error.message)
    }
  }

  /// The node appended last.
  var lastNode: NodeID { NodeID(assembler.nodeCount - 1) }

  func shape(_ id: ValueID) throws(Failure) -> [Int] {
    guard let shape = assembler.shape(id) else { throw unsupported("the shape of its input is not known") }
    return shape
  }

  func rank(_ id: ValueID) throws(Failure) -> Int { try shape(id).count }
  func dtype(_ id: ValueID) -> DType { assembler.dtype(id) ?? .float32 }
}
