import Logging

/// The command line. One table defines each option: its name, its help line and what it sets.
///
/// Written by hand for a measured reason: swift-argument-parser brings FoundationEssentials along. With it the program
/// (statically linked) has 28 MB instead of 16, its first answer takes 3.9 ms instead of 2.4, and idle it holds 10.4 MB
/// of memory instead of 7.6.
struct Arguments {
  enum Mode: Equatable {
    case standardStreams
    case socket(String)
    case defaultSocket
    case printAddress
    case help
    case version
  }

  /// A command line that cannot be meant, with what to tell its author.
  struct UsageError: Error {
    let message: String
  }

  var mode = Mode.standardStreams
  var logLevel = Logger.Level.notice
  var logFile: String?
  var cacheBytes: Int?
  var threads: Int?
  var maximumMessageBytes = 64 << 20
  var idleMinutes = 10.0
  var clientProcessID: Int32?
  var onnxRuntime: String?

  private struct Option {
    let name: String
    /// What stands for the value in the help; nil for options without one.
    let value: String?
    let help: String
    let set: @Sendable (inout Arguments, String) throws(UsageError) -> Void
  }

  private static let options: [Option] = [
    Option(name: "stdio", value: nil, help: "Serve one client over standard input and output (the default).") {
      (arguments, _) throws(UsageError) in try arguments.choose(.standardStreams)
    },
    Option(name: "pipe", value: "PATH", help: "Listen on this Unix socket.") { (arguments, value) throws(UsageError) in
      try arguments.choose(.socket(value))
    },
    Option(name: "listen", value: nil, help: "Listen on the socket that systemd passes on, or the default one.") {
      (arguments, _) throws(UsageError) in try arguments.choose(.defaultSocket)
    },
    Option(name: "print-address", value: nil, help: "Print the path of the default Unix socket and exit.") {
      (arguments, _) throws(UsageError) in try arguments.choose(.printAddress)
    },
    Option(
      name: "log-level", value: "LEVEL",
      help: "Least severe messages to log: trace, debug, info, notice (the default), warning, error or critical."
    ) { (arguments, value) throws(UsageError) in
      guard let level = Logger.Level(rawValue: value) else {
        let levels = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
        throw UsageError(message: "--log-level is one of \(levels); found '\(value)'")
      }
      arguments.logLevel = level
    },
    Option(name: "log-file", value: "PATH", help: "Append the log to this file instead of standard error.") {
      (arguments, value) throws(UsageError) in arguments.logFile = value
    },
    Option(name: "cache-bytes", value: "N", help: "Bytes of models to keep warm (default: a quarter of the memory).") {
      (arguments, value) throws(UsageError) in arguments.cacheBytes = try number("cache-bytes", value, 0...Int.max)
    },
    Option(name: "threads", value: "N", help: "Requests to work on at a time (default: one per processor).") {
      (arguments, value) throws(UsageError) in arguments.threads = try number("threads", value, 1...1024)
    },
    Option(name: "max-message-bytes", value: "N", help: "Longest message to read or write (default: 67108864).") {
      (arguments, value) throws(UsageError) in
      arguments.maximumMessageBytes = try number("max-message-bytes", value, 1024...Int(Int32.max))
    },
    Option(name: "idle-minutes", value: "N", help: "End after so long without clients (default: 10; 0: never).") {
      (arguments, value) throws(UsageError) in
      guard let minutes = Double(value), minutes >= 0, minutes < 1e6 else {
        throw UsageError(message: "--idle-minutes is a number from 0 up; found '\(value)'")
      }
      arguments.idleMinutes = minutes
    },
    Option(name: "client-process-id", value: "PID", help: "End when this process does (also --clientProcessId).") {
      (arguments, value) throws(UsageError) in
      arguments.clientProcessID = Int32(try number("client-process-id", value, 1...Int(Int32.max)))
    },
    Option(name: "onnxruntime", value: "PATH", help: "ONNX Runtime's library, or a directory or environment with it.") {
      (arguments, value) throws(UsageError) in arguments.onnxRuntime = value
    },
    Option(name: "version", value: nil, help: "Print the version and exit.") {
      (arguments, _) throws(UsageError) in arguments.mode = .version
    },
    Option(name: "help", value: nil, help: "Print this and exit.") {
      (arguments, _) throws(UsageError) in arguments.mode = .help
    },
  ]

  /// Reads `--name`, `--name VALUE` and `--name=VALUE`.
  init(_ words: some Sequence<String>) throws(UsageError) {
    var words = words.makeIterator()
    while let word = words.next() {
      guard word.hasPrefix("--") else { throw UsageError(message: "unexpected argument '\(word)'") }
      let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(
        String.init)
      // As language servers' clients spell it.
      let name = parts[0] == "clientProcessId" ? "client-process-id" : parts[0]
      guard let option = Arguments.options.first(where: { $0.name == name }) else {
        throw UsageError(message: "unknown option '--\(parts[0])'")
      }
      let inline = parts.count > 1 ? parts[1] : nil
      if option.value == nil {
        guard inline == nil else { throw UsageError(message: "--\(name) takes no value") }
        try option.set(&self, "")
      } else {
        guard let value = inline ?? words.next(), !value.isEmpty else {
          throw UsageError(message: "--\(name) needs a value")
        }
        try option.set(&self, value)
      }
    }
  }

  private var hasChosen = false

  private mutating func choose(_ wanted: Mode) throws(UsageError) {
    // Asking for help wins over everything else on the line.
    if mode == .help || mode == .version { return }
    guard !hasChosen else {
      throw UsageError(message: "--stdio, --pipe, --listen and --print-address exclude one another")
    }
    (mode, hasChosen) = (wanted, true)
  }

  private static func number(_ name: String, _ text: String, _ range: ClosedRange<Int>) throws(UsageError) -> Int {
    guard let number = Int(text), range.contains(number) else {
      let bounds =
        range.upperBound == .max ? "from \(range.lowerBound) up" : "from \(range.lowerBound) to \(range.upperBound)"
      throw UsageError(message: "--\(name) is a whole number \(bounds); found '\(text)'")
    }
    return number
  }

  static var help: String {
    let rows = options.map { ("--\($0.name)" + ($0.value.map { " \($0)" } ?? ""), $0.help) }
    let width = rows.map(\.0.count).max() ?? 0
    let lines = rows.map { "  \($0.0)\(String(repeating: " ", count: width - $0.0.count))  \($0.1)" }
    return """
      Compresses neural networks for clients that speak JSON-RPC.

      Usage: espalierd [options]

      \(lines.joined(separator: "\n"))

      The protocol is described in protocol.md.
      """
  }
}
