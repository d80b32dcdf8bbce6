import Glibc

/// How many directions of a matrix are signal, if the rest is noise of one unknown variance: the rank that empirical
/// variational Bayes matrix factorization finds (Nakajima, Sugiyama, Babacan, Tomioka, JMLR 14, 2013; bounds of the
/// noise variance: Nakajima, Tomioka, Sugiyama, Babacan, NIPS 2012).
///
/// For L rows, M >= L columns and alpha = L / M, a direction is signal if x = s^2 / (M sigma^2) exceeds
/// x_bar = (1 + tau_bar)(1 + alpha / tau_bar), tau_bar = 2.5129 sqrt(alpha), where the variance sigma^2 minimizes
///
///     L log sigma^2 + sum of x + sum over x > x_bar of log(tau + 1) + alpha log(tau / alpha + 1) - tau
///
/// with x = (1 + tau)(1 + alpha / tau), tau >= sqrt(alpha). No singular value is taken the logarithm of, so zeros do no
/// harm.
///
/// Invariant: the variance is sought in units of its upper bound, so a matrix times any number has the same rank.
package struct VBMF: Sendable, Equatable {
  package let rank: Int
  /// sigma^2; 0 where the matrix is exactly of low rank, for then there is no noise and the objective has no bound.
  package let noiseVariance: Double
  /// The objective at its minimum, for sigma^2 in units of its upper bound; nil without noise.
  package let objective: Double?

  package init(_ spectrum: Spectrum) {
    let (rows, columns) = (Double(spectrum.rows), Double(spectrum.columns))
    let alpha = rows / columns
    let tauBar = 2.5129 * alpha.squareRoot()
    let xBar = (1 + tauBar) * (1 + alpha / tauBar)
    // Even with all noise in the directions behind this one, it is no signal.
    let firstNoise = min(Int((rows / (1 + alpha)).rounded(.up)) - 1, spectrum.rows)
    guard spectrum.rank > firstNoise else {
      (rank, noiseVariance, objective) = (spectrum.rank, 0, nil)
      return
    }
    // Shares of the energy times L: s^2 / (M sigma^2) = u / v for sigma^2 = v times its upper bound.
    let largest = spectrum.values[0]
    let shares = spectrum.values.map { ($0 / largest) * ($0 / largest) }
    let total = shares.reduce(0, +)
    let u = shares.map { $0 * rows / total }
    let noise = u[firstNoise...]
    let lower = max(u[firstNoise] / xBar, noise.reduce(0, +) / Double(noise.count))
    let minimum = NoiseVariance(u: u, alpha: alpha, xBar: xBar).minimum(over: min(lower, 1))
    rank = u.prefix { $0 > minimum.v * xBar }.count
    noiseVariance = minimum.v * largest * largest * (total / (rows * columns))
    objective = minimum.value
  }
}

/// The objective as a function of v, the noise variance in units of its upper bound, and the search for its minimum.
///
/// With t = log v its slope is L - sum of x + sum over x > x_bar of tau: no logarithm. At v = u / x_bar, a *kink*, a
/// direction stops being signal as v grows; between kinks the objective is smooth, and it may have many minima.
private struct NoiseVariance {
  /// Descending; padded with zeros to whole vectors.
  private let u: [Double]
  private let count: Int
  private let alpha: Double
  private let xBar: Double

  struct Point {
    var v: Double
    var value: Double
    var slope: Double
  }

  init(u: [Double], alpha: Double, xBar: Double) {
    (count, self.alpha, self.xBar) = (u.count, alpha, xBar)
    self.u = u + [Double](repeating: 0, count: (8 - u.count % 8) % 8)
  }

