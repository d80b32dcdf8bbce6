/// Conditions on the inputs' sizes that an exported program carries as Python text:
/// `L['x'].size()[2] == (4*(L['x'].size()[2] // 4))`. PyTorch compiles and runs them with the loaded program, so that a
/// file with anything in them but arithmetic on sizes is refused.
enum GuardText {
  private static let words: Set<String> = [
    "L", "size", "stride", "storage_offset", "and", "or", "not", "True", "False", "None", "is", "in", "int", "float",
    "min", "max", "math", "floor", "ceil", "torch", "sym_max", "sym_min", "sym_float", "sym_int",
  ]
  private static let punctuation: Set<Character> = [
    "[", "]", "(", ")", ",", ".", "<", ">", "=", "!", "+", "-", "*", "/", "%", " ",
  ]

  /// Whether it is made of numbers, arithmetic, sizes, and names of inputs in quotes.
  static func isHarmless(_ text: String) -> Bool {
    var rest = text[...]
    while let first = rest.first {
      if punctuation.contains(first) {
        rest.removeFirst()
      } else if first == "'" {
        rest.removeFirst()
        let name = rest.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == ".") }
        rest.removeFirst(name.count)
        guard rest.first == "'" else { return false }
        rest.removeFirst()
      } else {
        let word = rest.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
        guard !word.isEmpty, word.allSatisfy(\.isNumber) || words.contains(String(word)) else { return false }
        rest.removeFirst(word.count)
      }
    }
    return true
  }
}
