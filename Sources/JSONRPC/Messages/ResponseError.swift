import JSON

/// The error member of a response.
package struct ResponseError: Error, Sendable, Equatable {
  package var code: ErrorCode
  package var message: String
  package var data: JSONValue?

  package init(_ code: ErrorCode, _ message: String, data: JSONValue? = nil) {
    (self.code, self.message, self.data) = (code, message, data)
  }

  /// A request that is wrong as written; `path` is a JSON pointer into its params.
  package static func invalidParams(_ path: String, _ message: String) -> ResponseError {
    ResponseError(.invalidParams, message, data: ["path": .string(path)])
  }

  /// A well-formed request that could not be done; `kind` is a stable string for programs.
  package static func requestFailed(_ kind: String, _ message: String, retryable: Bool = false) -> ResponseError {
    ResponseError(.requestFailed, message, data: ["kind": .string(kind), "retryable": .bool(retryable)])
  }

  var json: JSONValue {
    var object: JSONObject = ["code": .int(code.rawValue), "message": .string(message)]
    object.append("data", data)
    return .object(object)
  }
}

/// JSON-RPC's codes and those that the Language Server Protocol adds.
package enum ErrorCode: Int, Sendable {
  case parseError = -32700
  case invalidRequest = -32600
  case methodNotFound = -32601
  case invalidParams = -32602
  case internalError = -32603
  case serverNotInitialized = -32002
  case requestFailed = -32803
  case serverCancelled = -32802
  case contentModified = -32801
  case requestCancelled = -32800
}
