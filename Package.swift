// swift-tools-version: 6.2
// The arrows of this manifest are the architecture: they point down only, and a test holds them (ArchitectureTests).
import PackageDescription

let strict: [SwiftSetting] = [.treatAllWarnings(as: .error)]

let package = Package(
  name: "Espalier",
  products: [
    .executable(name: "espalierd", targets: ["espalierd"]),
    .executable(name: "espalier-hdf5", targets: ["espalier-hdf5"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2")
  ],
  targets: [
    // MARK: C libraries
    .systemLibrary(name: "CJansson", pkgConfig: "jansson", providers: [.apt(["libjansson-dev"])]),
    .systemLibrary(name: "CHDF5", pkgConfig: "hdf5-serial", providers: [.apt(["libhdf5-dev"])]),
    .systemLibrary(name: "CDeflate", pkgConfig: "libdeflate", providers: [.apt(["libdeflate-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .target(name: "CFileGuard"),
    .target(name: "COpenBLAS", linkerSettings: [.linkedLibrary("dl")]),
    .target(name: "CLinux"),
    .target(name: "CONNXRuntime", linkerSettings: [.linkedLibrary("dl")]),

    // MARK: The model, from bytes to plan
    .target(name: "Numerics", dependencies: ["COpenBLAS"], swiftSettings: strict),
    .target(name: "ModelGraph", dependencies: ["Numerics", "Threads"], swiftSettings: strict),
    .target(name: "Compression", dependencies: ["ModelGraph", "Numerics"], swiftSettings: strict),
    .target(
      name: "Formats",
      dependencies: [
        "CDeflate", "CFileGuard", "CLinux", "CZlib", "Compression", "JSON", "ModelGraph", "Numerics", "Threads",
      ], swiftSettings: strict),
    .target(
      name: "Runtime", dependencies: ["CONNXRuntime", "CZlib", "ModelGraph", "Threads"], swiftSettings: strict),

    // MARK: The daemon
    .target(name: "Threads", swiftSettings: strict),
    .target(name: "JSON", dependencies: ["CJansson"], swiftSettings: strict),
    .target(name: "JSONRPC", dependencies: ["CLinux", "JSON", "Threads"], swiftSettings: strict),
    .target(
      name: "Server",
      dependencies: [
        "CLinux", "Compression", "Formats", "JSON", "JSONRPC", "ModelGraph", "Runtime", "Threads",
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: strict),
    .executableTarget(
      name: "espalierd",
      dependencies: ["JSON", "JSONRPC", "Server", .product(name: "Logging", package: "swift-log")],
      swiftSettings: strict,
      linkerSettings: [.unsafeFlags(["-static-stdlib"])]),

    // A process of its own for HDF5's library. Static: it starts in a millisecond, where the shared library brings
    // along 34 others (curl, OpenSSL, ...) and takes ten.
    .executableTarget(
      name: "espalier-hdf5", dependencies: ["CHDF5"], cSettings: [.define("H5_USE_110_API")],
      linkerSettings: [
        .linkedLibrary("sz"), .linkedLibrary("aec"), .linkedLibrary("z"), .linkedLibrary("m"),
        .unsafeFlags(["-static-executable"]),
      ]),

    // MARK: Tests
    .target(name: "TestSupport", dependencies: ["ModelGraph"], path: "Tests/TestSupport", swiftSettings: strict),
    .testTarget(name: "ArchitectureTests", swiftSettings: strict),
    .testTarget(
      name: "CompressionTests", dependencies: ["Compression", "ModelGraph", "Numerics", "TestSupport"],
      exclude: ["Golden"], swiftSettings: strict),
    .testTarget(
      name: "FormatsTests", dependencies: ["Formats", "Compression", "JSON", "ModelGraph", "Numerics", "TestSupport"],
      exclude: [
        "Fixtures", "make_exported_fixtures.py", "make_fixtures.py", "make_hdf5_fixtures.py", "make_keras_fixtures.py",
        "make_torch_fixtures.py",
      ],
      swiftSettings: strict),
    .testTarget(name: "JSONTests", dependencies: ["JSON", "TestSupport", "Threads"], swiftSettings: strict),
    .testTarget(
      name: "JSONRPCTests", dependencies: ["JSON", "JSONRPC", "TestSupport", "Threads"], swiftSettings: strict),
    .testTarget(
      name: "ModelGraphTests", dependencies: ["ModelGraph", "TestSupport"], exclude: ["Golden"], swiftSettings: strict),
    .testTarget(name: "NumericsTests", dependencies: ["Numerics", "TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "RuntimeTests", dependencies: ["ModelGraph", "Runtime", "TestSupport"],
      exclude: ["Fixtures", "make_fixtures.py"], swiftSettings: strict),
    .testTarget(
      name: "ServerTests",
      dependencies: [
        "Compression", "Formats", "JSON", "JSONRPC", "ModelGraph", "Runtime", "Server", "TestSupport", "Threads",
        .product(name: "Logging", package: "swift-log"),
      ], swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6]
)
