import Formats
import ModelGraph
import TestSupport
import Testing

// Reading files that Keras and h5py wrote: where everything is, and what it is.

@Suite("HDF5 reader") struct HDF5ReaderTests {
  @Test("A whole model of Keras 3: names, shapes, contents and the texts beside them")
  func keras3() throws {
    let root = try hdf5("keras3").root
    #expect(root.members.map(\.name) == ["model_weights"])
    #expect(root.attributes["keras_version"]?.string?.hasPrefix("3.") == true)
    #expect(root.attributes["model_config"]?.string?.hasPrefix("{\"class_name\": \"Functional\"") == true)
    let weights = try #require(root.group("model_weights"))
    #expect(weights.attributes.strings("layer_names") == ["image", "first", "norm", "relu", "flat", "last"])
    #expect(weights.group("relu")?.attributes.strings("weight_names") == [])
    #expect(weights.group("first")?.attributes.strings("weight_names") == ["first/kernel", "first/bias"])
    let kernel = try #require(root.dataset("model_weights/first/first/kernel"))
    #expect(kernel.dtype == .float32 && kernel.shape == [3, 3, 3, 6])
    #expect(kernel.tensor.elements(Float.self) == numbers([3, 3, 3, 6]))
  }

  @Test("A whole model of tf.keras 2.15")
  func tfKeras() throws {
    let root = try hdf5("tf_keras").root
    #expect(root.attributes["keras_version"]?.string?.hasPrefix("2.15") == true)
    let last = try #require(root.group("model_weights/last"))
    #expect(last.attributes.strings("weight_names") == ["last/kernel:0", "last/bias:0"])
    let kernel = try #require(last.dataset("last/kernel:0"))
    #expect(kernel.tensor.elements(Float.self) == numbers([216, 4]))
  }

  @Test("Weights in an archive, stored and packed, are those of the file by itself")
  func archive() throws {
    var transcripts: [[String]] = []
    for name in ["keras3.keras", "keras3.packed.keras"] {
      let file = try MappedFile(path: fixture("HDF5/\(name)"), work: Work())
      let archive = try ZipArchive(file.span, owner: file)
      let entry = try #require(archive.entry(named: "model.weights.h5"))
      let weights =
        switch entry.method {
        case .stored: try HDF5File(file, range: entry.range, work: Work())
        case .deflated: try HDF5File(archive.contents(of: entry, limit: 1 << 20, work: Work()), work: Work())
        }
      let kernel = try #require(weights.root.dataset("layers/conv2d/vars/0"))
      #expect(kernel.tensor.elements(Float.self) == numbers([3, 3, 3, 6]))
      #expect(weights.root.dataset("layers/batch_normalization/vars/3")?.tensor.elements(Float.self) == numbers([6]))
      transcripts.append(weights.root.transcript)
    }
    #expect(transcripts[0] == transcripts[1])
  }

