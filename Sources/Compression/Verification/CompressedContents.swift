import Glibc
import ModelGraph
import Numerics

/// Compares a compressed model, as it was read back, with what its plan says it must be: every stored tensor the
/// original's without the listed slices, bit for bit; every node with its operator, attributes and connections; the
/// operator sets, inputs and outputs as they were; and nothing beside these.
///
/// Invariant: what this passes holds the numbers of the original and no others. That these are the right ones to keep
/// is for the certificate and for running the model.
package struct CompressedContents {
  private let original: Graph
  private let plan: CompressionPlan
  private let expected: RewrittenGraph
  private let unread: UnreadParts
  /// What the file has multiplied instead of stating a number.
  private let factors: [ValueID: Double]
  private let compressed: Graph
  private let ids: [String: ValueID]
  private let isLowered: Bool

  /// - Parameter isLowered: whether the graphs were made from another language, in which a plan is carried out in other
  ///   words: then nodes and the constants between them are not compared one by one, nor is what replaced layers read.
  package init(_ planned: PlannedCompression, of original: Graph, in compressed: Graph, isLowered: Bool = false) {
    (self.original, self.compressed, plan, self.isLowered) = (original, compressed, planned.plan, isLowered)
    expected = RewrittenGraph(original, applying: planned.plan)
    unread = UnreadParts(original, plan)
    factors = plan.carriedFactors(of: original, in: compressed)
    ids = Dictionary(compressed.valueIDs.map { (compressed[$0].name, $0) }) { first, _ in first }
  }

  /// - Returns: the first difference, in one sentence; nil if there is none.
  package func firstDifference(work: Work) throws(Failure) -> String? {
    if let difference = firstDifferenceOfSignatures { return difference }
    if let difference = try firstDifferenceOfTensors(work) { return difference }
    return isLowered ? nil : try firstDifferenceOfNodes(work)
  }

  // MARK: Signatures

  private var firstDifferenceOfSignatures: String? {
    let (before, after) = (original.definitions, compressed.definitions)
    for domain in Set(before.opsets.keys).union(after.opsets.keys).sorted()
    where before.opsets[domain] != after.opsets[domain] {
      func version(_ opsets: [String: Int]) -> String { opsets[domain].map { "in version \($0)" } ?? "absent" }
      let name = domain.isEmpty ? "of ONNX" : "'\(domain)'"
      return "the operator set \(name) is \(version(after.opsets)), not \(version(before.opsets))"
    }
    for (kind, before, after) in [
      ("inputs", original.inputs, compressed.inputs), ("outputs", original.outputs, compressed.outputs),
    ] {
      let (wanted, found) = (before.map { original[$0].name }, after.map { compressed[$0].name })
      guard wanted == found else { return "the \(kind) are \(found), not \(wanted)" }
      for (a, b) in zip(before, after) {
        let (a, b) = (original[a], compressed[b])
        if a.dtype != b.dtype {
          return "'\(a.name)', one of the \(kind), is \(Self.words(b.dtype)), not \(Self.words(a.dtype))"
        }
        if a.declaredShape != b.declaredShape {
          return "'\(a.name)', one of the \(kind), has the shape \(Self.words(b.declaredShape)), not "
            + Self.words(a.declaredShape)
        }
      }
    }
    return nil
  }

  private static func words(_ dtype: DType?) -> String { dtype.map { "\($0)" } ?? "of no type" }

  private static func words(_ shape: [Dimension]?) -> String {
    guard let shape else { return "unknown" }
    let lengths = shape.map { dimension in
      switch dimension {
      case .fixed(let length): "\(length)"
      case .symbol(let name): "'\(name)'"
      case .unknown: "?"
      }
    }
    return "[\(lengths.joined(separator: ", "))]"
  }

  // MARK: Tensors

  private func firstDifferenceOfTensors(_ work: Work) throws(Failure) -> String? {
    var slices: [ValueID: TensorSlice] = [:]
    for slice in plan.slices { slices[slice.value] = slice }
    let contents = Dictionary(plan.contents.map { ($0.value, $0.tensor) }) { first, _ in first }
    let total = max(1, original.values.reduce(0) { $0 + ($1.tensor?.bytes.count ?? 0) })
    var done = 0
    for id in original.valueIDs {
      guard let tensor = original[id].tensor else { continue }
      done += tensor.bytes.count
      if isLowered, !StoredLabels.carriesLabels(tensor.dtype) || unread.values.contains(id) { continue }
      guard let other = ids[original[id].name], let found = compressed[other].tensor else {
        if unread.values.contains(id) || original.uses(of: id).isEmpty || isLowered && isReplaced(id) { continue }
        return "the stored tensor '\(original[id].name)' is gone"
      }
      if let factor = factors[id] {
        var wanted = contents[id] ?? tensor
        if let slice = slices[id], contents[id] == nil { wanted = try tensor.cut(slice) }
        guard found.isNearly(wanted.multiplied(by: factor)) else {
          return "'\(original[id].name)' does not hold the numbers that are left of it, multiplied by \(factor)"
        }
      } else if let wanted = contents[id] {
        if !found.isSame(as: wanted) {
          return "'\(original[id].name)' does not hold the new numbers that it is to hold"
        }
      } else if let difference = try difference(of: original[id].name, tensor, slices[id], found, work) {
        return difference
      }
      work.progress(Double(done) / Double(total), "comparing stored tensors")
    }
    let known = Set(original.values.lazy.filter(\.isStored).map(\.name))
    let added = compressed.valueIDs.first { id in
      compressed[id].isStored && !known.contains(compressed[id].name) && isUnread(id)
    }
    return added.map { "nothing reads the stored tensor '\(compressed[$0].name)', which the original does not have" }
  }

  /// Whether only replaced layers and what follows them in their place read the tensor.
  private func isReplaced(_ id: ValueID) -> Bool {
    let replaced = Set(plan.replacements.map(\.node))
    return original.uses(of: id).allSatisfy { use in
      replaced.contains(use.node)
        || original[use.node].inputs.contains { input in
          input.flatMap { original[$0].producer }.map(replaced.contains) ?? false
        }
    }
  }

  private func isUnread(_ id: ValueID) -> Bool {
    compressed.uses(of: id).isEmpty && !compressed.outputs.contains(id)
  }

  private func difference(
    of name: String, _ tensor: Tensor, _ slice: TensorSlice?, _ found: Tensor, _ work: Work
  ) throws(Failure) -> String? {
    guard found.dtype == tensor.dtype else { return "'\(name)' is \(found.dtype), not \(tensor.dtype)" }
    guard let width = tensor.dtype.byteWidth else {
      // Strings, as they are encoded, carry their names; packed elements are not cut.
      let isSame = tensor.dtype == .string || found.bytes.buffer.elementsEqual(tensor.bytes.buffer)
      return found.shape == tensor.shape && isSame ? nil : "'\(name)' is not the original's"
    }
    let gather: Gather
    do throws(Gather.Misfit) {
      gather = try Gather(
        shape: tensor.shape, elementBytes: width, axes: slice?.axes.map(Gather.Axis.init) ?? [])
    } catch {
      return "'\(name)' cannot be cut as listed: \(error.reason)"
    }
    guard found.shape == gather.outputShape else {
      return "'\(name)' has the shape \(found.shape) where \(gather.outputShape) is left of the original"
    }
    var position = 0
    var fault: Int?
    for row in 0..<gather.rowCount {
      if row % 4096 == 0 { try work.checkCancellation() }
      gather.forEachRun(ofRow: row) { offset, count in
        if fault == nil, memcmp(found.bytes.base + position, tensor.bytes.base + offset, count) != 0 {
          fault = position
        }
        position += count
      }
      if let fault {
        return "'\(name)' does not hold the original's numbers in the run from element \(fault / width) on"
      }
    }
    return nil
  }

  // MARK: Nodes

  private func firstDifferenceOfNodes(_ work: Work) throws(Failure) -> String? {
    var compared: Set<NodeID> = []
    for (index, wanted) in expected.graph.nodes.enumerated() {
      if index % 64 == 0 { try work.checkCancellation() }
      // What splices an input has names of the writer's choice.
      guard wanted.op != "Constant" || !wanted.domain.isEmpty,
        let name = wanted.outputs.lazy.compactMap({ $0 }).first.map({ expected.graph[$0].name }), !name.isEmpty
      else { continue }
      guard let id = ids[name], let producer = compressed[id].producer else { return "no node computes '\(name)'" }
      let found = compressed[producer]
      compared.insert(producer)
      if let what = difference(wanted, found) { return "the node that computes '\(name)' has \(what)" }
    }
    // What the plan puts between is read, by nodes whose inputs it changes.
    let added = compressed.nodeIDs.first { id in
      let node = compressed[id]
      return !compared.contains(id) && node.op != "Constant" && node.outputs.allSatisfy { $0.map(isUnread) ?? true }
    }
    return added.map { "nothing reads the node '\(compressed.displayName($0))', which the original does not have" }
  }

  private func difference(_ wanted: Node, _ found: Node) -> String? {
    guard wanted.qualifiedOperator == found.qualifiedOperator else {
      return "the operator \(found.op) instead of \(wanted.op)"
    }
    for name in Set(wanted.attributes.keys).union(found.attributes.keys).sorted() {
      let (a, b) = (wanted.attributes[name], found.attributes[name])
      guard let a, let b, Self.isSame(a, b) else { return "another '\(name)' than it should" }
    }
    for position in 0..<max(wanted.inputs.count, found.inputs.count) {
      switch (wanted.input(position), found.input(position)) {
      case (nil, nil): continue
      case (let a?, let b?):
        let name = expected.graph[a].name
        // Constants that edits introduced have names of the writer's choice.
        if !name.isEmpty || a.index < original.values.count, name != compressed[b].name {
          return "'\(compressed[b].name)' as input \(position) instead of '\(name)'"
        }
        if a.index >= original.values.count, let tensor = expected.graph[a].tensor {
          guard let there = compressed[b].tensor, there.isSame(as: tensor) else {
            return "another constant as input \(position) than it should"
          }
        }
      default: return "more or fewer inputs than it should"
      }
    }
    return nil
  }

  private static func isSame(_ a: Attribute, _ b: Attribute) -> Bool {
    switch (a, b) {
    case (.int(let x), .int(let y)): x == y
    case (.ints(let x), .ints(let y)): x == y
    case (.float(let x), .float(let y)): x.bitPattern == y.bitPattern
    case (.floats(let x), .floats(let y)): x.map(\.bitPattern) == y.map(\.bitPattern)
    case (.string(let x), .string(let y)): x == y
    case (.strings(let x), .strings(let y)): x == y
    case (.tensor(let x), .tensor(let y)): x.isSame(as: y)
    // Bytes that other files hold may be at another place in them: the same kind is all that can be asked.
    case (.graph, .graph), (.other, .other): true
    default: false
    }
  }
}

extension Tensor {
  /// Whether the numbers are the same within a few roundings to their type.
  fileprivate func isNearly(_ other: Tensor) -> Bool {
    guard dtype == other.dtype, shape == other.shape, let a = realNumbers, let b = other.realNumbers else {
      return false
    }
    // The distance of neighbours above one, and the least magnitude at which that holds.
    let (unit, least): (Double, Double) =
      switch dtype {
      case .float64: (.ulpOfOne, .leastNormalMagnitude)
      case .float16: (Double(Float16.ulpOfOne), Double(Float16.leastNormalMagnitude))
      case .bfloat16: (0x1p-7, Double(Float.leastNormalMagnitude))
      default: (Double(Float.ulpOfOne), Double(Float.leastNormalMagnitude))
      }
    return zip(a, b).allSatisfy { $0 == $1 || abs($0 - $1) <= 4 * unit * max(abs($1), least) || $0.isNaN && $1.isNaN }
  }

  fileprivate func isSame(as other: Tensor) -> Bool {
    dtype == other.dtype && shape == other.shape
      && (dtype == .string || bytes.buffer.elementsEqual(other.bytes.buffer))
  }
}
