import ModelGraph

/// A NodeProto, its names as bytes of the file and its attributes undecoded.
struct NodeMessage {
  var name: ByteSpan
  var op: ByteSpan
  var domain: ByteSpan
  var overload: ByteSpan
  var inputs: [ByteSpan] = []
  var outputs: [ByteSpan] = []
  var attributes: [ByteSpan] = []
  let span: ByteSpan

  init(_ span: ByteSpan) throws(Failure) {
    let nothing = span[0..<0]
    (name, op, domain, overload, self.span) = (nothing, nothing, nothing, nothing, span)
    var reader = WireReader(span, "NodeProto")
    while let field = try reader.next() {
      switch field.number {
      case ONNXSchema.Node.input: inputs.append(try field.bytes())
      case ONNXSchema.Node.output: outputs.append(try field.bytes())
      case ONNXSchema.Node.name: name = try field.bytes()
      case ONNXSchema.Node.opType: op = try field.bytes()
      case ONNXSchema.Node.domain: domain = try field.bytes()
      case ONNXSchema.Node.overload: overload = try field.bytes()
      case ONNXSchema.Node.attribute: attributes.append(try field.bytes())
      default: break
      }
    }
    guard !op.isEmpty else { throw .malformed("\(label) has no operator", at: span.offset) }
  }

  /// What to call the node in a message: by its name, else by its first output.
  var label: String {
    let kind = op.isEmpty ? "a node" : op.displayText
    if !name.isEmpty { return "\(kind) '\(name.displayText)'" }
    if let output = outputs.first(where: { !$0.isEmpty }) { return "the \(kind) that computes '\(output.displayText)'" }
    return "a nameless \(kind)"
  }
}
