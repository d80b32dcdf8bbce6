import Formats
import Testing

@Suite struct NameTableTests {
  /// A file that is mapped may be cut and written anew while it is read: all its bytes are zero for a while.
  @Test("Names stay what they were when the bytes they came from change") func keepsNames() throws {
    let count = 5000
    let file = UnsafeMutableRawBufferPointer.allocate(byteCount: 8 * count, alignment: 8)
    defer { file.deallocate() }
    let base = try #require(UnsafeRawPointer(file.baseAddress))
    func name(_ number: Int) -> ByteSpan { ByteSpan(base: base + 8 * number, count: 8, offset: 8 * number) }
    func write(_ numbers: Range<Int>) { for k in numbers { file.storeBytes(of: k, toByteOffset: 8 * k, as: Int.self) } }

    var table = NameTable<Int>()
    write(0..<count)
    for k in 0..<count / 2 { #expect(table.updateValue(k, forKey: name(k)) == nil) }
    for byte in file.indices { file[byte] = 0 }
    // The table grows, and looks at all its names again.
    write(count / 2..<count)
    for k in count / 2..<count { #expect(table.updateValue(k, forKey: name(k)) == nil) }
    write(0..<count)
    for k in 0..<count { #expect(table[name(k)] == k) }
    #expect(table.updateValue(-1, forKey: name(7)) == 7)
    let doubled = table.mapValues { 2 * $0 }
    #expect(doubled[name(7)] == -2 && doubled[name(8)] == 16)
    table[name(8)] = nil
    #expect(table[name(8)] == nil && doubled[name(8)] == 16)
    var found: [Int] = []
    table.forEach { name, value in
      found.append(value)
      #expect(name.offset % 8 == 0)
    }
    #expect(found.count == count - 1)
  }
}
