import Glibc
import ModelGraph

/// The functions of torchvision's Swin transformers that torch.fx does not look into: attention in shifted windows, its
/// position bias, and the joining of patches.
///
/// The attention insists on its sizes: the width is that of its input, the packed projections have three times as many
/// rows and the heads divide it. Whatever meets it stays as it is.
enum WindowAttentionOperators {
  static let functions: [String: TorchFunction] = [
    "torchvision_models_swin_transformer__patch_merging_pad": TorchFunction("input") { (l, a) throws(Failure) in
      .tensor(try l.mergedPatches(a.tensor("input")))
    },
    "torchvision_models_swin_transformer__get_relative_position_bias": TorchFunction(
      "relative_position_bias_table relative_position_index window_size"
    ) { (l, a) throws(Failure) in
      .tensor(
        try l.positionBias(
          a.tensor("relative_position_bias_table"), a.tensor("relative_position_index"),
          window: a.ints("window_size", count: 2)))
    },
    "torchvision_models_swin_transformer_shifted_window_attention": TorchFunction(
      "input qkv_weight proj_weight relative_position_bias window_size num_heads shift_size attention_dropout dropout "
        + "qkv_bias proj_bias logit_scale training"
    ) { (l, a) throws(Failure) in
      .tensor(try l.windowAttention(a))
    },
  ]
}

/// What the attention sees of its input: windows of a map, padded to whole ones and shifted around its edges.
private struct Windows {
  /// Of one window, rows and columns.
  let size: [Int]
  let shift: [Int]
  /// Of the map before and after padding.
  let lengths: [Int]
  let padded: [Int]

  init(size: [Int], shift: [Int], lengths: [Int]) {
    self.size = size
    self.lengths = lengths
    padded = zip(lengths, size).map { ($0 + $1 - 1) / $1 * $1 }
    // A window as large as the map has nowhere to go.
    self.shift = [0, 1].map { [padded] k in size[k] >= padded[k] ? 0 : shift[k] }
  }

  var counts: [Int] { zip(padded, size).map { $0 / $1 } }
  var count: Int { counts[0] * counts[1] }
  /// Positions in one window.
  var area: Int { size[0] * size[1] }
  var isShifted: Bool { shift[0] + shift[1] > 0 }

  /// -100 where a shift brought two positions of a window together that are no neighbours: [windows, area, area].
  var mask: [Float] {
    // Regions of the map, per axis: what stays, what the window cuts, what came around.
    func region(_ position: Int, _ axis: Int) -> Int {
      if position < padded[axis] - size[axis] { return 0 }
      return shift[axis] == 0 || position < padded[axis] - shift[axis] ? 1 : 2
    }
    var mask: [Float] = []
    mask.reserveCapacity(count * area * area)
    for window in 0..<count {
      let (top, left) = (window / counts[1] * size[0], window % counts[1] * size[1])
      let regions = (0..<area).map { k in
        3 * region(top + k / size[1], 0) + region(left + k % size[1], 1)
      }
      for row in regions { for column in regions { mask.append(row == column ? 0 : -100) } }
    }
    return mask
  }
}