  @Test(
    "Every element type that weights can have",
    arguments: [
      ("float16", DType.float16), ("float32", .float32), ("float64", .float64), ("int8", .int8), ("uint8", .uint8),
      ("int16", .int16), ("uint16", .uint16), ("int32", .int32), ("uint32", .uint32), ("int64", .int64),
      ("uint64", .uint64), ("bool", .bool),
    ])
  func elementTypes(name: String, dtype: DType) throws {
    let dataset = try #require(try hdf5("types").root.dataset("types/\(name)"))
    #expect(dataset.dtype == dtype && dataset.shape == [2, 3])
    let width = try #require(dtype.byteWidth)
    #expect(dataset.bytes.count == 6 * width)
    let expected: [UInt64] =
      switch dtype {
      case .float16: (2...7).map { UInt64(Float16($0).bitPattern) }
      case .float32: (2...7).map { UInt64(Float($0).bitPattern) }
      case .float64: (2...7).map { Double($0).bitPattern }
      case .bool: [1, 1, 1, 1, 1, 1]
      default: [2, 3, 4, 5, 6, 7]
      }
    let found = (0..<6).map { index in
      dataset.bytes.buffer[(index * width)..<((index + 1) * width)].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
    #expect(found == expected)
  }

  @Test("bfloat16, which HDF5 does not have, as Keras stores it")
  func bfloat16() throws {
    let root = try hdf5("bfloat16.weights").root
    let path = try #require(root.paths.first { $0.hasSuffix("vars/0") })
    let kernel = try #require(root.dataset(path))
    #expect(kernel.dtype == .bfloat16 && kernel.shape == [4, 3])
    #expect(kernel.tensor.elements(UInt16.self).map { Float(bitPattern: UInt32($0) << 16) } == numbers([4, 3]))
  }

  @Test("Scalars, tensors of nothing, and contents that were never written")
  func edges() throws {
    let root = try hdf5("types").root
    #expect(root.dataset("scalar")?.shape == [] && root.dataset("scalar")?.tensor.elements(Float.self) == [7])
    #expect(root.dataset("empty")?.shape == [0, 5] && root.dataset("empty")?.bytes.count == 0)
    #expect(root.dataset("never")?.tensor.elements(Float.self) == [Float](repeating: 2.5, count: 12))
  }

  @Test("Attributes of every kind")
  func attributes() throws {
    let attributes = try #require(try hdf5("types").root.dataset("scalar")).attributes
    #expect(attributes["text"]?.string == "grüße" && attributes["text"]?.type == .text)
    #expect(attributes["bytes"]?.string == "ascii")
    #expect(attributes["texts"]?.strings == ["a", "bc", ""] && attributes["texts"]?.string == nil)
    #expect(attributes["fixed"]?.strings == ["one", "three"] && attributes["fixed"]?.type == .bytes(5))
    #expect(attributes["terminated"]?.string == "end")
    #expect(attributes["int"]?.integers == [5] && attributes["int"]?.shape == [])
    #expect(attributes["ints"]?.integers == [1, -2, 3, 4] && attributes["ints"]?.shape == [2, 2])
    #expect(attributes["flag"]?.integers == [1])
    #expect(attributes["float"]?.integers == nil && attributes["float"]?.strings == nil)
    #expect(attributes["none"]?.strings == [])
    #expect(attributes["null"] != nil && attributes["null"]?.shape == nil)
    #expect(attributes["long"]?.string?.utf8.count == 300_000)
    #expect(attributes["missing"] == nil)
  }

  @Test("Chunks, packed or not, compact contents, and plain ones beside them")
  func packed() throws {
    let file = try hdf5("packed")
    #expect(file.root.dataset("gzip")?.tensor.elements(Float.self) == numbers([50, 40]))
    #expect(file.root.dataset("chunked")?.tensor.elements(Int32.self) == numbers([5, 3, 2]).map { Int32($0) })
    let rest = [Float](repeating: -1, count: 8)
    #expect(file.root.dataset("partly")?.tensor.elements(Float.self) == rest + numbers([2, 4]) + rest)
    #expect(file.root.dataset("compact")?.tensor.elements(Float.self) == numbers([4]))
    #expect(file.root.dataset("plain")?.tensor.elements(Float.self) == numbers([9]))
    // What is unpacked is held; what is plain is not.
    #expect(file.heldBytes == 4 * (2000 + 30 + 24 + 4))
    #expect(try hdf5("keras3").heldBytes == 0)
  }

  @Test("Members and attributes come in the order of their names, or of their making where the file keeps it")
  func order() throws {
    let ordered = try hdf5("ordered").root
    #expect(ordered.members.map(\.name) == ["zebra", "ant", "mole"] && ordered.keepsOrder)
    #expect(ordered.group("ant")?.attributes.all.map(\.name) == ["second", "first"])
    #expect(try hdf5("types").root.members.map(\.name) == ["empty", "never", "scalar", "types"])
  }

  @Test("The newest structures of HDF5")
  func newest() throws {
    let root = try hdf5("newest").root
    #expect(root.group("many")?.members.count == 40 && root.group("many")?.attributes.all.count == 20)
    #expect(root.dataset("many/group39/weight")?.tensor.elements(Float.self) == numbers([3, 2]))
    #expect(root.attributes["large"]?.strings?.count == 100)
  }

  @Test("Lists that Keras splits are put together; names and depths at the limits")
  func lists() throws {
    let root = try hdf5("names").root
    let names = try #require(root.attributes.strings("layer_names"))
    #expect(names.count == 4000 && names.last == "layer_with_a_long_name_03999")
    #expect(root.attributes.strings("weight_names") == nil)
    #expect(root.dataset("größe/w") != nil)
    #expect(try hdf5("deep").root.paths == [[String](repeating: "d", count: 63).joined(separator: "/")])
  }

  @Test("Paths lead to groups and datasets, or nowhere")
  func paths() throws {
    let root = try hdf5("keras3").root
    #expect(root.group("")?.members.count == root.members.count)
    #expect(root.group("model_weights/first/first/kernel") == nil)
    #expect(root.dataset("model_weights") == nil)
    #expect(root["model_weights/first/first/kernel/deeper"] == nil)
    #expect(root["nothing/here"] == nil)
  }
}
