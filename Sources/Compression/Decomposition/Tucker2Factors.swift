import Glibc
import ModelGraph
import Numerics

// From orthonormal bases and a core to the weights of three layers: turned so that components descend by energy,
// scaled, signed, measured.

extension OrthogonalIteration {
  /// - Parameters:
  ///   - scale: what the kernel's elements were multiplied by.
  ///   - unwhitened: `[outputs * positions, inputs]`, where the kernel has been whitened.
  consuming func factors(
    scale: Double, sweeps: Int, whitening: Whitening?, unwhitened: MatrixSource?
  ) throws(Failure) -> Tucker2? {
    guard turnToComponents() else { return nil }
    let kept = FactorScaling.energy(of: core, count: core.count)
    if let whitening, inputBasis == nil {
      // Nothing was projected along the inputs: the whitening comes off the core, and no first layer carries it.
      whitening.solve(&core, count: ranks.output * positions, algebra)
    } else {
      whitening.map { $0.solve(&inputBasis!, count: ranks.input, algebra) }
    }
    scaleAndSign()

    var (lost, total) = (energy - kept, energy)
    var outputError: OutputError?
    if let unwhitened, let whitening {
      let loss = try residual(unwhitened, scale, whitening)
      let outputLoss = lost > Self.cancelling * energy ? lost : loss.output
      outputError = OutputError(meanSquare: outputLoss / (scale * scale), energy: energy / (scale * scale))
      (lost, total) = (loss.weight, loss.total)
    } else if lost <= Self.cancelling * energy {
      let source = MatrixSource(kernel, rows: outputs * positions, columns: inputs)
      lost = try residual(source, 1, nil).weight
    }
    return Tucker2(
      outputRank: ranks.output, inputRank: ranks.input, first: inputBasis, core: coreByInputs(dividedBy: scale),
      last: outputBasis.map { FactorScaling.transposed($0, rows: ranks.output, columns: outputs) },
      relativeError: total > 0 ? (max(lost, 0) / total).squareRoot() : 0, outputError: outputError, sweeps: sweeps)
  }

  /// Below this share, the difference of energies has lost too many digits: the error is then taken directly.
  private static var cancelling: Double { 1e-6 }

  /// `[ranks.output, ranks.input, positions]`.
  private func coreByInputs(dividedBy scale: Double) -> [Double] {
    let block = positions * ranks.input
    return [Double](unsafeUninitializedCapacity: core.count) { target, count in
      core.withUnsafeBufferPointer { core in
        guard let from = core.baseAddress, let to = target.baseAddress else { return }
        for a in 0..<ranks.output {
          LinearAlgebra.transpose(from + a * block, rows: positions, columns: ranks.input, to: to + a * block)
        }
      }
      count = core.count
      for element in 0..<count { target[element] /= scale }
    }
  }

  /// Turns each basis within its span to the eigenvectors of the core's Gram matrix along it, which are unique where
  /// eigenvalues differ: the components are the same however the span was found.
  private mutating func turnToComponents() -> Bool {
    if let basis = outputBasis {
      let (rank, width) = (ranks.output, positions * ranks.input)
      var gram = [Double](repeating: 0, count: rank * rank)
      algebra.addGram(of: core, count: rank, length: width, layout: .vectors, to: &gram)
      guard let turn = algebra.leadingEigenvectors(ofSymmetric: &gram, size: rank, count: rank)?.vectors else {
        return false
      }
      outputBasis = product(turn, basis, rows: rank, depth: rank, columns: outputs)
      core = product(turn, core, rows: rank, depth: rank, columns: width)
    }
    if let basis = inputBasis {
      let (rank, height) = (ranks.input, ranks.output * positions)
      var gram = [Double](repeating: 0, count: rank * rank)
      algebra.addGram(of: core, count: rank, length: height, layout: .elements, to: &gram)
      guard let turn = algebra.leadingEigenvectors(ofSymmetric: &gram, size: rank, count: rank)?.vectors else {
        return false
      }
      inputBasis = product(turn, basis, rows: rank, depth: rank, columns: inputs)
      var turned = [Double](repeating: 0, count: core.count)
      algebra.multiply(core, .asIs, turn, .transposed, rows: height, columns: rank, depth: rank, to: &turned)
      core = turned
    }
    return true
  }

  private func product(_ a: [Double], _ b: [Double], rows: Int, depth: Int, columns: Int) -> [Double] {
    var c = [Double](repeating: 0, count: rows * columns)
    algebra.multiply(a, .asIs, b, .asIs, rows: rows, columns: columns, depth: depth, to: &c)
    return c
  }

