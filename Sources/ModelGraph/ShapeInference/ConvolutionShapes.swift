/// Shapes of convolutions: input (N, C, spatial...), weight (O, C/group, kernel...), transposed ones (C, O/group, ...).
enum ConvolutionShapes {
  static let rules: [String: ShapeRule] = [
    "Conv": { call throws(Failure) in try convolution(call, input: 0, weight: 1, bias: 2) },
    "DeformConv": { call throws(Failure) in try convolution(call, input: 0, weight: 1, bias: 3) },
    "ConvInteger": { call throws(Failure) in try convolution(call, input: 0, weight: 1, bias: nil) },
    "QLinearConv": { call throws(Failure) in try convolution(call, input: 0, weight: 3, bias: 8) },
    "ConvTranspose": transposedConvolution,
    "Col2Im": columnsToImage,
  ]

  static func convolution(_ call: OperatorCall, input: Int, weight: Int, bias: Int?) throws(Failure)
    -> [[Int]?]
  {
    guard let x = call.shape(input), let w = call.shape(weight) else { return [nil] }
    let (group, window) = try checked(call, x, w)
    // Divided rather than multiplied: `group` is whatever the file says.
    guard x[1].isMultiple(of: group), x[1] / group == w[1] else {
      throw call.malformed("the input \(x) has \(x[1]) channels but the weight \(w) in \(group) groups reads others")
    }
    guard w[0].isMultiple(of: group) else {
      throw call.malformed("the \(w[0]) filters of the weight \(w) do not split into \(group) groups")
    }
    try checkBias(call, bias, channels: w[0], weight: w)
    var shape = [x[0], w[0]]
    for axis in window.kernel.indices {
      shape.append(try window.places(along: axis, of: x[axis + 2], call))
    }
    return [shape]
  }

  @Sendable private static func transposedConvolution(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let w = call.shape(1) else { return [nil] }
    let (group, window) = try checked(call, x, w)
    guard x[1] == w[0], w[0].isMultiple(of: group) else {
      throw call.malformed("the input \(x) and the weight \(w) in \(group) groups differ in their channels")
    }
    let channels = try call.length(Int128(w[1]) * Int128(group), "the channel axis")
    try checkBias(call, 2, channels: channels, weight: w)
    return [[x[0], channels] + (try window.transposed(Array(x[2...]), call))]
  }

  private static func checked(_ call: OperatorCall, _ x: [Int], _ w: [Int]) throws(Failure) -> (Int, SlidingWindow) {
    guard x.count == w.count, x.count >= 3 else {
      throw call.malformed("the input \(x) and the weight \(w) need the same number of axes, 3 or more")
    }
    let kernel = Array(w[2...])
    if let declared = call.node.ints("kernel_shape"), declared != kernel {
      throw call.malformed("kernel_shape is \(declared) but the weight is \(w)")
    }
    let group = call.node.int("group", default: 1)
    guard group > 0 else { throw call.malformed("group is \(group)") }
    return (group, try SlidingWindow(call, kernel: kernel))
  }

  private static func checkBias(_ call: OperatorCall, _ position: Int?, channels: Int, weight: [Int]) throws(Failure) {
    guard let position, let bias = call.shape(position), bias != [channels] else { return }
    throw call.malformed("the bias is \(bias) but the weight \(weight) makes \(channels) channels")
  }

  /// (N, C * block, L) to (N, C, image...).
  @Sendable private static func columnsToImage(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let image = call.integers(1), let block = call.integers(2) else { return [nil] }
    try call.requireRank(atLeast: 3, x, of: "the input")
    var size: Int128 = 1
    for length in block {
      guard length > 0, size <= Int128(ShapeLimits.elements) else { throw call.malformed("the block is \(block)") }
      size *= Int128(length)
    }
    guard Int128(x[1]).isMultiple(of: size) else {
      throw call.malformed("the \(x[1]) channels of \(x) do not split into blocks of \(block)")
    }
    return [[x[0], Int(Int128(x[1]) / size)] + image]
  }
}
