import Glibc
import ModelGraph
import Threads

/// The process that HDF5's library runs in, `espalier-hdf5`: started for one file, watched, and ended if need be.
///
/// Invariant: whatever a file makes of the library (an error, a crash, a loop, a claim of memory) comes back as a
/// `Failure` within the time limit, and no process is left behind.
package struct HDF5Worker: Sendable {
  /// What the process left, once it has ended well.
  struct Answer {
    /// What the command answers.
    let stream: TensorBytes
    /// What it made.
    let product: MemoryFile
  }

  private let executable: String?
  private let secondsLimit: Double

  /// How long a cancellation may go unnoticed.
  private static let pollMilliseconds: Int32 = 10

  /// Of glibc: memory comes in few large pieces, which saves a quarter of the time that thousands of small ones take.
  private static let environment = ["GLIBC_TUNABLES=glibc.malloc.top_pad=8388608:glibc.malloc.hugetlb=1"]

  /// - Parameters:
  ///   - executable: path of `espalier-hdf5`; nil looks for it when it is needed.
  ///   - secondsLimit: how long it may run. Reading takes milliseconds, unpacking a large file some seconds; the
  ///     process has a limit of processor time of its own.
  package init(executable: String? = nil, secondsLimit: Double = 60) {
    (self.executable, self.secondsLimit) = (executable, secondsLimit)
  }

  /// Runs the program over the file `input`.
  func run(_ arguments: [String], input: Int32, work: Work) throws(Failure) -> Answer {
    try work.checkCancellation()
    let path: String
    if let executable { path = executable } else { path = try Self.find() }
    let (answer, product) = (try MemoryFile(), try MemoryFile())
    let process = try ChildProcess(
      path, arguments, environment: Self.environment,
      descriptors: [0: input, 1: answer.descriptor, 3: product.descriptor])
    let deadline = Instant.now.adding(seconds: secondsLimit)
    while !process.waitForEnd(milliseconds: Self.pollMilliseconds) {
      try work.checkCancellation()
      guard Instant.now < deadline else {
        throw Failure(
          .resourceLimit,
          "HDF5's library was not done with the file after \(Int(secondsLimit)) s; it is damaged: copy it or save it again"
        )
      }
    }
    try Self.check(process.status, path)
    let stream = try answer.mapped()
    guard let code = stream.buffer.first else { throw Self.misfit(path) }
    guard code == 0 else { throw Self.failure(code, sentence: stream.part(1..<stream.count), path) }
    return Answer(stream: stream.part(1..<stream.count), product: product)
  }

  // MARK: What went wrong

  private static func check(_ status: Int32, _ path: String) throws(Failure) {
    let (signal, code) = (status & 0x7f, status >> 8 & 0xff)
    switch (signal, code) {
    case (0, 0): return
    case (0, 2):
      throw Failure(.resourceLimit, "there is no room in memory for what the HDF5 file holds")
    case (0, 3):
      throw Failure(
        .runtimeUnavailable,
        "\(path) cannot lock itself in, and reads no HDF5 files then: the system has to have seccomp")
    case (0, _): throw misfit(path)
    case (SIGXCPU, _):
      throw Failure(
        .resourceLimit,
        "HDF5's library took too long over the file, as over one that leads round in circles; it is damaged: copy it or save "
          + "it again")
    case (SIGXFSZ, _):
      throw Failure(.resourceLimit, "the HDF5 file holds more than is unpacked")
    case (SIGKILL, _):
      throw Failure(.resourceLimit, "the process that reads HDF5 files was ended by the system; memory may be short")
    default:
      throw Failure(
        .modelMalformed, "HDF5's library fails at the file (signal \(signal)); the file is damaged, or made to do harm",
        details: ["signal": .int(Int(signal))])
    }
  }

  private static func failure(_ code: UInt8, sentence: TensorBytes, _ path: String) -> Failure {
    let sentence = String(decoding: sentence.buffer.prefix(4096), as: UTF8.self)
    switch code {
    case 1: return Failure(.modelMalformed, "the HDF5 file is damaged: \(sentence)")
    case 2: return Failure(.modelUnsafe, "the HDF5 file leads out of itself: \(sentence)")
    case 3: return Failure(.resourceLimit, "the HDF5 file is too large: \(sentence)")
    case 4: return Failure(.modelUnsupportedFormat, "the HDF5 file is not read: \(sentence)")
    default: return misfit(path)
    }
  }

  private static func misfit(_ path: String) -> Failure {
    Failure(
      .runtimeUnavailable, "\(path) does not answer as this daemon's espalier-hdf5; build both from the same sources",
      details: ["path": .string(path)])
  }

  // MARK: Where it is

  /// ESPALIER_HDF5, then beside this program, then on PATH.
  package static func find(
    environment: (String) -> String? = { getenv($0).map { String(cString: $0) } }
  ) throws(Failure) -> String {
    if let named = environment("ESPALIER_HDF5"), !named.isEmpty {
      guard isProgram(named) else { throw missing("ESPALIER_HDF5 names \(named), which is no program that can be run") }
      return named
    }
    var places: [String] = []
    if let program = canonicalPath("/proc/self/exe") { places.append(splitPath(program).directory) }
    for place in (environment("PATH") ?? "").split(separator: ":") where place.hasPrefix("/") {
      places.append(String(place))
    }
    for place in places where isProgram("\(place)/espalier-hdf5") { return "\(place)/espalier-hdf5" }
    throw missing("there is no espalier-hdf5 beside the daemon and none on PATH")
  }

  private static func isProgram(_ path: String) -> Bool {
    var info = stat()
    return access(path, X_OK) == 0 && stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFREG
  }

  private static func missing(_ found: String) -> Failure {
    Failure(
      .runtimeUnavailable,
      "reading and writing HDF5 (Keras models) needs the program espalier-hdf5: \(found). 'make build' makes it; keep it beside "
        + "espalierd, or name it in ESPALIER_HDF5")
  }
}
