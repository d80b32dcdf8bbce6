import ModelGraph
import Numerics

// What layers read on a user's samples: mean and covariance of their input channels, gathered while ONNX Runtime runs the
// model, in bounded memory.

/// Where a layer's input channels are met: along one axis of a value.
struct InputTap: Hashable, Sendable, Comparable {
  let value: ValueID
  /// Counted from the end if negative, since products take any number of leading axes.
  let axis: Int
  let channels: Int

  static func < (a: InputTap, b: InputTap) -> Bool { (a.value, a.axis) < (b.value, b.axis) }
}

extension DecomposableLayer {
  func inputTap(in graph: Graph) -> InputTap? {
    guard let value = graph[node].input(dataInput) else { return nil }
    switch form {
    case .convolution, .transposedConvolution: return InputTap(value: value, axis: 1, channels: inputChannels)
    case .product(let input, _):
      let flag = graph[node].int(input == 1 ? "transA" : "transB", default: 0) != 0
      return InputTap(value: value, axis: (input == 1) != flag ? -1 : -2, channels: inputChannels)
    }
  }
}

/// How the mean of a layer's input is dealt with.
enum InputMean: Sendable {
  /// Errors are weighed about zero: the layer has nowhere to put what a smaller weight makes of the mean, or its padding
  /// takes the mean away near borders.
  case included
  /// Errors are weighed about the mean, and the bias takes up what the smaller weight makes of it. The stored bias, if
  /// there is one, and what one unit of bias adds to the output.
  case movedToBias(Tensor?, scale: Double)
  /// The same where the bias is a stored vector that a following Add reads.
  case movedToSum(Use, Tensor)

  var isMoved: Bool { if case .included = self { false } else { true } }
}

extension DecomposableLayer {
  /// Whether the layer's node has a place for a bias.
  func addsBias(in graph: Graph) -> Bool {
    if case .product = form { graph[node].op.hasSuffix("Gemm") } else { true }
  }

  func inputMean(in graph: Graph) -> InputMean {
    let node = graph[self.node]
    let bias: Tensor?
    if let id = node.input(2) {
      guard let tensor = graph[id].tensor, tensor.dtype == weight.dtype, tensor.shape == [outputChannels]
      else { return .included }
      bias = tensor
    } else {
      bias = nil
    }
    switch form {
    case .transposedConvolution: return .included
    case .convolution:
      let isPadded =
        (node.ints("pads") ?? []).contains { $0 != 0 }
        || !["NOTSET", "VALID"].contains(node.string("auto_pad") ?? "NOTSET")
      return isPadded ? .included : .movedToBias(bias, scale: 1)
    case .product(let input, _):
      guard input == 1 else { return .included }
      guard node.op.hasSuffix("Gemm") else { return node.op == "MatMul" ? followingBias(in: graph) : .included }
      let (alpha, beta) = (Double(node.float("alpha") ?? 1), Double(node.float("beta") ?? 1))
      return beta != 0 && alpha != 0 ? .movedToBias(bias, scale: alpha / beta) : .included
    }
  }
}

extension DecomposableLayer {
  /// The stored vector that an Add adds to all the layer computes.
  private func followingBias(in graph: Graph) -> InputMean {
    guard let output = graph[node].output(0), !graph.outputs.contains(output),
      !graph.nodes.contains(where: { $0.captures.contains(output) }), graph.uses(of: output).count == 1,
      let use = graph.uses(of: output).first
    else { return .included }
    let sum = graph[use.node]
    guard sum.qualifiedOperator == "Add", use.input < 2, let other = sum.input(1 - use.input),
      let bias = graph[other].tensor, bias.dtype == weight.dtype, bias.shape.last == outputChannels,
      bias.elementCount == outputChannels
    else { return .included }
    return .movedToSum(Use(node: use.node, input: 1 - use.input), bias)
  }
}

/// The statistics of one weight's inputs, over all layers that apply it.
struct WeightInputs: Sendable {
  let whitening: Whitening
  /// nil where errors are weighed about zero.
  let mean: [Double]?
  /// Of a spatial convolution, where asked for.
  let patches: PatchMoments?
  /// Positions that were looked at.
  let positionCount: Int
}

