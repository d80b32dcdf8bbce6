// The two Linux calls that the C library's Swift overlay does not show: a descriptor for a process, and who is at the
// other end of a Unix socket.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

// A descriptor that becomes readable when the process ends; -1 with errno on failure. Close-on-exec by definition.
static inline int linux_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

// The effective user of the process that connected, as the kernel recorded it; 0 on success, -1 with errno.
static inline int linux_peer_uid(int fd, uid_t *uid) {
  // struct ucred, spelled out because its declaration depends on feature macros.
  struct { pid_t pid; uid_t uid; gid_t gid; } peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -1;
  *uid = peer.uid;
  return 0;
}
