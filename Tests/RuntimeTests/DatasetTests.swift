import Foundation
import ModelGraph
import Runtime
import TestSupport
import Testing

/// What a dataset gives, batch by batch, and what it refuses, with both sides shown.
struct DatasetTests {
  private static let x = ModelValue(name: "x", dtype: .float32, shape: ["N", 3])
  private static let ids = ModelValue(name: "ids", dtype: .int64, shape: ["N"])

  /// Per batch the samples and the numbers of one input.
  private func batches<T: BitwiseCopyable>(
    _ path: String, _ inputs: [ModelValue], of name: String = "x", as type: T.Type = Float.self, batchSize: Int = 1,
    limit: Int? = nil
  ) throws -> [(samples: Range<Int>, shape: [Int], elements: [T])] {
    let dataset = try Dataset(path: path, for: inputs, batchSize: batchSize, sampleLimit: limit, work: Work())
    var result: [(samples: Range<Int>, shape: [Int], elements: [T])] = []
    try dataset.forEachBatch(work: Work()) { batch in
      #expect(batch.sampleCount == dataset.sampleCount)
      #expect(Set(batch.inputs.keys) == Set(inputs.map(\.name)))
      if let tensor = batch.inputs[name] { result.append((batch.samples, tensor.shape, tensor.elements(type))) }
    }
    #expect(result.last?.samples.upperBound == dataset.sampleCount)
    return result
  }

  /// 0, 0.5, 1, ... as the fixtures have them.
  private func halves(_ range: Range<Int>) -> [Float] { range.map { Float($0) / 2 } }

  // MARK: What is read

  @Test(
    "An array's first axis goes into batches, and the last is what is left", arguments: ["x", "version2", "version3"])
  func array(_ name: String) throws {
    let batches = try batches(fixture("\(name).npy"), [Self.x], batchSize: 2)
    #expect(batches.map(\.samples) == [0..<2, 2..<4, 4..<5])
    #expect(batches.map(\.shape) == [[2, 3], [2, 3], [1, 3]])
    #expect(batches.flatMap(\.elements) == halves(0..<15))
  }

  @Test("Arrays of an archive go to the inputs of their names, others are left alone", arguments: ["stored", "zip64"])
  func archive(_ name: String) throws {
    let path = fixture("\(name).npz")
    #expect(try batches(path, [Self.x, Self.ids], batchSize: 3).flatMap(\.elements) == halves(0..<15))
    let ids = try batches(path, [Self.ids, Self.x], of: "ids", as: Int64.self, batchSize: 3)
    #expect(ids.flatMap(\.elements) == [0, 7, 14, 21, 28])
    #expect(ids.map(\.shape) == [[3], [2]])
  }

