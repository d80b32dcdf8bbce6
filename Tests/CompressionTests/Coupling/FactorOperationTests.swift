import Compression
import ModelGraph
import TestSupport
import Testing

// Data movement on labelled values against a naive labelling: every element of a small tensor carries its labels by
// itself and is moved like a number.

/// The labels of every element, row-major, sorted; frozen ones left out, for what is frozen need not be followed.
private func elementLabels(_ value: LabelledValue, _ facts: Facts) -> [[Int32]] {
  let factors = value.axes.flatMap { $0 }
  var strides: [Factor: Int] = [:]
  var stride = 1
  for factor in factors.reversed() {
    strides[factor] = stride
    stride *= factor.size
  }
  return (0..<stride).map { element in
    value.sets.map { set in
      set.labels[set.factors.map { element / (strides[$0] ?? 1) % $0.size }]
    }.filter { facts.frozen[Int($0)] < 0 }.sorted()
  }
}

private func withoutFrozen(_ labels: [[Int32]], _ facts: Facts) -> [[Int32]] {
  labels.map { $0.filter { facts.frozen[Int($0)] < 0 } }
}

private let node = NodeID(0)

/// Values of up to four axes of up to two factors, with up to three sets over factors of their own.
private func randomValue(_ facts: inout Facts, _ random: inout SeededGenerator, sets setCount: Int) -> LabelledValue {
  let reason = facts.reason(.fixedPart, nil)
  let axes = (0..<Int.random(in: 1...4, using: &random)).map { _ in
    (0..<Int.random(in: 0...2, using: &random)).map { _ in
      facts.factor(size: Int.random(in: 2...4, using: &random), reason: reason)
    }
  }
  var free = axes.flatMap { $0 }.shuffled(using: &random)
  var sets: [LabelSet] = []
  while sets.count < setCount, !free.isEmpty {
    let factors = Array(free.prefix(Int.random(in: 1...3, using: &random)))
    free.removeFirst(factors.count)
    sets.append(LabelSet(factors: factors, labels: facts.freshArray(shape: factors.map(\.size))))
  }
  return LabelledValue(axes: axes, sets: sets)
}

/// Lengths with the product `count`, some of them 1.
private func randomShape(_ count: Int, _ random: inout SeededGenerator) -> [Int] {
  var primes: [Int] = []
  var rest = count
  for p in [2, 3] { while rest % p == 0 { (rest, primes) = (rest / p, primes + [p]) } }
  var shape = [Int](repeating: 1, count: Int.random(in: 1...5, using: &random))
  for p in primes.shuffled(using: &random) { shape[Int.random(in: shape.indices, using: &random)] *= p }
  return shape
}

