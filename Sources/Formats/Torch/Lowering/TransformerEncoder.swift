import ModelGraph

/// torch.nn.TransformerEncoder and its layers: attention, and two linear layers with an activation between, each added to
/// what it was given.
///
/// The attention insists on its width, so it is the width between the linear layers that can change. Outside of training
/// a layer reads the weights of its parts by itself: no part becomes a row of layers.
enum TransformerEncoder {
  static func apply(
    _ module: TorchModule, _ given: TorchLowering.Given, _ l: inout TorchLowering
  ) throws(Failure) -> TorchValue {
    let isLayer = module.className == "TransformerEncoderLayer"
    let mask = isLayer ? "src_mask" : "mask"
    let a = try OperatorArguments(
      parameters: ["src", Substring(mask), "src_key_padding_mask", "is_causal"], given: given, context: l.context)
    guard !a.has("src_key_padding_mask") else { throw l.unsupported("padding masks have no rule") }
    var x = try a.tensor("src")
    let base = l.base
    defer { l.base = base }
    if isLayer { return .tensor(try layer(module, x, mask: a[mask], &l)) }
    for member in try child("layers", of: module, l).children {
      guard member.className == "TransformerEncoderLayer" else {
        throw l.unsupported("its layers are \(member.className), for which there is no rule")
      }
      x = try layer(member, x, mask: a[mask], &l)
    }
    guard let norm = module.children.first(where: { $0.name == "norm" }) else { return .tensor(x) }
    return .tensor(try applied(norm, x, &l))
  }

  private static func layer(
    _ module: TorchModule, _ x: ValueID, mask: TorchValue, _ l: inout TorchLowering
  ) throws(Failure) -> ValueID {
    func normed(_ x: ValueID, _ name: String, _ l: inout TorchLowering) throws(Failure) -> ValueID {
      try applied(child(name, of: module, l), x, &l)
    }
    func sum(_ x: ValueID, _ y: ValueID, _ l: inout TorchLowering) throws(Failure) -> ValueID {
      l.base = module.path
      return try l.node("Add", [x, y], as: "sum")
    }
    guard module.attributes["norm_first"] == .bool(true) else {
      let attended = try normed(sum(x, attention(module, x, mask: mask, &l), &l), "norm1", &l)
      return try normed(sum(attended, feed(module, attended, &l), &l), "norm2", &l)
    }
    let attended = try sum(x, attention(module, normed(x, "norm1", &l), mask: mask, &l), &l)
    return try sum(attended, feed(module, normed(attended, "norm2", &l), &l), &l)
  }

  private static func attention(
    _ module: TorchModule, _ x: ValueID, mask: TorchValue, _ l: inout TorchLowering
  ) throws(Failure) -> ValueID {
    let attention = try child("self_attn", of: module, l)
    l.base = attention.path
    let given = TorchLowering.Given(
      positional: [TorchValue](repeating: .tensor(x), count: 3), keywords: mask.isNone ? [] : [("attn_mask", mask)])
    guard case .list(let results) = try MultiheadAttention.apply(attention, given, &l),
      case .tensor(let result)? = results.first
    else { throw l.malformed("its attention returns nothing") }
    return result
  }

  private static func feed(
    _ module: TorchModule, _ x: ValueID, _ l: inout TorchLowering
  ) throws(Failure) -> ValueID {
    let (first, second) = (try child("linear1", of: module, l), try child("linear2", of: module, l))
    for part in [first, second] {
      guard let weight = try TorchModules.tensor("weight", part, &l) else { continue }
      l.indivisible[weight] = "'\(module.path)' reads the weights of its parts by itself"
    }
    let wide = try applied(first, x, &l)
    let activated: ValueID
    if let activation = module.children.first(where: { $0.name == "activation" }) {
      activated = try applied(activation, wide, &l)
    } else if case .symbol(let name)? = module.attributes["activation"], let function = TorchOperators.function(name) {
      l.base = "\(module.path).activation"
      let given = TorchLowering.Given(positional: [.tensor(wide)], keywords: [])
      guard case .tensor(let result) = try l.run(function, given) else { throw l.unsupported("\(name) has no rule") }
      activated = result
    } else {
      throw l.unsupported("its activation is a function without a rule")
    }
    return try applied(second, activated, &l)
  }

  private static func applied(
    _ module: TorchModule, _ x: ValueID, _ l: inout TorchLowering
  ) throws(Failure) -> ValueID {
    l.base = module.path
    let given = TorchLowering.Given(positional: [.tensor(x)], keywords: [])
    guard case .tensor(let result) = try TorchModules.apply(module, given, &l) else {
      throw l.unsupported("it does not return a tensor")
    }
    return result
  }

  private static func child(
    _ name: String, of module: TorchModule, _ l: TorchLowering
  ) throws(Failure) -> TorchModule {
    guard let child = module.children.first(where: { $0.name == name }) else {
      throw l.malformed("it has no '\(name)'")
    }
    return child
  }
}
