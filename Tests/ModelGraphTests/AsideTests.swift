import ModelGraph
import Synchronization
import Testing

/// Work on a thread of its own.
@Suite struct AsideTests {
  /// Says when it goes.
  private final class Held: Sendable {
    let isGone: Flag
    init(_ isGone: Flag) { self.isGone = isGone }
    deinit { isGone.value.store(true, ordering: .sequentiallyConsistent) }
  }

  private final class Flag: Sendable {
    let value = Atomic(false)
  }

  private func begin(_ isGone: Flag) -> Aside {
    let held = Held(isGone)
    return Aside { () throws(Failure) in
      withExtendedLifetime(held) {}
      throw Failure(.cancelled, "enough")
    }
  }

  /// A file that is deleted when nobody holds it has gone before anybody says so.
  @Test func whatItKeptIsFreeWhenTheWaiterGoesOn() {
    for _ in 0..<500 {
      let isGone = Flag()
      let aside = begin(isGone)
      #expect(throws: Failure.self) { try aside.wait() }
      let wasGone = isGone.value.load(ordering: .sequentiallyConsistent)
      #expect(wasGone)
      #expect(throws: Failure.self) { try aside.wait() }
    }
  }
}
