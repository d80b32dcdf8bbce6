import JSON
import ModelGraph

/// Looks through a configuration for code that is not Keras's. Loading a file makes objects of the classes that its
/// configuration names, wherever they are named: as an initializer, in a setting that nobody reads, among the keywords
/// of a call. A file that is written from one with such names would carry them on, so it is not taken.
///
/// Layers of other classes are told apart elsewhere, with their names. What `compile()` was given does not come into
/// files that are written.
struct KerasForeignCode {
  private let text: KerasText
  private let entries: [KerasEntry]
  /// Where descriptions of layers begin whose class is not Keras's.
  private let foreign: Set<Int>

  /// - Throws: `Failure` of kind modelUnsafe.
  static func check(_ model: KerasEntry, _ text: KerasText) throws(Failure) {
    let entries = model.all
    let foreign = entries.filter { $0.kind == .foreign }.map(\.description.range.lowerBound)
    try KerasForeignCode(text: text, entries: entries, foreign: Set(foreign)).check(text.root)
  }

  private func check(_ element: JSONElement) throws(Failure) {
    switch element.kind {
    case .array: for item in element.elements { try check(item) }
    case .object:
      guard !foreign.contains(element.range.lowerBound) else { return }
      try checkClass(element)
      for (name, value) in element.members where !name.equals("compile_config") { try check(value) }
    case .null, .bool, .number, .string: break
    }
  }

  private func checkClass(_ element: JSONElement) throws(Failure) {
    guard let name = element["class_name"] else { return }
    guard let className = name.string else {
      throw text.malformed("'class_name' is no text", name)
    }
    let module = element["module"].map { $0.string ?? "" } ?? "keras"
    let isKeras = module == "keras" || module.hasPrefix("keras.")
    // A name with a dot, or one that was registered, leads elsewhere, whatever the module says.
    let isName = className.unicodeScalars.allSatisfy {
      $0 == "_" || $0.properties.isAlphabetic || $0.properties.numericType != nil
    }
    let isRegistered = element["registered_name"]?.string?.contains(">") ?? false
    guard !isKeras || !isName || isRegistered || className == "__lambda__" || className == "__typespec__" else {
      return
    }
    let holder = entries.last { $0.description.range.contains(element.range.lowerBound) }
    let place = holder.map { $0.path.isEmpty ? "" : " in layer '\($0.path.prefix(200))'" } ?? ""
    throw Failure(
      .modelUnsafe,
      "'\(text.name)' names code that is not Keras's\(place): '\(className.prefix(100))' of '\(module.prefix(100))' (at byte "
        + "\(element.range.lowerBound)); loading the file would run it, and so would loading what is made of it. Build "
        + "the model again without it, and save that",
      details: [
        "layer": .string(holder?.path ?? ""), "found": .string("\(module).\(className)"),
        "offset": .int(element.range.lowerBound),
      ])
  }
}
