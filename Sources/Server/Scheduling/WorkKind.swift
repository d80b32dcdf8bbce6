/// What a request touches, as far as its order among other requests matters. Control requests (ping, models, cancel,
/// errors) touch nothing, never wait and never come here.
///
/// Paths are compared as written, after removing what does not change their meaning; two spellings that only links make
/// the same lose their order and nothing else, for files are replaced whole and models are checked on each use.
package enum WorkKind: Sendable, Hashable {
  /// Reads a model: everything but release, also compress to another file.
  case modelRead(String)
  /// Changes whether a model is loaded: release.
  case modelWrite(String)
  /// Creates or replaces a file.
  case outputWrite(String)
  /// Changes something all later requests of a session see; a barrier within that session, nothing to the others.
  case configuration
}

extension WorkKind {
  /// Whether work of this kind has to wait for `earlier`: the whole rule. Reads of one model run together; everything
  /// on different paths does.
  package func isDependency(on earlier: WorkKind, sameSession: Bool) -> Bool {
    switch (self, earlier) {
    case (.configuration, _), (_, .configuration): sameSession
    case (.modelRead, .modelRead): false
    case (.modelRead(let a), .modelWrite(let b)), (.modelWrite(let a), .modelRead(let b)): a == b
    case (.modelWrite(let a), .modelWrite(let b)): a == b
    case (.outputWrite(let a), .outputWrite(let b)): a == b
    // A model that is about to be written is read afterwards; one that is being read is not replaced meanwhile.
    case (.modelRead(let a), .outputWrite(let b)), (.outputWrite(let a), .modelRead(let b)): a == b
    case (.modelWrite(let a), .outputWrite(let b)), (.outputWrite(let a), .modelWrite(let b)): a == b
    }
  }
}

/// Where a piece of work stands: whose it is, what it touches, how long it may take.
package struct WorkScope: Sendable {
  package enum Weight: Int, Sendable, Comparable {
    /// Milliseconds on a warm model; goes ahead of heavy work that has not started.
    case light
    case heavy
    package static func < (a: Weight, b: Weight) -> Bool { a.rawValue < b.rawValue }
  }

  package let session: Int
  package let kinds: [WorkKind]
  package let weight: Weight

  package init(session: Int, kinds: [WorkKind], weight: Weight) {
    (self.session, self.kinds, self.weight) = (session, kinds, weight)
  }

  package func mustWait(for earlier: WorkScope) -> Bool {
    kinds.contains { kind in
      earlier.kinds.contains { kind.isDependency(on: $0, sameSession: session == earlier.session) }
    }
  }
}
