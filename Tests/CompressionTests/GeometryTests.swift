import Compression
import Foundation
import ModelGraph
import TestSupport
import Testing

// PR_GM and redundancy against golden vectors, against differences taken one by one, and where Gram matrices cancel.

private func filters(_ weight: Tensor, axis: Int = 0, blocks: Int = 1, cells: [Int]? = nil, scales: [Double]? = nil)
  throws -> WeightFilters
{
  try #require(WeightFilters(weight, axis: axis, blocks: blocks, cells: cells, scales: scales))
}

private func scores(
  _ geometry: FilterGeometry, _ sources: [WeightFilters], cellCount: Int? = nil
) throws -> [Double] {
  let count = cellCount ?? (sources.flatMap(\.cells).max() ?? -1) + 1
  return try CompressionTests.scores(geometry.scores(of: sources, cellCount: count).scores)
}

/// Vectors of the cells, written out.
private func vectors(_ weight: [Double], _ shape: [Int], axis: Int, blocks: Int) -> [[Double]] {
  let inner = shape[(axis + 1)...].reduce(1, *)
  let rows = shape[..<axis].reduce(1, *) / blocks
  var result = [[Double]](repeating: [], count: blocks * shape[axis])
  for (index, x) in weight.enumerated() {
    let block = index / (inner * shape[axis]) / rows
    result[block * shape[axis] + index / inner % shape[axis]].append(x)
  }
  return result
}

private func dot(_ a: [Double], _ b: [Double]) -> Double {
  var sum = 0.0
  for k in a.indices { sum += a[k] * b[k] }
  return sum
}

private func totalDistances(_ vectors: [[Double]]) -> [Double] {
  vectors.map { a in
    var total = 0.0
    for b in vectors {
      let difference = zip(a, b).map { $0 - $1 }
      total += dot(difference, difference).squareRoot()
    }
    return total
  }
}

private func totalDissimilarities(_ vectors: [[Double]]) -> [Double] {
  vectors.map { a in
    var total = 0.0
    for b in vectors {
      let lengths = (dot(a, a) * dot(b, b)).squareRoot()
      if lengths > 0 { total += 1 - abs(dot(a, b)) / lengths }
    }
    return total
  }
}

@Suite("Filters against each other") struct GeometryTests {
  @Test("Golden filters") func goldens() throws {
    struct Contents: Decodable {
      struct Case: Decodable {
        let name: String, weight: NestedWeight, gm: [Double], gm_order: [Int], redundancy: [Double]
      }
      let cases: [Case]
    }
    let cases = try golden("criteria.json", as: Contents.self).cases
    #expect(cases.count == 7)
    for entry in cases {
      let weight = tensor(.float64, entry.weight.shape, entry.weight.elements)
      let source = try filters(weight, axis: entry.name == "conv_transpose" ? 1 : 0)
      let found = try scores(.geometricMedian, [source])
      #expect(isClose(found, entry.gm, relative: 1e-7), "\(entry.name)")
      #expect(found.indices.sorted { (found[$0], $0) < (found[$1], $1) } == entry.gm_order, "\(entry.name)")
      let redundancy = try scores(.redundancy, [source])
      #expect(zip(redundancy, entry.redundancy).allSatisfy { abs($0 - $1) < 1e-7 }, "\(entry.name)")
    }
  }

