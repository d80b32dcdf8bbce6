import ModelGraph

extension KerasArchive {
  func write(
    making edits: [KerasEdit], lengths: [KerasResult: [Int: Int]], to output: OutputFile, work: Work
  ) throws(Failure) {}
}

extension KerasH5 {
  func write(
    making edits: [KerasEdit], lengths: [KerasResult: [Int: Int]], to output: OutputFile, work: Work
  ) throws(Failure) {}
}
