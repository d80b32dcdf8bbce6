/// A graph inside a node: a branch of If, the body of Loop or Scan. What it computes stays the node's own affair; it is
/// here to be looked at for shapes.
package struct GraphBody: Sendable {
  /// Its inputs are the body's own and after these what it reads of the graphs around it, by the names it has there.
  package let graph: Graph
  package let ownInputCount: Int

  package init(graph: Graph, ownInputCount: Int) { (self.graph, self.ownInputCount) = (graph, ownInputCount) }

  var ownInputs: ArraySlice<ValueID> { graph.inputs.prefix(ownInputCount) }
  var captured: ArraySlice<ValueID> { graph.inputs.dropFirst(ownInputCount) }
}

extension Node {
  /// The graph in an attribute; nil where there is none, or none that could be read.
  func body(_ attribute: String) -> GraphBody? {
    if case .graph(_, let body)? = attributes[attribute] { body } else { nil }
  }
}
