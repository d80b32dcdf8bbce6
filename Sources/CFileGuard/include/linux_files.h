// Calls of Linux that Swift's Glibc module does not show, as they stand behind _GNU_SOURCE.
#pragma once

#include <stdint.h>

/// fallocate: claims `count` bytes for the file. Returns 0, or -1 with errno.
int linux_reserve(int descriptor, int64_t count);

/// sync_file_range: starts writing these bytes of the file to the disk. Only advice; errors are met by fsync.
void linux_start_writeback(int descriptor, int64_t offset, int64_t count);

/// sync_file_range: the same, and returns when they are written.
void linux_await_writeback(int descriptor, int64_t offset, int64_t count);

/// renameat2 with RENAME_NOREPLACE: renames unless `to` exists. Returns 0, or -1 with errno (EEXIST if it does).
int linux_rename_exclusive(const char *from, const char *to);
