import Compression
import ModelGraph
import TestSupport

/// What the analysis says of a graph, in words short enough for tables of expectations.
///
/// A group reads `8: w.0 b.0 v.1`: 8 units, each of which cuts these axes of these parameters (`w.0*2`: two slices of
/// that axis per unit). `2x4: ...` are two blocks of four that must lose equally many, `~0` marks groups that must lose
/// as many as each other, `(3 stay)` counts the cells of balanced rows that cannot go.
struct CouplingReading {
  let model: CompressibleModel
  let coupling: ChannelCoupling

  init(_ graph: Graph, pruningBlocks: Bool = false, exactOnly: Bool = false) throws {
    model = try CompressibleModel(graph: graph, sizeBytes: 0)
    coupling = try model.coupling(CouplingOptions(prunesBlocks: pruningBlocks, exactOnly: exactOnly), Work())
  }

  /// In order of their smallest label.
  var groups: [String] {
    var cuts: [Int32: [String]] = [:]
    for origin in coupling.analysis.stored.origins {
      for label in origin.range {
        cuts[coupling.classOf[Int(label)], default: []].append("\(model.graph[origin.value].name).\(origin.axis)")
      }
    }
    return coupling.groups.map { group in
      let sample = group.cells.indices.first { group.removable[$0] } ?? 0
      var counted: [(axis: String, count: Int)] = []
      for axis in cuts[group.cells[sample]] ?? [] {
        if let k = counted.firstIndex(where: { $0.axis == axis }) {
          counted[k].count += 1
        } else {
          counted.append((axis, 1))
        }
      }
      let size = group.blocks > 1 ? "\(group.blocks)x\(group.width)" : "\(group.width)"
      let staying = group.removable.filter { !$0 }.count
      return "\(size): " + counted.map { $0.count > 1 ? "\($0.axis)*\($0.count)" : $0.axis }.joined(separator: " ")
        + (group.link.map { " ~\($0)" } ?? "") + (staying > 0 ? " (\(staying) stay)" : "")
    }
  }

  /// Why index `index` of a parameter's axis cannot be removed, nil if it can.
  func reason(_ parameter: String, _ axis: Int, index: Int = 0) -> Reason? {
    for origin in coupling.analysis.stored.origins
    where origin.axis == axis && model.graph[origin.value].name == parameter {
      return coupling.frozenReason(of: origin.range.lowerBound + Int32(index))
    }
    return nil
  }

  /// The class of an index of a parameter's axis.
  func unit(_ parameter: String, _ axis: Int, _ index: Int) -> Int32? {
    for origin in coupling.analysis.stored.origins
    where origin.axis == axis && model.graph[origin.value].name == parameter {
      return coupling.classOf[Int(origin.range.lowerBound) + index]
    }
    return nil
  }
}

extension GraphBuilder {
  /// A 1 x 1 convolution with weight `weight` of `outputs` channels, named `name`.
  func conv(
    _ x: ValueID, _ inputs: Int, _ outputs: Int, _ weight: String, groups: Int = 1, name: String? = nil
  ) -> ValueID {
    self(
      "Conv", x, self.weight([outputs, inputs / groups, 1, 1], name: weight),
      with: groups > 1 ? ["group": .int(groups)] : [:], name: name ?? "conv_\(weight)")
  }
}

/// `x (1,3,4,4) → Conv w of 8 channels → body → Conv v → y`; the body leaves `channels` channels.
func betweenConvolutions(
  opset: Int = 17, channels: Int = 8, batch: Dimension = 1, _ body: (GraphBuilder, ValueID) -> ValueID
) -> Graph {
  let g = GraphBuilder(opset: opset)
  let x = g.input("x", [batch, 3, 4, 4])
  g.output(g.conv(body(g, g.conv(x, 3, 8, "w")), channels, 5, "v"))
  return g.build()
}

extension LabelArray {
  subscript(index: [Int]) -> Int32 { flattened()[zip(index, shape).reduce(0) { $0 * $1.1 + $1.0 }] }
}
