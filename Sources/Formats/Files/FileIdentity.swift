import Glibc
import ModelGraph

/// Reading what tells one version of a file from another, and waiting until that can be trusted.
extension FileIdentity {
  /// Looks at `path` without opening it; nil with `errno` set if that fails.
  package init?(at path: String) {
    var info = stat()
    guard stat(path, &info) == 0 else { return nil }
    self.init(path: path, info)
  }

  init(path: String, _ info: stat) {
    self.init(
      path: path, device: UInt64(info.st_dev), inode: UInt64(info.st_ino), sizeBytes: Int64(info.st_size),
      modifiedNanoseconds: nanoseconds(info.st_mtim), changedNanoseconds: nanoseconds(info.st_ctim))
  }

  /// Nanoseconds from now until a write would surely get another time stamp than the file bears, 0 if it would already.
  ///
  /// Linux stamps files with a clock that ticks every 1 to 10 ms (CONFIG_HZ), so that two writes within one tick are
  /// told apart by nothing: git calls an index entry "racily clean" when its file is that young. The change time is
  /// the one to look at, as no program can set it. Where both stamps are whole seconds the file system most likely
  /// keeps no finer ones, and FAT's are even seconds.
  var nanosecondsUntilSettled: Int64 {
    let second: Int64 = 1_000_000_000
    let coarse = changedNanoseconds % second == 0 && modifiedNanoseconds % second == 0
    let granularity: Int64 = coarse ? 2 * second : 10_000_000
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let age = nanoseconds(now) - changedNanoseconds
    // A stamp from the future (another machine's clock) settles nothing by waiting.
    return age < 0 ? 0 : max(0, granularity - age)
  }
}

private func nanoseconds(_ time: timespec) -> Int64 { Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec) }