extension TorchLowering {
  /// Four neighbours side by side: [..., H, W, C] to [..., H / 2, W / 2, 4 C], with a row or column of zeros if needed.
  fileprivate mutating func mergedPatches(_ input: ValueID) throws(Failure) -> ValueID {
    let shape = try shape(input)
    guard shape.count >= 3 else { throw malformed("patches of \(shape)") }
    let (rows, columns) = (shape.count - 3, shape.count - 2)
    let odd = [0, 0, 0, shape[columns] % 2, 0, shape[rows] % 2]
    let x = odd.allSatisfy { $0 == 0 } ? input : try padded(input, odd, mode: "constant", value: 0)
    var parts: [ValueID] = []
    for (row, column) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
      parts.append(
        try node(
          "Slice",
          [
            x, integers([row, column], as: "starts"), integers([Int(Int32.max), Int(Int32.max)], as: "ends"),
            integers([rows, columns], as: "axes"), integers([2, 2], as: "steps"),
          ], as: "patch"))
    }
    return try node("Concat", parts, ["axis": .int(shape.count - 1)])
  }

  /// A row of the table per pair of positions: [1, heads, area, area].
  fileprivate mutating func positionBias(
    _ table: ValueID, _ index: ValueID, window: [Int]
  ) throws(Failure) -> ValueID {
    let area = window[0] * window[1]
    let rows = try node("Gather", [table, index], ["axis": .int(0)], as: "rows")
    let pairs = try node("Reshape", [rows, integers([area, area, -1], as: "pairs")], as: "pairs")
    let turned = try node("Transpose", [pairs], ["perm": .ints([2, 0, 1])], as: "turned")
    return try node("Unsqueeze", [turned, integers([0], as: "axes")])
  }

  fileprivate mutating func windowAttention(_ a: OperatorArguments) throws(Failure) -> ValueID {
    let (input, bias) = (try a.tensor("input"), try a.tensor("relative_position_bias"))
    let (weight, projection) = (try a.tensor("qkv_weight"), try a.tensor("proj_weight"))
    let (inputShape, heads) = (try shape(input), try a.int("num_heads"))
    guard inputShape.count == 4, let width = inputShape.last, heads > 0, width % heads == 0 else {
      throw malformed("\(heads) heads on an input of the shape \(inputShape)")
    }
    let windows = Windows(
      size: try a.ints("window_size", count: 2), shift: try a.ints("shift_size", count: 2),
      lengths: [inputShape[1], inputShape[2]])
    guard windows.size.allSatisfy({ $0 > 0 }), windows.count * windows.area * windows.area <= 1 << 26 else {
      throw unsupported("its windows are \(windows.size)")
    }
    let name = base
    let why = "attention in windows ('\(name)') insists on the sizes it was made with"
    for id in [input, weight, projection, bias] { fixed[id] = why }

    let x = try partitioned(input, windows, width)
    var packedBias = try a.optionalTensor("qkv_bias")
    if a.has("logit_scale"), let all = packedBias { packedBias = try withoutKeys(all) }
    let packed = try linear(x, weight, packedBias)
    base = "\(name).attention"
    let split = try node(
      "Reshape", [packed, integers([-1, windows.area, 3, heads, width / heads], as: "heads")], as: "heads")
    let turned = try node("Transpose", [split], ["perm": .ints([2, 0, 3, 1, 4])], as: "heads")
    var parts: [ValueID] = []
    for (k, part) in ["query", "key", "value"].enumerated() {
      parts.append(try node("Gather", [turned, integers([k], shape: [], as: "index")], ["axis": .int(0)], as: part))
    }
    var scores: ValueID
    if let scale = try a.optionalTensor("logit_scale") {
      fixed[scale] = why
      scores = try cosineScores(parts[0], parts[1], scale)
    } else {
      let factor = try scalar(1 / Double(width / heads).squareRoot(), dtype(packed), as: "scale")
      let query = try node("Mul", [parts[0], factor], as: "scaled")
      scores = try node("MatMul", [query, matrixTransposed(parts[1])], as: "scores")
    }
    scores = try node("Add", [scores, bias], as: "biased")
    if windows.isShifted { scores = try masked(scores, windows, heads) }
    let weights = try node("Softmax", [scores], ["axis": .int(-1)], as: "weights")
    let attended = try node("MatMul", [weights, parts[2]], as: "attended")
    let rows = try node("Transpose", [attended], ["perm": .ints([0, 2, 1, 3])], as: "rows")
    let joined = try node("Reshape", [rows, integers([-1, windows.area, width], as: "joined")], as: "joined")
    base = moduleName(of: projection) ?? "\(name).proj"
    let projected = try linear(joined, projection, a.optionalTensor("proj_bias"))
    base = name
    let result = try reassembled(projected, windows, width)
    fixed[result] = why
    return result
  }

  /// [B, H, W, C] to [B * windows, area, C].
  private mutating func partitioned(_ input: ValueID, _ windows: Windows, _ width: Int) throws(Failure) -> ValueID {
    let (padded, counts, size) = (windows.padded, windows.counts, windows.size)
    var x = input
    if padded != windows.lengths {
      let ends = [0, 0, 0, padded[1] - windows.lengths[1], 0, padded[0] - windows.lengths[0]]
      x = try self.padded(x, ends, mode: "constant", value: 0)
    }
    if windows.isShifted { x = try rolled(x, windows.shift.map { TorchInteger(-$0) }, [1, 2]) }
    let blocks = integers([-1, counts[0], size[0], counts[1], size[1], width], as: "blocks")
    x = try node("Reshape", [x, blocks], as: "blocks")
    x = try node("Transpose", [x], ["perm": .ints([0, 1, 3, 2, 4, 5])], as: "windows")
    return try node("Reshape", [x, integers([-1, windows.area, width], as: "windows")], as: "windows")
  }

  /// The way back: [B * windows, area, C] to [B, H, W, C].
  private mutating func reassembled(_ rows: ValueID, _ windows: Windows, _ width: Int) throws(Failure) -> ValueID {
    let (padded, counts, size) = (windows.padded, windows.counts, windows.size)
    let blocks = integers([-1, counts[0], counts[1], size[0], size[1], width], as: "blocks")
    var x = try node("Reshape", [rows, blocks], as: "blocks")
    x = try node("Transpose", [x], ["perm": .ints([0, 1, 3, 2, 4, 5])], as: "map")
    x = try node("Reshape", [x, integers([-1, padded[0], padded[1], width], as: "map")], as: "map")
    if windows.isShifted { x = try rolled(x, windows.shift.map { TorchInteger($0) }, [1, 2]) }
    guard padded != windows.lengths else { return x }
    return try node(
      "Slice",
      [x, integers([0, 0], as: "starts"), integers(windows.lengths, as: "ends"), integers([1, 2], as: "axes")])
  }

  /// The second third of a packed bias is zero where scores are cosines.
  private mutating func withoutKeys(_ bias: ValueID) throws(Failure) -> ValueID {
    let count = try shape(bias).reduce(1, *)
    let third = count / 3
    let kept = assembler.constant(
      "\(base).kept", Tensor(float32: (0..<count).map { (third..<2 * third).contains($0) ? 0 : 1 }))
    fixed[bias] = "the packed bias of '\(base)' keeps its parts"
    return try node("Mul", [bias, cast(kept, to: dtype(bias))], as: "packed_bias")
  }

  /// Products of directions, by a learnt factor per head of at most 100.
  private mutating func cosineScores(
    _ query: ValueID, _ key: ValueID, _ scale: ValueID
  ) throws(Failure) -> ValueID {
    var directions: [ValueID] = []
    for x in [query, key] {
      let length = try node("ReduceL2", [x, integers([-1], as: "axes")], ["keepdims": .int(1)], as: "length")
      let positive = try node("Clip", [length, scalar(1e-12, dtype(x), as: "least"), nil], as: "length")
      directions.append(try node("Div", [x, positive], as: "direction"))
    }
    let cosines = try node("MatMul", [directions[0], matrixTransposed(directions[1])], as: "cosines")
    let most = try node("Min", [scale, scalar(log(100), dtype(scale), as: "most")], as: "factor")
    return try node("Mul", [cosines, node("Exp", [most], as: "factor")], as: "scores")
  }

  /// Hides from each position what only the shift brought into its window.
  private mutating func masked(_ scores: ValueID, _ windows: Windows, _ heads: Int) throws(Failure) -> ValueID {
    let area = windows.area
    let mask = assembler.constant(
      "\(base).mask", Tensor(float32: windows.mask, shape: [1, windows.count, 1, area, area]))
    let apart = integers([-1, windows.count, heads, area, area], as: "by_window")
    let byWindow = try node("Reshape", [scores, apart], as: "by_window")
    let hidden = try node("Add", [byWindow, cast(mask, to: dtype(scores))], as: "masked")
    return try node("Reshape", [hidden, integers([-1, heads, area, area], as: "masked")], as: "masked")
  }
}
