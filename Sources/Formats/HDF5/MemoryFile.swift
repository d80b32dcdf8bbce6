import CLinux
import Glibc
import ModelGraph

/// A file that is in memory and has no name, for bytes that go to another process and come from it.
final class MemoryFile {
  let descriptor: Int32

  init() throws(Failure) {
    descriptor = linux_memory_file("espalier")
    guard descriptor >= 0 else {
      throw Failure(.resourceLimit, "there is no memory for HDF5 data: \(errorText(errno))")
    }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Appends bytes.
  func write(_ bytes: UnsafeRawBufferPointer, work: Work) throws(Failure) {
    var done = 0
    while done < bytes.count, let base = bytes.baseAddress {
      try work.checkCancellation()
      let result = Glibc.write(descriptor, base + done, min(bytes.count - done, 4 << 20))
      if result < 0 {
        if errno == EINTR { continue }
        throw Failure(.resourceLimit, "there is no memory for HDF5 data: \(errorText(errno))")
      }
      done += result
    }
  }

  /// What the file holds. Nobody may write to it any more: who else had it has ended.
  func mapped() throws(Failure) -> TensorBytes {
    let count = Int(lseek(descriptor, 0, SEEK_END))
    guard count > 0 else { return TensorBytes(copying: [UInt8]()) }
    guard let base = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else {
      throw Failure(.resourceLimit, "there is no memory for HDF5 data: \(errorText(errno))")
    }
    return TensorBytes(base: UnsafeRawPointer(base), count: count, owner: Mapping(base, count))
  }

  private final class Mapping {
    let base: UnsafeMutableRawPointer
    let count: Int
    init(_ base: UnsafeMutableRawPointer, _ count: Int) { (self.base, self.count) = (base, count) }
    deinit { munmap(base, count) }
  }
}
