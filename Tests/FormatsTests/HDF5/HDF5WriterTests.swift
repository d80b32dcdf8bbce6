import Formats
import ModelGraph
import Numerics
import TestSupport
import Testing

// Writing trees: what was read comes back the same, and what was changed, changed.

@Suite("HDF5 writer") struct HDF5WriterTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// Writes a tree and reads it again.
  private func written(_ root: HDF5Group, as name: String = "out.h5") throws -> HDF5Group {
    let output = try OutputFile(path: scratch[name], overwrite: true)
    try HDF5Writer(root).write(to: output, work: Work())
    _ = try output.finish(work: Work())
    try output.publish()
    return try HDF5File(MappedFile(path: scratch[name], work: Work()), work: Work()).root
  }

  @Test(
    "Whatever is read is written the same, and twice the same bytes",
    arguments: [
      "keras3", "tf_keras", "types", "packed", "ordered", "newest", "names", "deep", "bfloat16.weights",
    ])
  func roundTrip(name: String) throws {
    let root = try hdf5(name).root
    #expect(try written(root).transcript == root.transcript)
    _ = try written(root, as: "again.h5")
    #expect(try bytes(scratch["out.h5"]) == bytes(scratch["again.h5"]))
  }

  @Test("Files are in the format of Keras's own: the oldest, without gaps for packed contents")
  func format() throws {
    _ = try written(hdf5("keras3").root)
    let file = try bytes(scratch["out.h5"])
    #expect(file[8] == 0, "version of the superblock")
    #expect(file.count <= (try bytes(fixture("HDF5/keras3.h5"))).count)
  }

  @Test("A dataset keeps what is gathered of it")
  func gathered() throws {
    var root = try hdf5("keras3").root
    let path = "model_weights/first/first/kernel"
    let kernel = try #require(root.dataset(path))
    let gather = try Gather(
      shape: kernel.shape, elementBytes: 4,
      axes: [.init(axis: 2, kept: .indices([0, 2])), .init(axis: 3, kept: .indices([1, 4, 5]))])
    root[path] = .dataset(kernel.gathering(gather))
    let cut = try #require(try written(root).dataset(path))
    #expect(cut.shape == [3, 3, 2, 3])
    let all = numbers([3, 3, 3, 6])
    let expected = (0..<9).flatMap { position in
      [0, 2].flatMap { input in [1, 4, 5].map { all[(position * 3 + input) * 6 + $0] } }
    }
    #expect(cut.tensor.elements(Float.self) == expected)
  }

  @Test("Groups, datasets and attributes are added, replaced and removed")
  func changes() throws {
    var root = try hdf5("keras3").root
    root["model_weights/optimizer/slots"] = .dataset(
      try #require(HDF5Dataset(Tensor(float32: [1, 2, 3], shape: [3]))))
    root["model_weights/last"] = nil
    root["model_weights/absent/too"] = nil
    let config = try #require(root.attributes["model_config"])
    root.attributes.set(config.replacing(string: "{\"ü\": 1}"))
    root.attributes.remove("backend")
    root.attributes.set(HDF5Attribute("new", string: "text"))
    let half = Tensor(dtype: .bfloat16, shape: [2], bytes: TensorBytes(copying: [UInt16(0x3f80), 0x4000]))
    root["half"] = .dataset(try #require(HDF5Dataset(half)))
    let result = try written(root)
    #expect(result.transcript.count > 10)
    #expect(result.dataset("model_weights/optimizer/slots")?.tensor.elements(Float.self) == [1, 2, 3])
    #expect(result["model_weights/last"] == nil && result["model_weights/absent"] == nil)
    #expect(result.attributes["model_config"]?.string == "{\"ü\": 1}")
    #expect(result.attributes["model_config"]?.type == config.type)
    #expect(result.attributes["backend"] == nil && result.attributes["new"]?.string == "text")
    #expect(result.dataset("half")?.dtype == .bfloat16)
    #expect(result.dataset("half")?.attributes["dtype"]?.string == "bfloat16")
    let text = Tensor(dtype: .string, shape: [], bytes: TensorBytes(copying: [UInt8]()))
    #expect(HDF5Dataset(text) == nil)
  }

  @Test("Long lists are split as Keras splits them, and joined when they are short again")
  func longLists() throws {
    var root = try hdf5("keras3").root
    let names = (0..<5000).map { "a_layer_whose_name_is_long_\($0)" }
    var weights = try #require(root.group("model_weights"))
    weights.attributes.setStrings("layer_names", names)
    #expect(weights.attributes["layer_names"] == nil)
    #expect(weights.attributes["layer_names0"]?.type == .bytes(31))
    #expect(weights.attributes["layer_names2"]?.strings?.count == 1666)
    #expect(weights.attributes["layer_names3"] == nil)
    root["model_weights"] = .group(weights)
    var result = try #require(try written(root).group("model_weights"))
    #expect(result.attributes.strings("layer_names") == names)
    result.attributes.setStrings("layer_names", ["a", "b"])
    #expect(result.attributes.strings("layer_names") == ["a", "b"] && result.attributes["layer_names0"] == nil)
    result.attributes.setStrings("layer_names", [])
    #expect(result.attributes["layer_names"]?.shape == [0])
    #expect(result.attributes["layer_names"]?.strings == [])
  }

  @Test("An entry of an archive, in which weights lie where they are")
  func entry() throws {
    let file = try MappedFile(path: fixture("HDF5/keras3.keras"), work: Work())
    let archive = try ZipArchive(file.span, owner: file)
    let range = try #require(archive.entry(named: "model.weights.h5")).range
    let root = try HDF5File(file, range: range, work: Work()).root
    var writer = ZipWriter(alignment: 1)
    writer.add("config.json", Array("{}".utf8))
    try writer.add("model.weights.h5", HDF5Writer(root), work: Work())
    let output = try OutputFile(path: scratch["out.keras"], overwrite: false)
    try writer.write(to: output, work: Work())
    _ = try output.finish(work: Work())
    try output.publish()
    let again = try MappedFile(path: scratch["out.keras"], work: Work())
    let entry = try #require(try ZipArchive(again.span, owner: again).entry(named: "model.weights.h5"))
    #expect(entry.method == .stored)
    #expect(try HDF5File(again, range: entry.range, work: Work()).root.transcript == root.transcript)
  }
}
