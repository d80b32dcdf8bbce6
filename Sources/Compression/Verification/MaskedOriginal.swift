import ModelGraph
import Numerics

/// What a compressed model must equal: the original in which nobody listens to what was removed.
///
/// Before every operator that sums over labelled indices, the elements that were removed are set to zero (a quantized
/// operand's to its zero point); kept elements go through untouched, and so do variances, divisors and everything else.
/// Which operators sum, and which elements go, the labels say; no operator is known here by name, but for the places of
/// zero points.
///
/// Where an operator takes statistics across removed channels, no such equality exists. Its *twin* has one: the same
/// graph in which these operators see only what stays, and their results are spread out again. The twin must equal the
/// compressed model as exactly as the masked original does elsewhere; the distance of the masked original itself tells
/// how much the statistics changed.
package struct MaskedOriginal {
  private let removal: Removal
  private let plan: CompressionPlan
  private let shapes: ShapeTable
  private let mixers: [NodeID: Reason]
  /// Nodes that sum channels with weights of their own, whatever else they do.
  private let consumers: Set<NodeID>
  /// The original, with what the plan puts in the place of stored numbers, and the products of factors in the place of
  /// weights.
  private let graph: Graph
  /// What nodes read instead of what they read in the original: biases of layers that were decomposed.
  private let biases: [NodeID: (input: Int, tensor: Tensor)]
  private var analysis: CouplingAnalysis { removal.coupling.analysis }

  /// - Parameter shapes: of the original under the lengths with which it will be run.
  package init(_ removal: Removal, _ plan: CompressionPlan, shapes: ShapeTable) {
    (self.removal, self.plan, self.shapes, biases) = (removal, plan, shapes, [:])
    graph = removal.coupling.graph.withContents(of: plan)
    mixers = removal.mixers()
    consumers = Set(removal.coupling.facts.roles.lazy.filter { $0.role.kind == .consumer }.map(\.role.node))
  }

  /// - Parameters:
  ///   - decompositions: of layers of what the removal leaves.
  ///   - isRounded: see `ReconstructedOriginal`.
  init(
    _ removal: Removal, _ plan: CompressionPlan, decompositions: [LayerDecomposition], isRounded: Bool,
    shapes: ShapeTable
  ) throws(Failure) {
    let algebra = try LinearAlgebra.loaded()
    let original = removal.coupling.graph
    let slices = Dictionary(plan.slices.map { ($0.value, $0) }) { first, _ in first }
    func whole(_ value: ValueID, holding new: Tensor) -> Tensor? {
      original[value].tensor.map { ($0.dtype == new.dtype ? $0 : $0.widened).holding(new, at: slices[value]) }
    }
    var products: [ValueID: Tensor] = [:]
    var biases: [NodeID: (input: Int, tensor: Tensor)] = [:]
    for decomposition in decompositions {
      let (layer, node) = (decomposition.layer, original[decomposition.layer.node])
      if products[layer.weight.source] == nil {
        let product = decomposition.storedProduct(plan.constants.map(\.tensor), algebra, isRounded: isRounded)
        products[layer.weight.source] = whole(layer.weight.source, holding: product)
      }
      guard let bias = decomposition.newBias.map({ plan.constants[$0].tensor }) else { continue }
      if let old = node.input(2) {
        biases[layer.node] = whole(old, holding: bias).map { (2, $0) }
      } else if let output = node.output(0) {
        let kept = removal.keptPositions(of: output, axis: layer.kernel.isEmpty ? (shapes[output]?.count ?? 1) - 1 : 1)
        biases[layer.node] = (2, bias.spread(over: kept))
      }
    }
    for case .readConstant(let id, let input, let index) in plan.edits {
      guard let old = original[id].input(input) else { continue }
      biases[id] = whole(old, holding: plan.constants[index].tensor).map { (input, $0) }
    }
    (self.removal, self.plan, self.shapes, self.biases) = (removal, plan, shapes, biases)
    graph = original.withContents(of: plan).storing(products)
    mixers = removal.mixers()
    consumers = Set(removal.coupling.facts.roles.lazy.filter { $0.role.kind == .consumer }.map(\.role.node))
  }

  /// - Parameter restrictingStatistics: whether to make the twin.
  /// - Throws: `verifyImpossible` naming the node where it cannot be made.
  package func graph(restrictingStatistics: Bool, work: Work) throws(Failure) -> Graph {
    var building = Building(splicing: GraphSplicing(graph))
    for id in graph.nodeIDs {
      if id.index % 64 == 0 { try work.checkCancellation() }
      let isBiased = biases[id] != nil
      defer { if isBiased { building.splicing.giveLastInput(biases[id]) } }
      if restrictingStatistics, mixers[id] != nil {
        try restrict(id, &building)
      } else if let sums = removal.coupling.facts.contractions[id], !takesStatistics(id) {
        // A recurrence sums its own state, even where it has but one input.
        try mask(id, isWhole: sums > 1 || graph[id].int("hidden_size") != nil, &building)
      } else {
        building.splicing.append(graph[id])
      }
    }
    return building.splicing.finished()
  }

  private struct Building {
    var splicing: GraphSplicing
    /// Values of which a masked form is there already.
    var masked: [ValueID: ValueID] = [:]
  }

  /// Whether the node divides by how many there are: silence would count, and the masked original be farther from the
  /// compressed model than need be. Sums of other kinds are exact with it.
  private func takesStatistics(_ id: NodeID) -> Bool {
    switch mixers[id]?.kind {
    case .normalized: !consumers.contains(id)
    case .reduced: graph[id].op == "ReduceMean"
    default: false
    }
  }

  // MARK: What a use keeps

  private func kept(_ use: Use, _ value: ValueID) throws(Failure) -> KeptElements? {
    guard let form = analysis.initialOfUse[use] ?? analysis.values[value.index] else { return nil }
    return try kept(form, value, at: use.node)
  }

  private func kept(_ form: LabelledValue, _ value: ValueID, at node: NodeID) throws(Failure) -> KeptElements? {
    guard let lengths = shapes[value] else { return nil }
    do {
      return try KeptElements(form, removal, lengths: lengths)
    } catch {
      throw Failure(error.kind, error.message, details: ["node": .string(graph.displayName(node))])
    }
  }

  private func impossible(_ id: NodeID, _ why: String) -> Failure {
    Failure(
      .verifyImpossible, "\(graph[id].op) '\(graph.displayName(id))' \(why)",
      details: ["node": .string(graph.displayName(id)), "op": .string(graph[id].op)])
  }

  // MARK: Silencing

  /// - Parameter isWhole: the node also sums what it computes on the way (a recurrence, a projection inside attention):
  ///   then its weights are silenced too.
  private func mask(_ id: NodeID, isWhole: Bool, _ building: inout Building) throws(Failure) {
    let node = graph[id]
    var inputs = node.inputs
    let readsActivations = node.inputs.contains { $0.map { analysis.values[$0.index]?.isStored == false } ?? false }
    for (k, input) in node.inputs.enumerated() {
      guard let input, let form = analysis.values[input.index] else { continue }
      if form.isStored, readsActivations, !isWhole { continue }
      guard let kept = try kept(Use(node: id, input: k), input) else { continue }
      if let tensor = graph[input].tensor {
        guard let silenced = tensor.silencing(kept, zero: zeroPoint(of: k, node).flatMap { graph[$0].tensor }) else {
          throw impossible(id, "has a weight of type \(tensor.dtype), whose elements cannot be silenced one by one")
        }
        inputs[k] = building.splicing.constant(silenced)
      } else if let known = building.masked[input] {
        inputs[k] = known
      } else {
        let masked = try silenced(input, kept, of: k, id, &building)
        if zeroPoint(of: k, node) == nil { building.masked[input] = masked }
        inputs[k] = masked
      }
    }
    building.splicing.append(node.with(inputs: inputs))
  }

  /// The value of input `k` with the number that stands for nothing where it is not kept.
  private func silenced(
    _ value: ValueID, _ kept: KeptElements, of k: Int, _ id: NodeID, _ building: inout Building
  ) throws(Failure) -> ValueID {
    let node = graph[id]
    if !building.splicing.hasWhere { return zeroed(value, kept, &building) }
    let zeroPoint = zeroPoint(of: k, node)
    let types = [value, zeroPoint].compactMap { $0 } + node.inputs.compactMap { $0 }
    guard let dtype = types.lazy.compactMap({ graph.elementType(of: $0) }).first, let width = dtype.byteWidth,
      zeroPoint.flatMap({ shapes[$0] }).map({ $0.reduce(1, *) == 1 }) ?? true
    else {
      throw impossible(id, "reads '\(graph[value].name)', for which it is not known what stands for nothing")
    }
    let zero =
      zeroPoint
      ?? building.splicing.constant(
        Tensor(dtype: dtype, shape: [], bytes: TensorBytes(copying: [UInt8](repeating: 0, count: width))))
    let mask = building.splicing.constant(kept.broadcastMask)
    guard dtype == .int8 else { return building.splicing("Where", [mask, value, zero]) }
    // ONNX Runtime selects among all types of numbers but this one.
    func cast(_ value: ValueID, to dtype: DType) -> ValueID {
      building.splicing("Cast", [value], ["to": .int(dtype.rawValue)])
    }
    return cast(building.splicing("Where", [mask, cast(value, to: .int32), cast(zero, to: .int32)]), to: .int8)
  }

  /// The same in operator sets that can neither choose nor quantize: what is not kept is read from a zero behind the
  /// others. A product with 0 would leave NaN and infinity what they are.
  private func zeroed(_ value: ValueID, _ kept: KeptElements, _ building: inout Building) -> ValueID {
    let axis = kept.span.lowerBound
    let lengths = kept.flatLengths
    var pads = [Int](repeating: 0, count: 2 * lengths.count)
    pads[lengths.count + axis] = 1
    var places = [Int64](repeating: Int64(lengths[axis]), count: lengths[axis])
    for position in kept.keptPositions { places[position] = Int64(position) }
    let flat = building.splicing.reshape(value, to: lengths)
    let padded = building.splicing("Pad", [flat], ["pads": .ints(pads)])
    let indices = building.splicing.constant(Tensor(int64: places))
    return building.splicing.reshape(
      building.splicing("Gather", [padded, indices], ["axis": .int(axis)]), to: kept.lengths)
  }

  /// By operator, the inputs whose numbers count from a zero point, and the inputs that give it.
  private static let zeroPoints: [String: [Int: Int]] = [
    "QLinearConv": [0: 2, 3: 5], "QLinearMatMul": [0: 2, 3: 5], "com.microsoft.QGemm": [0: 2, 3: 5],
    "ConvInteger": [0: 2, 1: 3], "MatMulInteger": [0: 2, 1: 3], "com.microsoft.MatMulIntegerToFloat": [0: 4, 1: 5],
    "com.microsoft.DynamicQuantizeMatMul": [1: 3],
  ]

  private func zeroPoint(of k: Int, _ node: Node) -> ValueID? {
    Self.zeroPoints[node.qualifiedOperator]?[k].flatMap(node.input)
  }

  // MARK: Restricting

  /// The node as it is in the compressed model, between a selection of what stays of its inputs and a spreading of its
  /// outputs. Positions that were removed repeat some kept one; nobody listens to them.
  private func restrict(_ id: NodeID, _ building: inout Building) throws(Failure) {
    var node = graph[id]
    var isReplaced: Set<Int> = []
    for edit in plan.edits where edit.node == id {
      switch edit {
      case .setAttribute(_, let name, let value): node = node.with(attribute: name, value)
      case .removeAttribute(_, let name): node = node.with(attribute: name, nil)
      case .setInput(_, let input, let tensor):
        node = node.with(input: input, building.splicing.constant(tensor))
        isReplaced.insert(input)
      case .readConstant(_, let input, let index):
        node = node.with(input: input, building.splicing.constant(plan.constants[index].tensor))
        isReplaced.insert(input)
      case .adjustInput, .becomeGather, .gatherInput:
        throw impossible(id, "has settings that are computed from lengths")
      }
    }
    var inputs = node.inputs
    for (k, input) in graph[id].inputs.enumerated() where !isReplaced.contains(k) {
      guard let input, let kept = try kept(Use(node: id, input: k), input) else { continue }
      inputs[k] = try compacted(input, kept, at: id, &building)
    }
    var outputs = node.outputs
    var spreads: [(value: ValueID, from: ValueID, kept: KeptElements)] = []
    for (k, output) in node.outputs.enumerated() {
      guard let output, let form = analysis.values[output.index], let kept = try kept(form, output, at: id) else {
        continue
      }
      let compact = building.splicing.value(dtype: nil)
      outputs[k] = compact
      spreads.append((output, compact, kept))
    }
    building.splicing.append(node.with(inputs: inputs, outputs: outputs))
    for (value, compact, kept) in spreads { spread(compact, to: value, kept, &building) }
  }

  private func compacted(
    _ value: ValueID, _ kept: KeptElements, at id: NodeID, _ building: inout Building
  ) throws(Failure) -> ValueID {
    let span = kept.span
    let indices = building.splicing.constant(Tensor(int64: kept.keptPositions.map(Int64.init)))
    let axis = Attribute.int(span.lowerBound)
    if span.count == 1 { return building.splicing("Gather", [value, indices], ["axis": axis]) }
    guard let analysed = analysis.shapes[value], let after = try removal.newShape(value),
      let lengths = Reconciliation.scaled(kept.lengths, from: analysed, to: after),
      span.reduce(1, { $0 * lengths[$1] }) == kept.keptPositions.count
    else { throw impossible(id, "keeps a part of '\(graph[value].name)' that is not rectangular") }
    let flat = building.splicing.reshape(value, to: kept.flatLengths)
    return building.splicing.reshape(building.splicing("Gather", [flat, indices], ["axis": axis]), to: lengths)
  }

  private func spread(_ compact: ValueID, to value: ValueID, _ kept: KeptElements, _ building: inout Building) {
    let span = kept.span
    let positions = kept.keptPositions
    var places = [Int64](repeating: 0, count: span.reduce(1) { $0 * kept.lengths[$1] })
    for (place, position) in positions.enumerated() { places[position] = Int64(place) }
    let indices = building.splicing.constant(Tensor(int64: places))
    let axis = Attribute.int(span.lowerBound)
    if span.count == 1 {
      _ = building.splicing("Gather", [compact, indices], ["axis": axis], output: value)
      return
    }
    var lengths = kept.flatLengths
    lengths[span.lowerBound] = positions.count
    let flat = building.splicing.reshape(compact, to: lengths)
    let gathered = building.splicing("Gather", [flat, indices], ["axis": axis])
    _ = building.splicing.reshape(gathered, to: kept.lengths, output: value)
  }
}

