import ModelGraph

/// Layers that make images larger or smaller.
enum ResizingLayers {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [
      "Resizing": KerasRule("inputs mask training") { (l, a) throws(Failure) in
        let x = try l.cast(a.tensor("inputs"), to: l.variableType(a.layer) ?? .float32)
        let size = try a.size()
        return try l.resizedImages(a, x, to: size.map(OpaqueLength.fixed)) { (l) throws(Failure) in
          for name: StaticString in ["crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"] {
            guard try !a.bool(name, false) else { throw l.unsupported("it has '\(name)'") }
          }
          return try l.resized(
            x, to: size, interpolation: a.string("interpolation", "bilinear"), isChannelsFirst: a.isChannelsFirst())
        }
      },
      "CenterCrop": KerasRule("inputs mask training") { (l, a) throws(Failure) in
        let (x, target) = (try l.cast(a.tensor("inputs"), to: l.variableType(a.layer) ?? .float32), try a.size())
        return try l.resizedImages(a, x, to: target.map(OpaqueLength.fixed)) { (l) throws(Failure) in
          guard !l.hasOpenLengths else {
            throw l.unsupported("what it takes depends on lengths that the model leaves open")
          }
          let shape = try l.shape(x)
          let first = try shape.count - (a.isChannelsFirst() ? 2 : 3)
          guard (0..<2).allSatisfy({ shape[first + $0] >= target[$0] }) else {
            throw l.unsupported(
              "the images \(shape) are smaller than what it takes of them, so that it would resize them")
          }
          return try l.sliced(
            x,
            (0..<2).map { k in
              let start = (shape[first + k] - target[k]) / 2
              return (first + k, start, start + target[k])
            })
        }
      },
      "UpSampling2D": KerasRule("inputs mask training") { (l, a) throws(Failure) in
        let (x, factors) = (try a.tensor("inputs"), try a.ints("size", count: 2, [2]))
        let lengths = l.lengths(x)
        guard lengths.count == 4 else { throw l.malformed("it enlarges \(lengths.count) axes") }
        let first = try a.isChannelsFirst() ? 2 : 1
        return try l.resizedImages(a, x, to: (0..<2).map { lengths[first + $0].multiplied(by: factors[$0]) }) {
          (l) throws(Failure) in
          try l.upsampled(x, factors, a, interpolation: a.string("interpolation", "nearest"))
        }
      },
    ]
    for rank in [1, 3] {
      table["UpSampling\(rank)D"] = KerasRule { (l, a, x) throws(Failure) in
        try l.upsampled(x, a.ints("size", count: rank, [2]), a, interpolation: "nearest")
      }
    }
    return table
  }()
}

extension KerasArguments {
  /// Height and width.
  fileprivate func size() throws(Failure) -> [Int] {
    let size = [try int("height"), try int("width")]
    guard size.allSatisfy({ $0 > 0 }) else { throw context.malformed("it takes images to \(size)") }
    return size
  }
}

extension KerasLowering {
  /// Images of another height and width, in whichever way.
  fileprivate mutating func resizedImages(
    _ a: KerasArguments, _ x: KerasTensor, to size: [OpaqueLength],
    _ body: (inout KerasLowering) throws(Failure) -> KerasTensor
  ) throws(Failure) -> LoweredOperand {
    var resized = lengths(x)
    let first = try resized.count - (a.isChannelsFirst() ? 2 : 3)
    guard first >= 0 else { throw malformed("it resizes \(resized.count) axes") }
    resized.replaceSubrange(first..<first + 2, with: size)
    let new = resized
    return try runnable(a, [x]) { (l) throws(Failure) in
      .tensor(try body(&l))
    } orOpaqueOf: { (_) throws(Failure) in
      [new]
    }
  }

  fileprivate mutating func upsampled(
    _ x: KerasTensor, _ factors: [Int], _ a: KerasArguments, interpolation: String
  ) throws(Failure) -> KerasTensor {
    guard factors.allSatisfy({ $0 > 0 }) else { throw malformed("it enlarges by \(factors)") }
    let isChannelsFirst = try a.isChannelsFirst()
    let value = try channelsSecond(x, isChannelsFirst: isChannelsFirst)
    guard try rank(value) == factors.count + 2 else { throw malformed("it enlarges \(try shape(value))") }
    var attributes = try resizing(interpolation)
    if interpolation == "nearest" {
      // Every element several times over.
      attributes["coordinate_transformation_mode"] = .string("asymmetric")
      attributes["nearest_mode"] = .string("floor")
    }
    let scales = assembler.constant(
      "\(base).scales", Tensor(float32: [1, 1] + factors.map { Float($0) }))
    return try tensor(node("Resize", [value, nil, scales], attributes), isChannelsFirst: isChannelsFirst)
  }

  private func resizing(_ interpolation: String) throws(Failure) -> [String: Attribute] {
    switch interpolation {
    case "nearest":
      return [
        "mode": .string("nearest"), "coordinate_transformation_mode": .string("half_pixel"),
        "nearest_mode": .string("round_prefer_ceil"),
      ]
    case "bilinear":
      return ["mode": .string("linear"), "coordinate_transformation_mode": .string("half_pixel")]
    default: throw unsupported("Keras's backends differ on the interpolation '\(interpolation)'")
    }
  }

  /// Images (..., height, width, channels) or with the channels before.
  mutating func resized(
    _ x: KerasTensor, to size: [Int], interpolation: String, isChannelsFirst: Bool
  ) throws(Failure) -> KerasTensor {
    guard rank(x) == 4, size.allSatisfy({ $0 > 0 }) else { throw unsupported("it resizes \(try shape(x)) to \(size)") }
    let value = try channelsSecond(x, isChannelsFirst: isChannelsFirst)
    // All lengths, of which the first two stay: ONNX Runtime takes no stored sizes for some of the axes.
    let kept = try node("Shape", [value], ["start": .int(0), "end": .int(2)], as: "kept")
    let sizes = try node("Concat", [kept, integers(size, as: "size")], ["axis": .int(0)], as: "sizes")
    let y = try node("Resize", [value, nil, nil, sizes], resizing(interpolation))
    return try tensor(y, isChannelsFirst: isChannelsFirst)
  }
}
