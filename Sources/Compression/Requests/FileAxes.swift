import ModelGraph

/// The axes of a stored tensor as its file has them, which is how replies name them and listings give them back.
struct FileAxes {
  private let axes: [[Int]]
  private let shape: [Int]
  private let depthwise: [[Int]]?

  init(_ value: Value) {
    let own = value.tensor?.shape ?? []
    axes = value.storedAxes?.axes ?? own.indices.map { [$0] }
    shape = value.storedAxes?.shape ?? own
    depthwise = value.storedAxes?.depthwise
  }

  /// The file's axis that an axis of the graph begins with.
  func first(_ axis: Int) -> Int { axes[axis].first ?? axis }

  /// What is kept along an axis of the graph, as what is kept along those of the file. Where that is no grid, which no
  /// file could say, it stays what it is along the first.
  func lists(_ kept: [Int], along axis: Int) -> [(axis: Int, kept: [Int], length: Int)] {
    let own = axes[axis]
    let lengths = own.map { shape[$0] }
    guard let lists = IndexGrid.lists(kept, lengths) else { return [(first(axis), kept, lengths.reduce(1, *))] }
    return zip(own, lists).map { ($0, $1, shape[$0]) }.filter { $0.kept.count < $0.length }
  }

  /// The shape that the weight of a stage in the place of the layer that reads this one has in the file.
  func fileShape(_ graphShape: [Int], of stage: NodeReplacement.Stage) -> [Int] {
    let axes = stage.isDepthwise(graphShape) ? depthwise ?? axes : axes
    guard graphShape.count == axes.count, axes.allSatisfy({ $0.count == 1 }) else { return graphShape }
    return axes.indices.sorted { axes[$0][0] < axes[$1][0] }.map { graphShape[$0] }
  }

  /// What is listed along axes of the file, along those of the graph.
  func graphTerms(_ entries: [RemovedSlices]) -> [RemovedSlices] {
    axes.indices.flatMap { axis -> [RemovedSlices] in
      let own = axes[axis]
      let concerned = entries.filter { own.contains($0.axis) }
      guard own.count > 1 else {
        return concerned.map { RemovedSlices(parameter: $0.parameter, axis: axis, indices: $0.indices) }
      }
      guard let parameter = concerned.first?.parameter else { return [] }
      let lists = own.map { axis in
        concerned.reduce(into: Set<Int>()) { set, entry in
          if entry.axis == axis, case .all(let indices) = entry.indices { set.formUnion(indices) }
        }
      }
      let indices = IndexGrid.indices(touching: lists, own.map { shape[$0] })
      return [RemovedSlices(parameter: parameter, axis: axis, indices: .all(indices))]
    }
  }
}

extension RemovalListing {
  /// The same along the graph's axes.
  func inGraphTerms(_ graph: Graph) -> RemovalListing {
    let rearranged = Dictionary(
      graph.values.filter { $0.storedAxes != nil }.map { ($0.name, $0) }
    ) { first, _ in first }
    guard !rearranged.isEmpty else { return self }
    var terms: [RemovedSlices] = []
    var seen: Set<String> = []
    for entry in removed {
      guard let value = rearranged[entry.parameter] else {
        terms.append(entry)
        continue
      }
      if seen.insert(entry.parameter).inserted {
        terms += FileAxes(value).graphTerms(removed.filter { $0.parameter == entry.parameter })
      }
    }
    return RemovalListing(removed: terms, copied: copied)
  }
}
