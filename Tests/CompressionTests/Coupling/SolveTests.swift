import Compression
import ModelGraph
import TestSupport
import Testing

// Classes, the labelled einsum and the fixpoint, on examples small enough to check by hand.

private let node = NodeID(0)

/// A pass's facts with shorthands for one-set values.
private struct Board {
  var facts = Facts()

  /// One joint set over axes of these lengths, one factor each.
  mutating func joint(_ sizes: Int...) -> LabelledValue {
    let reason = facts.reason(.fixedPart, nil)
    let factors = sizes.map { facts.factor(size: $0, reason: reason) }
    return LabelledValue(
      axes: factors.map { [$0] }, sets: [LabelSet(factors: factors, labels: facts.freshArray(shape: sizes))])
  }

  /// Fixed axes of these lengths; 1 has no factor.
  mutating func fixed(_ sizes: Int..., kind: Reason.Kind = .graphInput) -> LabelledValue {
    let reason = facts.reason(kind, nil)
    return LabelledValue(axes: sizes.map { $0 > 1 ? [facts.factor(size: $0, reason: reason)] : [] }, sets: [])
  }

  mutating func contract(_ operands: [(LabelledValue, [Letter])], _ output: [Letter]) throws -> LabelledValue {
    let result = facts.contract(operands.map { Operand(value: $0.0, letters: $0.1) }, output: output, at: node)
    return try #require(result)
  }

  /// The classes of the value's only set, numbered from 0 in order of appearance.
  mutating func pattern(_ value: LabelledValue) -> [Int] {
    var numbers: [Int32: Int] = [:]
    return value.sets[0].labels.flattened().map { label in
      let c = facts.find(label)
      if numbers[c] == nil { numbers[c] = numbers.count }
      return numbers[c] ?? -1
    }
  }

  /// The reasons in the value's sets, without the free labels.
  mutating func frozen(_ value: LabelledValue) -> [Reason.Kind] {
    value.sets.flatMap { $0.labels.flattened() }.compactMap { label in
      facts.frozen[Int(label)] < 0 ? nil : facts.reasons[Int(facts.frozen[Int(label)])].kind
    }
  }

  mutating func same(_ a: LabelledValue, _ b: LabelledValue) -> Bool {
    let (x, y) = (a.sets[0].labels.flattened(), b.sets[0].labels.flattened())
    return x.count == y.count && zip(x, y).allSatisfy { facts.find($0) == facts.find($1) }
  }
}

@Suite("Classes, contraction and the fixpoint") struct SolveTests {
  @Test("The smallest label stands for its class, in whatever order facts arrive")
  func classes() {
    let pairs: [(Int32, Int32)] = [(5, 6), (2, 6), (7, 1), (3, 4), (6, 3)]
    for seed in 0..<20 {
      var random = SeededGenerator(seed: UInt64(seed))
      var classes = Classes()
      _ = classes.add(8)
      for (a, b) in pairs.shuffled(using: &random) { classes.join(b, a) }
      #expect(classes.representatives() == [0, 1, 2, 2, 2, 2, 2, 1])
      #expect(classes.joins == pairs.count)
      classes.join(4, 5)
      #expect(classes.joins == pairs.count)
    }
  }