  @Test("Packed entries are unpacked as they are needed; a scalar input takes one number for all samples")
  func packed() throws {
    let scale = ModelValue(name: "scale", dtype: .float32, shape: [])
    let inputs = [Self.x, scale, Self.ids]
    let path = fixture("packed.npz")
    for size in [1, 7, 32, 1000, 5000] {
      let x = try batches(path, inputs, batchSize: size)
      #expect(x.flatMap(\.elements) == (0..<200).flatMap { _ in halves(0..<15) })
      #expect(
        try batches(path, inputs, of: "scale", batchSize: size).allSatisfy { $0.elements == [2] && $0.shape == [] })
      let ids = try batches(path, inputs, of: "ids", as: Int64.self, batchSize: size)
      #expect(ids.flatMap(\.elements) == Array(0..<1000))
    }
  }

  @Test("Every element type that NumPy and ONNX share")
  func types() throws {
    for dtype in DType.allCases where GeneratedInputs.canMake(dtype) && dtype != .bfloat16 {
      let input = ModelValue(name: "x", dtype: dtype, shape: [nil, 2])
      let batches = try batches(fixture("type_\(dtype).npy"), [input], as: UInt8.self, batchSize: 2)
      let width = try #require(dtype.byteWidth)
      #expect(batches.count == 1 && batches[0].elements.count == 4 * width)
      let isZero = stride(from: 0, to: 4 * width, by: width).map { start in
        batches[0].elements[start..<start + width].allSatisfy { $0 == 0 }
      }
      #expect(isZero == [true, false, false, true], "\(dtype)")
    }
  }

  @Test("A folder's files follow each other by name, and batches go on across them")
  func folder() throws {
    let scratch = try Scratch()
    try scratch.write(bytes(fixture("x.npy")), "b.npy")
    try scratch.write(bytes(fixture("stored.npz")), "a.npz")
    try scratch.write(npy([2, 3], [90, 91, 92, 93, 94, 95]), "c.npy")
    try scratch.write([1], "notes.txt")
    try scratch.write([1], ".hidden.npy")
    try FileManager.default.createDirectory(atPath: scratch["z"], withIntermediateDirectories: true)
    let batches = try batches(scratch.path, [Self.x], batchSize: 4)
    #expect(batches.map(\.samples) == [0..<4, 4..<8, 8..<12])
    #expect(batches.flatMap(\.elements) == halves(0..<15) + halves(0..<15) + (90...95).map(Float.init))
  }

  @Test("Samples of other lengths have batches of their own")
  func lengths() throws {
    let scratch = try Scratch()
    let input = ModelValue(name: "x", dtype: .float32, shape: ["N", "L"])
    for (index, length) in [2, 2, 3].enumerated() {
      try scratch.write(npy([1, length], [Float](repeating: Float(length), count: length)), "\(index).npy")
    }
    #expect(try batches(scratch.path, [input], batchSize: 8).map(\.shape) == [[2, 2], [1, 3]])
  }

  @Test("A fixed first axis is the batch, whatever is chosen; a limit takes whole batches")
  func fixedBatch() throws {
    let input = ModelValue(name: "x", dtype: .float32, shape: [5, 3])
    #expect(try batches(fixture("x.npy"), [input], batchSize: 2).map(\.samples) == [0..<5])
    let scratch = try Scratch()
    for index in 0..<4 { try scratch.write(bytes(fixture("x.npy")), "\(index).npy") }
    let pairs = ModelValue(name: "x", dtype: .float32, shape: [10, 3])
    #expect(try batches(scratch.path, [pairs], limit: 11).map(\.samples) == [0..<10, 10..<20])
    #expect(try batches(scratch.path, [pairs], limit: 10).map(\.samples) == [0..<10])
    #expect(try batches(scratch.path, [Self.x], batchSize: 4, limit: 7).map(\.samples) == [0..<4, 4..<7])
  }

  @Test("Only so much is in memory as one batch has")
  func memory() throws {
    let scratch = try Scratch()
    // A gigabyte of holes.
    let count = 1 << 28
    let header = npy([count / 1024, 1024], [])
    let path = try scratch.write(header, "x.npy")
    #expect(truncate(path, header.count + count * 4) == 0)
    let input = ModelValue(name: "x", dtype: .float32, shape: ["N", 1024])
    let start = try privateBytes()
    var (bytes, growth) = (0, 0)
    try Dataset(path: path, for: [input], batchSize: 32, work: Work()).forEachBatch(work: Work()) { batch in
      bytes += batch.inputs["x"]?.bytes.count ?? 0
      if batch.samples.lowerBound % 4096 == 0 { growth = max(growth, ((try? privateBytes()) ?? .max) - start) }
    }
    #expect(bytes == count * 4)
    #expect(growth < 400 << 20)
  }

  // MARK: What is refused

  struct Mismatch: CustomTestStringConvertible, Sendable {
    let file: String
    let inputs: [ModelValue]
    let says: [String]
    var kind = Failure.Kind.datasetMismatch
    var testDescription: String { "\(file): \(says[0])" }
  }

  @Test(
    "What does not fit is shown with what would",
    arguments: [
      Mismatch(file: "x.npy", inputs: [x, ids], says: ["takes 2 inputs", "'ids' (int64 [N])", "one array"]),
      Mismatch(
        file: "stored.npz", inputs: [ModelValue(name: "image", dtype: .float32, shape: ["N", 3])],
        says: ["'image' (float32 [N, 3])", "holds 'ids', 'labels', 'x'", "'image' is missing"]),
      Mismatch(
        file: "type_float64.npy", inputs: [ModelValue(name: "x", dtype: .float32, shape: ["N", 2])],
        says: ["takes float32 [N, 2]", "holds float64 [2, 2]", "must be float32"]),
      Mismatch(
        file: "type_int32.npy", inputs: [ModelValue(name: "x", dtype: .int64, shape: ["N", 2])],
        says: ["takes int64", "holds int32"]),
      Mismatch(
        file: "x.npy", inputs: [ModelValue(name: "x", dtype: .float32, shape: ["N", 4])],
        says: ["takes float32 [N, 4]", "holds float32 [5, 3]", "axis 1 has length 3 where the model has 4"]),
      Mismatch(
        file: "x.npy", inputs: [ModelValue(name: "x", dtype: .float32, shape: ["N", 5, 3])],
        says: ["[N, 5, 3]", "the first axis must be the samples"]),
      Mismatch(
        file: "x.npy", inputs: [ModelValue(name: "x", dtype: .float32, shape: ["N"])], says: ["the ranks differ"]),
      Mismatch(
        file: "x.npy", inputs: [ModelValue(name: "x", dtype: .float32, shape: [2, 3])],
        says: ["batches of exactly 2", "5 samples", "leave out 1"]),
      Mismatch(
        file: "stored.npz",
        inputs: [
          ModelValue(name: "x", dtype: .float32, shape: [1, 3]), ModelValue(name: "ids", dtype: .int64, shape: [5]),
        ],
        says: ["no common axis"]),
      Mismatch(
        file: "stored.npz", inputs: [x, ModelValue(name: "ids", dtype: .int64, shape: [])],
        says: ["one number for all samples"]),
      Mismatch(
        file: "scalar.npy", inputs: [ModelValue(name: "x", dtype: .float32, shape: nil)],
        says: ["of any shape", "an axis for the samples is missing"]),
      Mismatch(
        file: "scalar.npy", inputs: [ModelValue(name: "x", dtype: .float32, shape: [])], says: ["holds no samples"]),
      Mismatch(file: "x.npy", inputs: [ModelValue(name: "x", dtype: nil, shape: nil)], says: ["what is no tensor"]),
      Mismatch(file: "fortran.npy", inputs: [x], says: ["Fortran order", "ascontiguousarray"]),
      Mismatch(file: "big_endian.npy", inputs: [x], says: ["big-endian", "'<f4'"]),
      Mismatch(file: "objects.npy", inputs: [x], says: ["Python objects"]),
      Mismatch(file: "records.npy", inputs: [x], says: ["records"]),
      Mismatch(file: "text.npy", inputs: [x], says: ["'<U1'"]),
      Mismatch(
        file: "../make_fixtures.py", inputs: [x], says: ["neither a NumPy array"], kind: .datasetMalformed),
      Mismatch(file: "none.npy", inputs: [x], says: ["there is no dataset"], kind: .datasetNotFound),
    ])
  func mismatches(_ case: Mismatch) throws {
    let failure = try #require(
      try failure { _ = try Dataset(path: fixture(`case`.file), for: `case`.inputs, work: Work()) })
    #expect(failure.kind == `case`.kind)
    for text in `case`.says { #expect(failure.message.contains(text), "\(failure)") }
    #expect(failure.details["path"] == .string(fixture(`case`.file)))
  }

  @Test("Lengths under one name are equal within a file, and so are the numbers of samples")
  func symbols() throws {
    let scratch = try Scratch()
    let path = try scratch.write(bytes(fixture("stored.npz")), "a.npz")
    let wide = ModelValue(name: "x", dtype: .float32, shape: ["N", "N2"])
    _ = try Dataset(path: path, for: [wide, Self.ids], work: Work())
    let square = try scratch.write(npy([2, 3, 4], [Float](repeating: 0, count: 24)), "b.npy")
    let failure = try failure {
      _ = try Dataset(
        path: square, for: [ModelValue(name: "x", dtype: .float32, shape: ["N", "L", "L"])], work: Work())
    }
    #expect(failure?.message.contains("axis 2, 'L', has length 4, and 3 elsewhere") == true)
  }

  @Test("Folders without arrays and what is no file are refused before anything is opened")
  func noFiles() throws {
    let scratch = try Scratch()
    #expect(try failure { _ = try batches(scratch.path, [Self.x]) }?.kind == .datasetNotFound)
    #expect(try failure { _ = try batches("/dev/zero", [Self.x]) }?.kind == .datasetUnreadable)
    #expect(mkfifo(scratch["pipe.npy"], 0o600) == 0)
    #expect(try failure { _ = try batches(scratch.path, [Self.x]) }?.kind == .datasetUnreadable)
    #expect(try failure { _ = try batches("/x\0.npy", [Self.x]) }?.kind == .datasetNotFound)
  }

  @Test("A file that changes after it was opened, or is cut while it is read, is noticed")
  func changes() throws {
    let scratch = try Scratch()
    let path = try scratch.write(npy([1000, 1000], [Float](repeating: 1, count: 1_000_000)), "x.npy")
    let input = ModelValue(name: "x", dtype: .float32, shape: ["N", 1000])
    let dataset = try Dataset(path: path, for: [input], work: Work())
    let cut = try failure { try dataset.forEachBatch(work: Work()) { _ in truncate(path, 5000) } }
    #expect(cut?.kind == .datasetChanged)
    #expect(try failure { try dataset.forEachBatch(work: Work()) { _ in } }?.kind == .datasetChanged)
  }

  @Test("A batch too large for memory is refused")
  func largeBatch() throws {
    let scratch = try Scratch()
    let header = npy([4, 1 << 28], [])
    let path = try scratch.write(header, "x.npy")
    #expect(truncate(path, header.count + 4 << 30) == 0)
    let input = ModelValue(name: "x", dtype: .float32, shape: nil)
    let failure = try failure { _ = try Dataset(path: path, for: [input], batchSize: 4, work: Work()) }
    #expect(failure?.kind == .resourceLimit)
  }

  @Test("Reading stops when it is cancelled")
  func cancelled() throws {
    let dataset = try Dataset(path: fixture("packed.npz"), for: [Self.x], work: Work())
    let work = Work()
    var batches = 0
    let failure = try failure {
      try dataset.forEachBatch(work: work) { _ in
        batches += 1
        work.cancellation.set()
      }
    }
    #expect(failure?.kind == .cancelled)
    #expect(batches == 1)
  }
}

func bytes(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

/// A .npy file of float32 elements.
func npy(_ shape: [Int], _ elements: [Float]) -> [UInt8] {
  let lengths = shape.map { "\($0), " }.joined()
  return npy(header: "{'descr': '<f4', 'fortran_order': False, 'shape': (\(lengths)), }\n")
    + elements.flatMap { withUnsafeBytes(of: $0) { Array($0) } }
}

/// The start of a .npy file of version 1.0, with this header.
func npy(header: String) -> [UInt8] {
  [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count & 0xff), UInt8(header.utf8.count >> 8)]
    + Array(header.utf8)
}
