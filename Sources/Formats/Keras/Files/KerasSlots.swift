import JSON

/// The one table of which variables layers have: by class and settings, in the order in which Keras makes them
/// (keras/src/layers, `build`), with as much of their shapes as the settings say.
struct KerasSlot: Sendable {
  let role: String
  /// Groups between that of the layer and its variables, by the version that wrote the file.
  let groups: [String]
  /// Which of the variables of its group it is.
  let index: Int
  /// Its lengths by axis, nil where they follow from the input; nil where even the rank does.
  let lengths: [Int?]?
  /// Whether it is one that training changes; legacy files put those first.
  let isTrained: Bool
  /// A second copy of another variable, which only v3 archives hold.
  let isCopy: Bool

  /// "kernel" of "cell/kernel".
  var lastName: Substring { role.split(separator: "/").last ?? "" }
}

enum KerasSlots {
  /// A setting that variables depend on and that is not what Keras takes.
  struct Misfit: Error {
    let reason: String
  }

  /// - Returns: nil for classes that are not known, which may have any variables.
  static func slots(of className: String, _ settings: JSONElement) throws(Misfit) -> [KerasSlot]? {
    var table = Table(settings)
    guard table.add(className) else { return nil }
    if let reason = table.problem.reason { throw Misfit(reason: reason) }
    return table.slots
  }

  private struct Table {
    private(set) var slots: [KerasSlot] = []
    private let settings: JSONElement
    /// The first one that was met.
    let problem = Problem()

    final class Problem {
      var reason: String?
      func note(_ text: String) { if reason == nil { reason = text } }
    }

    init(_ settings: JSONElement) { self.settings = settings }

    mutating func add(_ className: String) -> Bool {
      switch className {
      case "Dense":
        let units = int("units")
        add("kernel", [nil, units])
        if usesBias { add("bias", [units]) }
      case "EinsumDense":
        add("kernel", nil)
        if let axes = settings["bias_axes"], !axes.isNull { add("bias", nil) }
      case "Conv1D", "Convolution1D": addConvolution(1)
      case "Conv2D", "Convolution2D": addConvolution(2)
      case "Conv3D", "Convolution3D": addConvolution(3)
      case "Conv1DTranspose", "Convolution1DTranspose": addConvolution(1, isTransposed: true)
      case "Conv2DTranspose", "Convolution2DTranspose": addConvolution(2, isTransposed: true)
      case "Conv3DTranspose", "Convolution3DTranspose": addConvolution(3, isTransposed: true)
      case "DepthwiseConv1D": addDepthwise(1)
      case "DepthwiseConv2D": addDepthwise(2)
      case "SeparableConv1D", "SeparableConvolution1D": addSeparable(1)
      case "SeparableConv2D", "SeparableConvolution2D": addSeparable(2)
      case "BatchNormalization": addBatchNormalization()
      case "LayerNormalization": addLayerNormalization()
      case "GroupNormalization":
        if flag("scale", true) { add("gamma", [nil]) }
        if flag("center", true) { add("beta", [nil]) }
      case "RMSNormalization": add("scale", nil)
      // Of keras.applications.convnext.
      case "LayerScale": add("gamma", [optionalInt("projection_dim")])
      case "PReLU": add("alpha", nil)
      case "Embedding": add("embeddings", [int("input_dim"), int("output_dim")])
      case "ReversibleEmbedding":
        add("embeddings", [int("input_dim"), int("output_dim")])
        if !flag("tie_weights", true) { add("reverse_embeddings", [int("output_dim"), int("input_dim")]) }
      case "Normalization":
        guard settings["mean"]?.isNull ?? true, settings["variance"]?.isNull ?? true else { break }
        add("mean", nil, isTrained: false)
        add("variance", nil, isTrained: false)
        add("count", [], isTrained: false)
      case "MultiHeadAttention":
        addAttention(int("num_heads"), int("num_heads"), int("key_dim"), optionalInt("value_dim"))
      case "GroupQueryAttention":
        addAttention(int("num_query_heads"), int("num_key_value_heads"), int("head_dim"), int("head_dim"))
      case "Attention":
        if flag("use_scale", false) { add("scale", []) }
        if settings["score_mode"]?.equals("concat") ?? false { add("concat_score_weight", []) }
      case "AdditiveAttention": if flag("use_scale", true) { add("scale", [nil]) }
      case "LSTM": addRecurrent(gates: 4, "cell")
      case "GRU": addRecurrent(gates: 3, "cell")
      case "SimpleRNN": addRecurrent(gates: 1, "cell")
      case "LSTMCell": addRecurrent(gates: 4, "")
      case "GRUCell": addRecurrent(gates: 3, "")
      case "SimpleRNNCell": addRecurrent(gates: 1, "")
      case "ConvLSTM1D": addConvolutionalLSTM(1)
      case "ConvLSTM2D": addConvolutionalLSTM(2)
      case "ConvLSTM3D": addConvolutionalLSTM(3)
      case "SpectralNormalization":
        slots.append(
          KerasSlot(role: "kernel", groups: [""], index: 0, lengths: nil, isTrained: true, isCopy: true))
        slots.append(
          KerasSlot(
            role: "vector_u", groups: [""], index: 1, lengths: [1, nil], isTrained: false, isCopy: false))
      case "InputLayer", "TimeDistributed", "Bidirectional", "RNN", "StackedRNNCells", "UnitNormalization": break
      default: return false
      }
      return true
    }

    // MARK: Settings

