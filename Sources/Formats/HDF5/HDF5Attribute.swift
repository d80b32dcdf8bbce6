/// A named value on a group or dataset.
///
/// Invariant: the value has as many elements as the shape says, of the type's size.
package struct HDF5Attribute: Sendable {
  package enum Value: Sendable {
    /// Elements of variable-length string types.
    case texts([String])
    /// Elements of all other types, one after another as the file has them.
    case bytes([UInt8])
  }

  package let name: String
  package let type: HDF5Type
  /// Lengths by axis; none for a single element, nil for HDF5's null space, which has no elements.
  package let shape: [Int]?
  package let value: Value

  init(name: String, type: HDF5Type, shape: [Int]?, value: Value) {
    (self.name, self.type, self.shape, self.value) = (name, type, shape, value)
  }

  /// What h5py makes of a `str`.
  package init(_ name: String, string: String) {
    self.init(name: name, type: .text, shape: [], value: .texts([string]))
  }

  /// What h5py makes of a list of strings: of no strings, an array of no numbers.
  /// - Parameter type: a string type; a fixed one gets the room that the longest string needs.
  package init(_ name: String, strings: [String], type: HDF5Type = .byteText) {
    if strings.isEmpty {
      self.init(name: name, type: HDF5Type(.float, size: 8), shape: [0], value: .bytes([]))
    } else {
      self.init(name: name, strings: strings, type: type, shape: [strings.count])
    }
  }

  private init(name: String, strings: [String], type: HDF5Type, shape: [Int]) {
    guard type.kind == .fixedString else {
      self.init(name: name, type: type.isString ? type : .text, shape: shape, value: .texts(strings))
      return
    }
    // A terminator is not text, and needs its room.
    let longest = strings.map(\.utf8.count).max() ?? 0
    let size = max(1, longest + (type.padding == .nullTerminated ? 1 : 0))
    let filler: UInt8 = type.padding == .spaces ? UInt8(ascii: " ") : 0
    var bytes: [UInt8] = []
    bytes.reserveCapacity(size * strings.count)
    for string in strings {
      bytes += string.utf8
      bytes += [UInt8](repeating: filler, count: size - string.utf8.count)
    }
    let sized = HDF5Type(.fixedString, size: size, padding: type.padding, isUTF8: type.isUTF8)
    self.init(name: name, type: sized, shape: shape, value: .bytes(bytes))
  }

  // MARK: Values

  /// The strings, in row-major order; nil if these are no strings, or no UTF-8. An array of no elements, whatever their
  /// type, is no strings: h5py does not know what an empty list would have held.
  package var strings: [String]? {
    switch value {
    case .texts(let texts): return texts
    case .bytes(let bytes):
      if shape?.contains(0) == true { return [] }
      guard type.kind == .fixedString, type.size > 0 else { return nil }
      var result: [String] = []
      for start in stride(from: 0, to: bytes.count, by: type.size) {
        guard let text = String(validating: unpadded(bytes[start..<(start + type.size)]), as: UTF8.self) else {
          return nil
        }
        result.append(text)
      }
      return result
    }
  }

  private func unpadded(_ element: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    switch type.padding {
    case .nullTerminated: return element.prefix { $0 != 0 }
    case .nulls, .spaces:
      let filler: UInt8 = type.padding == .spaces ? UInt8(ascii: " ") : 0
      let end = element.lastIndex { $0 != filler }
      return element[..<(end.map { $0 + 1 } ?? element.startIndex)]
    }
  }

  /// The only string; nil if there are several or none.
  package var string: String? {
    guard type.isString, let strings, strings.count == 1 else { return nil }
    return strings[0]
  }

  /// The numbers, if these are integers (or booleans) that fit.
  package var integers: [Int]? {
    guard case .bytes(let bytes) = value else { return nil }
    switch type.dtype {
    case .int8: return numbers(bytes, Int8.self).map(Int.init)
    case .uint8, .bool: return bytes.map(Int.init)
    case .int16: return numbers(bytes, Int16.self).map(Int.init)
    case .uint16: return numbers(bytes, UInt16.self).map(Int.init)
    case .int32: return numbers(bytes, Int32.self).map(Int.init)
    case .uint32: return numbers(bytes, UInt32.self).map(Int.init)
    case .int64: return numbers(bytes, Int64.self).map(Int.init)
    case .uint64:
      let exact = numbers(bytes, UInt64.self).map { Int(exactly: $0) }
      return exact.contains(nil) ? nil : exact.compactMap { $0 }
    default: return nil
    }
  }

  private func numbers<T: BitwiseCopyable>(_ bytes: [UInt8], _ type: T.Type) -> [T] {
    bytes.withUnsafeBytes { buffer in
      stride(from: 0, to: buffer.count, by: MemoryLayout<T>.size).map {
        buffer.loadUnaligned(fromByteOffset: $0, as: type)
      }
    }
  }

  // MARK: Other values

  /// The same attribute with another string, in the same kind of string.
  package func replacing(string: String) -> HDF5Attribute {
    HDF5Attribute(name: name, strings: [string], type: type, shape: shape ?? [])
  }
}
