/// Names that nothing in a model has yet.
///
/// Invariant: what was handed out once is not handed out again, and a model in which a thousand nodes bear one name
/// costs no more than one in which they bear a thousand.
package struct UniqueNames {
  /// nil before the first name is asked for.
  private var taken: Set<String>?
  private let initiallyTaken: () -> Set<String>
  /// By what was asked for: the number to try first when it is asked for again.
  private var nextNumbers: [String: Int] = [:]

  /// - Parameter taken: looked up when the first name is asked for, which in most models nobody does.
  package init(taken: @escaping @autoclosure () -> Set<String>) { initiallyTaken = taken }

  /// `wanted`, or `wanted` with the first number that makes it new.
  package mutating func make(_ wanted: String) -> String { make(wanted, followedBy: [""]) }

  /// A prefix, `wanted` with a number where that is needed, that makes every one of `names` new.
  package mutating func make(_ wanted: String, followedBy names: [String]) -> String {
    var taken = self.taken.take() ?? initiallyTaken()
    defer { self.taken = taken }
    var number = nextNumbers[wanted] ?? 1
    while true {
      let prefix = number == 1 ? wanted : "\(wanted)_\(number)"
      number += 1
      let all = names.map { prefix + $0 }
      guard !all.contains(where: taken.contains) else { continue }
      taken.formUnion(all)
      nextNumbers[wanted] = number
      return prefix
    }
  }
}