    /// A number that has to be there.
    private func int(_ name: StaticString) -> Int? {
      guard let value = optionalInt(name) else {
        problem.note("'\(name)' is missing")
        return nil
      }
      return value
    }

    private func optionalInt(_ name: StaticString) -> Int? {
      guard let element = settings[name], !element.isNull else { return nil }
      guard let value = element.int, value > 0 else {
        problem.note("'\(name)' is \(element.source.prefix(40)) and has to be a positive whole number")
        return nil
      }
      return value
    }

    private func flag(_ name: StaticString, _ otherwise: Bool) -> Bool {
      guard let element = settings[name], !element.isNull else { return otherwise }
      guard let value = element.bool else {
        problem.note("'\(name)' is \(element.source.prefix(40)) and has to be true or false")
        return otherwise
      }
      return value
    }

    private var usesBias: Bool { flag("use_bias", true) }

    private func kernelSize(_ rank: Int) -> [Int?] {
      let sizes = settings["kernel_size"]?.integers ?? []
      let isArray = settings["kernel_size"]?.kind == .array
      guard sizes.count == (isArray ? rank : 1), sizes.allSatisfy({ $0 > 0 }) else {
        problem.note("'kernel_size' has to be \(rank) positive whole numbers")
        return [Int?](repeating: nil, count: rank)
      }
      return isArray ? sizes : [Int?](repeating: sizes[0], count: rank)
    }

    // MARK: Variables

    private mutating func add(
      _ role: String, _ lengths: [Int?]?, groups: [String] = [""], index: Int? = nil, isTrained: Bool = true
    ) {
      slots.append(
        KerasSlot(
          role: role, groups: groups, index: index ?? slots.count, lengths: lengths, isTrained: isTrained,
          isCopy: false))
    }

    private mutating func addConvolution(_ rank: Int, isTransposed: Bool = false) {
      let filters = int("filters")
      add("kernel", kernelSize(rank) + (isTransposed ? [filters, nil] : [nil, filters]))
      if usesBias { add("bias", [filters]) }
    }

    private mutating func addDepthwise(_ rank: Int) {
      add("depthwise_kernel", kernelSize(rank) + [nil, optionalInt("depth_multiplier")])
      if usesBias { add("bias", [nil]) }
    }

    private mutating func addSeparable(_ rank: Int) {
      add("depthwise_kernel", kernelSize(rank) + [nil, optionalInt("depth_multiplier")])
      add("pointwise_kernel", [Int?](repeating: 1, count: rank) + [nil, int("filters")])
      if usesBias { add("bias", [int("filters")]) }
    }

    private mutating func addBatchNormalization() {
      if flag("scale", true) { add("gamma", nil) }
      if flag("center", true) { add("beta", nil) }
      add("moving_mean", nil, isTrained: false)
      add("moving_variance", nil, isTrained: false)
      guard flag("renorm", false) else { return }
      for role in ["moving_stddev", "renorm_mean", "renorm_stddev"] { add(role, nil, isTrained: false) }
    }

    private mutating func addLayerNormalization() {
      let isRMS = flag("rms_scaling", false)
      if isRMS || flag("scale", true) { add("gamma", nil) }
      if !isRMS, flag("center", true) { add("beta", nil) }
    }

    private mutating func addAttention(_ queryHeads: Int?, _ keyHeads: Int?, _ keyLength: Int?, _ valueLength: Int?) {
      // `value_dim` is written even where it was left out; older files may have null, for `key_dim`.
      let valueLength = valueLength ?? keyLength
      var projections: [(role: String, heads: Int?, length: Int?)] = [
        ("query", queryHeads, keyLength), ("key", keyHeads, keyLength),
      ]
      if flag("use_gate", false) { projections.append(("gate", queryHeads, valueLength)) }
      projections.append(("value", keyHeads, valueLength))
      for (role, heads, length) in projections {
        let groups = ["\(role)_dense", "_\(role)_dense"]
        add("\(role)/kernel", [nil, heads, length], groups: groups, index: 0)
        if usesBias { add("\(role)/bias", [heads, length], groups: groups, index: 1) }
      }
      let groups = ["output_dense", "_output_dense"]
      let isPlain = settings["output_shape"].map { $0.isNull || $0.integers?.count == 1 } ?? true
      add("attention_output/kernel", isPlain ? [queryHeads, valueLength, nil] : nil, groups: groups, index: 0)
      if usesBias { add("attention_output/bias", isPlain ? [nil] : nil, groups: groups, index: 1) }
    }

    private mutating func addRecurrent(gates: Int, _ group: String) {
      let units = int("units")
      let all = units.map { $0.multipliedReportingOverflow(by: gates).partialValue }
      let prefix = group.isEmpty ? "" : group + "/"
      add(prefix + "kernel", [nil, all], groups: [group], index: 0)
      add(prefix + "recurrent_kernel", [units, all], groups: [group], index: 1)
      guard usesBias else { return }
      // A GRU that resets after the product keeps the biases of input and state apart.
      let isDouble = gates == 3 && flag("reset_after", true)
      add(prefix + "bias", isDouble ? [2, all] : [all], groups: [group], index: 2)
    }

    private mutating func addConvolutionalLSTM(_ rank: Int) {
      let filters = int("filters")
      let all = filters.map { $0.multipliedReportingOverflow(by: 4).partialValue }
      add("cell/kernel", kernelSize(rank) + [nil, all], groups: ["cell"], index: 0)
      add("cell/recurrent_kernel", kernelSize(rank) + [filters, all], groups: ["cell"], index: 1)
      if usesBias { add("cell/bias", [all], groups: ["cell"], index: 2) }
    }
  }
}
