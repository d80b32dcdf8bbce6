import JSON

import Testing
import Threads

struct JSONCodingTests {
  private func text(_ value: JSONValue) throws -> String {
    String(decoding: try #require(value.encoded()), as: UTF8.self)
  }

  @Test(
    "What is written reads back as it was",
    arguments: [
      .null, true, false, 0, -1, .int(.max), .int(.min), 0.1, 0.30000000000000004, 1e-300, 3.0, "",
      "é\u{1F333}\"\\\n\u{1}",
      [], [1, [2.5, .null]], [:], ["b": 1, "a": ["c": "d"], "": []],
    ] as [JSONValue])
  func roundTrip(value: JSONValue) throws {
    #expect(try JSONValue(decoding: text(value)) == value)
  }

  @Test func keepsOrderAndKinds() throws {
    #expect(try text(["z": 1, "a": 1.0, "m": .ints([3, -4])]) == #"{"z":1,"a":1.0,"m":[3,-4]}"#)
    #expect(try text(.array([.double(.nan), .double(.infinity)])) == "[null,null]")
  }

  @Test func writesLongListsWhole() throws {
    let numbers = (0..<100_000).map { $0 &* 7919 % 1_000_003 }
    #expect(try JSONValue(decoding: text(.ints(numbers))) == .array(numbers.map(JSONValue.int)))
    let long = String(repeating: "\u{1}", count: 50_000)
    #expect(try JSONValue(decoding: text(.string(long))) == .string(long))
  }

  @Test("What is written already is joined with the rest, wherever it stands")
  func joinsWhatIsWritten() throws {
    let inner: JSONValue = ["z": .ints([1, -2]), "text": "é\"", "half": 0.5]
    let written = JSONValue.written(try #require(WrittenJSON(inner)))
    let value: JSONValue = ["a": 1, "list\"": written, "b": ["c": written, "d": []], "e": [written, 2], "f": [:]]
    let plain: JSONValue = ["a": 1, "list\"": inner, "b": ["c": inner, "d": []], "e": [inner, 2], "f": [:]]
    #expect(try text(value) == text(plain))
    #expect(try text(written) == text(inner))
    let bytes = try #require(value.encoded(leaving: 7))
    #expect(String(decoding: bytes.dropFirst(7), as: UTF8.self) == (try text(plain)))
  }

  @Test("Long lists of integers, which repeat, are written like any other")
  func joinsRepeatedLists() throws {
    let lists = [Array(0..<33), Array(-40..<0), Array(0..<33), Array(0..<32), [], Array(-40..<0), Array(0..<33)]
    func value(_ list: ([Int]) -> JSONValue) -> JSONValue {
      [
        "removed": .array(lists.map { ["parameter": "w\"", "axis": 1, "indices": list($0)] }), "alone": list(lists[0]),
        "groups": .array([.array(lists.map(list)), [], "é"]), "half": 0.5, "none": .null,
      ]
    }
    let plain = value { .array($0.map(JSONValue.int)) }
    #expect(try text(value(JSONValue.ints)) == text(plain))
    #expect(try JSONValue(decoding: text(value(JSONValue.ints))) == plain)
    let written = JSONValue.written(try #require(WrittenJSON(value(JSONValue.ints))))
    #expect(try text([written, value(JSONValue.ints)]) == text([plain, plain]))
  }

  @Test func leavesRoomForAHeader() throws {
    let bytes = try #require(JSONValue.object(["a": 1]).encoded(leaving: 7))
    #expect(String(decoding: bytes.dropFirst(7), as: UTF8.self) == #"{"a":1}"#)
  }

  @Test(
    "Hostile texts are refused (J1)",
    arguments: [
      "", " ", "{", "[1,]", "{\"a\":1,}", "01", "nul", "{} {}", "\u{FEFF}{}", "[\"\\u0000\"]", "[\"\\ud800\"]",
      "[\"\\udc00\\ud800\"]", "{\"a\":1,\"a\":2}", "[9223372036854775808]", "[1e999]", "['a']", "[1] // no",
      String(repeating: "[", count: 65) + String(repeating: "]", count: 65),
      String(repeating: "{\"a\":", count: 1 << 20),
    ])
  func hostile(text: String) {
    #expect(throws: JSONDecodingError.self) { try JSONValue(decoding: text) }
  }

  @Test func refusesInvalidUTF8() {
    for bytes in [[0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22]] as [[UInt8]] {
      #expect(throws: JSONDecodingError.self) { try bytes.withUnsafeBytes { try JSONValue(decoding: $0) } }
    }
  }

  @Test func takesTheDeepestNestingAllowed() throws {
    let text = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
    _ = try JSONValue(decoding: text)
    // Brackets in strings do not nest, whatever is escaped around them.
    _ = try JSONValue(decoding: "[\"" + String(repeating: "[{\\\"", count: 100) + "\\\\\"]")
  }

  @Test("A million members are refused before they cost anything; as many as anybody needs are read (J1)")
  func manyMembers() throws {
    func object(_ count: Int) -> String { "{" + (0..<count).map { "\"k\($0)\":0" }.joined(separator: ",") + "}" }
    let million = object(1_000_000)
    let start = Instant.now
    #expect(throws: JSONDecodingError.self) { try JSONValue(decoding: million) }
    #expect(Instant.now.seconds(since: start) < 1)
    #expect(try JSONValue(decoding: object(100_000))["k99999"] == 0)
  }
}
