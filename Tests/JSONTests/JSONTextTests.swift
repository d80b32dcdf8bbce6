import JSON
import Testing

/// Keeps a copy of a text's bytes.
private final class Buffer {
  let bytes: UnsafeMutableRawBufferPointer
  init(_ text: some Sequence<UInt8>) {
    let array = Array(text)
    bytes = .allocate(byteCount: max(1, array.count), alignment: 1)
    bytes.copyBytes(from: array)
    self.count = array.count
  }
  let count: Int
  deinit { bytes.deallocate() }
  var used: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[..<count]) }
}

private func parse(
  _ text: some Sequence<UInt8>, limits: JSONText.Limits = .init()
) throws(JSONDecodingError) -> JSONText {
  let buffer = Buffer(text)
  return try JSONText(buffer.used, owner: buffer, limits: limits)
}

/// The whole text as the tree that jansson would make of it.
private func tree(_ element: JSONElement) -> JSONValue? {
  switch element.kind {
  case .null: .null
  case .bool: element.bool.map(JSONValue.bool)
  case .number: element.int.map(JSONValue.int) ?? element.double.map(JSONValue.double)
  case .string: element.string.map(JSONValue.string)
  case .array: .array(element.elements.compactMap { tree($0) })
  case .object:
    .object(JSONObject(element.members.compactMap { m in tree(m.value).map { (m.name.string ?? "?", $0) } }))
  }
}

