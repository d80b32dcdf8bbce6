import ModelGraph
import Synchronization
import Testing

/// Bytes that are made when they are first asked for.
@Suite struct TensorBytesTests {
  private final class Counter: Sendable {
    let calls = Atomic<Int>(0)
  }

  private func counted(_ counter: Counter) -> TensorBytes {
    TensorBytes(prepared: 1 << 16) { target in
      counter.calls.add(1, ordering: .relaxed)
      for index in target.indices { target[index] = UInt8(truncatingIfNeeded: index) }
    }
  }

  @Test func areNotMadeBeforeTheyAreRead() {
    let counter = Counter()
    let bytes = counted(counter)
    #expect(bytes.count == 1 << 16 && bytes.isPreparedOnDemand && bytes.preparedCount == 0)
    #expect(counter.calls.load(ordering: .relaxed) == 0)
    #expect(bytes.buffer[513] == 1)
    #expect(bytes.preparedCount == 1 << 16)
  }

  @Test func areMadeOnceForAllCopiesAndReaders() async {
    let counter = Counter()
    let bytes = counted(counter)
    await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<16 { group.addTask { bytes.buffer[65535] == 255 } }
      for await isRight in group { #expect(isRight) }
    }
    #expect(counter.calls.load(ordering: .relaxed) == 1)
  }

  @Test func outliveTheStructThatMadeThem() {
    var bytes: TensorBytes? = counted(Counter())
    let copy = bytes
    #expect(bytes?.buffer[7] == 7)
    bytes = nil
    #expect(copy?.buffer[258] == 2)
  }
}
