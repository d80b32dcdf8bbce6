#define _GNU_SOURCE
#include "linux_calls.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int linux_pidfd_open(int process_id) { return (int)syscall(SYS_pidfd_open, process_id, 0); }

int linux_peer_uid(int descriptor, unsigned *uid) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -1;
  *uid = peer.uid;
  return 0;
}
