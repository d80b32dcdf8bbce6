import Formats
import ModelGraph
import Testing

/// Pickles that are written, and edited copies of what was read.
@Suite struct PickleWriterTests {
  @Test(arguments: ["graph.pt", "graph.protocol4.pt"]) func writtenIsRead(name: String) throws {
    let root = try readPickle(pickleBytes(name))
    let written = PickleWriter.write(root)
    #expect(describeTheSame(root, try readPickle(written)))
    #expect(PickleWriter.write(try readPickle(written)) == written)
    #expect(written.count <= (try pickleBytes(name).count))
  }

  private static let integers = [
    0, 1, 255, 256, 65535, 65536, -1, -128, -129, 1 << 31 - 1, 1 << 31, -(1 << 31), -(1 << 31) - 1, 1 << 39, 1 << 40,
    .max, .min,
  ]

  @Test(arguments: integers) func integersAreWrittenAsTheyAre(value: Int) throws {
    #expect(try readPickle(PickleWriter.write(.int(value))).int == value)
  }

  @Test func everyKindOfNode() throws {
    let shared = PickleNode.list([.string("größe"), .float(-0.0), .bool(true), .none])
    let module = PickleNode.newObject(
      .global("torch.nn.modules.linear", "Linear"), state: .dict([("a", shared), ("b", .int(3))]))
    let root = PickleNode.tuple([
      shared, module, module, .orderedDictionary([("k", shared), ("l", .persistent(.tuple([shared, .int(1)])))]),
      .tuple([PickleNode]()), .tuple([1]), .tuple([1, 2]), .tuple([1, 2, 3]), .tuple([1, 2, 3, 4]), .list([]),
      .dict([]),
      PickleNode(.set([])), PickleNode(.set([.string("a"), .int(2)])), PickleNode(.bytes([1, 2, 255])),
      PickleNode(.bigInteger([0, 0, 0, 0, 0, 0, 0, 0, 1])),
    ])
    let back = try readPickle(PickleWriter.write(root))
    #expect(describeTheSame(root, back))
    #expect(back.tuple?[1] === back.tuple?[2])
    #expect(!describeTheSame(root, root.replacing([shared.id: .list([])])))
  }

  /// Two equal objects are not one, and one object is not two.
  @Test func sharingIsPartOfWhatIsCompared() throws {
    let one = PickleNode.tuple([1, 2])
    #expect(!describeTheSame(.list([one, one]), .list([.tuple([1, 2]), .tuple([1, 2])])))
    #expect(!describeTheSame(.list([.tuple([1, 2]), .tuple([1, 2])]), .list([one, one])))
  }

  /// More than a batch of entries, and more shared objects than a byte counts.
  @Test(arguments: [0, 1, 2, 999, 1000, 1001, 2500]) func longContainers(count: Int) throws {
    let values = (0..<count).map { PickleNode.tuple([$0, 1]) }
    let root = PickleNode.tuple([
      .list(values), .dict(values.enumerated().map { ("key \($0.offset)", $0.element) }), PickleNode(.set(values)),
    ])
    #expect(describeTheSame(root, try readPickle(PickleWriter.write(root))))
  }

  // MARK: Edits

  @Test func editsAtSeveralDepthsGoTogether() throws {
    let root = try readPickle(pickleBytes("graph.pt"))
    let body = try #require(root.callArguments?.first)
    let modules = try #require(body["_modules"])
    let first = try #require(modules["first"])
    let state = try #require(first.state)
    let weight = try #require(state["_parameters"]?["weight"])
    let tensor = try #require(weight.callArguments?.first)
    let size = try #require(tensor.callArguments?[2])

    let edited = root.edited([
      size.id: { _ in .tuple([2, 4]) },
      state.id: { $0.setting("out_features", to: .int(2)).setting("new", to: .none).removing("training") },
      // The layer, already edited, inside something new.
      first.id: { .newObject(.global("torch.nn.modules.container", "Sequential"), state: .dict([("0", $0)])) },
    ])
    let written = try readPickle(PickleWriter.write(edited))
    let newModules = try #require(written.callArguments?.first?["_modules"])
    let inner = try #require(newModules["first"]?.state?["0"])
    #expect(inner.calleeName == "torch.nn.modules.linear.Linear")
    #expect(inner.state?["out_features"]?.int == 2)
    #expect(inner.state?["new"]?.isNone == true)
    #expect(inner.state?["training"] == nil)
    let newWeight = try #require(inner.state?["_parameters"]?["weight"])
    #expect(newWeight.callArguments?.first?.callArguments?[2].ints == [2, 4])
    // The tied one is edited with it, and the original is what it was.
    #expect(newModules["second"]?.state?["_parameters"]?["weight"] === newWeight)
    #expect(size.ints == [4, 4])
    #expect(describeTheSame(root, try readPickle(pickleBytes("graph.pt"))))
  }

  @Test func whatIsNotEditedStaysTheSameNode() throws {
    let root = try readPickle(pickleBytes("graph.pt"))
    #expect(root.edited([:]) === root)
    #expect(root.replacing([PickleNode.int(1).id: .int(2)]) === root)
    let body = try #require(root.callArguments?.first)
    let code = try #require(body["_code"])
    let edited = root.replacing([code.id: .string("new")])
    #expect(edited !== root)
    #expect(edited.callArguments?[1] === root.callArguments?[1])
    #expect(edited.callArguments?.first?["_modules"] === body["_modules"])
    #expect(edited.callArguments?.first?["_code"]?.string == "new")
  }
}
