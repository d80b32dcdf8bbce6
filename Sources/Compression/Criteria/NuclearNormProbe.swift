import ModelGraph
import Numerics

/// PR_NN: per cell of a group the mean over samples of the nuclear norm of its feature map, at one value of the graph.
///
/// A map is what a sample leaves of one channel: height by width, a vector over tokens, or a single number. Of more
/// than two dimensions the first is the height and the others together the width. A cell of several channels has the
/// mean of theirs.
final class NuclearNormProbe: FeatureMapProbe {
  let values: [ValueID]
  private let group: Int
  private let coupling: ChannelCoupling
  private let algebra: LinearAlgebra
  private var sums: [Double]
  private var channels: [Int]
  private var samples = 0
  private var view: (shape: [Int], view: ChannelView)?

  init(tap: ValueID, group: Int, _ coupling: ChannelCoupling, _ algebra: LinearAlgebra) {
    (values, self.group, self.coupling, self.algebra) = ([tap], group, coupling, algebra)
    let cells = coupling.groups[group].cells.count
    (sums, channels) = ([Double](repeating: 0, count: cells), [Int](repeating: 0, count: cells))
  }

  func add(_ maps: [FeatureMap], work: Work) throws(Failure) {
    guard let map = maps.first else { return }
    if view?.shape != map.shape {
      guard let value = coupling.analysis.values[map.value.index],
        let view = ChannelView(value, shape: map.shape, group: group, coupling)
      else { throw coupling.misfit(map) }
      self.view = (map.shape, view)
      channels = [Int](repeating: 0, count: sums.count)
      for channel in view.channels { channels[channel.cell] += 1 }
    }
    guard let view = view?.view else { return }
    let rows = view.map.count > 1 ? view.map[0].size : 1
    let count = view.map.reduce(1) { $0 * $1.size }
    let columns = count / max(rows, 1)
    let scratch = UnsafeMutableBufferPointer<Double>.allocate(capacity: max(count, 1))
    defer { scratch.deallocate() }
    let part = UnsafeBufferPointer(rebasing: scratch[..<count])
    for sample in 0..<view.samples.size {
      for (k, channel) in view.channels.enumerated() {
        if k % 16 == 0 { try work.checkCancellation() }
        view.copyMap(of: map.elements, from: sample * view.samples.stride + channel.offset, to: scratch)
        guard let norm = NuclearNorm.of(part, rows: rows, columns: columns, algebra) else {
          throw coupling.graph.notFinite(map.value)
        }
        sums[channel.cell] += norm
      }
    }
    samples += view.samples.size
  }

  /// What the group's member at this tap says of its cells; nil before any sample.
  var scores: MemberScores? {
    guard samples > 0 else { return nil }
    let means = zip(sums, channels).map { $1 == 0 ? 0 : $0 / Double($1 * samples) }
    return MemberScores(means, covers: channels.contains(0) ? channels.map { $0 > 0 } : nil)
  }
}

extension ChannelView {
  /// Copies one channel's map of one sample, row-major.
  func copyMap(of elements: UnsafeBufferPointer<Float>, from start: Int, to target: UnsafeMutableBufferPointer<Double>)
  {
    guard let last = map.last else {
      target[0] = Double(elements[start])
      return
    }
    var index = [Int](repeating: 0, count: map.count - 1)
    var (position, next) = (start, 0)
    while true {
      for k in 0..<last.size { target[next + k] = Double(elements[position + k * last.stride]) }
      next += last.size
      var d = index.count - 1
      while d >= 0 {
        index[d] += 1
        position += map[d].stride
        if index[d] < map[d].size { break }
        position -= map[d].stride * map[d].size
        index[d] = 0
        d -= 1
      }
      if d < 0 { return }
    }
  }
}

extension ChannelCoupling {
  /// The model ran into a shape that its analysis does not know.
  func misfit(_ map: FeatureMap) -> Failure {
    Failure(
      .inputShapeMismatch,
      "'\(graph[map.value].name)' has shape \(map.shape) on these data, which does not fit \(analysis.shapes[map.value] ?? []); give the data's shapes as input_shapes",
      details: ["value": .string(graph[map.value].name)])
  }
}