  @Test("A product joins what it sums over and hands on the rest")
  func product() throws {
    var board = Board()
    let (x, w) = (board.joint(4), board.joint(6, 4))
    // One set per axis, as stored tensors have them.
    var split = w
    split.sets = w.axes.map { LabelSet(factors: $0, labels: board.facts.freshArray(shape: [$0[0].size])) }
    let y = try board.contract([(x, [0]), (split, [1, 0])], [1])
    #expect(y.shape == [6])
    #expect(y.sets[0].labels.flattened() == split.sets[0].labels.flattened())
    #expect(
      zip(x.sets[0].labels.flattened(), split.sets[1].labels.flattened()).allSatisfy { a, b in
        board.facts.find(a) == board.facts.find(b)
      })
  }

  @Test("Fixed demands every index, absent demands nothing")
  func fixedAgainstAbsent() throws {
    var board = Board()
    let x = board.joint(4)
    _ = try board.contract([(x, [0]), (board.fixed(1), [0])], [0])
    #expect(board.frozen(x) == [])
    _ = try board.contract([(x, [0]), (board.fixed(4), [0])], [0])
    #expect(board.frozen(x) == [.graphInput, .graphInput, .graphInput, .graphInput])
  }

  @Test("Lengths that differ have no einsum")
  func disagreement() {
    var board = Board()
    let (a, b) = (board.joint(4), board.joint(6))
    let result = board.facts.contract(
      [Operand(value: a, letters: [0]), Operand(value: b, letters: [0])], output: [0], at: node)
    #expect(result == nil)
  }

  @Test("A number per head leaves the dims of each head free, and the head stays while they go one by one")
  func perHead() throws {
    var board = Board()
    let (x, scale) = (board.joint(2, 3), board.joint(2))
    _ = try board.contract([(x, [0, 1]), (scale, [0])], [0, 1])
    board.facts.solve()
    #expect(board.pattern(x) == [0, 1, 2, 3, 4, 5])
    #expect(board.pattern(scale) == [0, 1])
    #expect(board.frozen(scale) == [.onePerBlock, .onePerBlock])
  }

  @Test("Where all dims of a head are one unit, the number per head goes with it")
  func perHeadUniform() throws {
    var board = Board()
    let (x, scale) = (board.joint(2, 3), board.joint(2))
    _ = try board.contract([(x, [0, 1]), (scale, [0])], [0, 1])
    // Something mixes the dims afterwards: what is known only then decides.
    _ = board.facts.mix(x, x.axes[1], reason: board.facts.reason(.mixed, node))
    board.facts.solve()
    #expect(board.pattern(x) == [0, 0, 0, 1, 1, 1])
    #expect(board.frozen(x) == [])
    #expect(board.facts.find(scale.sets[0].labels[[1]]) == board.facts.find(x.sets[0].labels[[1, 2]]))
  }

  @Test("Only the head whose dims are one unit takes its number along")
  func perHeadMixed() throws {
    var board = Board()
    let (x, scale) = (board.joint(2, 2), board.joint(2))
    _ = try board.contract([(x, [0, 1]), (scale, [0])], [0, 1])
    let pair = x.sets[0].labels.selecting(0, index: 1)
    var (a, b) = (board.joint(1), board.joint(1))
    a.sets[0].labels = LabelArray([pair[[0]]], shape: [1])
    b.sets[0].labels = LabelArray([pair[[1]]], shape: [1])
    // An addition that makes the second head's two dims one.
    _ = try board.contract([(a, [0]), (b, [0])], [0])
    board.facts.solve()
    #expect(board.pattern(x) == [0, 1, 2, 2])
    #expect(board.frozen(scale) == [.onePerBlock])
    #expect(board.facts.find(scale.sets[0].labels[[1]]) == board.facts.find(pair[[0]]))
  }

  @Test("A table over the dims ties the heads index by index")
  func perDim() throws {
    var board = Board()
    let (x, table) = (board.joint(2, 3), board.joint(3))
    _ = try board.contract([(x, [0, 1]), (table, [1])], [0, 1])
    board.facts.solve()
    #expect(board.pattern(x) == [0, 1, 2, 0, 1, 2])
    #expect(board.frozen(table) == [])
    #expect(board.facts.find(table.sets[0].labels[[2]]) == board.facts.find(x.sets[0].labels[[0, 2]]))
  }

  @Test("A product over the dims leaves one block per head; the other operand's dims are the same")
  func attentionScores() throws {
    var board = Board()
    // (heads, dims) times (heads, dims), summed over the dims: Q times K.
    let (q, k) = (board.joint(2, 3), board.joint(2, 3))
    let scores = try board.contract([(q, [0, 1]), (k, [0, 1])], [0])
    let areSame = board.same(q, k)
    #expect(areSame)
    #expect(scores.sets.count == 1 && scores.shape == [2])
    board.facts.solve()
    #expect(board.pattern(q) == [0, 1, 2, 3, 4, 5])
    #expect(board.frozen(scores) == [.onePerBlock, .onePerBlock])
  }

  @Test("With whole blocks to prune, dims are joined and heads become units")
  func wholeBlocks() throws {
    var board = Board()
    let (q, k) = (board.joint(2, 3), board.joint(2, 3))
    let scores = try board.contract([(q, [0, 1]), (k, [0, 1])], [0])
    board.facts.solve(joiningInner: [q.sets[0].labels])
    #expect(board.pattern(q) == [0, 0, 0, 1, 1, 1])
    #expect(board.frozen(scores) == [])
    #expect(board.facts.find(scores.sets[0].labels[[1]]) == board.facts.find(q.sets[0].labels[[1, 0]]))
  }

  @Test("A grouped product relates inputs and outputs only through the group")
  func grouped() throws {
    var board = Board()
    let x = board.joint(2, 3)
    var w = board.fixed(2, 4, 3)
    w.sets = [
      LabelSet(factors: w.axes[0] + w.axes[1], labels: board.facts.freshArray(shape: [2, 4])),
      LabelSet(factors: w.axes[0] + w.axes[2], labels: board.facts.freshArray(shape: [2, 3])),
    ]
    let y = try board.contract([(x, [0, 2]), (w, [0, 1, 2])], [0, 1])
    #expect(y.sets[0].labels.flattened() == w.sets[0].labels.flattened())
    board.facts.solve()
    #expect(board.pattern(x) == [0, 1, 2, 3, 4, 5])
    #expect(board.pattern(y) == [0, 1, 2, 3, 4, 5, 6, 7])
    #expect(
      zip(x.sets[0].labels.flattened(), w.sets[1].labels.flattened()).allSatisfy { a, b in
        board.facts.find(a) == board.facts.find(b)
      })
  }

  @Test("Mixing what is left of a set joins it; mixing all of it freezes it")
  func mix() {
    var board = Board()
    let x = board.joint(2, 3)
    let half = board.facts.mix(x, x.axes[0], reason: board.facts.reason(.mixed, node))
    #expect(half.sets[0].factors == x.axes[1])
    #expect(board.pattern(x) == [0, 1, 2, 0, 1, 2])
    #expect(board.frozen(x) == [])
    let none = board.facts.mix(half, x.axes[1], reason: board.facts.reason(.mixed, node))
    #expect(none.sets.isEmpty)
    #expect(board.frozen(half) == [.mixed, .mixed, .mixed])
  }

  @Test("A block factor laid inside the cut factor makes all blocks lose the same indices")
  func order() throws {
    var board = Board()
    let x = board.joint(2, 3)
    // (g, n) read as n-major: the flat order is another one, so what closes up must be alike in both blocks.
    _ = x.permuted([1, 0]).reshaped([Extent(6, original: 6)], at: node, &board.facts)
    board.facts.solve()
    #expect(board.pattern(x) == [0, 1, 2, 0, 1, 2])
  }

  @Test("An order stops mattering where blocks are whole units")
  func orderOfWholeBlocks() throws {
    var board = Board()
    let x = board.joint(2, 3)
    _ = x.permuted([1, 0]).reshaped([Extent(6, original: 6)], at: node, &board.facts)
    board.facts.solve(joiningInner: [x.sets[0].labels])
    #expect(board.pattern(x) == [0, 0, 0, 1, 1, 1])
  }

  @Test("Two canonical orders of one set are an order fact", arguments: [false, true])
  func canonicalOrders(transposed: Bool) throws {
    var board = Board()
    let q = board.joint(2, 3)
    let k = transposed ? board.joint(3, 2) : board.joint(2, 3)
    _ = try board.contract([(q, [0, 1]), (k, transposed ? [1, 0] : [0, 1])], [0])
    board.facts.solve()
    #expect(board.facts.orders.count == (transposed ? 1 : 0))
    #expect(Set(board.pattern(q)).count == (transposed ? 2 : 6))
  }

  @Test("Factor lists meet in their common refinement")
  func refinement() throws {
    var board = Board()
    var x = board.fixed(12)
    x.sets = [LabelSet(factors: x.axes[0], labels: board.facts.freshArray(shape: [12]))]
    let asHeads = try #require(x.reshaped([Extent(3, original: 3), Extent(4, original: 4)], at: node, &board.facts))
    let heads = try #require(asHeads.reshaped([Extent(12, original: 12)], at: node, &board.facts))
    #expect(heads.axes[0].map(\.size) == [3, 4])
    let w = board.joint(12)
    let y = try board.contract([(heads, [0]), (w, [0])], [0])
    #expect(y.axes[0].map(\.size) == [3, 4])
    #expect(
      zip(x.sets[0].labels.flattened(), w.sets[0].labels.flattened()).allSatisfy { a, b in
        board.facts.find(a) == board.facts.find(b)
      })
  }

  @Test("Factor lists without a common refinement are fused and still meet element by element")
  func noRefinement() throws {
    var board = Board()
    func reading(_ sizes: [Int], _ board: inout Board) throws -> LabelledValue {
      let flat = board.joint(6)
      let axes = try #require(flat.reshaped(sizes.map { Extent($0, original: $0) }, at: node, &board.facts))
      return try #require(axes.reshaped([Extent(6, original: 6)], at: node, &board.facts))
    }
    let (a, b) = (try reading([2, 3], &board), try reading([3, 2], &board))
    _ = try board.contract([(a, [0]), (b, [0])], [0])
    let areSame = board.same(a, b)
    #expect(areSame)
  }
}
