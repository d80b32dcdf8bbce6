import Compression
import JSON
import JSONRPC
import Synchronization

/// `initialize`: the handshake. Tells what there is by name, so that clients ask for features and not for versions.
func handleInitialize(_ session: Session, _ params: Params) throws(ResponseError) -> JSONValue {
  if let version = try params.string("protocolVersion") {
    let major = version.prefix { $0 != "." }
    guard major == "\(ProtocolVersion.major)" else {
      throw ResponseError(
        .requestFailed, "protocol \(version) is not spoken here",
        data: [
          "kind": "protocol.unsupported", "retryable": false, "supported": [.string(ProtocolVersion.text)],
        ])
    }
  }
  if let trace = params.value("trace") {
    guard let level = TraceLevel(trace) else { throw params.wrong("trace", "off, messages or verbose", trace) }
    session.trace.store(level, ordering: .relaxed)
  }
  if let options = try params.object("initializationOptions") {
    session.server.runtime.suggest(try options.runtimeHint())
  }
  let processID = try params.int("processId", in: 1...Int(Int32.max))
  if let processID, session.transport == .standardStreams { session.server.watchClient(Int32(processID)) }
  session.becomeInitialized()
  return [
    "serverInfo": ["name": "espalierd", "version": .string(espalierVersion)],
    "protocolVersion": .string(ProtocolVersion.text),
    "capabilities": [
      "formats": [
        "read": .array(session.server.loader.formats.map(JSONValue.string)),
        "write": .array(session.server.loader.formats.map(JSONValue.string)),
      ],
      "compression_methods": .array(CompressionMethod.allCases.map { .string($0.rawValue) }),
      "recommendation_methods": .array(RecommendationMethod.allCases.map { .string($0.rawValue) }),
      "reconstruction_methods": .array(ReconstructionMode.allCases.map { .string($0.rawValue) }),
      "options": PruningOptions.wireDescription,
      "progress": ["inspect", "recommend", "sensitivity", "compress", "verify"],
      "partial_results": ["sensitivity"],
      "verification": ["certificate", "outputs"],
      "limits": [
        "max_message_bytes": .int(session.server.configuration.maximumMessageBytes),
        "max_waiting_requests": .int(WorkQueue<Void>.Limits().perSession),
      ],
    ],
  ]
}
