import JSON
import ModelGraph

/// Reads the configuration of a model into entries: which layers there are, what they are made of, where a v3 archive
/// keeps their weights, and how they are called.
///
/// Invariant: names are unique within a model, calls refer to layers and calls that are there, and no call needs its
/// own result. Recursion goes no deeper than the text is nested.
struct KerasConfigReader {
  let text: KerasText
  /// Keras 3 counts calls of nested models otherwise than tf.keras.
  let isKeras3: Bool
  /// Layers that several models hold, by Keras's number.
  private var shared: [Int: KerasEntry] = [:]
  private var paths: Set<String> = []
  private var count = 0
  private let work: Work

  static let layerLimit = 100_000

  init(_ text: KerasText, isKeras3: Bool, work: Work) {
    (self.text, self.isKeras3, self.work) = (text, isKeras3, work)
  }

  /// The outermost model.
  mutating func model() throws(Failure) -> KerasEntry {
    let root = text.root
    let className = try text.string("class_name", of: root)
    guard KerasClassNames.models.contains(className), !isForeign(root, className) else {
      throw Failure(
        .modelUnsupportedFormat,
        "the model is of the class '\(className.prefix(100))', whose code is not in the file; taken are Sequential and "
          + "Functional models: build it again as keras.Model(inputs, outputs), set its weights and save that",
        details: ["found": .string(className)])
    }
    return try entry(root, prefix: nil, storage: "", fallbackName: "model")
  }

  // MARK: Layers

  /// - Parameters:
  ///   - prefix: of paths; nil for the outermost model.
  ///   - role: what goes into the path instead of the name, for parts that are held by an attribute.
  ///   - fallbackName: for descriptions that may leave the name out.
  private mutating func entry(
    _ description: JSONElement, prefix: String?, role: String? = nil, storage: String, fallbackName: String? = nil
  ) throws(Failure) -> KerasEntry {
    guard description.kind == .object else { throw text.malformed("there is no description of a layer", description) }
    let number = description["shared_object_id"]?.int
    if let number, let known = shared[number] { return known }
    count += 1
    guard count <= Self.layerLimit else {
      throw Failure(
        .resourceLimit, "the model has more than \(Self.layerLimit) layers", details: ["limit": .int(Self.layerLimit)])
    }
    if count % 256 == 0 { try work.checkCancellation() }
    let className = KerasClassNames.exported(try text.string("class_name", of: description))
    guard let settings = description["config"], settings.kind == .object || settings.kind == .array else {
      throw text.malformed("'config' is missing or no object", description)
    }
    let name = try self.name(of: description, settings, fallbackName)
    let module = description["module"]?.string ?? ""
    let kind = kind(description, className, module, settings)
    let path = prefix.map { uniquePath($0.isEmpty ? name : $0 + "/" + (role ?? name)) } ?? ""
    var network: KerasNetwork?
    var parts: [KerasEntry.Part] = []
    switch kind {
    case .model: network = try self.network(className, settings, path: path, storage: storage, name: name)
    case .layer: parts = try self.parts(className, settings, path: path, storage: storage)
    case .operation, .foreign: break
    }
    let slots: [KerasSlot]?
    switch kind {
    case .model, .operation: slots = []
    case .foreign: slots = nil
    case .layer: slots = try self.slots(className, settings, path) ?? (parts.isEmpty ? nil : [])
    }
    let result = KerasEntry(
      kind: kind, className: className, module: module, name: name, path: path, settings: settings,
      description: description, slots: slots, parts: parts, network: network, storage: storage)
    if let number { shared[number] = result }
    return result
  }

  private func name(
    of description: JSONElement, _ settings: JSONElement, _ fallback: String?
  ) throws(Failure) -> String {
    for element in [description["name"], settings["name"]] {
      guard let element, !element.isNull, element.string == nil else { continue }
      throw text.malformed("the name of a layer is no text", element)
    }
    let outer = description["name"]?.string
    let inner = settings["name"]?.string
    guard let name = inner ?? outer ?? fallback, !name.isEmpty else {
      throw text.malformed("a layer has no name", description)
    }
    guard outer == nil || outer == name else {
      throw text.malformed(
        "a layer is named both '\(name.prefix(100))' and '\((outer ?? "").prefix(100))'", description)
    }
    guard name.utf8.count <= 1024 else { throw text.malformed("the name of a layer is too long", description) }
    return name
  }

  /// The variables that the settings make, once they are settings that Keras takes.
  private func slots(
    _ className: String, _ settings: JSONElement, _ path: String
  ) throws(Failure) -> [KerasSlot]? {
    if let format = settings["data_format"], !format.isNull,
      !format.equals("channels_last"), !format.equals("channels_first")
    {
      throw text.malformed("'data_format' is neither channels_last nor channels_first", format, layer: path)
    }
    if let dtype = settings["dtype"]?.string, !KerasInputs.isType(dtype) {
      throw text.malformed("the type '\(dtype.prefix(40))' is not known", settings, layer: path)
    }
    do throws(KerasSlots.Misfit) {
      return try KerasSlots.slots(of: className, settings)
    } catch {
      throw text.malformed(error.reason, settings, layer: path)
    }
  }

