import ModelGraph

// Convolutions: an einsum over channels; space and kernel positions are mixed and stay whole, but for axes along which
// the kernel has one position and moves by one: there every place is on its own.

let convolutionRules: [String: Rule] = [
  "Conv": { call in convolve(&call, Convolution()) },
  "ConvTranspose": { call in convolve(&call, Convolution(weightOutputs: 1, weightInputs: 0)) },
  "ConvInteger": { call in convolve(&call, Convolution(perOutput: [3])) },
  "QLinearConv": { call in convolve(&call, Convolution(weight: 3, perOutput: [4, 5, 8])) },
  "com.microsoft.FusedConv": fusedConvolution,
  "DeformConv": deformedConvolution,
]

/// Where a convolution has its operands.
private struct Convolution {
  var weight = 1
  /// The weight's axes of output and input channels; axis 0 is divided into the groups.
  var weightOutputs = 0
  var weightInputs = 1
  /// Inputs with one number per output channel, or one for all: bias, scales, zero points.
  var perOutput = [2]
  /// Whether a kernel position reads where data says.
  var readsByData = false
}

/// Letters: batch, group, input channel, output channel; from `space` on, those of spatial axes by number.
private enum L {
  static let (batch, group, input, output, space) = (0, 1, 2, 3, 4)
}

/// ONNX Runtime's: a convolution, an addend shaped like its result, an activation.
@Sendable private func fusedConvolution(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let convolved = convolve(&call, Convolution()), let y = convolved.first else { return nil }
  guard let addend = call.input(3) else { return convolved }
  return call.facts.elementwise([y, addend], rank: y.axes.count, at: call.id).map { [$0] }
}

/// Kernel positions move by offsets that are data, the same ones for all channels.
@Sendable private func deformedConvolution(_ call: inout RuleCall) -> [LabelledValue]? {
  guard call.node.int("offset_group", default: 1) == 1 else { return nil }
  call.freezeSettings([2, 4])
  return convolve(&call, Convolution(perOutput: [3], readsByData: true))
}

private func convolve(_ call: inout RuleCall, _ operands: Convolution) -> [LabelledValue]? {
  let (weightOutputs, weightInputs) = (operands.weightOutputs, operands.weightInputs)
  guard var x = call.input(0), var w = call.input(operands.weight), let outShape = call.outputShape(),
    let originalOut = call.originalOutputShape(), let xShape = call.shape(0), let wShape = call.shape(operands.weight),
    let originalX = call.originalShape(0), let originalW = call.originalShape(operands.weight),
    xShape.count == wShape.count, xShape.count >= 3, outShape.count == xShape.count
  else { return nil }
  let rank = xShape.count
  // What is labelled along channels and space together (a pixel shuffle) goes by whole channels.
  let channels = x.sets.filter { set in x.axes[1].contains(where: set.contains) }
  let passing = (operands.readsByData ? [] : call.pointwiseAxes(kernel: Array(wShape[2...]))).filter { axis in
    !x.axes[axis].contains { factor in channels.contains { $0.contains(factor) } }
  }
  // Only channels and axes that pass take part below; the output gets other spatial factors of its own.
  let mixed = (2..<rank).filter { !passing.contains($0) }
  x = call.facts.mix(x, mixed.flatMap { x.axes[$0] }, reason: call.facts.reason(.spatial, call.id))
  x.axes = ([0, 1] + passing).map { x.axes[$0] }
  w = call.mixedSpatially(w, .kernel).prefix(2)
  let places = passing.map { L.space + $0 }
  let groups = call.node.int("group", default: 1)
  guard groups > 0, wShape[0] % groups == 0, xShape[1] % groups == 0, outShape[1] % groups == 0 else { return nil }
  // The original count of groups: a certificate may run on a convolution whose groups shrank to one.
  let originalGroups = max(
    (weightOutputs == 0 ? originalX[1] : originalOut[1]) / max(originalW[1], 1), 1)
  var result: LabelledValue?
  if originalGroups == 1 {
    var letters = [Letter](repeating: L.output, count: 2)
    letters[weightInputs] = L.input
    result = call.facts.contract(
      [
        Operand(value: x, letters: [L.batch, L.input] + places),
        Operand(value: w, letters: letters),
      ], output: [L.batch, L.output] + places, at: call.id, roles: true)
  } else {
    let (i, o) = (xShape[1] / groups, outShape[1] / groups)
    let (originalI, originalO) = (originalX[1] / originalGroups, originalOut[1] / originalGroups)
    let g = Extent(groups, original: originalGroups)
    let (iExtent, oExtent) = (Extent(i, original: originalI), Extent(o, original: originalO))
    let inner = weightOutputs == 0 ? oExtent : iExtent
    guard let xView = x.splitting(axis: 1, into: [g, iExtent], at: call.id, &call.facts),
      let wView = w.splitting(axis: 0, into: [g, inner], at: call.id, &call.facts)
    else { return nil }
    let wLetters =
      weightOutputs == 0 ? [L.group, L.output, L.input] : [L.group, L.input, L.output]
    guard
      let view = call.facts.contract(
        [
          Operand(value: xView, letters: [L.batch, L.group, L.input] + places),
          Operand(value: wView, letters: wLetters),
        ], output: [L.batch, L.group, L.output] + places, at: call.id, roles: true)
    else { return nil }
    for set in view.sets { call.facts.keepRectangular(set.labels, at: call.id) }
    result = view.reshaped(
      [Extent(xShape[0], original: originalX[0])]
        + ([1] + passing).map { Extent(outShape[$0], original: originalOut[$0]) },
      at: call.id, &call.facts)
  }
  guard var y = result else { return nil }
  for k in operands.perOutput {
    guard let vector = call.input(k), !vector.axes.isEmpty else { continue }
    guard vector.axes.count == 1,
      let next = call.facts.contract(
        [Operand(value: y, letters: [L.batch, L.output] + places), Operand(value: vector, letters: [L.output])],
        output: [L.batch, L.output] + places, at: call.id, roles: true)
    else { return nil }
    y = next
  }
  for axis in mixed {
    y.axes.insert(call.fixedAxis(outShape[axis], original: originalOut[axis], .spatial), at: axis)
  }
  y.isStored = false
  return [y]
}

extension LabelledValue {
  /// The first `count` axes; the others must carry no label any more.
  fileprivate func prefix(_ count: Int) -> LabelledValue {
    var copy = self
    copy.axes = Array(axes.prefix(count))
    return copy
  }
}
