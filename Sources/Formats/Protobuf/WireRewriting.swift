import ModelGraph

/// Changing a few fields of a message and keeping all others, known or not, as they stand and where they stand.
extension WireMessage {
  /// The message `span` with what `replace` makes of its length-delimited fields; nil if that is nothing new.
  /// - Parameter replace: given a field's number and payload; nil keeps the field.
  static func rewriting(
    _ span: ByteSpan, _ name: StaticString,
    _ replace: (_ number: Int, _ payload: ByteSpan) throws(Failure) -> WireMessage?
  ) throws(Failure) -> WireMessage? {
    var result = WireMessage()
    var isChanged = false
    var reader = WireReader(span, name)
    while let field = try reader.next() {
      if field.kind == .bytes, let message = try replace(field.number, field.payload) {
        result.message(field.number, message)
        isChanged = true
      } else {
        result.copy(field)
      }
    }
    return isChanged ? result : nil
  }
}
