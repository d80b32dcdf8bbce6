import ModelGraph

/// How the elements of a computed value are spread over the cells of a group, its samples, and what is left: the map
/// that every channel has.
///
/// The analysis knows axes as factors, some with labels; the model may run with another batch than it was analysed
/// with, so lengths are those of the value at hand. Of axis 0, what lies outside the labelled factors counts samples.
struct ChannelView {
  struct Dimension {
    var size: Int
    /// Elements from one index to the next.
    var stride: Int
  }

  /// Per channel its cell and where its first element lies; channels of other groups are left out.
  private(set) var channels: [(cell: Int, offset: Int)] = []
  private(set) var samples = Dimension(size: 1, stride: 0)
  /// Outermost first.
  private(set) var map: [Dimension] = []

  /// One map alone, of which only the layout is known.
  init(map: [Dimension]) { self.map = map }

  /// - Returns: nil if no axis of the value holds channels of group `g`, or the shape does not fit the analysis.
  init?(_ value: LabelledValue, shape: [Int], group g: Int, _ coupling: ChannelCoupling) {
    guard let set = value.channels(of: g, coupling), let axes = AxisParts.of(value, set, shape: shape) else {
      return nil
    }
    var labelled = [Dimension](repeating: Dimension(size: 1, stride: 0), count: set.factors.count)
    for (a, parts) in axes.enumerated() {
      var countsSamples = a == 0
      for part in parts {
        if let position = part.position {
          labelled[position] = part.dimension
          countsSamples = false
        } else if countsSamples {
          samples = part.dimension
          countsSamples = false
        } else {
          map.append(part.dimension)
        }
      }
    }
    let labels = set.labels.flattened()
    var index = [Int](repeating: 0, count: labelled.count)
    for label in labels {
      if coupling.group(of: label) == g, let cell = coupling.cell(of: label) {
        channels.append((cell, zip(index, labelled).reduce(0) { $0 + $1.0 * $1.1.stride }))
      }
      for d in index.indices.reversed() {
        index[d] += 1
        if index[d] < labelled[d].size { break }
        index[d] = 0
      }
    }
  }
}

/// A factor of an axis at its actual length.
struct AxisPart {
  var dimension: ChannelView.Dimension
  /// Its position in the label set, nil for others.
  var position: Int?
}

enum AxisParts {
  /// Per axis its factors, outermost first; nil if `shape` does not fit them. What an axis is longer than analysed
  /// belongs to its outermost factor without labels, or to one outside them.
  static func of(_ value: LabelledValue, _ set: LabelSet, shape: [Int]) -> [[AxisPart]]? {
    guard shape.count == value.axes.count else { return nil }
    var result: [[AxisPart]] = []
    var stride = 1
    for (factors, length) in zip(value.axes, shape).reversed() {
      // Neighbours without labels are one run of indices, however the analysis split them.
      var (sizes, positions) = ([Int](), [Int?]())
      for factor in factors {
        let position = set.position(of: factor)
        if position == nil, let last = positions.last, last == nil {
          sizes[sizes.count - 1] *= factor.size
        } else {
          sizes.append(factor.size)
          positions.append(position)
        }
      }
      let known = sizes.reduce(1, *)
      if known != length {
        if let open = positions.firstIndex(of: nil) {
          let rest = known / sizes[open]
          guard length % rest == 0 else { return nil }
          sizes[open] = length / rest
        } else {
          guard length % known == 0 else { return nil }
          sizes.insert(length / known, at: 0)
          positions.insert(nil, at: 0)
        }
      }
      var parts: [AxisPart] = []
      for (size, position) in zip(sizes, positions).reversed() {
        parts.append(AxisPart(dimension: .init(size: size, stride: stride), position: position))
        stride *= size
      }
      result.append(parts.reversed())
    }
    return result.reversed()
  }
}

extension LabelledValue {
  /// The set that holds channels of group `g`, the one over most factors if there are several.
  func channels(of g: Int, _ coupling: ChannelCoupling) -> LabelSet? {
    var best: LabelSet?
    for set in sets where set.factors.count > best?.factors.count ?? 0 {
      var holds = false
      set.labels.forEachDistinct { if !holds, coupling.group(of: $0) == g { holds = true } }
      if holds { best = set }
    }
    return best
  }
}
