import Compression
import Foundation
import ModelGraph
import Numerics
import TestSupport
import Testing

// The mathematics of PR_NN and PR_SNP against golden vectors.

private func nuclearNorm(_ map: [Double], _ rows: Int, _ columns: Int) throws -> Double? {
  let algebra = try LinearAlgebra()
  return map.withUnsafeBufferPointer { NuclearNorm.of($0, rows: rows, columns: columns, algebra) }
}

@Suite("Feature maps") struct FeatureMapTests {
  @Test("Golden nuclear norms, of both orientations") func goldenMaps() throws {
    struct Contents: Decodable {
      struct Single: Decodable { let feature_maps: NestedWeight, mean_over_images: [Double] }
      let feature_maps: NestedWeight, per_image: [[Double]], mean_over_images: [Double], one_by_one: Single
    }
    let contents = try golden("nuclear_norm.json", as: Contents.self)
    let (shape, elements) = (contents.feature_maps.shape, contents.feature_maps.elements)
    let size = shape[2] * shape[3]
    for b in 0..<shape[0] {
      for c in 0..<shape[1] {
        let map = Array(elements[(b * shape[1] + c) * size..<(b * shape[1] + c + 1) * size])
        let found = try #require(try nuclearNorm(map, shape[2], shape[3]))
        #expect(abs(found - contents.per_image[b][c]) < 1e-6)
        let flipped = (0..<size).map { map[$0 % shape[2] * shape[3] + $0 / shape[2]] }
        #expect(abs(try #require(try nuclearNorm(flipped, shape[3], shape[2])) - found) < 1e-6)
      }
    }
    #expect(try nuclearNorm([-3], 1, 1) == 3)
    #expect(try nuclearNorm([3, -4], 1, 2) == 5 && nuclearNorm([3, -4], 2, 1) == 5)
    #expect(try nuclearNorm([], 0, 3) == 0)
    for bad in [Double.nan, .infinity] {
      #expect(try nuclearNorm([1, bad, 2, 3], 2, 2) == nil && nuclearNorm([bad], 1, 1) == nil)
    }
  }

  @Test("Golden query and key scores, with as many components as energy asks for and with a fixed number")
  func goldenPairs() throws {
    struct Contents: Decodable {
      struct Scores: Decodable { let score: [Double] }
      struct Head: Decodable { let head: Int, qk: [String: Scores] }
      let tokens: [[[Double]]], head_dim: Int, heads: [Head]
      let weights: [String: [[Double]]], biases: [String: [Double]]
    }
    let contents = try golden("snp.json", as: Contents.self)
    let (d, algebra) = (contents.head_dim, try LinearAlgebra())
    func gram(_ sample: [[Double]], _ weight: String, _ bias: String, head: Int) throws -> [Double] {
      let (w, b) = (try #require(contents.weights[weight]), try #require(contents.biases[bias]))
      let columns = (head * d..<(head + 1) * d).flatMap { row in
        sample.map { x in zip(x, w[row]).reduce(b[row]) { $0 + $1.0 * $1.1 } }
      }
      var sum = [Double](repeating: 0, count: d * d)
      algebra.addGram(of: columns, count: d, length: sample.count, layout: .vectors, to: &sum)
      return sum
    }
    for head in contents.heads {
      #expect(head.qk.count == 6)
      for (name, expected) in head.qk {
        let number = try #require(name.split(separator: "_").last.flatMap { Double($0) })
        let components: AttentionPairs.Components = name.hasPrefix("energy") ? .energy(number) : .fixed(Int(number))
        var mean = [Double](repeating: 0, count: d)
        for sample in contents.tokens {
          let scores = try #require(
            AttentionPairs.scores(
              queries: try gram(sample, "wq", "bq", head: head.head),
              keys: try gram(sample, "wk", "bk", head: head.head),
              size: d, components: components, algebra))
          for i in 0..<d { mean[i] += scores[i] / Double(contents.tokens.count) }
        }
        #expect(zip(mean, expected.score).allSatisfy { abs($0 - $1) < 1e-7 }, "head \(head.head) \(name)")
      }
    }
  }

  @Test("Golden value and hidden neuron scores") func goldenRedundancy() throws {
    struct Contents: Decodable {
      let weights: [String: NestedWeight], v_score: [Double], fc1_weight: NestedWeight, fc1_score: [Double]
    }
    let contents = try golden("snp.json", as: Contents.self)
    let values = try #require(contents.weights["wv"])
    for (weight, expected) in [(values, contents.v_score), (contents.fc1_weight, contents.fc1_score)] {
      let source = try #require(WeightFilters(tensor(.float64, weight.shape, weight.elements), axis: 0))
      let found = try scores(FilterGeometry.redundancy.scores(of: [source], cellCount: expected.count).scores)
      #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 1e-7 })
    }
  }
}
