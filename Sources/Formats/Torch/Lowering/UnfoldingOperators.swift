import ModelGraph

/// Sliding windows laid out beside one another, and added up again where they overlap.
enum UnfoldingOperators {
  static let functions: [String: TorchFunction] = [
    // torch.nn.functional.unfold and fold; a tensor's method `unfold` is another function.
    "im2col": TorchFunction("input kernel_size dilation padding stride") { (l, a) throws(Failure) in
      let windows = try SlidingWindows(a)
      return .tensor(
        try l.batched([a.tensor("input")], spatialRank: 2) { (l, operands) throws(Failure) in
          try l.columns(of: operands[0], windows)
        })
    },
    "col2im": TorchFunction("input output_size kernel_size dilation padding stride") { (l, a) throws(Failure) in
      let windows = try SlidingWindows(a)
      let size = try a.integers("output_size")
      // Columns have one axis beside the batch and the channels.
      return .tensor(
        try l.batched([a.tensor("input")], spatialRank: 1) { (l, operands) throws(Failure) in
          try l.node(
            "Col2Im",
            [
              operands[0], l.vector(size.count == 1 ? size + size : size, as: "size"),
              l.integers(windows.kernel, as: "kernel"),
            ],
            [
              "dilations": .ints(windows.dilation), "pads": .ints(windows.padding + windows.padding),
              "strides": .ints(windows.stride),
            ])
        })
    },
    "unfold": TorchFunction("input dimension size step") { (l, a) throws(Failure) in
      let x = try a.tensor("input")
      let axis = try l.axis(a.int("dimension"), of: x)
      let windows = try l.windows(of: x, axis, size: a.int("size"), step: a.int("step"))
      var order = Array(0...(try l.rank(x)))
      order.append(order.remove(at: axis + 1))
      return .tensor(try l.permuted(windows, order))
    },
  ]
}

/// How two-dimensional windows lie on an image, each with an entry for height and width.
private struct SlidingWindows {
  let kernel: [Int]
  let dilation: [Int]
  let padding: [Int]
  let stride: [Int]

  init(_ a: OperatorArguments) throws(Failure) {
    kernel = try a.ints("kernel_size", count: 2)
    dilation = try a.ints("dilation", count: 2, [1])
    padding = try a.ints("padding", count: 2, [0])
    stride = try a.ints("stride", count: 2, [1])
  }
}

extension TorchLowering {
  /// [N, C, H, W] as [N, C * kernel, windows].
  fileprivate mutating func columns(of x: ValueID, _ windows: SlidingWindows) throws(Failure) -> ValueID {
    let (height, width) = (windows.padding[0], windows.padding[1])
    var image = x
    if height != 0 || width != 0 {
      image = try padded(x, [width, width, height, height], mode: "constant", value: 0)
    }
    guard try rank(image) == 4 else { throw malformed("it unfolds a tensor of \(try rank(x)) axes") }
    // Places in the window come before places of windows: [N, C, kernel, windows] for both axes.
    for (k, axis) in [2, 4].enumerated() {
      image = try self.windows(
        of: image, axis, size: windows.kernel[k], step: windows.stride[k], dilation: windows.dilation[k],
        isWindowFirst: true, as: "rows\(k)")
    }
    let turned = try permuted(image, [0, 1, 2, 4, 3, 5])
    let count = try shape(turned).suffix(2).reduce(1, *)
    return try node("Reshape", [turned, integers([0, -1, count], as: "shape")])
  }

  /// Windows along an axis, which becomes two: which window, and where in it; the other way round if `isWindowFirst`.
  fileprivate mutating func windows(
    of x: ValueID, _ axis: Int, size: Int, step: Int, dilation: Int = 1, isWindowFirst: Bool = false,
    as suffix: String = "windows"
  ) throws(Failure) -> ValueID {
    let length = try shape(x)[axis]
    guard size > 0, step > 0, dilation > 0, (size - 1) <= (length - 1) / dilation else {
      throw malformed("windows of \(size) entries do not fit into \(length)")
    }
    let count = (length - dilation * (size - 1) - 1) / step + 1
    guard size * count <= 1 << 22 else { throw unsupported("it makes \(count) windows of \(size) entries") }
    hold([LengthUse(value: x, axis: axis)], "'\(base)' slides windows along it")
    let (outer, inner) = isWindowFirst ? (size, count) : (count, size)
    let (outerStep, innerStep) = isWindowFirst ? (dilation, step) : (step, dilation)
    let positions = (0..<outer).flatMap { i in (0..<inner).map { i * outerStep + $0 * innerStep } }
    return try node(
      "Gather", [x, integers(positions, shape: [outer, inner], as: suffix)], ["axis": .int(axis)], as: suffix)
  }
}
