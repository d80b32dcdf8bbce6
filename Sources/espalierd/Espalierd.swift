import Glibc
import JSON
import JSONRPC
import Logging
import Server

/// The start of what the command line asks for. Nothing else is decided here.
@main
enum Espalierd {
  static func main() {
    let arguments: Arguments
    do {
      arguments = try Arguments(CommandLine.arguments.dropFirst())
    } catch {
      fail("\(error.message)\nTry 'espalierd --help'.", EX_USAGE)
    }
    switch arguments.mode {
    case .help: print(Arguments.help)
    case .version: print(espalierVersion)
    case .printAddress: print(SocketHost.defaultAddress(configuration(arguments)))
    case .standardStreams, .socket, .defaultSocket: serve(arguments)
    }
  }

  private static func configuration(_ arguments: Arguments) -> Configuration {
    var configuration = Configuration(
      cacheBytes: arguments.cacheBytes, threads: arguments.threads,
      maximumMessageBytes: arguments.maximumMessageBytes)
    configuration.idleMinutes = arguments.idleMinutes
    configuration.onnxRuntime = arguments.onnxRuntime
    return configuration
  }

  private static func serve(_ arguments: Arguments) -> Never {
    // Before anything else: from here on nothing can write into the protocol's stream by accident.
    let streams = StandardStreams.claim()
    ProcessSignals.block()
    configureHeap()
    seedJSONHashing()
    guard let sink = arguments.logFile.map(LogSink.file) ?? .standardError else {
      fail("cannot open the log file: \(String(cString: strerror(errno)))", EX_CONFIG)
    }
    let log = Logger(label: "espalierd") { _ in DescriptorLogHandler(sink, level: arguments.logLevel) }
    let configuration = configuration(arguments)
    do throws(SocketError) {
      guard let listener = try listener(arguments.mode, configuration) else {
        guard let streams else { fail("no file descriptors are left", EX_OSERR) }
        StandardStreamsHost.run(
          streams, configuration: configuration, loader: .files, log: log, clientProcessID: arguments.clientProcessID)
      }
      SocketHost.run(listener, configuration: configuration, loader: .files, log: log)
    } catch {
      if case .inUse = error { fail("\(error)", EX_UNAVAILABLE) }
      fail("\(error)", EX_CONFIG)
    }
  }

  /// nil for the standard streams.
  private static func listener(
    _ mode: Arguments.Mode, _ configuration: Configuration
  ) throws(SocketError) -> UnixSocketListener? {
    switch mode {
    case .socket(let path): return try UnixSocketListener(path: path)
    case .defaultSocket:
      if let passedOn = try UnixSocketListener(passedOnBy: { getenv($0).map { String(cString: $0) } }) {
        return passedOn
      }
      let path = SocketHost.defaultAddress(configuration)
      try RuntimeDirectory.create(RuntimeDirectory.containing(path))
      return try UnixSocketListener(path: path)
    default: return nil
    }
  }
}

/// Ends a start that went wrong, with a status from sysexits.h.
private func fail(_ message: String, _ status: Int32) -> Never {
  let line = "espalierd: \(message)\n"
  _ = line.withCString { write(STDERR_FILENO, $0, strlen($0)) }
  exit(status)
}
