import Compression
import ModelGraph
import TestSupport

/// Removes listed output channels of named layers and reads the plan back in words: `up input 3 = [1, 6, 8, 8]`,
/// `k group = 6`, `pick → Gather axis 1 [0, 3]`, `r input 1 * [3, 1] / [4, 1] + [0, 0]`.
struct PlanReading {
  let model: CompressibleModel
  let planned: PlannedCompression

  init(_ graph: Graph, removing channels: KeyValuePairs<String, [Int]>) throws {
    model = try CompressibleModel(graph: graph, sizeBytes: 0)
    let layers = channels.map { LayerSetting(name: $0, channels: [], values: .indices($1), use: true) }
    planned = try model.plan(
      CompressionRequest(method: .indices, choice: .layers(layers), options: PruningOptions()), work: Work())
  }

  var edits: [String] { planned.plan.edits.map { Self.words($0, model.graph) } }

  /// What is kept of every cut axis: `w.0 [0, 2]`, `k.1 [[0], [1]]`.
  var slices: [String] {
    planned.plan.slices.flatMap { slice in
      slice.axes.map { axis in
        switch axis.kept {
        case .indices(let kept): "\(model.graph[slice.value].name).\(axis.axis) \(kept)"
        case .perBlock(_, let blocks): "\(model.graph[slice.value].name).\(axis.axis) \(blocks)"
        }
      }
    }
  }

  static func words(_ edit: NodeEdit, _ graph: Graph) -> String {
    switch edit {
    case .setAttribute(let node, let name, let value):
      let shown =
        switch value {
        case .int(let number): "\(number)"
        case .ints(let numbers): "\(numbers)"
        default: "\(value)"
        }
      return "\(graph[node].name) \(name) = \(shown)"
    case .removeAttribute(let node, let name): return "\(graph[node].name) without \(name)"
    case .setInput(let node, let input, let tensor): return "\(graph[node].name) input \(input) = \(numbers(tensor))"
    case .readConstant(let node, let input, let index): return "\(graph[node].name) input \(input) = constant \(index)"
    case .adjustInput(let node, let input, let multiplier, let divisor, let offset):
      return
        "\(graph[node].name) input \(input) * \(numbers(multiplier)) / \(numbers(divisor)) + \(numbers(offset))"
    case .becomeGather(let node, let axis, let indices): return "\(graph[node].name) → Gather axis \(axis) \(indices)"
    case .gatherInput(let node, let input, let axis, let indices):
      return "\(graph[node].name) input \(input) → Gather axis \(axis) \(indices)"
    }
  }

  private static func numbers(_ tensor: Tensor) -> String {
    let read = ElementArray(reading: tensor)
    switch read?.elements {
    case .integers(let elements): return tensor.shape.isEmpty ? "\(elements[0])" : "\(elements)"
    case .reals(let elements): return tensor.shape.isEmpty ? "\(elements[0])" : "\(elements)"
    case nil: return "?"
    }
  }
}