private let sample = #"""
  {"a": [1, -2.5e-3, 0, -0, true, false, null, "x\"\\\/\b\f\n\r\té🌳"], "é": {}, "b": {"": [], "c": {"d": [[[]]]}},
   "long": 9223372036854775807, "as_float": 0.30000000000000004 , "i": -9223372036854775808, "k": "𝄞 \u007f"}
  """#

struct JSONTextTests {
  @Test func readsWhatJanssonReads() throws {
    let text = try parse(sample.utf8)
    #expect(tree(text.root) == (try JSONValue(decoding: sample)))
    #expect(text.root["a"]?.elements.reduce(0) { n, _ in n + 1 } == 8)
    #expect(text.root["é"]?.onlyMember == nil && text.root["missing"] == nil && text.root["b"]?["c"]?["d"] != nil)
    #expect(text.root["long"]?.int == .max && text.root["i"]?.int == .min && text.root["as_float"]?.int == nil)
    withExtendedLifetime(text) {}
  }

  @Test("Refuses exactly what jansson refuses")
  func refusals() {
    let texts = [
      "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,}", "[,]",
      "{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}", "01", "-", "1.", ".5", "1e", "1e+", "+1", "1e999", "-1e999",
      "1e-999",
      "9223372036854775808", "-9223372036854775809", "00", "NaN", "Infinity", "tru", "nul", "truex", "[1]]", "{}{}",
      "\"", "\"\\\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\\u0000\"",
      "\"\\ud834\\udd1e\"", "\"\\x\"", "\"\n\"", "'a'", "{1:2}", "[1 2]", "{\"a\" 1}", "// c\n1", "5", "\"a\"",
      " null ",
    ]
    for text in texts {
      let (read, judged) = (try? parse(text.utf8), try? JSONValue(decoding: text))
      #expect((read == nil) == (judged == nil), "\(text)")
    }
    for bytes: [UInt8] in [
      [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22], [0x22, 0xFF, 0x22], [0xEF, 0xBB, 0xBF, 0x31],
    ] {
      #expect((try? parse(bytes)) == nil)
    }
  }

  @Test("Cut anywhere and with any byte changed, it reads what jansson reads or refuses with it")
  func mutations() throws {
    let bytes = Array(sample.utf8)
    var random = SystemRandomNumberGenerator()
    func compare(_ mutant: [UInt8]) throws {
      let judged = mutant.withUnsafeBytes { bytes in try? JSONValue(decoding: bytes) }
      let read = try? parse(mutant)
      try #require((read == nil) == (judged == nil), "\(String(decoding: mutant, as: UTF8.self))")
      guard let read else { return }
      try withExtendedLifetime(read) {
        try #require(tree(read.root) == judged, "\(String(decoding: mutant, as: UTF8.self))")
      }
    }
    for end in bytes.indices { try compare(Array(bytes[..<end])) }
    let alphabet = Array("\"\\{}[]:,0123456789.eE+-tfn u\u{1}".utf8) + [0x80, 0xC3, 0xFF]
    for _ in 0..<20_000 {
      var mutant = bytes
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        mutant[Int.random(in: mutant.indices, using: &random)] = alphabet.randomElement(using: &random) ?? 0
      }
      try compare(mutant)
    }
  }

  @Test func holdsToItsLimits() throws {
    var limits = JSONText.Limits()
    (limits.depth, limits.count) = (3, 5)
    _ = try parse("[[[1,2]]]".utf8, limits: limits)
    #expect(throws: JSONDecodingError.self) { try parse("[[[[]]]]".utf8, limits: limits) }
    #expect(throws: JSONDecodingError.self) { try parse("[1,2,3,4,5]".utf8, limits: limits) }
    #expect(throws: JSONDecodingError.self) { try parse(repeatElement(UInt8(ascii: "["), count: 1_000_000)) }
  }

  @Test func changesPlacesAndNothingElse() throws {
    let buffer = Buffer(sample.utf8)
    let text = try JSONText(buffer.used, owner: buffer)
    #expect(JSONTextChanges().applied(to: buffer.used) == Array(sample.utf8))
    var changes = JSONTextChanges()
    let list = try #require(text.root["a"])
    let elements = Array(list.elements)
    changes.replace(elements[1], with: "7")
    changes.insert(element: "8", into: list, before: elements[2])
    changes.insert(element: "9", into: list, before: elements[2])
    changes.insert(element: "10", into: list)
    changes.insert(member: "n\"é", "[]", into: try #require(text.root["é"]))
    changes.insert(member: "m", "1", into: text.root)
    changes.insert(element: "1", into: try #require(text.root["b"]?[""]))
    let expected = sample.replacing("-2.5e-3, 0", with: "7, 8, 9, 0").replacing("é🌳\"]", with: "é🌳\", 10]")
      .replacing("\"é\": {}", with: #""é": {"n\"\u00e9": []}"#).replacing("\\u007f\"}", with: "\\u007f\", \"m\": 1}")
      .replacing("\"\": []", with: "\"\": [1]")
    #expect(String(decoding: changes.applied(to: buffer.used), as: UTF8.self) == expected)
    withExtendedLifetime(text) {}
  }

  @Test(
    "Elements go with their commas",
    arguments: [
      ([0], "[2, 3, 4]"), ([1], "[1, 3, 4]"), ([3], "[1, 2, 3]"), ([0, 1], "[3, 4]"), ([1, 2], "[1, 4]"),
      ([2, 3], "[1, 2]"), ([0, 3], "[2, 3]"), ([0, 1, 2, 3], "[]"),
    ])
  func removals(removed: [Int], expected: String) throws {
    let buffer = Buffer("[1, 2, 3, 4]".utf8)
    let text = try JSONText(buffer.used, owner: buffer)
    var changes = JSONTextChanges()
    changes.remove(Set(removed), of: text.root.elements.map(\.range))
    #expect(String(decoding: changes.applied(to: buffer.used), as: UTF8.self) == expected)
    withExtendedLifetime(text) {}
  }

  @Test(arguments: ["", "plain", "\"\\\n\t\r\u{8}\u{c}\u{1}\u{7f}", "é𝄞"])
  func escapesReadBack(text: String) throws {
    let written = try parse(JSONEscapes.encoded(text).utf8)
    withExtendedLifetime(written) { #expect(written.root.string == text) }
    #expect(JSONEscapes.encoded(text).utf8.allSatisfy { $0 < 0x7F })
  }
}
