import ModelGraph
import Numerics

/// Sums over samples of a layer's input, from which mean and covariance follow. Where there are many inputs and few
/// samples, these are what is kept: what follows from a covariance of low rank follows from them in a fraction of the time.
package struct InputMoments: Sendable {
  package let size: Int
  package private(set) var count = 0
  private var sums: [Double]
  /// About `origin`; entries on and above the diagonal. Empty for as long as there are `rows`.
  private var products: [Double]
  /// About `origin`, `[count, size]`.
  private var rows: [Double]?
  private var algebra: LinearAlgebra?
  /// The first sample: near it, sums of products do not cancel when the mean is taken off.
  private var origin: [Double] = []

  /// Of fewer inputs sums are kept at once: they are soon worked with.
  private static let manyInputs = 1024

  /// Whether so few samples of so many inputs are kept.
  static func keeps(_ count: Int, ofSize size: Int) -> Bool { size >= manyInputs && 2 * count <= size }

  package init(size: Int) {
    self.size = size
    sums = [Double](repeating: 0, count: size)
    let keepsRows = Self.keeps(1, ofSize: size)
    products = [Double](repeating: 0, count: keepsRows ? 0 : size * size)
    rows = keepsRows ? [] : nil
  }

  /// - Parameter samples: `[n, size]`; the memory is used as scratch space.
  package mutating func add(_ samples: UnsafeMutableBufferPointer<Double>, _ algebra: LinearAlgebra) {
    precondition(samples.count % size == 0, "a sample has \(size) elements")
    guard let base = samples.baseAddress, !samples.isEmpty else { return }
    self.algebra = algebra
    if origin.isEmpty { origin = Array(samples.prefix(size)) }
    let added = samples.count / size
    for sample in 0..<added {
      for k in 0..<size {
        base[sample * size + k] -= origin[k]
        sums[k] += base[sample * size + k]
      }
    }
    count += added
    if rows != nil, Self.keeps(count, ofSize: size) {
      rows?.append(contentsOf: samples)
      return
    }
    if let kept = rows {
      rows = nil
      products = products(of: kept)
    }
    algebra.addGram(of: base, count: size, length: added, layout: .elements, to: &products)
  }

  private func products(of rows: [Double]) -> [Double] {
    var products = [Double](repeating: 0, count: size * size)
    algebra?.addGram(of: rows, count: size, length: rows.count / size, layout: .elements, to: &products)
    return products
  }

  /// All samples, `[count, size]`, where they are kept; nil where they are not.
  /// - Parameter isCentred: whether about their mean.
  func samples(isCentred: Bool) -> [Double]? {
    guard var samples = rows, count > 0 else { return nil }
    let shift = isCentred ? sums.map { -$0 / Double(count) } : origin
    samples.withUnsafeMutableBufferPointer { samples in
      for k in 0..<count { for i in 0..<size { samples[k * size + i] += shift[i] } }
    }
    return samples
  }

  /// Of some of the elements.
  func keeping(_ elements: [Int]) -> InputMoments {
    var result = InputMoments(size: elements.count)
    (result.count, result.algebra) = (count, algebra)
    if !origin.isEmpty { result.origin = elements.map { origin[$0] } }
    for (a, i) in elements.enumerated() { result.sums[a] = sums[i] }
    if let rows {
      let left = (0..<count).flatMap { row in elements.map { rows[row * size + $0] } }
      let keepsRows = Self.keeps(count, ofSize: elements.count)
      result.rows = keepsRows ? left : nil
      result.products = keepsRows ? [] : result.products(of: left)
      return result
    }
    result.rows = nil
    result.products = [Double](repeating: 0, count: elements.count * elements.count)
    for (a, i) in elements.enumerated() {
      for (b, j) in elements.enumerated().dropFirst(a) {
        result.products[a * elements.count + b] = products[i * size + j]
      }
    }
    return result
  }

  /// Whether any element was not the same in all samples.
  var varies: Bool {
    let n = Double(max(1, count))
    return (0..<size).contains { k in
      let square =
        rows.map { rows in (0..<count).reduce(0) { $0 + rows[$1 * size + k] * rows[$1 * size + k] } }
        ?? products[k * size + k]
      // Samples that are the first one but for rounding leave nothing of either.
      return square - sums[k] * sums[k] / n > 1e-12 * square
    }
  }

  /// Zeros without samples.
  package var mean: [Double] {
    origin.isEmpty ? sums : sums.indices.map { origin[$0] + sums[$0] / Double(count) }
  }

  /// About the mean, `[size, size]`; only entries on and above the diagonal are valid.
  package var covariance: [Double] {
    let products = rows.map(products(of:)) ?? products
    guard count > 0 else { return products }
    let n = Double(count)
    var covariance = products
    for i in 0..<size {
      for j in i..<size { covariance[i * size + j] = products[i * size + j] / n - sums[i] / n * (sums[j] / n) }
    }
    return covariance
  }

  /// About zero; entries on and above the diagonal.
  var secondMoment: [Double] {
    var result = covariance
    let mean = mean
    for i in 0..<size { for j in i..<size { result[i * size + j] += mean[i] * mean[j] } }
    return result
  }
}