  /// Each index of the core gives its share of its slice's norm to the basis vector it belongs to: a half if there is
  /// one basis, a third if there are two. Then the factors as wholes are brought to one norm.
  private mutating func scaleAndSign() {
    let share = outputBasis == nil || inputBasis == nil ? 1.0 / 2 : 1.0 / 3
    let (width, rank) = (positions * ranks.input, ranks.input)
    // Norms of all slices before any of them is scaled.
    let outputNorms = (0..<ranks.output).map { FactorScaling.norm(of: core[$0 * width..<($0 + 1) * width]) }
    var inputSquares = [Double](repeating: 0, count: rank)
    for row in 0..<ranks.output * positions {
      for b in 0..<rank { inputSquares[b] += core[row * rank + b] * core[row * rank + b] }
    }
    func scaled(_ basis: inout [Double], _ index: Int, _ length: Int, _ norm: Double) -> Double {
      let vector = index * length..<(index + 1) * length
      let size = FactorScaling.norm(of: basis[vector])
      // Whitened bases are not orthonormal; a slice of nothing has no size to give.
      let weight = norm > 0 && size > 0 ? pow(norm * size, share) / size : 0
      let factor = FactorScaling.sign(of: basis[vector]) * weight
      for element in vector { basis[element] *= factor }
      return factor
    }
    if outputBasis != nil {
      for a in 0..<ranks.output {
        let factor = scaled(&outputBasis!, a, outputs, outputNorms[a])
        for element in a * width..<(a + 1) * width { core[element] = factor != 0 ? core[element] / factor : 0 }
      }
    }
    if inputBasis != nil {
      let factors = (0..<rank).map { scaled(&inputBasis!, $0, inputs, inputSquares[$0].squareRoot()) }
      for row in 0..<ranks.output * positions {
        for b in 0..<rank { core[row * rank + b] = factors[b] != 0 ? core[row * rank + b] / factors[b] : 0 }
      }
    }
    equalizeNorms()
  }

  private mutating func equalizeNorms() {
    let norms = [outputBasis, inputBasis, core].compactMap { factor in
      factor.map { FactorScaling.energy(of: $0, count: $0.count).squareRoot() }
    }
    let product = norms.reduce(1, *)
    guard norms.count > 1, product > 0, product.isFinite else { return }
    let common = pow(product, 1 / Double(norms.count))
    func scale(_ factor: inout [Double]) {
      let norm = FactorScaling.energy(of: factor, count: factor.count).squareRoot()
      for element in factor.indices { factor[element] *= common / norm }
    }
    if outputBasis != nil { scale(&outputBasis!) }
    if inputBasis != nil { scale(&inputBasis!) }
    scale(&core)
  }

  /// The squared norms of W, W - W' and (W - W') S for a kernel `[outputs * positions, inputs]` times `scale`.
  private func residual(
    _ source: MatrixSource, _ scale: Double, _ whitening: Whitening?
  ) throws(Failure) -> (total: Double, weight: Double, output: Double) {
    // core x first, [ranks.output, positions, inputs].
    let expanded =
      inputBasis.map {
        product(core, $0, rows: ranks.output * positions, depth: ranks.input, columns: inputs)
      } ?? core
    let width = positions * inputs
    let tileOutputs = max(1, MatrixSource.tileLength(width: inputs) / positions)
    var tile = [Double](repeating: 0, count: min(tileOutputs, outputs) * width)
    var sums = (total: 0.0, weight: 0.0, output: 0.0)
    for start in stride(from: 0, to: outputs, by: tileOutputs) {
      try work.checkCancellation()
      let count = min(tileOutputs, outputs - start)
      source.read(start * positions..<(start + count) * positions, 0..<inputs, &tile)
      if scale != 1 { for element in 0..<count * width { tile[element] *= scale } }
      sums.total += FactorScaling.energy(of: tile, count: count * width)
      if let outputBasis {
        // Columns start..<start + count of [ranks.output, outputs].
        var rows = [Double](repeating: 0, count: count * ranks.output)
        for a in 0..<ranks.output {
          for o in 0..<count { rows[o * ranks.output + a] = outputBasis[a * outputs + start + o] }
        }
        algebra.multiply(
          rows, .asIs, expanded, .asIs, rows: count, columns: width, depth: ranks.output, scale: -1, addend: 1,
          to: &tile)
      } else {
        for element in 0..<count * width { tile[element] -= expanded[start * width + element] }
      }
      sums.weight += FactorScaling.energy(of: tile, count: count * width)
      if let whitening {
        whitening.apply(to: &tile, count: count * positions, algebra)
        sums.output += FactorScaling.energy(of: tile, count: count * width)
      }
    }
    return sums
  }
}