/// Gathers the inputs of weights, as many at a time as memory allows.
struct InputGathering: Sendable {
  let graph: Graph
  let shapes: ShapeTable
  let source: any FeatureMapSource
  let algebra: LinearAlgebra
  /// Where an even choice of positions is enough: what is known of such already.
  let known: ChannelMoments?

  /// Bytes of covariances that are held at a time.
  private static let budget = 512 << 20
  /// Weights with more inputs are decomposed as without data: their covariance alone would take more than the budget.
  static let largestInput = 8192
  /// Kernels with larger patches are decomposed by what is known of their channels.
  private static let largestPatch = 4608

  /// Calls `body` with weights whose inputs are known, in order, a few at a time.
  /// - Parameters:
  ///   - members: the layers that apply a weight.
  ///   - patches: whether whole patches of spatial convolutions are wanted, rather than their channels alone.
  func forEach<Weight>(
    _ weights: [Weight], members: (Weight) -> [DecomposableLayer], patches: Bool, work: Work,
    _ body: ([(weight: Weight, inputs: WeightInputs?)], Work) throws(Failure) -> Void
  ) throws(Failure) {
    let chunks = chunks(weights.map(members), patches)
    var start = 0
    for (k, count) in chunks.enumerated() {
      let part = work.part(Double(k) / Double(chunks.count)...Double(k + 1) / Double(chunks.count))
      let chunk = Array(weights[start..<start + count])
      start += count
      let inputs = try inputs(of: chunk.map(members), patches, work: part.part(0...0.5))
      try body(Array(zip(chunk, inputs)).map { (weight: $0.0, inputs: $0.1) }, part.part(0.5...1))
    }
  }

  /// How many weights go together.
  private func chunks(_ members: [[DecomposableLayer]], _ patches: Bool) -> [Int] {
    var (counts, bytes) = ([Int](), Self.budget)
    for layers in members {
      let length = layers[0].inputChannels * (patches && hasPatches(layers) ? layers[0].taps : 1)
      let size = isGathered(layers) ? length * length * 8 : 0
      if bytes + size > Self.budget || counts.isEmpty {
        counts.append(0)
        bytes = 0
      }
      counts[counts.count - 1] += 1
      bytes += size
    }
    return counts
  }

  private func isGathered(_ layers: [DecomposableLayer]) -> Bool { layers[0].inputChannels <= Self.largestInput }

  private func hasPatches(_ layers: [DecomposableLayer]) -> Bool {
    layers.count == 1 && !layers[0].isPointwise && !layers[0].isTransposed
      && layers[0].inputChannels * layers[0].taps <= Self.largestPatch
  }

  private func moments(knownOf taps: [InputTap]) -> InputMoments? { taps.count == 1 ? known?.inputs[taps[0]] : nil }

  private func inputs(
    of weights: [[DecomposableLayer]], _ patches: Bool, work: Work
  ) throws(Failure) -> [WeightInputs?] {
    // Layers that read the same value share what is known of it, unless another weight reads more besides.
    var probes: [[InputTap]: InputMomentsProbe] = [:]
    var patchProbes: [NodeID: PatchMomentsProbe] = [:]
    let taps = weights.map { layers -> [InputTap] in
      isGathered(layers) ? Array(Set(layers.compactMap { $0.inputTap(in: graph) })).sorted() : []
    }
    for (layers, taps) in zip(weights, taps) where !taps.isEmpty {
      if patches, hasPatches(layers) {
        patchProbes[layers[0].node] = PatchMomentsProbe(
          layers[0], tap: taps[0], sampleCount: source.sampleCount, graph, algebra)
      } else if probes[taps] == nil, moments(knownOf: taps) == nil {
        probes[taps] = InputMomentsProbe(
          taps, sampleCount: known == nil ? nil : source.sampleCount, graph, algebra)
      }
    }
    let ordered: [any FeatureMapProbe] =
      probes.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map(\.value)
      + patchProbes.sorted { $0.key < $1.key }.map(\.value)
    if !ordered.isEmpty { try FeatureMapPass.run(ordered, source: source, shapes: shapes, work: work) }
    return zip(weights, taps).map { layers, taps in
      if let probe = patchProbes[layers[0].node] {
        guard probe.count > 0 else { return nil }
        let patches = PatchMoments(secondMoment: probe.secondMoment, size: probe.size, count: probe.count)
        return Whitening(covariance: patches.channels(taps: layers[0].taps), size: layers[0].inputChannels, algebra)
          .map { WeightInputs(whitening: $0, mean: nil, patches: patches, positionCount: probe.count) }
      }
      guard let moments = probes[taps]?.moments ?? moments(knownOf: taps), moments.count > 0 else { return nil }
      let isCentred = layers.count == 1 && layers[0].inputMean(in: graph).isMoved
      guard let whitening = Whitening(moments, isCentred: isCentred, algebra) else { return nil }
      return WeightInputs(
        whitening: whitening, mean: isCentred ? moments.mean : nil, patches: nil, positionCount: moments.count)
    }
  }
}

