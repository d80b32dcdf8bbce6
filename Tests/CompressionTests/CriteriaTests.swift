import Compression
import Foundation
import ModelGraph
import TestSupport
import Testing

// The norms of filters against golden vectors, against a direct loop over every layout and format, and against weights
// that are not numbers.

/// Numbers of any rank in a golden file, with the shape they are nested in.
struct NestedWeight: Decodable {
  var shape: [Int] = []
  var elements: [Double] = []

  init(from decoder: any Decoder) throws {
    if let number = try? decoder.singleValueContainer().decode(Double.self) {
      elements = [number]
      return
    }
    var list = try decoder.unkeyedContainer()
    var count = 0
    while !list.isAtEnd {
      let slice = try list.decode(NestedWeight.self)
      elements += slice.elements
      shape = [0] + slice.shape
      count += 1
    }
    shape[0] = count
  }
}

/// Tensors made of rounded doubles, and what a direct loop says of them.
func tensor(_ dtype: DType, _ shape: [Int], _ elements: [Double], offset: Int = 0) -> Tensor {
  var bytes = [UInt8](repeating: 0xAA, count: offset)
  for element in elements {
    switch dtype {
    case .float16: withUnsafeBytes(of: Float16(element).bitPattern) { bytes += $0 }
    case .bfloat16: withUnsafeBytes(of: UInt16(Float(element).bitPattern >> 16)) { bytes += $0 }
    case .float32: withUnsafeBytes(of: Float(element)) { bytes += $0 }
    default: withUnsafeBytes(of: element) { bytes += $0 }
    }
  }
  let whole = TensorBytes(copying: bytes)
  let view = TensorBytes(base: whole.base + offset, count: whole.count - offset, owner: Keeper(whole))
  return Tensor(dtype: dtype, shape: shape, bytes: view)
}

private final class Keeper {
  let bytes: TensorBytes
  init(_ bytes: TensorBytes) { self.bytes = bytes }
}

private func rounded(_ x: Double, to dtype: DType) -> Double {
  switch dtype {
  case .float16: Double(Float16(x))
  case .bfloat16: Double(Float(bitPattern: Float(x).bitPattern & 0xffff_0000))
  case .float32: Double(Float(x))
  default: x
  }
}

private func directNorms(
  _ shape: [Int], _ elements: [Double], axis: Int, blocks: Int, dtype: DType, _ norm: FilterNorm = .l2
) -> [Double] {
  let inner = shape[(axis + 1)...].reduce(1, *)
  let rows = shape[..<axis].reduce(1, *) / blocks
  var sums = [Double](repeating: 0, count: blocks * shape[axis])
  for (index, element) in elements.enumerated() {
    let filter = index / inner % shape[axis]
    let block = index / (inner * shape[axis]) / rows
    let x = abs(rounded(element, to: dtype))
    sums[block * shape[axis] + filter] += norm == .l1 ? x : x * x
  }
  return norm == .l1 ? sums : sums.map { $0.squareRoot() }
}

func scores(_ result: CriterionScores) throws -> [Double] {
  guard case .scores(let values) = result else {
    Issue.record("not finite: \(result)")
    throw Failure(.modelMalformed, "not finite")
  }
  return values
}

/// The l2 norms of a weight's filters.
private func norms(
  _ weight: Tensor, axis: Int, blocks: Int = 1, cells: [Int]? = nil, cellCount: Int? = nil, work: Work = Work(),
  _ norm: FilterNorm = .l2
) throws -> CriterionScores {
  let filters = try #require(WeightFilters(weight, axis: axis, blocks: blocks, cells: cells))
  return try norm.scores(of: filters, cellCount: cellCount, work: work)
}

@Suite struct FilterNormTests {
  static let formats: [DType] = [.float16, .bfloat16, .float32, .float64]

