import ModelGraph

/// How a window slides along the spatial axes, as Keras's convolutions and poolings say it.
struct SlidingGeometry {
  enum Padding: String {
    case valid, same, causal
  }

  var kernel: [Int]
  var strides: [Int]
  var dilations: [Int]
  var padding: Padding

  init(kernel: [Int], strides: [Int], dilations: [Int]? = nil, padding: Padding) {
    (self.kernel, self.strides, self.padding) = (kernel, strides, padding)
    self.dilations = dilations ?? kernel.map { _ in 1 }
  }

  /// - Parameter lengths: of the spatial axes; nil where some are open.
  /// - Returns: attributes of ONNX's operators.
  func attributes(lengths: [Int]?) -> [String: Attribute] {
    var attributes: [String: Attribute] = ["kernel_shape": .ints(kernel), "strides": .ints(strides)]
    if dilations.contains(where: { $0 != 1 }) { attributes["dilations"] = .ints(dilations) }
    let extents = zip(kernel, dilations).map { ($0 - 1) * $1 + 1 }
    switch padding {
    case .valid: break
    case .causal: attributes["pads"] = .ints(extents.map { $0 - 1 } + kernel.map { _ in 0 })
    case .same:
      // Without a stride the padding is the same for all lengths.
      guard let lengths = strides.allSatisfy({ $0 == 1 }) ? kernel.map({ _ in 1 }) : lengths else {
        // ONNX's word for TensorFlow's rule: the odd one comes at the end.
        attributes["auto_pad"] = .string("SAME_UPPER")
        return attributes
      }
      let total = zip(extents.indices, extents).map { axis, extent in
        let places = (lengths[axis] + strides[axis] - 1) / strides[axis]
        return max((places - 1) * strides[axis] + extent - lengths[axis], 0)
      }
      if total.contains(where: { $0 != 0 }) {
        attributes["pads"] = .ints(total.map { $0 / 2 } + total.map { $0 - $0 / 2 })
      }
    }
    return attributes
  }
}

extension SlidingGeometry {
  /// How many places the window has along axes of these lengths.
  func outputLengths(_ lengths: [OpaqueLength]) -> [OpaqueLength] {
    lengths.indices.map { axis in
      let extent = (kernel[axis] - 1) * dilations[axis] + 1
      return lengths[axis].places(window: padding == .valid ? extent : 1, stride: strides[axis])
    }
  }
}

extension KerasLowering {
  /// The spatial lengths of a value whose channels come second; nil where some may be open.
  func spatialLengths(_ value: ValueID) throws(Failure) -> [Int]? {
    hasOpenLengths ? nil : Array(try shape(value).dropFirst(2))
  }

  func geometry(_ a: KerasArguments, kernel: [Int]) throws(Failure) -> SlidingGeometry {
    let word = try a.string("padding", "valid").lowercased()
    guard let padding = SlidingGeometry.Padding(rawValue: word) else { throw unsupported("its padding is '\(word)'") }
    let strides = try a.ints("strides", count: kernel.count, [1])
    let dilations = try a.ints("dilation_rate", count: kernel.count, [1])
    guard (kernel + strides + dilations).allSatisfy({ $0 > 0 && $0 < 1 << 20 }) else {
      throw malformed("its window is \(kernel) by strides \(strides) and dilations \(dilations)")
    }
    return SlidingGeometry(kernel: kernel, strides: strides, dilations: dilations, padding: padding)
  }
}