extension GraphSplicing {
  /// Has the node that was appended last read a constant.
  fileprivate mutating func giveLastInput(_ new: (input: Int, tensor: Tensor)?) {
    guard let new else { return }
    let id = constant(new.tensor)
    changeLast { $0.with(input: new.input, id) }
  }
}

extension Tensor {
  /// The elements of a vector at the positions that are kept, zeros between them.
  fileprivate func spread(over kept: [Bool]?) -> Tensor {
    guard let kept, let numbers = realNumbers, kept.count(where: { $0 }) == numbers.count else { return self }
    var rest = numbers[...]
    return .rounding(kept.map { $0 ? rest.removeFirst() : 0 }, shape: [kept.count], to: dtype)
  }
}

extension KeptElements {
  /// The value's lengths with those of `span` made one.
  fileprivate var flatLengths: [Int] {
    lengths[..<span.lowerBound] + [span.reduce(1) { $0 * lengths[$1] }] + lengths[(span.upperBound + 1)...]
  }
}

extension Tensor {
  /// A copy with what is not kept set to `zero`, which is 0 if nil.
  /// - Returns: nil for elements of no whole number of bytes, and for more than one zero.
  fileprivate func silencing(_ kept: KeptElements, zero: Tensor?) -> Tensor? {
    guard let width = dtype.byteWidth, zero.map({ $0.elementCount == 1 && $0.dtype == dtype }) ?? true else {
      return nil
    }
    let pattern = zero.map { Array($0.bytes.buffer) } ?? [UInt8](repeating: 0, count: width)
    let span = kept.span
    let inner = shape[(span.upperBound + 1)...].reduce(width, *)
    let outer = shape[..<span.lowerBound].reduce(1, *)
    let middle = span.reduce(1) { $0 * shape[$1] }
    var isKept = [Bool](repeating: false, count: middle)
    for position in kept.keptPositions { isKept[position] = true }
    let copy = TensorBytes(count: bytes.count) { target in
      target.copyMemory(from: bytes.buffer)
      for block in 0..<outer {
        for position in 0..<middle where !isKept[position] {
          let start = (block * middle + position) * inner
          for offset in stride(from: start, to: start + inner, by: width) {
            for k in 0..<width { target[offset + k] = pattern[k] }
          }
        }
      }
    }
    return Tensor(dtype: dtype, shape: shape, bytes: copy)
  }
}
