/// The smallest writer of Protocol Buffers that can make wrong ones, for models that no library would write.
package struct Proto {
  package var bytes: [UInt8] = []

  package init(_ fields: Proto...) { bytes = fields.flatMap(\.bytes) }
  package init(raw bytes: [UInt8]) { self.bytes = bytes }

  package static func varint(_ value: UInt64) -> [UInt8] {
    var rest = value
    var bytes: [UInt8] = []
    while rest >= 0x80 {
      bytes.append(UInt8(rest & 0x7f) | 0x80)
      rest >>= 7
    }
    return bytes + [UInt8(rest)]
  }

  package static func int(_ number: Int, _ value: Int) -> Proto {
    Proto(raw: varint(UInt64(number << 3)) + varint(UInt64(bitPattern: Int64(value))))
  }

  package static func bytes(_ number: Int, _ bytes: [UInt8]) -> Proto {
    Proto(raw: varint(UInt64(number << 3 | 2)) + varint(UInt64(bytes.count)) + bytes)
  }

  package static func text(_ number: Int, _ text: String) -> Proto { bytes(number, Array(text.utf8)) }
  package static func message(_ number: Int, _ message: Proto) -> Proto { bytes(number, message.bytes) }
  package static func + (a: Proto, b: Proto) -> Proto { Proto(raw: a.bytes + b.bytes) }
}

/// Parts of ONNX models.
extension Proto {
  package static func model(_ graph: Proto, opset: Int = 17, ir: Int = 8, domains: [String] = []) -> [UInt8] {
    let imports = domains.map { message(8, .text(1, $0) + .int(2, 1)) }
    return
      (int(1, ir) + message(8, .text(1, "") + .int(2, opset)) + Proto(raw: imports.flatMap(\.bytes))
      + message(7, graph)).bytes
  }

  package static func node(_ op: String, _ inputs: [String], _ outputs: [String], _ more: Proto = Proto()) -> Proto {
    let names = inputs.flatMap { text(1, $0).bytes } + outputs.flatMap { text(2, $0).bytes }
    return message(1, Proto(raw: names) + text(3, "n_" + (outputs.first ?? "")) + text(4, op) + more)
  }

  package static func tensor(_ name: String, _ dims: [Int], type: Int = 1, raw: [UInt8]? = nil, _ more: Proto = Proto())
    -> Proto
  {
    Proto(raw: dims.flatMap { int(1, $0).bytes }) + int(2, type) + text(8, name)
      + (raw.map { bytes(9, $0) } ?? Proto()) + more
  }

  package static func initializer(
    _ name: String, _ dims: [Int], type: Int = 1, raw: [UInt8]? = nil, _ more: Proto = Proto()
  ) -> Proto { message(5, tensor(name, dims, type: type, raw: raw, more)) }

  /// An initializer whose bytes are in another file.
  package static func external(_ name: String, _ dims: [Int], _ entries: [(String, String)]) -> Proto {
    let list = entries.flatMap { message(13, .text(1, $0.0) + .text(2, $0.1)).bytes }
    return initializer(name, dims, Proto(raw: list) + int(14, 1))
  }

  package static func input(_ name: String) -> Proto { message(11, text(1, name)) }
  package static func output(_ name: String) -> Proto { message(12, text(1, name)) }

  package static func attribute(_ name: String, _ type: Int, _ value: Proto) -> Proto {
    message(5, text(1, name) + value + int(20, type))
  }

  /// x, Relu, y.
  package static var relu: Proto { input("x") + node("Relu", ["x"], ["y"]) + output("y") }
}
