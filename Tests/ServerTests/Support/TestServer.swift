import Compression
import Formats
import Glibc
import JSONRPC
import Logging
import ModelGraph
import Server
import TestSupport
import Testing
import Threads

/// Servers that read models from memory, and loads that tests can hold still.
extension Server {
  /// - Parameters:
  ///   - progressDelay: seconds before anything is reported.
  ///   - gate: loads wait in it until it opens or they are cancelled.
  ///   - writeGate: the same for writes.
  static func forTests(
    threads: Int = 2, cacheBytes: Int = 1 << 30, progressDelay: Double = 0.2, gate: Gate? = nil,
    writeGate: Gate? = nil,
    heldBytes: Int = 1000, loads: Monitor<Int> = Monitor(0)
  ) -> Server {
    var configuration = Configuration(cacheBytes: cacheBytes, threads: threads)
    configuration.progress.delaySeconds = progressDelay
    configuration.progress.intervalSeconds = 0.005
    let loader = ModelLoader(formats: ["memory"]) { (path, format, _, work) throws(Failure) in
      loads.update { $0 += 1 }
      guard let identity = FileIdentity(at: path) else { throw .cannotOpen(path, errno) }
      if let gate { try gate.pass(work) }
      if path.hasSuffix(".bad") { throw Failure(.modelMalformed, "not a model") }
      return MemoryDocument(identity, heldBytes: heldBytes, gate: writeGate)
    }
    return Server(
      configuration: configuration, loader: loader, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  }
}

/// A door that work stops at until a test opens it. Reports progress meanwhile, and gives up when cancelled.
final class Gate: Sendable {
  private let state = Monitor<(isOpen: Bool, waiting: Int)>((false, 0))

  func open() { state.update { $0.isOpen = true } }

  func close() { state.update { $0.isOpen = false } }

  /// Waits until that many stand before the gate.
  func waitForArrival(of count: Int = 1) throws {
    let arrived = state.wait(until: Instant.now.adding(seconds: 10)) { $0.waiting >= count ? true : nil }
    try #require(arrived == true, "nobody came to the gate")
  }

  func pass(_ work: Work) throws(Failure) {
    state.update { $0.waiting += 1 }
    defer { state.update { $0.waiting -= 1 } }
    var step = 0.0
    while state.wait(until: Instant.now.adding(seconds: 0.002), for: { $0.isOpen ? true : nil }) == nil {
      try work.checkCancellation()
      step = min(step + 0.01, 0.99)
      work.progress(step, "waiting at the gate")
    }
  }
}

/// A small convolutional network that stands for whatever its file holds. `write` writes a line, slowly if there is a
/// gate.
struct MemoryDocument: ModelDocument {
  let graph: Graph
  let files: [FileIdentity]
  let heldBytes: Int
  let gate: Gate?

  init(_ identity: FileIdentity, heldBytes: Int, gate: Gate?) {
    let builder = GraphBuilder()
    var value = builder.input("x", [1, 3, 8, 8])
    for (index, channels) in [(3, 16), (16, 16)].enumerated() {
      let weight = builder.weight([channels.1, channels.0, 3, 3], name: "conv\(index).weight")
      value = builder("Conv", value, weight, with: ["pads": [1, 1, 1, 1]], name: "conv\(index)")
      value = builder("Relu", value)
    }
    let weight = builder.weight([4, 16, 1, 1], name: "head.weight")
    builder.output(builder("Conv", value, weight, name: "head"))
    graph = builder.build()
    (files, self.heldBytes, self.gate) = ([identity], heldBytes, gate)
  }

  var description: DocumentDescription {
    DocumentDescription(format: "memory", framework: nil, opset: 17, sizeBytes: Int(files[0].sizeBytes))
  }

  func write(
    applying plan: CompressionPlan, to path: String, overwrite: Bool, checking check: FileCheck?, work: Work
  ) throws(Failure) -> [WrittenFile] {
    if let gate { try gate.pass(work) }
    guard overwrite || access(path, F_OK) != 0 else { throw Failure(.outputExists, "there is a file \(path)") }
    let file = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0o600)
    close(file)
    return [WrittenFile(path: path, sizeBytes: 0)]
  }
}

/// A directory that is gone after the test.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    var template = Array("/tmp/espalier-test-XXXXXX".utf8CString)
    path = String(cString: try #require(mkdtemp(&template)))
  }

  deinit {
    for name in names { unlink("\(path)/\(name)") }
    rmdir(path)
  }

  var names: [String] {
    // An entry ends with its name, so that the field as Swift sees it, of 256 bytes, must not be copied.
    guard let nameOffset = MemoryLayout<dirent>.offset(of: \.d_name), let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = String(cString: (UnsafeRawPointer(entry) + nameOffset).assumingMemoryBound(to: CChar.self))
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// The path of a file with this text, made anew.
  func file(_ name: String, _ text: String = "model") throws -> String {
    let path = "\(self.path)/\(name)"
    let file = try #require(fopen(path, "w"))
    fputs(text, file)
    fclose(file)
    return path
  }
}
