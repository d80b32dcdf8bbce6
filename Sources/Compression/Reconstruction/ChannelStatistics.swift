import Glibc
import ModelGraph

/// Mean and variance over data of a value's channels, as far as the statistics that batch normalizations store tell:
/// after one, its shift and the square of its scale; from there on as of normal distributions, channels of sums as if
/// independent.
package struct ChannelStatistics: Sendable {
  /// One number per index of axis 1.
  package let means: [Double]
  package let variances: [Double]

  /// By value; nil where nothing is known.
  package static func of(_ graph: Graph, shapes: ShapeTable) -> [ChannelStatistics?] {
    var known = [ChannelStatistics?](repeating: nil, count: graph.values.count)
    for node in graph.nodes {
      guard let output = node.output(0), let found = statistics(of: node, graph, shapes, known) else { continue }
      known[output.index] = found
    }
    return known
  }

  private static func statistics(
    of node: Node, _ graph: Graph, _ shapes: ShapeTable, _ known: [ChannelStatistics?]
  ) -> ChannelStatistics? {
    func numbers(_ input: Int) -> [Double]? { node.input(input).flatMap { graph[$0].tensor?.realNumbers } }
    let first = node.input(0).flatMap { known[$0.index] }
    switch node.qualifiedOperator {
    case "BatchNormalization":
      guard let scale = numbers(1), let shift = numbers(2), scale.count == shift.count else { return nil }
      return ChannelStatistics(means: shift, variances: scale.map { $0 * $0 })
    case "Identity", "Dropout": return first
    case "GlobalAveragePool", "AveragePool": return first
    case "Flatten" where node.int("axis", default: 1) == 1, "Reshape":
      // Every channel becomes as many as it has places.
      guard let first, let from = node.input(0).flatMap({ shapes[$0] }),
        let to = node.output(0).flatMap({ shapes[$0] }),
        from.count >= 2, to.count == 2, from[0] == to[0], from[1] == first.means.count
      else { return nil }
      let places = from.dropFirst(2).reduce(1, *)
      guard from[1] * places == to[1] else { return nil }
      return ChannelStatistics(
        means: first.means.flatMap { [Double](repeating: $0, count: places) },
        variances: first.variances.flatMap { [Double](repeating: $0, count: places) })
    case "Concat" where node.int("axis", default: 0) == 1:
      let parts = node.inputs.compactMap { $0.flatMap { known[$0.index] } }
      guard parts.count == node.inputs.count else { return nil }
      return ChannelStatistics(means: parts.flatMap(\.means), variances: parts.flatMap(\.variances))
    case "Add":
      guard let first, let second = node.input(1).flatMap({ known[$0.index] }), first.means.count == second.means.count
      else { return nil }
      return ChannelStatistics(
        means: zip(first.means, second.means).map(+), variances: zip(first.variances, second.variances).map(+))
    case "Mul": return gated(node, graph, known)
    default:
      guard let first, let function = activation(node, graph) else { return nil }
      return first.mapped(function)
    }
  }

  /// x f(x), as exporters write SiLU and hard swish.
  private static func gated(_ node: Node, _ graph: Graph, _ known: [ChannelStatistics?]) -> ChannelStatistics? {
    for (x, gate) in [(0, 1), (1, 0)] {
      guard let value = node.input(x), let statistics = known[value.index],
        let producer = node.input(gate).flatMap({ graph[$0].producer }), graph[producer].input(0) == value,
        let function = activation(graph[producer], graph)
      else { continue }
      return statistics.mapped { $0 * function($0) }
    }
    return nil
  }

  private static func activation(_ node: Node, _ graph: Graph) -> ((Double) -> Double)? {
    func number(_ name: String, _ fallback: Double) -> Double { node.float(name).map(Double.init) ?? fallback }
    switch node.qualifiedOperator {
    case "Relu": return { max($0, 0) }
    case "LeakyRelu":
      let slope = number("alpha", 0.01)
      return { $0 < 0 ? slope * $0 : $0 }
    case "Clip":
      func limit(_ input: Int, _ name: String, _ fallback: Double) -> Double? {
        guard let value = node.input(input) else { return number(name, fallback) }
        return graph[value].tensor?.realNumbers?.first
      }
      guard let low = limit(1, "min", -.infinity), let high = limit(2, "max", .infinity) else { return nil }
      return { min(max($0, low), high) }
    case "Sigmoid": return { 1 / (1 + exp(-$0)) }
    case "Tanh": return { tanh($0) }
    case "Softplus": return { log1p(exp($0)) }
    case "Elu":
      let alpha = number("alpha", 1)
      return { $0 < 0 ? alpha * expm1($0) : $0 }
    case "HardSigmoid":
      let (alpha, beta) = (number("alpha", 0.2), number("beta", 0.5))
      return { min(max(alpha * $0 + beta, 0), 1) }
    case "HardSwish": return { $0 * min(max($0 / 6 + 0.5, 0), 1) }
    case "Gelu": return { $0 * 0.5 * (1 + erf($0 / 2.0.squareRoot())) }
    default: return nil
    }
  }

  /// Points of the normal distribution at which functions are looked at, in standard deviations, with their weights.
  /// Activations have kinks, for which many even steps do better than few well-chosen points.
  private static let points: [(place: Double, weight: Double)] = {
    let step = 1.0 / 64
    let places = stride(from: -8.0, through: 8.0, by: step)
    return places.map { ($0, step * exp(-$0 * $0 / 2) / (2 * Double.pi).squareRoot()) }
  }()

  private func mapped(_ function: (Double) -> Double) -> ChannelStatistics {
    var (means, variances) = (self.means, self.variances)
    for channel in means.indices {
      let deviation = variances[channel].squareRoot()
      guard deviation > 0 else {
        (means[channel], variances[channel]) = (function(means[channel]), 0)
        continue
      }
      var (sum, squares) = (0.0, 0.0)
      for point in Self.points {
        let y = function(self.means[channel] + deviation * point.place)
        sum += point.weight * y
        squares += point.weight * y * y
      }
      (means[channel], variances[channel]) = (sum, max(0, squares - sum * sum))
    }
    return ChannelStatistics(means: means, variances: variances)
  }
}