  @Test func goldenFilters() throws {
    struct Contents: Decodable {
      struct Case: Decodable { let name: String, weight: NestedWeight, l1: [Double], l2: [Double], l2_order: [Int] }
      let cases: [Case]
    }
    let cases = try golden("criteria.json", as: Contents.self).cases
    #expect(cases.count == 7)
    for entry in cases {
      let weight = tensor(.float64, entry.weight.shape, entry.weight.elements)
      let found = try scores(try norms(weight, axis: entry.name == "conv_transpose" ? 1 : 0))
      #expect(isClose(found, entry.l2), "\(entry.name)")
      let sums = try scores(try norms(weight, axis: entry.name == "conv_transpose" ? 1 : 0, .l1))
      #expect(isClose(sums, entry.l1), "\(entry.name)")
      #expect(found.indices.sorted { (found[$0], $0) < (found[$1], $1) } == entry.l2_order, "\(entry.name)")
    }
  }

  @Test func goldenGroupedFilters() throws {
    struct Contents: Decodable {
      struct Grouped: Decodable { let weight: NestedWeight, l2: [[Double]] }
      let grouped_conv: Grouped
    }
    let grouped = try golden("group_policy.json", as: Contents.self).grouped_conv
    let weight = tensor(.float64, grouped.weight.shape, grouped.weight.elements)
    #expect(isClose(try scores(try norms(weight, axis: 0)), grouped.l2.flatMap { $0 }))
  }

  @Test func aTriangleByHand() throws {
    let weight = Tensor(float32: [3, 0, 4, 0, 0, -2], shape: [2, 3])
    #expect(try norms(weight, axis: 0) == .scores([5, 2]))
    #expect(try norms(weight, axis: 1) == .scores([3, 0, 20.0.squareRoot()]))
  }

  @Test(arguments: formats)
  func everyLayoutAgreesWithTheDefinition(dtype: DType) throws {
    var random = SeededGenerator(seed: 7)
    let shapes = [
      [1], [7], [5, 1], [1, 5], [8, 8], [9, 31], [31, 9], [4, 6, 3, 3], [6, 4, 1, 1], [3, 17, 2, 2], [2, 3, 5, 5],
      [16, 1, 3, 3], [4, 12, 4, 4], [13, 40], [5, 3, 1, 17],
    ]
    for shape in shapes {
      let elements = (0..<shape.reduce(1, *)).map { _ in Double.random(in: -2...2, using: &random) }
      for axis in shape.indices {
        for blocks in axis == 0 ? [1] : [1, shape[0]] {
          for offset in [0, 1] {
            let weight = tensor(dtype, shape, elements, offset: offset)
            let found = try scores(try norms(weight, axis: axis, blocks: blocks))
            let expected = directNorms(shape, elements, axis: axis, blocks: blocks, dtype: dtype)
            #expect(isClose(found, expected, relative: 1e-14), "\(dtype) \(shape) axis \(axis) blocks \(blocks)")
            let sums = try scores(try norms(weight, axis: axis, blocks: blocks, .l1))
            let direct = directNorms(shape, elements, axis: axis, blocks: blocks, dtype: dtype, .l1)
            #expect(isClose(sums, direct, relative: 1e-14), "\(dtype) \(shape) axis \(axis) blocks \(blocks)")
          }
        }
      }
    }
  }

  /// Shapes larger than what is read between two looks at the cancellation flag, cut in each possible dimension.
  @Test(arguments: [
    ([3, 700_001], 0), ([3, 700_001], 1), ([1, 2_500_003], 0), ([1501, 1400], 1), ([2, 3, 400_000], 1),
  ])
  func largeWeightsAgreeWithTheDefinition(shape: [Int], axis: Int) throws {
    let elements = (0..<shape.reduce(1, *)).map { Double($0 % 1009) / 512 - 1 }
    let found = try scores(try norms(tensor(.float32, shape, elements), axis: axis))
    #expect(isClose(found, directNorms(shape, elements, axis: axis, blocks: 1, dtype: .float32), relative: 1e-12))
  }

