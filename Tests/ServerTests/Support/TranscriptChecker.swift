import JSON
import JSONRPC
import Testing

/// A message of a session, in the order in which the client saw it.
enum TranscriptEntry: Sendable {
  case sent(JSONValue)
  case received(JSONValue)

  var received: JSONValue? { if case .received(let value) = self { value } else { nil } }
}

/// What holds for every session, whatever it was about: each request has exactly one answer; progress comes only on the
/// token of a request that is not answered yet, as one begin, reports that never go back, and one end (row P1).
func checkTranscript(_ transcript: [TranscriptEntry]) {
  struct Token {
    enum Stage { case silent, begun, ended }
    let request: RequestID
    var stage = Stage.silent
    var percentage = 0
  }
  var unanswered: [RequestID] = []
  var tokens: [RequestID: Token] = [:]
  for entry in transcript {
    switch entry {
    case .sent(let message):
      guard message["method"] != nil, let id = message["id"].flatMap(RequestID.init) else { continue }
      unanswered.append(id)
      if let token = message["params"]?["workDoneToken"].flatMap(RequestID.init), tokens[token] == nil {
        tokens[token] = Token(request: id)
      }
    case .received(let message) where message["method"] == "$/progress":
      guard let id = message["params"]?["token"].flatMap(RequestID.init), var token = tokens[id],
        let value = message["params"]?["value"], let kind = value["kind"]?.stringValue
      else {
        Issue.record("progress on a token that is nobody's: \(message)")
        continue
      }
      switch (kind, token.stage) {
      case ("begin", .silent):
        #expect(value["title"]?.stringValue?.isEmpty == false)
        token.stage = .begun
      case ("report", .begun): break
      case ("end", .begun): token.stage = .ended
      default: Issue.record("\(kind) at stage \(token.stage) of token \(id)")
      }
      if let percentage = value["percentage"]?.intValue {
        #expect(token.percentage...100 ~= percentage, "percentages must not go back")
        token.percentage = percentage
      }
      tokens[id] = token
    case .received(let message) where message["method"] == nil:
      guard let id = message["id"].flatMap(RequestID.init) else { continue }
      #expect((message["result"] == nil) != (message["error"] == nil), "\(message)")
      guard let index = unanswered.firstIndex(of: id) else {
        Issue.record("an answer to nothing: \(message)")
        continue
      }
      unanswered.remove(at: index)
      for (name, token) in tokens where token.request == id {
        #expect(token.stage != .begun, "answered before the end of its progress")
        tokens[name] = nil
      }
    case .received: break
    }
  }
  #expect(unanswered.isEmpty, "never answered: \(unanswered)")
}