@Suite("Factor operations") struct FactorOperationTests {
  @Test("Reshape moves no element and relates none", arguments: 0..<300)
  func reshape(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var facts = Facts()
    let value = randomValue(&facts, &random, sets: Int(seed % 3) + 1)
    let before = elementLabels(value, facts)
    let shape = randomShape(before.count, &random)
    let reshaped = try #require(
      value.reshaped(shape.map { Extent($0, original: $0) }, at: node, &facts))
    #expect(reshaped.invariantViolation == nil)
    #expect(reshaped.shape == shape)
    #expect(elementLabels(reshaped, facts) == withoutFrozen(before, facts))
    if value.sets.count == 1 { #expect(facts.frozen.allSatisfy { $0 < 0 }) }
    let back = try #require(
      reshaped.reshaped(value.shape.map { Extent($0, original: $0) }, at: node, &facts))
    #expect(back.invariantViolation == nil)
    #expect(elementLabels(back, facts) == withoutFrozen(before, facts))
    #expect(joins(facts) == 0)
  }

  @Test("Permute moves elements as it moves numbers", arguments: 0..<60)
  func permute(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var facts = Facts()
    let value = randomValue(&facts, &random, sets: 2)
    let order = value.axes.indices.shuffled(using: &random)
    let permuted = value.permuted(order)
    #expect(permuted.invariantViolation == nil)
    let labels = elementLabels(value, facts)
    #expect(elementLabels(permuted, facts) == Grid(value.shape).permuted(order).map { labels[$0] })
  }

  @Test("Take picks elements as it picks numbers", arguments: 0..<300)
  func take(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var facts = Facts()
    var value = randomValue(&facts, &random, sets: 2)
    let axis = Int.random(in: value.axes.indices, using: &random)
    let length = value.shape[axis]
    let picked: [Int]
    switch seed % 4 {
    case 0:
      let start = Int.random(in: 0..<length, using: &random)
      picked = Array(start...Int.random(in: start..<length, using: &random))
    case 1: picked = Array(stride(from: length - 1, through: 0, by: -Int.random(in: 1...2, using: &random)))
    default:
      picked = (0..<Int.random(in: 1...6, using: &random)).map { _ in Int.random(in: 0..<length, using: &random) }
    }
    let before = elementLabels(value, facts)
    let expected = Grid(value.shape).taking(axis, picked).map { before[$0] }
    value.take(axis: axis, .list(picked), at: node, &facts)
    facts.freezePicks()
    #expect(value.invariantViolation == nil)
    #expect(value.shape[axis] == picked.count)
    #expect(elementLabels(value, facts) == withoutFrozen(expected, facts))
    #expect(joins(facts) == 0)
  }

  @Test("Fuse makes one factor and keeps every element", arguments: 0..<60)
  func fuse(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var facts = Facts()
    var value = randomValue(&facts, &random, sets: 2)
    let axis = Int.random(in: value.axes.indices, using: &random)
    let (before, shape, parts) = (elementLabels(value, facts), value.shape, value.axes[axis])
    let touched = value.sets.filter { set in parts.contains { set.factors.contains($0) } }.count
    value.fuse(axis: axis, 0..<parts.count, at: node, &facts)
    #expect(value.invariantViolation == nil)
    #expect(value.shape == shape)
    #expect(value.axes[axis].count == min(parts.count, 1))
    #expect(elementLabels(value, facts) == withoutFrozen(before, facts))
    #expect(facts.frozen.contains { $0 >= 0 } == (parts.count > 1 && touched > 1))
  }

  @Test("Independent axes merged into one are frozen, and say so")
  func merged() throws {
    var facts = Facts()
    let reason = facts.reason(.fixedPart, nil)
    let (a, b) = (facts.factor(size: 4, reason: reason), facts.factor(size: 6, reason: reason))
    let sets = [a, b].map { LabelSet(factors: [$0], labels: facts.freshArray(shape: [$0.size])) }
    let value = LabelledValue(axes: [[a], [b]], sets: sets)
    // 24 = [4][6] keeps both apart; 3 x 8 cannot.
    let flat = try #require(value.reshaped([Extent(24, original: 24)], at: node, &facts))
    #expect(flat.sets.count == 2)
    let mixed = try #require(flat.reshaped([3, 8].map { Extent($0, original: $0) }, at: node, &facts))
    #expect(mixed.sets.isEmpty)
    #expect(facts.frozen.allSatisfy { $0 >= 0 && facts.reasons[Int($0)].kind == .axesMerged })
  }

  @Test("Blocks laid flat in another order are noted, in their own order they are not")
  func orderNoted() throws {
    var facts = Facts()
    let reason = facts.reason(.fixedPart, nil)
    let (g, n) = (facts.factor(size: 2, reason: reason), facts.factor(size: 4, reason: reason))
    let set = LabelSet(factors: [g, n], labels: facts.freshArray(shape: [2, 4]))
    let flat = [Extent(8, original: 8)]
    _ = LabelledValue(axes: [[g], [n]], sets: [set]).reshaped(flat, at: node, &facts)
    #expect(facts.orders.isEmpty)
    _ = LabelledValue(axes: [[n], [g]], sets: [set]).reshaped(flat, at: node, &facts)
    #expect(facts.orders.count == 1)
  }

  @Test("Shapes that do not hold the same elements give nothing")
  func impossible() {
    var facts = Facts()
    let reason = facts.reason(.fixedPart, nil)
    let value = LabelledValue(axes: [[facts.factor(size: 6, reason: reason)]], sets: [])
    #expect(value.reshaped([Extent(5, original: 5)], at: node, &facts) == nil)
    #expect(value.reshaped([Extent(0, original: 0), Extent(6, original: 6)], at: node, &facts) == nil)
  }

  @Test("Label arrays under random movements equal their plain copies", arguments: 0..<100)
  func arrays(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var shape = [2, 6, 3]
    var array = LabelArray(Array(0..<36), shape: shape)
    var plain: [Int32] = Array(0..<36)
    for _ in 0..<6 where !shape.isEmpty {
      let d = Int.random(in: shape.indices, using: &random)
      switch Int.random(in: 0..<5, using: &random) {
      case 0:
        let order = shape.indices.shuffled(using: &random)
        plain = Grid(shape).permuted(order).map { plain[$0] }
        (array, shape) = (array.permuted(order), order.map { shape[$0] })
      case 1 where shape[d] % 2 == 0:
        array = array.splitting(d, into: [2, shape[d] / 2])
        shape.replaceSubrange(d...d, with: [2, shape[d] / 2])
      case 2 where array.count < 500:
        array = array.broadcast(at: d, size: 2)
        let inner = shape[d...].reduce(1, *)
        plain = stride(from: 0, to: plain.count, by: inner).flatMap { start in
          plain[start..<start + inner] + plain[start..<start + inner]
        }
        shape.insert(2, at: d)
      case 3:
        let picked = (0..<Int.random(in: 1...3, using: &random)).map { _ in Int.random(in: 0..<shape[d], using: &random)
        }
        plain = Grid(shape).taking(d, picked).map { plain[$0] }
        array = array.taking(d, indices: picked)
        shape[d] = picked.count
      case 4 where shape.count > 1:
        let index = Int.random(in: 0..<shape[d], using: &random)
        plain = Grid(shape).taking(d, [index]).map { plain[$0] }
        array = array.selecting(d, index: index)
        shape.remove(at: d)
      default: continue
      }
      #expect(array.shape == shape)
      #expect(array.flattened() == plain)
    }
  }
}

