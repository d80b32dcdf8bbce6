import ArgumentParser
import Glibc
import JSONRPC
import Logging
import Server

/// The command line, and the start of what it asks for. Nothing else is decided here.
@main
struct Espalierd: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "espalierd",
    abstract: "Compresses neural networks for clients that speak JSON-RPC.",
    discussion:
      "Speaks over standard input and output unless told to listen. The protocol is described in protocol.md.",
    version: espalierVersion)

  @Flag(help: "Serve one client over standard input and output (the default).")
  var stdio = false

  @Option(help: ArgumentHelp("Listen on this Unix socket.", valueName: "path"))
  var pipe: String?

  @Flag(help: "Listen on the default Unix socket.")
  var listen = false

  @Flag(help: "Print the path of the default Unix socket and exit.")
  var printAddress = false

  @Option(help: ArgumentHelp("Least severe messages to log: trace, debug, info, notice, warning, error or critical."))
  var logLevel: Logger.Level = .notice

  @Option(help: ArgumentHelp("Append the log to this file instead of standard error.", valueName: "path"))
  var logFile: String?

  @Option(help: ArgumentHelp("Bytes of models to keep warm (default: a quarter of the memory).", valueName: "bytes"))
  var cacheBytes: Int?

  @Option(help: ArgumentHelp("Requests to work on at a time (default: one per processor).", valueName: "count"))
  var threads: Int?

  @Option(help: ArgumentHelp("Longest message to accept or send.", valueName: "bytes"))
  var maxMessageBytes = 64 << 20

  @Option(help: ArgumentHelp("A listening daemon ends after so many minutes without clients; 0 is never."))
  var idleMinutes = 10.0

  @Option(
    name: [.customLong("client-process-id"), .customLong("clientProcessId")],
    help: ArgumentHelp("End when this process does.", valueName: "pid"))
  var clientProcessID: Int32?

  func validate() throws {
    guard [stdio, pipe != nil, listen].count(where: { $0 }) <= 1 else {
      throw ValidationError("--stdio, --pipe and --listen exclude one another.")
    }
    guard (cacheBytes ?? 0) >= 0 else { throw ValidationError("--cache-bytes must not be negative.") }
    guard threads.map({ 1...1024 ~= $0 }) ?? true else { throw ValidationError("--threads must be from 1 to 1024.") }
    guard 1024...Int(Int32.max) ~= maxMessageBytes else {
      throw ValidationError("--max-message-bytes must be from 1024 to \(Int32.max).")
    }
    guard idleMinutes >= 0 else { throw ValidationError("--idle-minutes must not be negative.") }
    guard (clientProcessID ?? 1) > 0 else { throw ValidationError("--client-process-id must be positive.") }
  }

  func run() throws {
    let endpoint = StandardStreams.claim()
    ProcessSignals.block()
    seedJSONHashing()
    var sink = LogSink.standardError
    if let logFile {
      guard let file = LogSink.file(logFile) else {
        fail("cannot open the log file \(logFile): \(String(cString: strerror(errno)))", EX_CONFIG)
      }
      sink = file
    }
    let log = Logger(label: "espalierd") { [sink] _ in DescriptorLogHandler(sink, level: logLevel) }
    var configuration = Configuration(cacheBytes: cacheBytes, threads: threads, maximumMessageBytes: maxMessageBytes)
    configuration.idleMinutes = idleMinutes
    guard let endpoint else { fail("no file descriptors are left", EX_OSERR) }
    StandardStreamsHost.run(
      endpoint, configuration: configuration, loader: .files, log: log, clientProcessID: clientProcessID)
  }
}

/// Ends a start that went wrong, with a status from sysexits.h.
private func fail(_ message: String, _ status: Int32) -> Never {
  let line = "espalierd: \(message)\n"
  _ = line.withCString { write(STDERR_FILENO, $0, strlen($0)) }
  exit(status)
}

extension Logger.Level: @retroactive ExpressibleByArgument {}
