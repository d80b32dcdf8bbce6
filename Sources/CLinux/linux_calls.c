#define _GNU_SOURCE
#include "linux_calls.h"

#include <malloc.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

int linux_pidfd_open(int process_id) { return (int)syscall(SYS_pidfd_open, process_id, 0); }

int linux_memory_file(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

int linux_event(void) { return eventfd(0, EFD_CLOEXEC); }

int linux_raise(int event) { return eventfd_write(event, 1); }

int linux_peer_uid(int descriptor, unsigned *uid) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -1;
  *uid = peer.uid;
  return 0;
}

long linux_write_without_waiting(int descriptor, const void *bytes, unsigned long count) {
  struct iovec part = {(void *)bytes, count};
  return pwritev2(descriptor, &part, 1, -1, RWF_NOWAIT);
}

void linux_configure_heap(void) {
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TOP_PAD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 32 << 20);
  mallopt(M_MMAP_THRESHOLD, 8 << 20);
}
