/// The instructions of the pickle machine that PyTorch's files use, and the names of all others.
///
/// Specification: CPython's Lib/pickletools.py. What is missing here is refused by name: it is either old (text forms of
/// protocol 0) or can do what no model needs (extension registries, keyword construction, buffers outside the file).
enum PickleOpcode: UInt8 {
  case mark = 0x28  // (
  case emptyTuple = 0x29  // )
  case stop = 0x2e  // .
  case binBytes = 0x42  // B
  case shortBinBytes = 0x43  // C
  case binFloat = 0x47  // G
  case binInt = 0x4a  // J
  case binInt1 = 0x4b  // K
  case binInt2 = 0x4d  // M
  case none = 0x4e  // N
  case binPersistentID = 0x51  // Q
  case reduce = 0x52  // R
  case binUnicode = 0x58  // X
  case emptyList = 0x5d  // ]
  case append = 0x61  // a
  case build = 0x62  // b
  case global = 0x63  // c
  case appends = 0x65  // e
  case binGet = 0x68  // h
  case longBinGet = 0x6a  // j
  case binPut = 0x71  // q
  case longBinPut = 0x72  // r
  case setItem = 0x73  // s
  case tuple = 0x74  // t
  case setItems = 0x75  // u
  case emptyDict = 0x7d  // }
  case proto = 0x80
  case newObject = 0x81
  case tuple1 = 0x85
  case tuple2 = 0x86
  case tuple3 = 0x87
  case newTrue = 0x88
  case newFalse = 0x89
  case long1 = 0x8a
  case shortBinUnicode = 0x8c
  case emptySet = 0x8f
  case addItems = 0x90
  case stackGlobal = 0x93
  case memoize = 0x94
  case frame = 0x95

  /// How an instruction that is not read here is called.
  static func name(of code: UInt8) -> String {
    let hex = "0x" + String(code, radix: 16)
    return refused[code].map { "\($0) (\(hex))" } ?? hex
  }

  private static let refused: [UInt8: String] = [
    0x30: "POP", 0x31: "POP_MARK", 0x32: "DUP", 0x46: "FLOAT", 0x49: "INT", 0x4c: "LONG", 0x50: "PERSID",
    0x53: "STRING", 0x54: "BINSTRING", 0x55: "SHORT_BINSTRING", 0x56: "UNICODE", 0x64: "DICT", 0x67: "GET",
    0x69: "INST", 0x6c: "LIST", 0x6f: "OBJ", 0x70: "PUT", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", 0x8b: "LONG4",
    0x8d: "BINUNICODE8", 0x8e: "BINBYTES8", 0x91: "FROZENSET", 0x92: "NEWOBJ_EX", 0x96: "BYTEARRAY8",
    0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER",
  ]
}
