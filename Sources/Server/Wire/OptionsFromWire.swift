import Compression
import JSON
import JSONRPC

extension PruningOptions {
  /// The options' names on the wire, in the order in which they are documented.
  static let wireNames = [
    "policy", "layer_norm", "group_policy", "reshape_channel_axis", "step_size", "step_op", "min_num_of_value",
    "reverse", "scope", "allocation", "max_layer_ratio", "include", "exclude", "exact_only", "index_base", "seed",
    "snp_gamma", "zero_rank",
  ]

  /// Reads the member `options`.
  init(_ params: Params, of method: CompressionMethod) throws(ResponseError) {
    self.init(defaultsOf: method)
    guard let options = try params.options() else { return }
    policy = try options.choice("policy", of: Policy.self) ?? policy
    layerNorm = try options.choice("layer_norm", of: LayerNorm.self) ?? layerNorm
    groupPolicy = try options.choice("group_policy", of: GroupPolicy.self) ?? groupPolicy
    if let axis = try options.int("reshape_channel_axis", in: -2...1) {
      reshapeChannelAxis = try options.require("reshape_channel_axis", ReshapeChannelAxis(rawValue: axis))
    }
    stepSize = try options.int("step_size", in: 1...PruningOptions.largestCount) ?? stepSize
    stepOp = try options.choice("step_op", of: StepOp.self) ?? stepOp
    minNumOfValue = try options.int("min_num_of_value", in: 1...PruningOptions.largestCount) ?? minNumOfValue
    reverse = try options.bool("reverse") ?? reverse
    scope = try options.choice("scope", of: Scope.self) ?? scope
    allocation = try options.choice("allocation", of: Allocation.self) ?? allocation
    maxLayerRatio =
      try options.number("max_layer_ratio", "above 0 and at most 1") { 0 < $0 && $0 <= 1 } ?? maxLayerRatio
    include = try options.strings("include") ?? include
    exclude = try options.strings("exclude") ?? exclude
    exactOnly = try options.bool("exact_only") ?? exactOnly
    indexBase = try options.int("index_base", in: 0...1) ?? indexBase
    seed = try options.int("seed", in: 0...Int(Int32.max)) ?? seed
    let gamma = try options.number("snp_gamma", "a share above 0 and below 1, or a whole number of at least 1") {
      (0 < $0 && $0 < 1) || ($0 >= 1 && $0 <= Double(PruningOptions.largestCount) && $0.rounded() == $0)
    }
    if let gamma { snpGamma = gamma < 1 ? .energy(gamma) : .fixed(Int(gamma)) }
  }

  /// No layer has so many channels, and products with it do not overflow.
  fileprivate static let largestCount = 1 << 30

  /// What `initialize` tells of the options: defaults, and what else they may be.
  static var wireDescription: JSONValue {
    let defaults = PruningOptions()
    func choice<Choice: RawRepresentable<String> & CaseIterable>(_ value: Choice) -> JSONValue {
      ["default": .string(value.rawValue), "values": .array(Choice.allCases.map { .string($0.rawValue) })]
    }
    return [
      "policy": choice(defaults.policy),
      "layer_norm": choice(defaults.layerNorm),
      "group_policy": choice(defaults.groupPolicy),
      "reshape_channel_axis": [
        "default": .int(defaults.reshapeChannelAxis.rawValue),
        "values": .ints(ReshapeChannelAxis.allCases.map(\.rawValue)),
      ],
      "step_size": ["default": .int(defaults.stepSize), "minimum": 1],
      "step_op": choice(defaults.stepOp),
      "min_num_of_value": ["default": .int(defaults.minNumOfValue), "minimum": 1],
      "reverse": ["default": .bool(defaults.reverse)],
      "scope": choice(defaults.scope),
      "allocation": choice(defaults.allocation),
      "max_layer_ratio": ["default": .double(defaults.maxLayerRatio), "minimum": 0, "maximum": 1],
      "include": ["default": .null],
      "exclude": ["default": []],
      "exact_only": ["default": .bool(defaults.exactOnly)],
      "index_base": ["default": .int(defaults.indexBase), "values": [0, 1]],
      "seed": ["default": .int(defaults.seed), "minimum": 0],
      "snp_gamma": ["default": defaults.snpGamma.json, "minimum": 0],
      "zero_rank": choice(DecompositionOptions().zeroRank),
    ]
  }
}

extension DecompositionOptions {
  /// Those of the options' names that say something about ranks.
  private static let wireNames = ["step_size", "step_op", "min_num_of_value", "include", "exclude", "zero_rank"]

  /// What to tell of options that are given and say nothing about ranks; nil if there are none.
  static func warning(_ params: Params) throws(ResponseError) -> String? {
    let idle = try params.object("options")?.names.filter { !wireNames.contains($0) } ?? []
    return idle.isEmpty ? nil : "decompositions do not look at the options \(idle.joined(separator: ", "))"
  }

  /// Reads the member `options`.
  init(_ params: Params) throws(ResponseError) {
    self.init()
    guard let options = try params.options() else { return }
    stepSize = try options.int("step_size", in: 1...PruningOptions.largestCount) ?? stepSize
    stepOp = try options.choice("step_op", of: PruningOptions.StepOp.self) ?? stepOp
    minNumOfValue = try options.int("min_num_of_value", in: 1...PruningOptions.largestCount) ?? minNumOfValue
    include = try options.strings("include") ?? include
    exclude = try options.strings("exclude") ?? exclude
    zeroRank = try options.choice("zero_rank", of: ZeroRank.self) ?? zeroRank
  }
}

extension Params {
  /// The member `options`. Unlike elsewhere, unknown members are refused: a misspelled option would silently compress
  /// with the default. Options that say nothing about a method are known all the same: the field's client sends all.
  fileprivate func options() throws(ResponseError) -> Params? {
    guard let options = try object("options") else { return nil }
    for name in options.names where !PruningOptions.wireNames.contains(name) {
      let known = PruningOptions.wireNames.joined(separator: ", ")
      throw .invalidParams(options.pointer(name), "there is no option '\(name)'; there are \(known)")
    }
    return options
  }
}

extension AttentionPairs.Components {
  fileprivate var json: JSONValue {
    switch self {
    case .energy(let share): .double(share)
    case .fixed(let count): .int(count)
    }
  }
}