  @Test func everyHalfPrecisionNumber() throws {
    let patterns = (0...UInt16.max).map { $0 }
    for layout in [[65536, 1], [1, 65536]] {
      for pattern in [0x7c00, 0xfc00, 0x7c01, 0xffff] as [UInt16] {
        var finite = patterns.map { Float16(bitPattern: $0).isFinite ? $0 : 0 }
        let axis = layout[0] == 1 ? 1 : 0
        let weight = Tensor(dtype: .float16, shape: layout, bytes: TensorBytes(copying: finite))
        let expected = finite.map { abs(Double(Float16(bitPattern: $0))) }
        #expect(try norms(weight, axis: axis) == .scores(expected))
        finite[4711] = pattern
        let spoiled = Tensor(dtype: .float16, shape: layout, bytes: TensorBytes(copying: finite))
        #expect(try norms(spoiled, axis: axis) == .nonFinite(filter: 4711))
      }
    }
  }

  @Test(arguments: formats, [Double.nan, .infinity, -.infinity])
  func oneBadWeightIsReportedWhereverItIs(dtype: DType, bad: Double) throws {
    for shape in [[5, 19], [3, 4, 3, 3], [2, 40]] {
      let count = shape.reduce(1, *)
      for position in 0..<count {
        var elements = [Double](repeating: 0.5, count: count)
        elements[position] = bad
        let weight = tensor(dtype, shape, elements)
        let inner = count / shape[0]
        #expect(try norms(weight, axis: 0) == .nonFinite(filter: position / inner))
        #expect(
          try norms(weight, axis: 1)
            == .nonFinite(filter: position / (inner / shape[1]) % shape[1]))
        let ignored = [Int](repeating: -1, count: shape[0])
        #expect(
          try norms(weight, axis: 0, cells: ignored, cellCount: 1) == .nonFinite(filter: position / inner))
      }
    }
  }

  @Test func squaresBeyondTheRangeOfDouble() throws {
    for magnitude in [1e200, 1e-200, 1.7e308, .leastNonzeroMagnitude, 2e-308] {
      let weight = tensor(.float64, [3, 2], [magnitude, 0, 0, magnitude / 2, 0, 0])
      let found = try scores(try norms(weight, axis: 0))
      #expect(isClose(found, [magnitude, magnitude / 2, 0]), "\(magnitude)")
    }
    let largest = Double.greatestFiniteMagnitude
    #expect(try norms(tensor(.float64, [2, 2], [largest, largest, 1, -2]), axis: 0, .l1) == .scores([largest, 3]))
    let worse = tensor(.float64, [2, 2], [largest, largest, 1, .nan])
    #expect(try norms(worse, axis: 0, .l1) == .nonFinite(filter: 1))
    #expect(try norms(tensor(.float64, [1, 2], [largest, largest]), axis: 0) == .scores([largest]))
    let bad = tensor(.float64, [2, 2], [1e200, 1e200, .nan, 1])
    #expect(try norms(bad, axis: 0) == .nonFinite(filter: 1))
  }

  @Test func cellsOfSeveralFilters() throws {
    let weight = Tensor(float32: [3, 1, 4, 7, 2, 12], shape: [6, 1])
    let found = try norms(weight, axis: 0, cells: [0, 1, 0, -1, 1, 0], cellCount: 3)
    #expect(found == .scores([13, 5.0.squareRoot(), 0]))
    #expect(try norms(weight, axis: 0, cells: [-1, -1, -1, -1, -1, -1]) == .scores([]))
  }

  @Test func emptyWeights() throws {
    #expect(try norms(Tensor(float32: [], shape: [3, 0]), axis: 0) == .scores([0, 0, 0]))
    #expect(try norms(Tensor(float32: [], shape: [0, 3]), axis: 0) == .scores([]))
  }

  @Test func aCancelledRequestStops() {
    let flag = CancellationFlag()
    flag.set()
    #expect {
      try norms(Tensor(float32: [1, 2], shape: [2]), axis: 0, work: Work(cancellation: flag))
    } throws: {
      ($0 as? Failure)?.kind == .cancelled
    }
  }
}
