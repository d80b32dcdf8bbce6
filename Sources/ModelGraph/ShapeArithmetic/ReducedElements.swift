/// Reductions of elements along axes: products of lengths, sums, extremes.
enum ReducedElements {
  static let rules: [String: ElementRule] = [
    "ReduceProd": reduce(
      from: 1,
      { a, b in
        let (product, overflow) = a.multipliedReportingOverflow(by: b)
        return overflow ? nil : product
      }, { $0 * $1 }),
    "ReduceSum": reduce(
      from: 0,
      { a, b in
        let (sum, overflow) = a.addingReportingOverflow(b)
        return overflow ? nil : sum
      }, { $0 + $1 }),
    "ReduceMax": reduce(from: nil, { max($0, $1) }, { $0.isNaN || $1.isNaN ? .nan : max($0, $1) }),
    "ReduceMin": reduce(from: nil, { min($0, $1) }, { $0.isNaN || $1.isNaN ? .nan : min($0, $1) }),
  ]

  /// - Parameter neutral: the result over nothing; nil if there is none.
  private static func reduce(
    from neutral: Int64?, _ integers: @escaping @Sendable (Int64, Int64) -> Int64?,
    _ reals: @escaping @Sendable (Double, Double) -> Double
  ) -> ElementRule {
    { call, shapes in
      guard let x = call.elements(0), let shape = shapes.first ?? nil,
        let reduced = try? ReductionShapes.reducedAxes(call, rank: x.shape.count)
      else { return [nil] }
      // The flat position in the result that each element goes to.
      let kept = zip(x.shape, reduced).map { $1 ? 1 : $0 }
      let targets = ElementArray.positions(broadcasting: kept, to: x.shape)
      let count = kept.reduce(1, *)
      switch x.elements {
      case .integers(let elements):
        guard let result = fold(elements, targets, count, neutral, integers) else { return [nil] }
        return [ElementArray(result, shape: shape)]
      case .reals(let elements):
        guard let result = fold(elements, targets, count, neutral.map(Double.init), { reals($0, $1) }),
          neutral == nil || (elements + result).allSatisfy(isOrderFree)
        else { return [nil] }
        return [ElementArray(result, shape: shape)]
      }
    }
  }

  /// Whether sums and products of such numbers come out the same in any order and precision: small whole numbers.
  private static func isOrderFree(_ number: Double) -> Bool { number.rounded() == number && number.magnitude <= 0x1p24 }

  private static func fold<Number>(
    _ elements: [Number], _ targets: [Int], _ count: Int, _ neutral: Number?, _ combine: (Number, Number) -> Number?
  ) -> [Number]? {
    var result = [Number?](repeating: neutral, count: count)
    for (element, target) in zip(elements, targets) {
      guard let previous = result[target] else {
        result[target] = element
        continue
      }
      guard let combined = combine(previous, element) else { return nil }
      result[target] = combined
    }
    let complete = result.compactMap(\.self)
    return complete.count == count ? complete : nil
  }
}
