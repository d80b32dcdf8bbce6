import JSON
import JSONRPC
import ModelGraph

extension ResponseError {
  /// A domain failure as an error response: which code, and what programs get to know besides the kind.
  init(_ failure: Failure) {
    switch failure.kind {
    case .invalidParams:
      var data = details(of: failure)
      if data["path"] == nil { data.append("path", "") }
      self.init(.invalidParams, failure.message, data: .object(data))
    case .cancelled: self.init(.requestCancelled, failure.message)
    default:
      let isChanged = failure.kind == .modelChanged
      let isRetryable = isChanged || failure.kind == .datasetChanged
      var data: JSONObject = ["kind": .string(failure.kind.rawValue), "retryable": .bool(isRetryable)]
      for member in details(of: failure).members where data[member.name] == nil {
        data.append(member.name, member.value)
      }
      self.init(isChanged ? .contentModified : .requestFailed, failure.message, data: .object(data))
    }
  }
}

/// Sorted by name: dictionaries have no order, and equal errors should be equal bytes.
private func details(of failure: Failure) -> JSONObject {
  JSONObject(
    failure.details.sorted { $0.key < $1.key }.map { name, detail in
      let value: JSONValue =
        switch detail {
        case .string(let text): .string(text)
        case .int(let number): .int(number)
        case .double(let number): .double(number)
        case .strings(let texts): .array(texts.map(JSONValue.string))
        case .ints(let numbers): .ints(numbers)
        }
      return (name: name, value: value)
    })
}
