/// Reading the elements of small stored tensors, and what shape rules ask of elements they are given.
extension ElementArray {
  /// Most elements of a stored tensor that is not of an integer type used for shapes (int64, int32, bool). Settings
  /// such as a Resize's scales are that small; longer ones are weights, which are data.
  static let settingLimit = 16

  /// The elements of a stored tensor that may take part in shape arithmetic: int64, int32 and bool up to `limit`
  /// elements, other numbers up to a handful; nil for everything else, whose bytes are not touched.
  package init?(reading tensor: Tensor) {
    let limit: Int
    switch tensor.dtype {
    case .int64, .int32, .bool: limit = Self.limit
    default: limit = Self.settingLimit
    }
    guard ShapeLimits.allow(tensor.shape), tensor.elementCount <= limit else { return nil }
    let count = tensor.elementCount
    let bytes = tensor.bytes.buffer

    func load<Stored: BitwiseCopyable>(_ type: Stored.Type) -> [Stored] {
      (0..<count).map { bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Stored>.size, as: type) }
    }
    func integers<Stored: BinaryInteger & BitwiseCopyable>(_ type: Stored.Type) -> [Int64]? {
      let exact = load(type).compactMap { Int64(exactly: $0) }
      return exact.count == count ? exact : nil
    }

    let elements: Elements?
    switch tensor.dtype {
    case .int64: elements = .integers(load(Int64.self))
    case .int32: elements = integers(Int32.self).map(Elements.integers)
    case .int16: elements = integers(Int16.self).map(Elements.integers)
    case .int8: elements = integers(Int8.self).map(Elements.integers)
    case .uint64: elements = integers(UInt64.self).map(Elements.integers)
    case .uint32: elements = integers(UInt32.self).map(Elements.integers)
    case .uint16: elements = integers(UInt16.self).map(Elements.integers)
    case .uint8: elements = integers(UInt8.self).map(Elements.integers)
    case .bool: elements = .integers(load(UInt8.self).map { $0 == 0 ? 0 : 1 })
    case .float64: elements = .reals(load(Double.self))
    case .float32: elements = .reals(load(Float.self).map(Double.init))
    case .float16: elements = .reals(load(UInt16.self).map { DType.double(float16: $0) })
    case .bfloat16: elements = .reals(load(UInt16.self).map { Double(Float(bitPattern: UInt32($0) << 16)) })
    default: elements = nil
    }
    guard let elements else { return nil }
    self.init(elements, shape: tensor.shape)
  }

  init(_ elements: Elements, shape: [Int]) {
    switch elements {
    case .integers(let integers): self.init(integers, shape: shape)
    case .reals(let reals): self.init(reals, shape: shape)
    }
  }

  /// The first element as an integer; nil if there is none or it is no whole number.
  var firstAsInteger: Int? {
    switch elements {
    case .integers(let integers): integers.first.map { Int($0) }
    case .reals(let reals): reals.first.flatMap { Int(exactly: $0) }
    }
  }

  /// The flat positions of the elements that are not 0.
  var nonZeroPositions: [Int] {
    switch elements {
    case .integers(let integers): integers.indices.filter { integers[$0] != 0 }
    case .reals(let reals): reals.indices.filter { reals[$0] != 0 }
    }
  }
}

extension DType {
  /// The value of an IEEE half-precision bit pattern.
  static func double(float16 bits: UInt16) -> Double {
    let sign: Double = bits & 0x8000 == 0 ? 1 : -1
    let fraction = Double(bits & 0x3ff)
    switch (bits >> 10) & 0x1f {
    case 0: return sign * fraction * 0x1p-24
    case 0x1f: return fraction == 0 ? sign * .infinity : .nan
    case let exponent:
      return sign * (1 + fraction * 0x1p-10) * Double(sign: .plus, exponent: Int(exponent) - 15, significand: 1)
    }
  }
}
