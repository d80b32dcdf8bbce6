import JSON

/// A request's id: an integer or a string, and `1` is not `"1"`.
package enum RequestID: Hashable, Sendable {
  case int(Int)
  case string(String)

  package init?(_ value: JSONValue) {
    switch value {
    case .int(let number): self = .int(number)
    case .string(let text): self = .string(text)
    default: return nil
    }
  }

  package var json: JSONValue {
    switch self {
    case .int(let number): .int(number)
    case .string(let text): .string(text)
    }
  }
}

/// What a well-framed JSON text is, decided by its members alone.
package enum Message: Sendable, Equatable {
  case request(RequestID, method: String, params: JSONValue?)
  case notification(method: String, params: JSONValue?)
  /// An answer to a request of ours. What it says matters to whoever asked, and nobody here asks.
  case response(RequestID)
  /// To be answered with `ResponseError` under `id`, or `null` where none can be recovered.
  case invalid(RequestID?, ResponseError)

  package init(_ value: JSONValue) {
    guard case .object(let object) = value else {
      let reason =
        if case .array = value {
          "batches are not accepted: send each message in a frame of its own"
        } else {
          "a message is an object, found \(value.typeName)"
        }
      self = .invalid(nil, ResponseError(.invalidRequest, reason))
      return
    }
    let rawID = object["id"]
    let id = rawID.flatMap(RequestID.init)
    func invalid(_ reason: String) -> Message { .invalid(id, ResponseError(.invalidRequest, reason)) }
    guard object["jsonrpc"] == "2.0" else {
      self = invalid("the member 'jsonrpc' must be \"2.0\"")
      return
    }
    // An explicit null for no parameters is what several clients send with `shutdown`.
    let params = object["params"].flatMap { $0 == .null ? nil : $0 }
    switch (object["method"], rawID) {
    case (.string(let method)?, nil): self = .notification(method: method, params: params)
    case (.string(let method)?, _?):
      if let id {
        self = .request(id, method: method, params: params)
      } else {
        self = invalid("an id is an integer or a string")
      }
    case (_?, _): self = invalid("the member 'method' must be a string")
    case (nil, _):
      if let id, (object["result"] == nil) != (object["error"] == nil) {
        self = .response(id)
      } else {
        self = invalid("neither a request nor a notification nor a response")
      }
    }
  }
}

/// The messages that go out, member by member.
extension JSONObject {
  package static func response(_ id: RequestID, result: JSONValue) -> JSONObject {
    ["jsonrpc": "2.0", "id": id.json, "result": result]
  }

  package static func response(_ id: RequestID?, error: ResponseError) -> JSONObject {
    ["jsonrpc": "2.0", "id": id?.json ?? .null, "error": error.json]
  }

  package static func notification(_ method: String, _ params: JSONValue) -> JSONObject {
    ["jsonrpc": "2.0", "method": .string(method), "params": params]
  }
}
