import Formats
import Foundation
import ModelGraph
import TestSupport
import Testing

// Damaged and hostile files, and workers that fail: every one is a typed failure, in bounded time.

/// The ways in which a damaged file may fail.
private let kinds: Set<Failure.Kind> = [.modelMalformed, .modelUnsafe, .modelUnsupportedFormat, .resourceLimit]

/// Reads a file from memory and touches all that it is said to hold.
/// - Returns: nil if it was read.
private func outcome(_ bytes: [UInt8]) throws -> Failure? {
  let contents = TensorBytes(copying: bytes)
  return try failure {
    let file = try HDF5File(contents, work: Work())
    var sum = 0
    file.root.forEachDataset { _, dataset in dataset.bytes.buffer.forEach { sum &+= Int($0) } }
    #expect(sum >= 0)
  }
}

@Suite("Hostile HDF5") struct HDF5HostileTests {
  @Test(
    "What is refused, and as what",
    arguments: [
      ("soft", Failure.Kind.modelUnsupportedFormat, "soft link"), ("external_link", .modelUnsafe, "another file"),
      ("external_storage", .modelUnsafe, "'/outside'"), ("virtual", .modelUnsafe, "'/view'"),
      ("big_endian", .modelUnsupportedFormat, "'/weight'"), ("compound", .modelUnsupportedFormat, "'/weight'"),
      ("strings", .modelUnsupportedFormat, "'/weight'"), ("reference", .modelUnsupportedFormat, "'reference' of '/'"),
      ("named_type", .modelUnsupportedFormat, "'/type'"), ("opaque", .modelUnsupportedFormat, "'/weight'"),
      ("lzf", .modelUnsupportedFormat, "lzf"), ("extended", .modelUnsupportedFormat, "'/weight'"),
      ("shared", .modelMalformed, "'/b'"), ("cycle", .modelMalformed, "'/a/b/up'"),
      ("too_deep", .resourceLimit, "nested"), ("bomb", .resourceLimit, "'/weight'"),
      ("large_chunk", .resourceLimit, "'/weight'"),
    ])
  func refused(name: String, kind: Failure.Kind, mention: String) throws {
    let found = try #require(try failure { _ = try hdf5("refused.\(name)") })
    #expect(found.kind == kind)
    #expect(found.message.contains(mention), "\(found.message)")
  }

  @Test("A file that is cut off anywhere", arguments: ["keras3", "tf_keras", "newest"])
  func truncated(name: String) throws {
    let whole = try bytes(fixture("HDF5/\(name).h5"))
    for count in Set(stride(from: 0, to: whole.count, by: max(1, whole.count / 60))).union(0...9) {
      let found = try #require(try outcome(Array(whole.prefix(count))), "\(count) bytes")
      #expect(kinds.contains(found.kind), "\(count) bytes: \(found)")
    }
  }

  @Test("Thousands of files with some bytes changed are read or refused", arguments: 0..<10)
  func mutated(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let whole = try bytes(fixture("HDF5/\(["keras3", "tf_keras", "types", "packed", "newest"][Int(seed % 5)]).h5"))
    // Structure is what makes trouble; where a file is mostly contents it is at the front.
    let extent = min(whole.count, 40_000)
    var refused = 0
    for _ in 0..<220 {
      var file = whole
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        let place = Int.random(in: 0..<extent, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: file[place] = UInt8.random(in: 0...255, using: &random)
        case 1: file[place] ^= 1 << Int.random(in: 0..<8, using: &random)
        default: for index in place..<min(place + 8, extent) { file[index] = 0xff }
        }
      }
      let start = ContinuousClock.now
      if let found = try outcome(file) {
        #expect(kinds.contains(found.kind), "\(found)")
        refused += 1
      }
      #expect(ContinuousClock.now - start < .seconds(75))
    }
    #expect(refused > 0)
  }

  @Test("What is no HDF5 is refused without a look into it")
  func noHDF5() throws {
    for bytes in [[], [0x89], Array("PK\u{3}\u{4}".utf8), [UInt8](repeating: 0, count: 4096)] {
      let worker = HDF5Worker(executable: "/nonexistent")
      let found = try #require(
        try failure { _ = try HDF5File(TensorBytes(copying: bytes), worker: worker, work: Work()) })
      #expect(found.kind == .modelMalformed)
    }
  }

  @Test("A file that becomes another one while it is read")
  func changed() throws {
    let scratch = try Scratch()
    let contents = try bytes(fixture("HDF5/keras3.h5"))
    let path = try scratch.write(contents, "model.h5")
    let file = try MappedFile(path: path, work: Work())
    try scratch.write(Array(contents.prefix(9000)), "model.h5")
    #expect(try failure { _ = try HDF5File(file, work: Work()) }?.kind == .modelChanged)
  }
}