  @Test("Every layout and format agrees with differences taken one by one", arguments: FilterNormTests.formats)
  func layouts(dtype: DType) throws {
    var random = SeededGenerator(seed: 3)
    for shape in [[5, 1], [1, 5], [9, 31], [31, 9], [4, 6, 3, 3], [3, 17, 2, 2], [2, 3, 5, 5], [5, 3, 1, 17]] {
      // Few binary digits: the same number in every format.
      let elements = (0..<shape.reduce(1, *)).map { _ in Double(Int.random(in: -64...64, using: &random)) / 64 }
      for axis in shape.indices {
        for blocks in axis == 0 ? [1] : [1, shape[0]] {
          let source = try filters(tensor(dtype, shape, elements, offset: 1), axis: axis, blocks: blocks)
          let expected = vectors(elements, shape, axis: axis, blocks: blocks)
          #expect(
            isClose(try scores(.geometricMedian, [source]), totalDistances(expected), relative: 1e-7),
            "\(shape) \(axis) \(blocks)")
          let found = try scores(.redundancy, [source])
          #expect(zip(found, totalDissimilarities(expected)).allSatisfy { abs($0 - $1) < 1e-7 }, "\(shape) \(axis)")
        }
      }
    }
  }

  /// More cells than one tile of products holds, and more elements than one panel.
  @Test("More filters than are compared at a time", arguments: [([2100, 3], 0), ([3, 2100], 1), ([17, 9001], 0)])
  func tiles(shape: [Int], axis: Int) throws {
    let elements = (0..<shape.reduce(1, *)).map { Double(($0 * 7919) % 1009) / 1009 - 0.5 }
    let source = try filters(tensor(.float64, shape, elements), axis: axis)
    let expected = vectors(elements, shape, axis: axis, blocks: 1)
    #expect(isClose(try scores(.geometricMedian, [source]), totalDistances(expected), relative: 1e-7))
    let found = try scores(.redundancy, [source])
    #expect(zip(found, totalDissimilarities(expected)).allSatisfy { abs($0 - $1) < 1e-6 })
  }

  @Test("Near duplicates far from the origin keep their digits")
  func cancellation() throws {
    // Clusters 1e-6 wide, at 1000 and at -1000.
    let elements = [1000, 1000 + 1e-6, 1000 + 3e-6, -1000, -1000 - 2e-6, -1000 + 5e-6]
    let found = try scores(.geometricMedian, [try filters(tensor(.float64, [6, 1], elements))])
    let expected = totalDistances(elements.map { [$0] })
    for k in 0..<6 { #expect(abs(found[k] - expected[k]) < 1e-9) }
    let only = Array(elements[..<3])
    let close = try scores(.geometricMedian, [try filters(tensor(.float64, [3, 1], only))])
    #expect(isClose(close, totalDistances(only.map { [$0] }), relative: 1e-9))
  }

  @Test("Duplicates share a score, zeros are parallel to everything, magnitudes may be extreme")
  func special() throws {
    let twins = try scores(.geometricMedian, [try filters(tensor(.float32, [4, 2], [1, 2, 1, 2, 0, 0, 3, 1]))])
    #expect(twins[0] == twins[1])
    #expect(try scores(.geometricMedian, [try filters(tensor(.float32, [1, 3], [1, 2, 3]))]) == [0])
    let pair = try scores(.geometricMedian, [try filters(tensor(.float32, [2, 1], [1, 4]))])
    #expect(pair == [3, 3])
    let parallel = try scores(
      .redundancy, [try filters(tensor(.float32, [4, 2], [1, 0, -5, 0, 0, 0, 0, 2]))])
    #expect(parallel == [1, 1, 0, 2])
    for scale in [1e-300, 1e300] {
      let found = try scores(.geometricMedian, [try filters(tensor(.float64, [2, 1], [scale, 4 * scale]))])
      #expect(isClose(found, [3 * scale, 3 * scale]))
    }
    let bad = try filters(tensor(.float32, [3, 2], [1, 2, .nan, 1, 1, 1]))
    #expect(try FilterGeometry.geometricMedian.scores(of: [bad], cellCount: 3).scores == .nonFinite(filter: 1))
  }

  @Test("Cells of several filters and several layers are compared end to end, absent filters as zeros")
  func cells() throws {
    let a = try filters(tensor(.float32, [4, 1], [3, 1, 2, 5]), cells: [0, 1, 0, -1], scales: [1, 2, 1, 1])
    let b = try filters(tensor(.float32, [2, 2], [1, 0, 0, 1]), axis: 1, cells: [2, 1])
    let expected = totalDistances([[3, 2, 0, 0], [2, 0, 0, 1], [0, 0, 1, 0]])
    #expect(isClose(try scores(.geometricMedian, [a, b], cellCount: 3), expected, relative: 1e-7))
  }

  @Test("Two layers of one sum, batch normalizations folded in")
  func joined() throws {
    struct Contents: Decodable {
      struct Pair: Decodable {
        struct Expected: Decodable { let score: [Double], order: [Int] }
        let weight_a: NestedWeight, weight_b: NestedWeight, bn_scale_a: [Double], bn_scale_b: [Double]
        let expected: [String: Expected]
      }
      let residual_pair: Pair
    }
    let pair = try golden("policy.json", as: Contents.self).residual_pair
    let sources = [
      try filters(tensor(.float64, pair.weight_a.shape, pair.weight_a.elements), scales: pair.bn_scale_a),
      try filters(tensor(.float64, pair.weight_b.shape, pair.weight_b.elements), scales: pair.bn_scale_b),
    ]
    let norms = try sources.map { try CompressionTests.scores(try FilterNorm.l2.scores(of: $0)) }
    let l2 = try #require(pair.expected["backward_weights/l2"])
    #expect(isClose(FilterNorm.l2.joined(norms), l2.score))
    let gm = try #require(pair.expected["backward_weights/gm"])
    #expect(isClose(try scores(.geometricMedian, sources), gm.score, relative: 1e-7))
  }

  @Test("A cancelled request stops") func cancelled() throws {
    let flag = CancellationFlag()
    flag.set()
    let source = try filters(tensor(.float32, [3, 2], [1, 2, 3, 4, 5, 6]))
    #expect {
      try FilterGeometry.geometricMedian.scores(of: [source], cellCount: 3, work: Work(cancellation: flag))
    } throws: {
      ($0 as? Failure)?.kind == .cancelled
    }
  }
}