/// Adds up the channels of values, batch by batch. Positions wait until there are enough of them for products of matrices
/// to be worth it.
final class InputMomentsProbe: FeatureMapProbe {
  let values: [ValueID]
  let taps: [InputTap]
  private let graph: Graph
  private let algebra: LinearAlgebra
  private var sums: InputMoments
  /// Positions that wait, `[waiting, channels]`.
  private var rows: [Double] = []
  private var waiting = 0
  /// How many positions of how many samples; nil for all.
  private let wanted: (positions: Int, samples: Int)?
  /// Positions that are added at a time.
  private static let tile = 256
  /// More positions say little more: so many for every channel, or so many in all.
  private static let positionsPerChannel = 8
  private static let manyPositions = 1 << 14

  /// - Parameter sampleCount: where an even choice of positions is enough, of how many samples it is made.
  init(_ taps: [InputTap], sampleCount: Int? = nil, _ graph: Graph, _ algebra: LinearAlgebra) {
    (self.taps, self.graph, self.algebra) = (taps, graph, algebra)
    wanted = sampleCount.map {
      (positions: max(Self.manyPositions, Self.positionsPerChannel * taps[0].channels), samples: max(1, $0))
    }
    values = taps.map(\.value)
    sums = InputMoments(size: taps[0].channels)
  }

  /// Of all that was added.
  var moments: InputMoments {
    flush()
    return sums
  }

  func add(_ maps: [FeatureMap], work: Work) throws(Failure) {
    for (tap, map) in zip(taps, maps) {
      let axis = tap.axis < 0 ? tap.axis + map.shape.count : tap.axis
      guard map.shape.indices.contains(axis), map.shape[axis] == tap.channels else {
        throw Failure(
          .runtimeFailed,
          "'\(graph[map.value].name)' has the shape \(map.shape), without \(tap.channels) channels along axis \(tap.axis)",
          details: ["value": .string(graph[map.value].name)])
      }
      let inner = map.shape[(axis + 1)...].reduce(1, *)
      let outer = map.shape[..<axis].reduce(1, *)
      // Positions go through outer and inner indices. An even choice is of each sample's own, whichever samples come
      // together.
      let samples = (outer * inner) % max(1, map.shape[0]) == 0 ? max(1, map.shape[0]) : 1
      let all = outer * inner / samples
      let taken = wanted.map { min(all, max(1, ($0.positions + $0.samples - 1) / $0.samples)) } ?? all
      let positions = samples * taken
      if rows.isEmpty { rows = [Double](repeating: 0, count: Self.tile * tap.channels) }
      var start = 0
      while start < positions {
        try work.checkCancellation()
        let end = min(positions, start + Self.tile - waiting)
        var isFinite = true
        rows.withUnsafeMutableBufferPointer { rows in
          for k in start..<end {
            let position = taken == all ? k : k / taken * all + ((2 * (k % taken) + 1) * all) / (2 * taken)
            let (block, offset) = (position / inner, position % inner)
            let first = block * tap.channels * inner + offset
            let row = (waiting + k - start) * tap.channels
            for channel in 0..<tap.channels {
              let element = map.elements[first + channel * inner]
              isFinite = isFinite && element.isFinite
              rows[row + channel] = Double(element)
            }
          }
        }
        guard isFinite else { throw graph.notFinite(map.value) }
        waiting += end - start
        start = end
        if waiting == Self.tile { flush() }
      }
    }
  }

  private func flush() {
    guard waiting > 0 else { return }
    let count = waiting * taps[0].channels
    rows.withUnsafeMutableBufferPointer { rows in
      sums.add(UnsafeMutableBufferPointer(rebasing: rows[..<count]), algebra)
    }
    waiting = 0
  }
}