@Suite("HDF5 worker") struct HDF5WorkerTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// A worker that is a shell script.
  private func worker(_ script: String, seconds: Double = 30) throws -> HDF5Worker {
    let path = scratch["worker"]
    try scratch.write(Array("#!/bin/sh\n\(script)\n".utf8), "worker")
    chmod(path, 0o755)
    return HDF5Worker(executable: path, secondsLimit: seconds)
  }

  @Test("It is beside the program, or where ESPALIER_HDF5 says and nowhere else, or on PATH")
  func find() throws {
    let beside = try HDF5Worker.find { _ in nil }
    #expect(beside.hasSuffix("/espalier-hdf5"))
    #expect(try HDF5Worker.find { $0 == "ESPALIER_HDF5" ? "/bin/sh" : nil } == "/bin/sh")
    for place in ["/nonexistent", fixture("HDF5/keras3.h5"), "/tmp"] {
      let found = try failure { _ = try HDF5Worker.find { $0 == "ESPALIER_HDF5" ? place : nil } }
      #expect(found?.kind == .runtimeUnavailable && found?.message.contains(place) == true)
    }
  }

  @Test(
    "Ends of all kinds",
    arguments: [
      ("kill -SEGV $$", Failure.Kind.modelMalformed), ("kill -ABRT $$", .modelMalformed),
      ("kill -SYS $$", .modelMalformed),
      ("kill -XCPU $$", .resourceLimit), ("kill -KILL $$", .resourceLimit), ("exit 2", .resourceLimit),
      ("exit 3", .runtimeUnavailable), ("exit 64", .runtimeUnavailable), ("exit 0", .runtimeUnavailable),
      ("printf '\\001broken'", .modelMalformed), ("printf '\\002leads out'", .modelUnsafe),
      ("printf '\\003large'", .resourceLimit), ("printf '\\004strange'", .modelUnsupportedFormat),
      ("printf '\\005'", .runtimeUnavailable), ("printf '\\000'", .modelMalformed),
      ("printf '\\000\\001\\000'", .modelMalformed), ("/usr/bin/head -c 100000 /dev/zero", .modelMalformed),
    ])
  func ends(script: String, kind: Failure.Kind) throws {
    let worker = try worker(script)
    let found = try failure { _ = try hdf5("keras3", worker: worker) }
    #expect(found?.kind == kind, "\(String(describing: found))")
  }

  @Test("A program that cannot be started")
  func unstartable() throws {
    let found = try failure { _ = try hdf5("keras3", worker: HDF5Worker(executable: scratch["none"])) }
    #expect(found?.kind == .runtimeUnavailable)
  }

  @Test("It is ended when it takes too long")
  func timeLimit() throws {
    let worker = try worker("exec /bin/sleep 60", seconds: 0.2)
    let start = ContinuousClock.now
    #expect(try failure { _ = try hdf5("keras3", worker: worker) }?.kind == .resourceLimit)
    #expect(ContinuousClock.now - start < .seconds(10))
  }

  @Test("It is ended when the request is cancelled")
  func cancellation() throws {
    let note = scratch["pid"]
    let worker = try worker("echo $$ > \(note).new; /bin/mv \(note).new \(note); exec /bin/sleep 60")
    let work = Work()
    let thread = Thread {
      while !FileManager.default.fileExists(atPath: note) { usleep(1000) }
      work.cancellation.set()
    }
    thread.start()
    let file = try MappedFile(path: fixture("HDF5/keras3.h5"), work: Work())
    let start = ContinuousClock.now
    #expect(try failure { _ = try HDF5File(file, worker: worker, work: work) }?.kind == .cancelled)
    #expect(ContinuousClock.now - start < .seconds(10))
    let text = String(decoding: try bytes(note), as: UTF8.self).trimmingCharacters(
      in: .whitespacesAndNewlines)
    #expect(kill(try #require(pid_t(text)), 0) != 0 && errno == ESRCH)
  }

  @Test("Answers with a byte changed, or cut off, are read or refused", arguments: 0..<4)
  func lies(part: Int) throws {
    let program = try HDF5Worker.find()
    var refused = 0
    for index in 0..<60 {
      let place = part + index * 4
      let lie = index % 3 == 0 ? "377" : index % 3 == 1 ? "001" : "200"
      let script =
        index % 6 == 5
        ? "\(program) \"$@\" && truncate -s \(place * 20) /proc/self/fd/1"
        : "\(program) \"$@\" && printf '\\\(lie)' | dd of=/proc/self/fd/4 bs=1 seek=\(place) conv=notrunc 4>&1"
      let worker = try worker("PATH=/usr/bin:/bin; \(script)")
      let found = try failure {
        let root = try hdf5("tf_keras", worker: worker).root
        var sum = 0
        root.forEachDataset { _, dataset in dataset.bytes.buffer.forEach { sum &+= Int($0) } }
      }
      if let found {
        #expect(kinds.contains(found.kind) || found.kind == .runtimeUnavailable, "\(found)")
        refused += 1
      }
    }
    #expect(refused > 0)
  }
}