  private mutating func uniquePath(_ wanted: String) -> String {
    var (path, number) = (wanted, 1)
    while !paths.insert(path).inserted {
      number += 1
      path = "\(wanted)_\(number)"
    }
    return path
  }

  private func kind(
    _ description: JSONElement, _ className: String, _ module: String, _ settings: JSONElement
  ) -> KerasLayer.Kind {
    if isForeign(description, className) { return .foreign }
    if KerasClassNames.models.contains(className) { return .model }
    if KerasClassNames.tensorFlowOperations.contains(className) { return .operation }
    if module.hasPrefix("keras.src.ops") || module.hasPrefix("keras.ops") { return .operation }
    if module.isEmpty, !KerasClassNames.isKeras(className) { return .foreign }
    // Weights that are stored as small integers with scales have other variables than the table knows.
    if settings["dtype"].map(KerasTypes.isQuantized) ?? false { return .foreign }
    return .layer
  }

  private func isForeign(_ description: JSONElement, _ className: String) -> Bool {
    if className == "Lambda" || className.contains(">") { return true }
    if let registered = description["registered_name"]?.string, registered.contains(">") { return true }
    guard let module = description["module"], !module.isNull else { return description["module"] != nil }
    guard let module = module.string else { return true }
    return module != "keras" && !module.hasPrefix("keras.")
  }

  // MARK: What layers are made of

  private mutating func parts(
    _ className: String, _ settings: JSONElement, path: String, storage: String
  ) throws(Failure) -> [KerasEntry.Part] {
    switch className {
    case "TimeDistributed", "SpectralNormalization":
      return [try part("layer", try text.object("layer", of: settings), path, storage)]
    case "Bidirectional":
      let forward = try text.object("layer", of: settings)
      // tf.keras leaves out the second layer where it is the first one turned around.
      let backward = settings["backward_layer"].flatMap { $0.isNull ? nil : $0 } ?? forward
      return [
        try part("forward_layer", forward, path, storage), try part("backward_layer", backward, path, storage),
      ]
    case "RNN": return [try part("cell", try text.object("cell", of: settings), path, storage)]
    case "StackedRNNCells":
      var names = GroupNames()
      var parts: [KerasEntry.Part] = []
      for (index, cell) in try text.array("cells", of: settings).elements.enumerated() {
        let group = names.next(cell["class_name"]?.string ?? "")
        parts.append(
          .init(role: "cells/\(index)", entry: try entry(cell, prefix: path, storage: "\(storage)/cells/\(group)")))
      }
      return parts
    default: return []
    }
  }

  /// A layer that an attribute named `role` holds.
  private mutating func part(
    _ role: String, _ description: JSONElement, _ path: String, _ storage: String
  ) throws(Failure) -> KerasEntry.Part {
    .init(role: role, entry: try entry(description, prefix: path, role: role, storage: "\(storage)/\(role)"))
  }

  private mutating func network(
    _ className: String, _ settings: JSONElement, path: String, storage: String, name: String
  ) throws(Failure) -> KerasNetwork {
    let isSequential = className == "Sequential"
    // Keras before 2.2.3 wrote a Sequential's layers where its settings are now.
    let list: JSONElement
    if isSequential, settings.kind == .array { list = settings } else { list = try text.array("layers", of: settings) }
    var entries: [KerasEntry] = []
    var indices: [String: Int] = [:]
    var names = GroupNames()
    let folder = storage.isEmpty ? "layers/" : storage + "/layers/"
    for description in list.elements {
      // The path of a layer that several models hold is that of its first place, and so is its group.
      let className = description["class_name"]?.string ?? ""
      let isCounted = !(isSequential && className == "InputLayer") && !isKerasOperation(description, className)
      let group = isCounted ? folder + names.next(className) : ""
      let entry = try entry(description, prefix: path, storage: group)
      guard indices.updateValue(entries.count, forKey: entry.name) == nil else {
        throw text.malformed("two layers of '\(name.prefix(100))' are named '\(entry.name.prefix(100))'", description)
      }
      entries.append(entry)
    }
    if isSequential {
      return KerasNetwork(
        isSequential: true, entries: entries, nodes: [], order: [], inputs: .list([]), outputs: .list([]))
    }
    let reader = KerasNodeReader(text: text, isKeras3: isKeras3, entries: entries, indices: indices, model: name)
    return try reader.network(settings, work: work)
  }

  /// Operations are no layers and have no groups; tf.keras's are layers.
  private func isKerasOperation(_ description: JSONElement, _ className: String) -> Bool {
    guard let module = description["module"]?.string else { return false }
    return !isForeign(description, className) && (module.hasPrefix("keras.src.ops") || module.hasPrefix("keras.ops"))
  }
}

/// The names of groups that a list of layers gets, one after another.
struct GroupNames {
  private var counts: [String: Int] = [:]

  mutating func next(_ className: String) -> String {
    let name = KerasClassNames.group(of: className)
    let count = counts[name, default: 0]
    counts[name] = count + 1
    return count == 0 ? name : "\(name)_\(count)"
  }
}
