import JSON
import ModelGraph

/// What an exported program takes and returns: which inputs of its graph are parameters, buffers and constants and which
/// the caller's, and what its outputs are for (`GraphSignature` of torch/_export/serde/schema.py).
///
/// Invariant: there is a specification for every input and output of the graph, in their order, and names are unique.
struct ExportedSignature {
  /// The state-dict name behind a graph input's name.
  private(set) var parameters: [String: String] = [:]
  /// In the order of the graph's inputs.
  private(set) var userInputs: [String] = []
  /// Of those outputs that the caller gets.
  private(set) var isUserOutput: [Bool] = []
  /// State-dict names of buffers and parameters that a run of the program changes.
  private(set) var mutated: Set<String> = []

  init(_ archive: ExportedArchive, graph: JSONElement, weights: ExportedWeights) throws(Failure) {
    let text = archive.program
    let signature = try text.object("signature", of: text.object("graph_module", of: text.root))
    var names: Set<String> = []
    var inputs = try text.array("inputs", of: graph).elements
    for spec in try text.array("input_specs", of: signature).elements {
      guard let input = inputs.next() else { throw text.malformed("there are more input_specs than inputs", spec) }
      let (kind, value) = try text.union(spec)
      guard let name = try Self.name(input, in: text) else { continue }
      guard names.insert(name).inserted else { throw text.malformed("two inputs are named '\(name)'", input) }
      let stored: String
      switch kind.string {
      case "parameter": stored = try text.string("parameter_name", of: value)
      case "buffer": stored = try text.string("buffer_name", of: value)
      case "tensor_constant": stored = try text.string("tensor_constant_name", of: value)
      case "user_input":
        userInputs.append(name)
        continue
      case "constant_input": continue
      default:
        throw Failure(
          .modelUnsupportedOperator,
          "the program takes an input of kind '\(kind.string?.prefix(40) ?? "")' (custom objects, effects), which is not read",
          details: ["input": .string(name)])
      }
      guard weights.entries[stored] != nil else {
        throw text.malformed("the archive has no tensor '\(stored)'", value)
      }
      guard try Self.name(text.member("arg", of: value), in: text, isTensor: true) == name else {
        throw text.malformed("inputs and input_specs are in different orders", spec)
      }
      parameters[name] = stored
    }
    guard inputs.next() == nil else { throw text.malformed("there are more inputs than input_specs", signature) }
    var outputs = try text.array("outputs", of: graph).elements
    for spec in try text.array("output_specs", of: signature).elements {
      guard outputs.next() != nil else { throw text.malformed("there are more output_specs than outputs", spec) }
      let (kind, value) = try text.union(spec)
      switch kind.string {
      case "user_output", "loss_output": isUserOutput.append(true)
      case "buffer_mutation":
        mutated.insert(try text.string("buffer_name", of: value))
        isUserOutput.append(false)
      case "parameter_mutation":
        mutated.insert(try text.string("parameter_name", of: value))
        isUserOutput.append(false)
      case "user_input_mutation": isUserOutput.append(false)
      default:
        throw Failure(
          .modelUnsupportedOperator,
          "the program has an output of kind '\(kind.string?.prefix(40) ?? "")' (gradients, effects), which is not read; "
            + "export the model for inference")
      }
    }
    guard outputs.next() == nil else { throw text.malformed("there are more outputs than output_specs", signature) }
  }

  /// The name of a graph input; nil for constants among the inputs.
  private static func name(
    _ argument: JSONElement, in text: ExportedText, isTensor: Bool = false
  ) throws(Failure) -> String? {
    if isTensor { return try text.string("name", of: argument) }
    let (kind, value) = try text.union(argument)
    switch kind.string {
    case "as_tensor", "as_custom_obj", "as_token": return try text.string("name", of: value)
    case "as_sym_int", "as_sym_float", "as_sym_bool": return value["as_name"]?.string
    default: return nil
    }
  }
}
