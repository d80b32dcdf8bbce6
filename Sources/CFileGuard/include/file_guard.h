// Reading a mapped file that somebody truncates raises SIGBUS, which would end the process. This guard owns the answer:
// it knows which address ranges are file mappings, puts zero pages where the file no longer is, and notes the damage,
// so that the reader finishes with numbers it then throws away.
#pragma once

#include <stdbool.h>
#include <stddef.h>

/// Guards `length` bytes at the page-aligned address `base`. Returns a ticket, or -1 when the handler cannot be installed
/// or memory is exhausted. Thread-safe.
int file_guard_register(const void *base, size_t length);

/// Whether a page of the mapping was missing when somebody read it. Thread-safe.
bool file_guard_is_damaged(int ticket);

/// Ends the guard; to be called before the mapping is removed. Thread-safe.
void file_guard_unregister(int ticket);
