import ModelGraph

// Tensors of Keras's and the values that hold them. An order of axes is a list by axis of the value: the axis of
// Keras's tensor.

extension KerasLowering {
  // MARK: Tensors

  /// A new tensor, held by `value`.
  /// - Parameter axes: nil where they lie as Keras has them.
  mutating func tensor(_ value: ValueID, _ axes: [Int]? = nil) -> KerasTensor {
    let axes = axes ?? Array(0..<(assembler.shape(value)?.count ?? 0))
    arrangements.append([ArrangedValue(value: value, axes: axes)])
    return KerasTensor(index: arrangements.count - 1)
  }

  /// A new tensor whose channels come second in `value`, and in Keras's tensor too or last.
  mutating func tensor(_ value: ValueID, isChannelsFirst: Bool) throws(Failure) -> KerasTensor {
    try tensor(value, isChannelsFirst ? nil : Self.channelsSecond(rank(value)))
  }

  /// The value that the tensor came about as.
  func primary(_ tensor: KerasTensor) -> ArrangedValue { arrangements[tensor.index][0] }

  func dtype(_ tensor: KerasTensor) -> DType { dtype(primary(tensor).value) }

  /// In Keras's order.
  func shape(_ tensor: KerasTensor) throws(Failure) -> [Int] {
    let primary = primary(tensor)
    let lengths = try shape(primary.value)
    var shape = lengths
    for (position, axis) in primary.axes.enumerated() { shape[axis] = lengths[position] }
    return shape
  }

  func rank(_ tensor: KerasTensor) -> Int { primary(tensor).axes.count }

  /// `axis` counted from the front.
  func axis(_ axis: Int, of tensor: KerasTensor) throws(Failure) -> Int {
    try Self.axis(axis, rank: rank(tensor), context)
  }

  static func axis(_ axis: Int, rank: Int, _ context: KerasContext) throws(Failure) -> Int {
    guard axis >= -rank, axis < rank else { throw context.malformed("axis \(axis) of a tensor of \(rank) axes") }
    return axis < 0 ? axis + rank : axis
  }

  /// This length stays as it is.
  mutating func hold(_ x: KerasTensor, axis: Int, _ why: String) {
    decisive[FormatConstraints.FixedAxis(value: primary(x).value, axis: place(of: axis, in: x))] = why
  }

  // MARK: Orders

  /// Batch, channels, and the others in order, where channels come last in Keras.
  static func channelsSecond(_ rank: Int) -> [Int] { rank < 3 ? Array(0..<rank) : [0, rank - 1] + Array(1..<rank - 1) }

  /// The value that holds the tensor in this order of axes, made once if there is none.
  mutating func arranged(_ tensor: KerasTensor, _ axes: [Int]) throws(Failure) -> ValueID {
    for known in arrangements[tensor.index] where known.axes == axes { return known.value }
    let source = primary(tensor)
    let order = axes.compactMap { source.axes.firstIndex(of: $0) }
    guard order.count == source.axes.count else { throw malformed("its axes do not add up") }
    let value = try turned(source.value, order, isAsWritten: axes == Array(axes.indices))
    arrangements[tensor.index].append(ArrangedValue(value: value, axes: axes))
    return value
  }

  private mutating func turned(_ value: ValueID, _ order: [Int], isAsWritten: Bool) throws(Failure) -> ValueID {
    let name = "\(assembler.name(value)).\(isAsWritten ? "channels_last" : "channels_first")"
    do throws(Failure) {
      return try assembler.node("Transpose", [value], ["perm": .ints(order)], name: name)[0]
    } catch {
      throw malformed(error.message)
    }
  }

  /// The tensor as Keras has it.
  mutating func asWritten(_ tensor: KerasTensor) throws(Failure) -> ValueID {
    try arranged(tensor, Array(0..<rank(tensor)))
  }

  /// The tensor with its channels second, which in Keras come second or last.
  mutating func channelsSecond(_ tensor: KerasTensor, isChannelsFirst: Bool) throws(Failure) -> ValueID {
    isChannelsFirst ? try asWritten(tensor) : try arranged(tensor, Self.channelsSecond(rank(tensor)))
  }

  // MARK: Together

  /// Values that hold the tensors such that they broadcast as Keras broadcasts these: aligned at their last axes.
  /// - Returns: the values, and the order of axes of what is computed from them.
  mutating func aligned(_ tensors: [KerasTensor]) throws(Failure) -> (values: [ValueID], axes: [Int]) {
    let rank = tensors.map { self.rank($0) }.max() ?? 0
    let axes = commonOrder(tensors.filter { self.rank($0) == rank }, rank: rank)
    var values: [ValueID] = []
    for tensor in tensors {
      values.append(self.rank(tensor) == rank ? try arranged(tensor, axes) : try widened(tensor, axes))
    }
    return (values, axes)
  }

  /// The order that the fewest tensors have to be turned for; of two the one that operators want.
  func commonOrder(_ tensors: [KerasTensor], rank: Int) -> [Int] {
    let written = Array(0..<rank)
    var best = written
    func cost(_ axes: [Int]) -> Int {
      tensors.count { tensor in !arrangements[tensor.index].contains { $0.axes == axes } }
    }
    var least = cost(written)
    for tensor in tensors {
      for known in arrangements[tensor.index] where known.axes != written {
        let cost = cost(known.axes)
        if cost < least || cost == least && best == written { (best, least) = (known.axes, cost) }
      }
    }
    return best
  }

  /// A tensor of fewer axes as one that broadcasts against `axes`.
  private mutating func widened(_ tensor: KerasTensor, _ axes: [Int]) throws(Failure) -> ValueID {
    let (own, rank) = (self.rank(tensor), axes.count)
    let value = try asWritten(tensor)
    let isAsWritten = axes == Array(0..<rank)
    if own == 0 || isAsWritten { return value }
    if own == 1, let position = axes.firstIndex(of: rank - 1) {
      // Only ones follow it.
      let ones = Array(1..<max(rank - position, 1))
      return ones.isEmpty ? value : try node("Unsqueeze", [value, integers(ones, as: "axes")], as: "aligned")
    }
    let leading = integers(Array(0..<rank - own), as: "axes")
    let wide = try node("Unsqueeze", [value, leading], as: "aligned")
    return try node("Transpose", [wide], ["perm": .ints(axes)], as: "turned")
  }
}
