import ModelGraph

// Transposed convolutions, cropped as Keras crops them.

extension KerasLowering {
  mutating func transposedLayer(
    _ a: KerasArguments, _ x: KerasTensor, _ rank: Int
  ) throws(Failure) -> KerasTensor {
    guard try a.int("groups", 1) == 1 else { throw unsupported("it has groups") }
    let kernel = try stored("kernel", a.layer)
    let shape = kernel.tensor.shape
    guard shape.count == rank + 2 else { throw malformed("its kernel has the shape \(shape)") }
    // (spatial..., out, in) as (in, out, spatial...).
    let weight = try variable(kernel, [[rank + 1], [rank]] + (0..<rank).map { [$0] })
    let isChannelsFirst = try a.isChannelsFirst()
    let y = try transposedConvolution(
      channelsSecond(x, isChannelsFirst: isChannelsFirst), weight, bias(a),
      geometry(a, kernel: Array(shape.prefix(rank))),
      outputPadding: a.has("output_padding") ? a.ints("output_padding", count: rank) : nil)
    return try activated(tensor(y, isChannelsFirst: isChannelsFirst), a)
  }

  mutating func transposedConvolution(
    _ x: ValueID, _ weight: ValueID, _ bias: ValueID?, _ geometry: SlidingGeometry, outputPadding: [Int]?
  ) throws(Failure) -> ValueID {
    let (data, kernel) = (try shape(x), try shape(weight))
    guard data.count == kernel.count, data[1] == kernel[0] else {
      throw malformed("its kernel \(kernel) does not fit \(data)")
    }
    var (begins, ends, extra): ([Int], [Int], [Int]) = ([], [], [])
    for axis in geometry.kernel.indices {
      let crop = try Self.crop(geometry, axis, outputPadding: outputPadding?[axis], context)
      begins.append(crop.begin)
      ends.append(max(crop.end, 0))
      extra.append(max(-crop.end, 0))
    }
    var attributes: [String: Attribute] = [
      "kernel_shape": .ints(geometry.kernel), "strides": .ints(geometry.strides), "pads": .ints(begins + ends),
    ]
    if geometry.dilations.contains(where: { $0 != 1 }) { attributes["dilations"] = .ints(geometry.dilations) }
    if extra.contains(where: { $0 != 0 }) { attributes["output_padding"] = .ints(extra) }
    return try node("ConvTranspose", bias.map { [x, weight, $0] } ?? [x, weight], attributes)
  }

  /// What Keras takes away of the full (length - 1) * stride + extent; less than nothing where it adds.
  private static func crop(
    _ geometry: SlidingGeometry, _ axis: Int, outputPadding: Int?, _ context: KerasContext
  ) throws(Failure) -> (begin: Int, end: Int) {
    let stride = geometry.strides[axis]
    let extent = (geometry.kernel[axis] - 1) * geometry.dilations[axis] + 1
    switch geometry.padding {
    case .causal: throw context.unsupported("its padding is 'causal'")
    // The result is at least as long as the strides reach.
    case .valid: return (0, -(outputPadding ?? max(stride - extent, 0)))
    case .same:
      // Of the window's extent - 1 places before and behind, so many are kept; of an odd number more before.
      let kept = outputPadding.map { extent + extent % 2 - 2 + $0 } ?? (stride + extent - 2)
      let before = min((kept + 1) / 2, extent - 1)
      return (extent - 1 - before, extent - 1 - (kept - before))
    }
  }
}
