/// The window that convolutions and poolings slide along the spatial axes, read from a node's attributes once for all
/// of them: strides, dilations, explicit or automatic padding.
///
/// Invariant: kernel, strides and dilations are positive and there is one of each per spatial axis; pads has two.
struct SlidingWindow {
  enum Padding {
    case explicit(begins: [Int], ends: [Int])
    case same
    case valid
  }

  let kernel: [Int]
  let strides: [Int]
  let dilations: [Int]
  let padding: Padding

  init(_ call: OperatorCall, kernel: [Int]) throws(Failure) {
    let rank = kernel.count
    func positive(_ name: String) throws(Failure) -> [Int] {
      guard let list = call.node.ints(name) else { return [Int](repeating: 1, count: rank) }
      guard list.count == rank, list.allSatisfy({ $0 > 0 }) else {
        throw call.malformed("\(name) is \(list) where \(rank) positive numbers are expected")
      }
      return list
    }
    guard kernel.allSatisfy({ $0 > 0 }) else { throw call.malformed("the kernel \(kernel) is empty") }
    self.kernel = kernel
    strides = try positive("strides")
    dilations = try positive("dilations")
    switch call.node.string("auto_pad") ?? "NOTSET" {
    case "SAME_UPPER", "SAME_LOWER": padding = .same
    case "VALID": padding = .valid
    case "NOTSET", "":
      let pads = call.node.ints("pads") ?? [Int](repeating: 0, count: 2 * rank)
      guard pads.count == 2 * rank else {
        throw call.malformed("pads is \(pads) where \(2 * rank) numbers are expected")
      }
      padding = .explicit(begins: Array(pads[..<rank]), ends: Array(pads[rank...]))
    case let other: throw call.malformed("auto_pad is '\(other)'")
    }
  }

  /// How many places the window takes along spatial axis `axis` of the given length.
  /// - Parameter roundsUp: count a last window that only begins inside (`ceil_mode`).
  func places(along axis: Int, of length: Int, roundsUp: Bool = false, _ call: OperatorCall) throws(Failure) -> Int {
    let stride = Int128(strides[axis])
    let extent = Int128(kernel[axis] - 1) * Int128(dilations[axis]) + 1
    var padded = Int128(length)
    var begin: Int128 = 0
    switch padding {
    case .same: return Int((Int128(length) + stride - 1) / stride)
    case .valid: break
    case .explicit(let begins, let ends):
      begin = Int128(begins[axis])
      padded += begin + Int128(ends[axis])
    }
    let room = padded - extent
    guard room >= 0 else {
      if length == 0 { return 0 }
      throw call.malformed(
        "the window of \(extent) is larger than the \(padded) padded positions of spatial axis \(axis)")
    }
    guard roundsUp else { return try call.length(room / stride + 1, "spatial axis \(axis)") }
    var places = (room + stride - 1) / stride + 1
    // The last window must begin in the input or the padding before it, not in the padding after it.
    if (places - 1) * stride >= Int128(length) + begin { places -= 1 }
    return try call.length(places, "spatial axis \(axis)")
  }

  /// The lengths that a transposed convolution makes of `lengths`.
  func transposed(_ lengths: [Int], _ call: OperatorCall) throws(Failure) -> [Int] {
    let rank = kernel.count
    if let shape = call.node.ints("output_shape") {
      guard shape.count >= rank, shape.allSatisfy({ $0 > 0 }) else {
        throw call.malformed("output_shape is \(shape) where \(rank) positive numbers are expected")
      }
      return Array(shape.suffix(rank))
    }
    let extra = call.node.ints("output_padding") ?? [Int](repeating: 0, count: rank)
    guard extra.count == rank else {
      throw call.malformed("output_padding is \(extra) where \(rank) numbers are expected")
    }
    var result: [Int] = []
    for axis in 0..<rank {
      let stride = Int128(strides[axis])
      let extent = Int128(kernel[axis] - 1) * Int128(dilations[axis]) + 1
      let full = stride * Int128(lengths[axis] - 1) + Int128(extra[axis]) + extent
      switch padding {
      case .same: result.append(try call.length(stride * Int128(lengths[axis]), "spatial axis \(axis)"))
      case .valid: result.append(try call.length(full, "spatial axis \(axis)"))
      case .explicit(let begins, let ends):
        let length = full - Int128(begins[axis]) - Int128(ends[axis])
        result.append(try call.length(length, "spatial axis \(axis)"))
      }
    }
    return result
  }
}
