/// Concrete lengths for the inputs of a graph, and the two choices of them that the daemon works with.
///
/// *Nominal* lengths are what a user would feed: they give multiply-adds and sizes. *Analysis* lengths make every open
/// length a prime that divides no constant of the model, so that factors of different axes never line up by accident
/// (coupling by labels tells axes apart by their factors). What differs between the two depends on open lengths.
package struct InputLengths: Sendable, Equatable {
  package let shapes: [ValueID: [Int]]
  /// The lengths of the file's symbolic axes.
  package let symbols: [String: Int]
}

/// The shapes of a graph under its nominal and its analysis lengths. One table where no length is open.
package struct GraphShapes: Sendable {
  package let nominal: ShapeTable
  package let analysis: ShapeTable
  package let nominalLengths: InputLengths
  package let analysisLengths: InputLengths

  /// Whether no input length is open, so that both tables are the same.
  package var isStatic: Bool { nominalLengths == analysisLengths }
}

extension Graph {
  /// Infers all shapes under the lengths that were chosen for another graph with the same inputs.
  package func inferShapes(like other: GraphShapes) throws(Failure) -> GraphShapes {
    let (nominal, analysis) = (other.nominalLengths, other.analysisLengths)
    let table = try inferShapes(inputShapes: nominal.shapes, symbols: nominal.symbols)
    return GraphShapes(
      nominal: table,
      analysis: other.isStatic ? table : try inferShapes(inputShapes: analysis.shapes, symbols: analysis.symbols),
      nominalLengths: nominal, analysisLengths: analysis)
  }

  /// Infers all shapes, choosing the lengths that the file leaves open.
  ///
  /// An open length that the caller does not give is tried with what networks of its kind usually take, until the
  /// graph's shapes fit together.
  /// - Parameter given: shapes by input name; each must fit the input's declared rank and fixed lengths.
  /// - Throws: `inputShapeMismatch` where the given shapes do not fit, are needed, or no lengths tried fit the graph;
  ///   `modelMalformed` where shapes contradict each other and no length but the batch is open.
  package func inferShapes(given: [String: [Int]] = [:]) throws(Failure) -> GraphShapes {
    let axes = try InputAxes(of: self, given: given)
    let (nominalLengths, nominal) = try nominalShapes(axes)
    guard !axes.open.isEmpty else {
      return GraphShapes(
        nominal: nominal, analysis: nominal, nominalLengths: nominalLengths, analysisLengths: nominalLengths)
    }
    let used = axes.open(of: nominalLengths)
    for chosen in AnalysisLengths(axes, constants: constants()).candidates(nominal: used) {
      guard let lengths = axes.lengths(chosen),
        let table = try? inferShapes(inputShapes: lengths.shapes, symbols: lengths.symbols)
      else { continue }
      return GraphShapes(
        nominal: nominal, analysis: table, nominalLengths: nominalLengths, analysisLengths: lengths)
    }
    return GraphShapes(
      nominal: nominal, analysis: nominal, nominalLengths: nominalLengths, analysisLengths: nominalLengths)
  }

  private func nominalShapes(_ axes: InputAxes) throws(Failure) -> (InputLengths, ShapeTable) {
    var first: (failure: Failure, lengths: InputLengths)?
    // A batch of another size mends no contradiction; other lengths may.
    let mayDependOnLengths = axes.open.contains { $0.given != nil || $0.role != .batch }
    for alternatives in NominalLengths.phases(axes, mentioned: axes.open.isEmpty ? [] : mentionedLengths()) {
      var previous: String?
      for chosen in alternatives {
        guard let lengths = axes.lengths(chosen) else { continue }
        do throws(Failure) {
          let table = try inferShapes(inputShapes: lengths.shapes, symbols: lengths.symbols)
          try axes.requireGiven(lengths, in: self)
          return (lengths, table)
        } catch {
          if first == nil { first = (error, lengths) }
          // The same contradiction under other lengths: these lengths are not what it comes from.
          if error.message == previous { break }
          previous = error.message
        }
      }
    }
    guard let (failure, lengths) = first else {
      throw Failure(.inputShapeMismatch, "no lengths fit the symbolic axes of the inputs; pass input_shapes")
    }
    guard mayDependOnLengths, failure.kind == .modelMalformed else { throw failure }
    let shown = inputs.compactMap { id in lengths.shapes[id].map { "'\(self[id].name)' \($0)" } }
    throw Failure(
      .inputShapeMismatch,
      "the shapes do not fit together with the inputs \(shown.joined(separator: ", ")): \(failure.message); "
        + "pass input_shapes with lengths that the model takes",
      details: failure.details)
  }

  /// The lengths and settings that the model fixes: what a chosen prime must not divide.
  private func constants() -> Set<Int> {
    var constants: Set<Int> = []
    for value in values {
      for case .fixed(let length) in value.declaredShape ?? [] { constants.insert(length) }
      constants.formUnion(value.tensor?.shape ?? [])
      constants.formUnion(value.shortIntegers)
    }
    return constants
  }

  /// The first few different numbers in the stored lists that may be lengths of an input.
  private func mentionedLengths() -> [Int] {
    var found: [Int] = []
    for value in values {
      for number in value.shortIntegers where (2...4096).contains(number) && !found.contains(number) {
        found.append(number)
        if found.count == 24 { return found }
      }
    }
    return found
  }
}

extension Value {
  /// The elements of a stored list of int64 no longer than a shape; empty otherwise. Longer lists hold indices.
  fileprivate var shortIntegers: [Int] {
    guard let tensor, tensor.dtype == .int64, tensor.shape.count <= 1, (tensor.shape.first ?? 1) <= ShapeLimits.rank
    else { return [] }
    return ElementArray(reading: tensor)?.integers?.map { Int($0) } ?? []
  }
}

extension InputAxes {
  /// What `lengths` chose for each open axis.
  fileprivate func open(of lengths: InputLengths) -> [Int] {
    var chosen = [Int](repeating: 1, count: open.count)
    for (input, axes) in self.lengths {
      for (axis, length) in axes.enumerated() {
        if case .open(let index) = length, let used = lengths.shapes[input]?[axis] { chosen[index] = used }
      }
    }
    return chosen
  }
}
