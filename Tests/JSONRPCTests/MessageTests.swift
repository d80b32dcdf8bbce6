import JSON
import JSONRPC
import Testing

/// Which of the kinds of message a JSON text is, and which ids are ids.
struct MessageTests {
  private func message(_ text: String) throws -> Message { Message(try JSONValue(decoding: text)) }

  @Test func requestsAndNotifications() throws {
    #expect(
      try message(#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1}}"#)
        == .request(.int(1), method: "m", params: ["a": 1]))
    #expect(try message(#"{"jsonrpc":"2.0","method":"m"}"#) == .notification(method: "m", params: nil))
    // What several clients send with shutdown.
    #expect(
      try message(#"{"jsonrpc":"2.0","id":"x","method":"m","params":null}"#)
        == .request(.string("x"), method: "m", params: nil))
    #expect(try message(#"{"jsonrpc":"2.0","id":7,"result":null}"#) == .response(.int(7)))
    #expect(try message(#"{"jsonrpc":"2.0","id":7,"error":{}}"#) == .response(.int(7)))
    #expect(
      try message(#"{"extra":1,"jsonrpc":"2.0","method":"m","more":[]}"#) == .notification(method: "m", params: nil))
  }

  @Test(
    "Ids are integers or strings, exactly (J2)",
    arguments: [
      ("0", .int(0)), ("-1", .int(-1)), ("9223372036854775807", .int(.max)), ("\"\"", .string("")),
      ("\"1\"", .string("1")),
      ("1", .int(1)), ("3.0", nil), ("null", nil), ("{}", nil), ("[1]", nil), ("true", nil),
    ] as [(String, RequestID?)])
  func ids(text: String, id: RequestID?) throws {
    switch try message(#"{"jsonrpc":"2.0","id":\#(text),"method":"m"}"#) {
    case .request(let found, _, _): #expect(found == id)
    case .invalid(let found, let error):
      #expect(id == nil && found == nil)
      #expect(error.code == .invalidRequest)
    default: Issue.record("neither a request nor invalid")
    }
  }

  @Test(
    "What is no message is answered as such (R1)",
    arguments: [
      ("5", nil), ("[]", nil), (#"[{"jsonrpc":"2.0","id":1,"method":"m"}]"#, nil), ("{}", nil),
      (#"{"id":1,"method":"m"}"#, .int(1)), (#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, .int(1)),
      (#"{"jsonrpc":2.0,"id":1,"method":"m"}"#, .int(1)), (#"{"jsonrpc":"2.0","id":4,"method":5}"#, .int(4)),
      (#"{"jsonrpc":"2.0","id":4,"result":1,"error":{}}"#, .int(4)), (#"{"jsonrpc":"2.0","id":4}"#, .int(4)),
      (#"{"jsonrpc":"2.0","result":1}"#, nil),
    ] as [(String, RequestID?)])
  func invalid(text: String, id: RequestID?) throws {
    guard case .invalid(let found, let error) = try message(text) else {
      Issue.record("taken for a message")
      return
    }
    #expect(found == id)
    #expect(error.code == .invalidRequest)
  }
}