  /// The lowest point over lower...1; of equal ones, that with the smaller v.
  ///
  /// The objective is taken at the ends, at 400 points evenly spaced in log v and at every kink; a minimum between two
  /// neighbours is where the slope changes its sign, and is sought only where it could be the lowest.
  func minimum(over lower: Double) -> (v: Double, value: Double) {
    let grid = (0..<400).map { exp(log(lower) * (1 - Double($0) / 399)) }
    let kinks = u.prefix(count).map { $0 / xBar }.filter { lower < $0 && $0 < 1 }
    var points = (grid + kinks).filter { lower < $0 && $0 < 1 }.sorted()
    points = [lower] + points + [1]
    var best = Point(v: lower, value: .infinity, slope: 0)
    func offer(_ point: Point) { if point.value < best.value { best = point } }

    // Directions that are signal between a point and the next: those whose kink is the next or lies behind it.
    var intervals: [(start: Point, end: Double, signals: Int)] = []
    var signals = u.prefix(count).prefix { $0 > lower * xBar }.count
    for (start, end) in zip(points, points.dropFirst() + [1]) {
      while signals > 0, u[signals - 1] <= start * xBar { signals -= 1 }
      let point = evaluate(start, signals: signals)
      offer(point)
      if start < end { intervals.append((point, end, signals)) }
    }
    for (start, end, signals) in intervals where start.slope < 0 {
      // The steepest descent is at the start or nearly so; twice of it is on the safe side.
      guard start.value + 2 * start.slope * log(end / start.v) < best.value else { continue }
      let last = evaluate(end, signals: signals)
      // A direction that is signal just before its kink counts even there.
      if last.slope <= 0 {
        offer(evaluate(end * (1 - 0x1p-40), signals: signals))
      } else {
        offer(root(from: start, to: last, signals: signals))
      }
    }
    return (best.v, best.value)
  }

  /// Where the slope, negative at `start` and positive at `end`, vanishes: by the Illinois form of false position.
  private func root(from start: Point, to end: Point, signals: Int) -> Point {
    var (low, high) = ((t: log(start.v), slope: start.slope), (t: log(end.v), slope: end.slope))
    var middle = start
    var lastSide = 0
    for _ in 0..<100 where high.t - low.t > 1e-13 {
      let t = (low.t * high.slope - high.t * low.slope) / (high.slope - low.slope)
      middle = evaluate(exp(min(max(t, low.t), high.t)), signals: signals)
      if abs(middle.slope) <= 1e-13 * Double(count) { break }
      if middle.slope < 0 {
        low = (t, middle.slope)
        if lastSide < 0 { high.slope /= 2 }
        lastSide = -1
      } else {
        high = (t, middle.slope)
        if lastSide > 0 { low.slope /= 2 }
        lastSide = 1
      }
    }
    return middle
  }

  /// The objective and its slope in log v where the first `signals` directions are signal.
  ///
  /// Sums of logarithms are logarithms of products, of a few factors at a time so that these stay in range: one
  /// logarithm for ten directions. (A factor is at most L / lower, below 2^90: `lower` is a mean over noise above the
  /// floor of 4e-8.)
  private func evaluate(_ v: Double, signals: Int) -> Point {
    let inverse = 1 / v
    var (tauSum, logSum, scaledLogSum) = (SIMD8<Double>(), 0.0, 0.0)
    let ones = SIMD8<Double>(repeating: 1)
    var (product, scaledProduct) = (ones, ones)
    var factors = 0
    func fold() {
      for lane in 0..<8 {
        logSum += log(product[lane])
        scaledLogSum += log(scaledProduct[lane])
      }
      (product, scaledProduct, factors) = (ones, ones, 0)
    }
    u.withUnsafeBytes { u in
      guard let base = u.baseAddress else { return }
      for start in stride(from: 0, to: signals, by: 8) {
        let x = (base + start * 8).loadUnaligned(as: SIMD8<Double>.self) * inverse
        let d = x - (1 + alpha)
        let discriminant = pointwiseMax(d * d - 4 * alpha, SIMD8<Double>())
        var tau = (d + discriminant.squareRoot()) * 0.5
        if start + 8 > signals { for lane in signals - start..<8 { tau[lane] = 0 } }
        tauSum += tau
        product *= tau + 1
        scaledProduct *= tau * (1 / alpha) + 1
        factors += 1
        if factors == 10 { fold() }
      }
    }
    fold()
    let (rows, tau) = (Double(count), tauSum.sum())
    return Point(
      v: v, value: rows * log(v) + rows * inverse + logSum + alpha * scaledLogSum - tau,
      slope: rows - rows * inverse + tau)
  }
}