/// How many labels are no class of their own any more.
private func joins(_ facts: Facts) -> Int {
  var facts = facts
  return facts.frozen.indices.filter { facts.find(Int32($0)) != Int32($0) }.count
}

/// Positions of a row-major grid under plain movements.
private struct Grid {
  let shape: [Int]
  init(_ shape: [Int]) { self.shape = shape }

  private func position(_ index: [Int]) -> Int { zip(index, shape).reduce(0) { $0 * $1.1 + $1.0 } }

  /// For every element of the result in row-major order, its position here.
  private func gather(_ result: [Int], _ source: ([Int]) -> [Int]) -> [Int] {
    (0..<result.reduce(1, *)).map { flat in
      var (rest, index) = (flat, [Int](repeating: 0, count: result.count))
      for d in result.indices.reversed() { (rest, index[d]) = rest.quotientAndRemainder(dividingBy: result[d]) }
      return position(source(index))
    }
  }

  func permuted(_ order: [Int]) -> [Int] {
    gather(order.map { shape[$0] }) { index in
      var source = index
      for (k, d) in order.enumerated() { source[d] = index[k] }
      return source
    }
  }

  func taking(_ axis: Int, _ picked: [Int]) -> [Int] {
    var result = shape
    result[axis] = picked.count
    return gather(result) { index in
      var source = index
      source[axis] = picked[index[axis]]
      return source
    }
  }
}
