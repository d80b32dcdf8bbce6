import Compression
import ModelGraph
import Numerics

/// One change to a program, in the program's own terms. What a plan for the graph comes to; a document carries it out in
/// its file's language.
package enum TorchEdit: Sendable {
  /// The integer literal at `place` becomes `value`.
  case setInteger(ArgumentPlace, Int)
  /// A whole argument becomes `value`; a keyword that is not there is appended.
  case setKeyword(call: Int, name: String, value: TorchArgument)
  case setArgument(call: Int, index: Int, value: TorchArgument)
  /// The same arguments go to another function ("split" to "split_with_sizes").
  case setFunction(call: Int, name: String)
  /// The dynamic integer at `place` becomes `(it * multiplier) // divisor + offset`.
  case adjustInteger(ArgumentPlace, multiplier: Int, divisor: Int, offset: Int)
  /// A setting of a module ("out_channels", "groups") becomes `value`.
  case setAttribute(module: String, name: String, value: TorchArgument)
  /// A parameter keeps some of its indices. At most one per parameter name; tied names are edited together.
  case cut(parameter: String, Gather)
  /// A parameter gets other contents, of the shape that is left of it.
  case setParameter(name: String, Tensor)
  /// A row of layers takes the place of a call of a module or function that applies `weight`.
  case replace(TorchReplacement)
}

/// A layer whose place a row of layers takes, each fed with what the one before returns.
package struct TorchReplacement: Sendable {
  package let call: Int
  /// The state-dict name of the layer's weight, and of its bias if it has one.
  package let weight: String
  package let bias: String?
  package let layers: [Layer]

  package init(call: Int, weight: String, bias: String?, layers: [Layer]) {
    (self.call, self.weight, self.bias, self.layers) = (call, weight, bias, layers)
  }

  package struct Layer: Sendable {
    package enum Kind: Sendable {
      /// Weight (out, in).
      case linear
      /// Weight (out, in / groups, ...); `spatialRank` 1, 2 or 3.
      case convolution(
        spatialRank: Int, stride: [Int], padding: [Int], dilation: [Int], groups: Int)
      /// Weight (in, out / groups, ...).
      case transposedConvolution(
        spatialRank: Int, stride: [Int], padding: [Int], outputPadding: [Int], dilation: [Int], groups: Int)
    }
    package let kind: Kind
    package let weight: Tensor
    package let bias: Bias
    /// What the layer is within the row: "input", "core", "out".
    package let name: String

    package init(kind: Kind, weight: Tensor, bias: Bias, name: String) {
      (self.kind, self.weight, self.bias, self.name) = (kind, weight, bias, name)
    }

    package enum Bias: Sendable {
      case none
      /// The replaced layer's own.
      case original
      case new(Tensor)
    }
  }
}
