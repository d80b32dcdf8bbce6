// The Linux calls that the C library's Swift overlay does not show. Plain integers only, so that no header of the
// system is seen twice with different feature macros.
#pragma once

/// A descriptor that becomes readable when the process ends; -1 with errno on failure. Close-on-exec by definition.
int linux_pidfd_open(int process_id);

/// memfd_create: a file in memory, close-on-exec; `name` is for people. -1 with errno on failure.
int linux_memory_file(const char *name);

/// The effective user of the process that connected to a Unix socket, as the kernel recorded it; 0 on success, -1 with
/// errno.
int linux_peer_uid(int descriptor, unsigned *uid);

/// A descriptor that is readable from when it was raised, close-on-exec; -1 with errno on failure.
int linux_event(void);

/// 0 on success, -1 with errno.
int linux_raise(int event);

/// Writes some of the bytes, as many as can be written without waiting, whatever the flags of the descriptor are. Returns
/// how many, or -1 with errno: EAGAIN, or EOPNOTSUPP where the kind of file, or the system, knows no such writing.
long linux_write_without_waiting(int descriptor, const void *bytes, unsigned long count);

/// Makes one heap of the process, which all threads share and which gives memory back in steps of megabytes.
void linux_configure_heap(void);
