import ModelGraph

/// Index into `Facts.reasons`.
package typealias ReasonID = Int32

/// Why something cannot be cut, or is cut only approximately: what happened and the node where it did.
package struct Reason: Hashable, Sendable {
  package enum Kind: Hashable, Sendable {
    case graphInput
    case modelOutput
    case spatial
    case kernel
    case settings
    case mixed
    case noRule
    case outputOfBarrier
    case unknownShape
    case formWithoutRule
    case subgraphCapture
    case onlyIndexTaken
    case onePerBlock
    case axesMerged
    case arrayTooLarge
    case fixedPart
    case expanded
    case indexedByData
    case balancedWithFrozen
    case normalized
    case reduced
    case shapeDependent
    case fixedByFormat(ValueID)
    case axisFixedByFormat(FormatConstraints.FixedAxis)
  }
  package var kind: Kind
  package var node: NodeID?
}

/// Everything a pass over the graph learns: equalities at once, as joined classes; projections and orders recorded, to
/// be solved when the pass is over (they depend on what turns out to be one class); freezes and approximations as
/// flags. Facts are only ever added.
package struct Facts: Sendable {
  /// What is left of `labels` when only some of its factors are visible.
  package struct Projection: Sendable {
    /// Canonical order; `visible` lists the positions of the visible factors, in that order.
    var labels: LabelArray
    var visible: [Int]
    /// Over the visible factors, in the same order.
    var onto: LabelArray
    /// Per factor of `labels`, see `Factor.isShrunk`.
    var shrunk: [Bool]
    var node: NodeID
  }

  /// The factors of `labels` were laid flat in another order than the canonical one, or picked from: then all blocks
  /// must keep the same local indices.
  package struct Order: Sendable {
    enum Kind: Sendable {
      /// `order[k]` = canonical position of the k-th, outermost first.
      case laid([Int])
      case picked
      /// One of every `step` indices of dimension `dimension`: where these go together, the next are as far as before,
      /// whichever are kept.
      case stepped(dimension: Int, step: Int)
    }
    var labels: LabelArray
    var kind: Kind
    var node: NodeID
  }

  /// One index of a dimension of `labels` is taken alone: where that dimension is what is cut, nothing would be left to
  /// take without it.
  struct Pick: Sendable {
    var labels: LabelArray
    var dimension: Int
    var index: Int
    var node: NodeID
  }

  /// An operator takes statistics over some dimensions of `labels`: a cut that leaves only a part of what lies along
  /// them changes the statistics.
  package struct Approximate: Sendable {
    var labels: LabelArray
    /// The dimensions that the statistics run over.
    var across: [Int]
    var reason: ReasonID
  }

  /// A place where a stored tensor's axis takes part in an operator.
  struct Role: Hashable, Sendable {
    enum Kind: Sendable {
      case producer
      case consumer
      case follower
      /// Rows are looked up by data: an embedding, which makes channels where no layer does.
      case table
    }
    var kind: Kind
    var node: NodeID
  }

  /// A node that multiplies two activations and sums over an axis with channels of both, such as attention scores.
  struct Product: Sendable {
    var node: NodeID
    /// Per operand, which is the node's input at the same position, the letters of its axes.
    var letters: [[Letter]]
    /// Their lengths.
    var lengths: [[Int]]
    var output: [Letter]
  }

  /// Labels of one pass. A decoder of 70 billion parameters has 15 million.
  private static let labelBudget = 200_000_000

  private(set) var classes = Classes()
  package private(set) var reasons: [Reason] = []
  private var reasonIDs: [Reason: ReasonID] = [:]
  /// Per label the reason it is frozen, -1 if it is not.
  package private(set) var frozen: [ReasonID] = []
  /// What can be cut only approximately.
  package private(set) var approximations: [Approximate] = []
  package private(set) var projections: [Projection] = []
  package private(set) var orders: [Order] = []
  private(set) var picks: [Pick] = []
  /// Label arrays over two or more factors: what must stay rectangular.
  package private(set) var blocks: [(labels: LabelArray, node: NodeID)] = []
  /// How many sums over labelled indices each node takes: those of one read its operands as they come, others also
  /// what they compute in between.
  private(set) var contractions: [NodeID: Int] = [:]
  /// Label arrays over several factors, one of which a product of activations sums over or leaves while another runs
  /// along both operands: heads and their widths.
  private(set) var batched: [LabelArray] = []
  /// Nodes that join two or more activations element by element, with a label of the joined value.
  private(set) var activationJoins: [(node: NodeID, label: Int32)] = []
  /// Where runs of labels were made equal, by their first labels: what an explanation of a group goes by.
  private(set) var meetings: [(node: NodeID, a: Int32, b: Int32)] = []
  private(set) var products: [Product] = []
  /// Roles by the first label of the stored axis as an operator met it.
  private(set) var roles: [(label: Int32, role: Role)] = []
  /// Labels below this number are the classes of an analysis that is over: they must not be joined any more, and where
  /// an operator wants to join two, that is a fault. 0 in an analysis.
  private(set) var certifiedLabels: Int32 = 0
  private var staysInCertificate: [Bool] = []
  private(set) var faults: [(node: NodeID, a: Int32, b: Int32)] = []
  private(set) var comparisons = 0
  /// The node whose rule is running.
  var current = NodeID(0)
  /// Counts the blocks that solving froze: the fixpoint compares it.
  var frozenByBlocks = 0
  private var factorCount = 0

  package init() {}

  package mutating func reason(_ kind: Reason.Kind, _ node: NodeID?) -> ReasonID {
    let reason = Reason(kind: kind, node: node)
    if let id = reasonIDs[reason] { return id }
    let id = ReasonID(reasons.count)
    reasons.append(reason)
    reasonIDs[reason] = id
    return id
  }

  package mutating func factor(size: Int, reason: ReasonID, isShrunk: Bool = false) -> Factor {
    factorCount += 1
    return Factor(id: factorCount, size: size, reason: reason, isShrunk: isShrunk)
  }

  /// A factor of another size that shares the history of `parts`.
  mutating func factor(size: Int, like parts: Factor...) -> Factor { factor(size: size, like: parts) }

  mutating func factor(size: Int, like parts: [Factor], reason: ReasonID? = nil) -> Factor {
    factor(
      size: size, reason: reason ?? parts.first?.reason ?? self.reason(.fixedPart, nil),
      isShrunk: parts.contains(where: \.isShrunk))
  }

  mutating func freshLabels(_ count: Int) -> Int32 {
    frozen.append(contentsOf: repeatElement(-1, count: count))
    return classes.add(count)
  }

  /// Labels of their own for every element. Beyond the budget of a pass, which no real network comes near, one frozen
  /// label stands for all: what meets it stays, and a length that a file merely claims costs nothing.
  package mutating func freshArray(shape: [Int]) -> LabelArray {
    let count = shape.reduce(1, *)
    guard count <= LabelArray.limit, classes.count + count <= Self.labelBudget else {
      let label = freshLabels(1)
      freeze(label, reason(.arrayTooLarge, current))
      return LabelArray(repeating: label, shape: shape)
    }
    let first = freshLabels(count)
    return LabelArray(Array(first..<first + Int32(count)), shape: shape)
  }

  /// Makes the two labels one class; in a certificate, checks that they are.
  mutating func joinClasses(_ a: Int32, _ b: Int32) {
    guard certifiedLabels > 0 else { return classes.join(a, b) }
    comparisons += 1
    certifyJoin(a, b)
  }

  private mutating func certifyJoin(_ a: Int32, _ b: Int32) {
    let (x, y) = (classes.find(a), classes.find(b))
    if x != y, x < certifiedLabels, y < certifiedLabels {
      faults.append((current, x, y))
    } else {
      classes.join(x, y)
    }
  }

  /// From here on labels `0 ..< isFrozen.count` are settled classes, of which some always stay.
  mutating func beginCertificate(isFrozen: [Bool]) {
    _ = freshLabels(isFrozen.count)
    certifiedLabels = Int32(isFrozen.count)
    staysInCertificate = isFrozen
  }

  /// In a certificate: whether blocks of which one entry is left each meet, entry by entry, what belongs to the blocks
  /// and always stays. Were there more entries they would be seen as blocks.
  mutating func isCollapsedBlocks(_ s: LabelSet, _ t: LabelSet) -> Bool {
    guard certifiedLabels > 0, s.factors.contains(where: \.isShrunk) else { return false }
    func allStay(_ set: LabelSet) -> Bool {
      set.labels.flattened().allSatisfy { label in
        let c = find(label)
        return c < certifiedLabels && staysInCertificate[Int(c)]
      }
    }
    func noneStays(_ set: LabelSet) -> Bool {
      set.labels.flattened().allSatisfy { label in
        let c = find(label)
        return c < certifiedLabels && !staysInCertificate[Int(c)]
      }
    }
    return (allStay(s) && noneStays(t)) || (allStay(t) && noneStays(s))
  }

  mutating func freeze(_ label: Int32, _ reason: ReasonID) {
    if frozen[Int(label)] < 0 { frozen[Int(label)] = reason }
  }

  package mutating func freeze(_ labels: LabelArray, _ reason: ReasonID) {
    labels.forEachDistinct { label in if frozen[Int(label)] < 0 { frozen[Int(label)] = reason } }
  }

  /// Notes that the operator takes statistics over `factors`.
  mutating func approximate(_ set: LabelSet, over factors: [Factor], _ reason: ReasonID) {
    let across = set.factors.indices.filter { factors.contains(set.factors[$0]) }
    if !across.isEmpty { approximations.append(Approximate(labels: set.labels, across: across, reason: reason)) }
  }

  /// Makes every cut exact: what statistics run over goes only as a whole, or stays.
  mutating func forbidApproximations() {
    for approximation in approximations {
      if approximation.across.count == approximation.labels.rank {
        freeze(approximation.labels, approximation.reason)
      } else {
        for d in approximation.across { joinAlong(approximation.labels, d) }
      }
    }
  }

  /// Element-wise equality of two arrays of the same shape.
  mutating func equal(_ a: LabelArray, _ b: LabelArray) {
    guard a.shape == b.shape, a.count > 0 else { return }
    if a.identity == b.identity { return }
    let (x, y) = (a.flattened(), b.flattened())
    if certifiedLabels > 0 {
      comparisons += x.count
      for k in x.indices where x[k] != y[k] { certifyJoin(x[k], y[k]) }
      return
    }
    for k in x.indices where k == 0 || x[k] != x[k - 1] + 1 || y[k] != y[k - 1] + 1 {
      // One note for every run of labels that meets another, which is one for every pair of layers.
      if x[k] != y[k] { meetings.append((current, x[k], y[k])) }
    }
    classes.join(x, y)
  }

  /// Joins the labels along dimension `d`.
  mutating func joinAlong(_ labels: LabelArray, _ d: Int) {
    let head = labels.selecting(d, index: 0)
    for index in stride(from: 1, to: labels.shape[d], by: 1) { equal(head, labels.selecting(d, index: index)) }
  }

  mutating func project(_ set: LabelSet, visible: [Int], onto: LabelArray, at node: NodeID) {
    projections.append(
      Projection(
        labels: set.labels, visible: visible, onto: onto, shrunk: set.factors.map(\.isShrunk), node: node))
  }

  mutating func order(_ labels: LabelArray, _ kind: Order.Kind, at node: NodeID) {
    orders.append(Order(labels: labels, kind: kind, node: node))
  }

  mutating func pick(_ labels: LabelArray, _ dimension: Int, index: Int, at node: NodeID) {
    picks.append(Pick(labels: labels, dimension: dimension, index: index, node: node))
  }

  /// Notes that `labels`, if over several factors, must stay rectangular.
  mutating func keepRectangular(_ labels: LabelArray, at node: NodeID) {
    if labels.rank >= 2 { blocks.append((labels, node)) }
  }

  mutating func noteBatched(_ labels: LabelArray) { batched.append(labels) }

  mutating func noteActivationJoin(_ node: NodeID, label: Int32) { activationJoins.append((node, label)) }
  mutating func noteContraction(_ node: NodeID) { contractions[node, default: 0] += 1 }
  mutating func noteProduct(_ product: Product) { products.append(product) }
  mutating func noteRole(_ kind: Role.Kind, label: Int32, node: NodeID) {
    roles.append((label, Role(kind: kind, node: node)))
  }

  package mutating func find(_ label: Int32) -> Int32 { classes.find(label) }
  mutating func find(_ labels: [Int32]) -> [Int32] { classes.find(labels) }

  /// The class of every label.
  mutating func representatives() -> [Int32] { classes.representatives() }
}
