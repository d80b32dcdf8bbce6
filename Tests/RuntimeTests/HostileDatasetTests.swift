import Foundation
import ModelGraph
import Runtime
import TestSupport
import Testing

/// Files that were cut, damaged, or made to do harm: each is read or refused with a reason, and none costs memory that
/// its bytes do not account for.
struct HostileDatasetTests {
  private static let inputs = [
    ModelValue(name: "x", dtype: .float32, shape: ["N", 3]), ModelValue(name: "ids", dtype: .int64, shape: ["N"]),
  ]

  /// Reads everything there is.
  /// - Returns: the reason why it cannot be, nil if it can.
  private func read(_ path: String, _ inputs: [ModelValue]) throws -> Failure? {
    try failure {
      var samples = 0
      let dataset = try Dataset(path: path, for: inputs, batchSize: 4, work: Work())
      try dataset.forEachBatch(work: Work()) { batch in samples += batch.samples.count }
      #expect(samples == dataset.sampleCount)
    }
  }

  private func inputs(for name: String) -> [ModelValue] { name.hasSuffix(".npy") ? [Self.inputs[0]] : Self.inputs }

  private static let files = ["x.npy", "version3.npy", "stored.npz", "packed.npz", "zip64.npz"]

  @Test("Cut at each byte", arguments: files)
  func cut(_ name: String) throws {
    let scratch = try Scratch()
    let whole = try bytes(fixture(name))
    #expect(try read(fixture(name), inputs(for: name)) == nil)
    for count in whole.indices {
      let path = try scratch.write(Array(whole[..<count]), "x")
      let failure = try #require(try read(path, inputs(for: name)), "cut at \(count)")
      #expect(failure.kind == .datasetMalformed, "cut at \(count): \(failure)")
    }
  }

  @Test("Damaged in one to four bytes", arguments: files)
  func damaged(_ name: String) throws {
    let scratch = try Scratch()
    let whole = try bytes(fixture(name))
    var random = SeededGenerator(seed: 7)
    var refusals = 0
    for _ in 0..<3000 {
      var damaged = whole
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        damaged[Int.random(in: 0..<whole.count, using: &random)] =
          [0, 1, 0x7f, 0x80, 0xff, UInt8.random(in: 0...255)]
          .randomElement(using: &random) ?? 0
      }
      if let failure = try read(scratch.write(damaged, "x"), inputs(for: name)) {
        refusals += 1
        #expect([.datasetMalformed, .datasetMismatch].contains(failure.kind), "\(failure)")
      }
    }
    #expect(refusals > 300)
  }

  @Test("Damage to an archive never gives other numbers", arguments: ["stored.npz", "packed.npz", "zip64.npz"])
  func checksums(_ name: String) throws {
    let scratch = try Scratch()
    let whole = try bytes(fixture(name))
    func numbers(_ path: String) throws -> [UInt8] {
      var numbers: [UInt8] = []
      try Dataset(path: path, for: Self.inputs, batchSize: 64, work: Work()).forEachBatch(work: Work()) { batch in
        for input in Self.inputs { numbers += batch.inputs[input.name]?.elements(UInt8.self) ?? [] }
      }
      return numbers
    }
    let expected = try numbers(fixture(name))
    for offset in whole.indices {
      var damaged = whole
      damaged[offset] ^= 1 << UInt8(offset % 8)
      let path = try scratch.write(damaged, "x")
      _ = try failure {
        let isSame = try numbers(path) == expected
        #expect(isSame, "damaged at \(offset)")
      }
    }
  }

  @Test(
    "Headers that no NumPy writes",
    arguments: [
      "", "{}", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': False}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3)",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3), 'x': 1}",
      "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (5, 3)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3)} or 1",
      "{'descr': '<f4', 'fortran_order': 0, 'shape': (5, 3)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (5, -3)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3.0)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (5 3)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': [5, 3]}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 3)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}",
      "{'descr': '<f\\x34', 'fortran_order': False, 'shape': (5, 3)}",
      "{'descr': '|f4', 'fortran_order': False, 'shape': (5, 3)}",
      "{'descr': __import__('os'), 'fortran_order': False, 'shape': (5, 3)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (\(String(repeating: "1, ", count: 100)))}",
      String(repeating: "{", count: 60_000),
    ])
  func headers(_ header: String) throws {
    let scratch = try Scratch()
    let path = try scratch.write(npy(header: header) + [UInt8](repeating: 0, count: 60), "x")
    #expect(try read(path, [Self.inputs[0]])?.kind == .datasetMalformed)
  }

  @Test(
    "Headers as other programs write them",
    arguments: [
      "{'shape': (5, 3), 'fortran_order': False, 'descr': '<f4'}",
      "{\"descr\": \"<f4\", \"fortran_order\": False, \"shape\": (5L, 3L)}",
      "  { 'descr' :'<f4','fortran_order':False , 'shape':( 5 ,3, ) , }  \n\n",
    ])
  func otherHeaders(_ header: String) throws {
    let scratch = try Scratch()
    let path = try scratch.write(npy(header: header) + [UInt8](repeating: 0, count: 60), "x")
    #expect(try read(path, [Self.inputs[0]]) == nil)
  }

  @Test("No samples of endless lengths")
  func nothing() throws {
    let scratch = try Scratch()
    let huge = Int.max
    let path = try scratch.write(npy([0, huge, huge], []), "x")
    let input = ModelValue(name: "x", dtype: .float32, shape: ["N", .fixed(huge), .fixed(huge)])
    #expect(try read(path, [input])?.kind == .datasetMismatch)
  }

  @Test("A length of a header that would fill the memory")
  func longHeader() throws {
    let scratch = try Scratch()
    let path = try scratch.write([0x93] + Array("NUMPY".utf8) + [2, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0x20], "x")
    #expect(try read(path, [Self.inputs[0]])?.message.contains("claims 4294967307 bytes") == true)
  }

  @Test("Truth is 0 or 1, whatever byte stands for it")
  func truth() throws {
    let scratch = try Scratch()
    let header = npy(header: "{'descr': '|b1', 'fortran_order': False, 'shape': (4,)}")
    let path = try scratch.write(header + [0, 1, 2, 0xff], "x")
    let input = ModelValue(name: "x", dtype: .bool, shape: ["N"])
    try Dataset(path: path, for: [input], batchSize: 4, work: Work()).forEachBatch(work: Work()) { batch in
      #expect(batch.inputs["x"]?.elements(UInt8.self) == [0, 1, 1, 1])
    }
  }
}
