/// Parameters, multiply-adds (FLOPs are twice that) and bytes on disk.
package struct ModelSize: Sendable, Equatable {
  package var parameters: Int
  package var macs: Int
  package var sizeBytes: Int
  package init(parameters: Int, macs: Int, sizeBytes: Int) {
    (self.parameters, self.macs, self.sizeBytes) = (parameters, macs, sizeBytes)
  }
}

extension ModelSize {
  package enum Measure: String, Sendable, CaseIterable {
    case parameters, macs
    case sizeBytes = "size_bytes"
  }

  package subscript(measure: Measure) -> Int {
    switch measure {
    case .parameters: parameters
    case .macs: macs
    case .sizeBytes: sizeBytes
    }
  }
}
