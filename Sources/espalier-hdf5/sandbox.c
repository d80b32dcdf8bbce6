#define _GNU_SOURCE
#include "sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { status_unconfined = 3 };

// An administrator's lower limit stays. The hard limit is one higher: at that of processor time the system kills, at
// the soft one it says why.
static void limit(int resource, uint64_t value) {
  struct rlimit old;
  if (getrlimit(resource, &old) != 0) _exit(status_unconfined);
  struct rlimit new = {value, value + 1};
  if (old.rlim_max < new.rlim_max) new.rlim_max = old.rlim_max;
  if (new.rlim_max < new.rlim_cur) new.rlim_cur = new.rlim_max;
  if (setrlimit(resource, &new) != 0) _exit(status_unconfined);
}

void limit_resources(uint64_t memory, uint64_t seconds, uint64_t largest_file) {
  limit(RLIMIT_AS, memory);
  limit(RLIMIT_CPU, seconds);
  limit(RLIMIT_FSIZE, largest_file);
  limit(RLIMIT_CORE, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
}

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "the filter of system calls does not know this processor"
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(action) BPF_STMT(BPF_RET | BPF_K, action)
#define ON(call, action) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##call, 0, 1), ANSWER(action)
#define ALLOW(call) ON(call, SECCOMP_RET_ALLOW)
#define DENY(call) ON(call, SECCOMP_RET_ERRNO | EPERM)
// Memory that can be executed is never made. The low half of the third argument holds the protection on both
// processors.
#define ALLOW_WITHOUT_CODE(call)                                           \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##call, 0, 4), LOAD(args[2]),    \
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1), ANSWER(SECCOMP_RET_KILL_PROCESS), \
      ANSWER(SECCOMP_RET_ALLOW)

void confine(void) {
  struct sock_filter filter[] = {
      LOAD(arch),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
      ANSWER(SECCOMP_RET_KILL_PROCESS),
      LOAD(nr),
      // Memory.
      ALLOW(brk), ALLOW(munmap), ALLOW(mremap), ALLOW(madvise), ALLOW_WITHOUT_CODE(mmap), ALLOW_WITHOUT_CODE(mprotect),
      // Descriptors that are open.
      ALLOW(write), ALLOW(pwrite64), ALLOW(pread64), ALLOW(ftruncate),
      // The C library's own needs, the end of the process among them.
      ALLOW(exit_group), ALLOW(exit), ALLOW(rt_sigreturn), ALLOW(rt_sigprocmask), ALLOW(rt_sigaction), ALLOW(futex),
      ALLOW(clock_gettime), ALLOW(gettimeofday), ALLOW(getrandom), ALLOW(getpid), ALLOW(gettid), ALLOW(tgkill),
      // What the library may try where a file names another file, and the pauses it makes before it reads damage again.
      DENY(clock_nanosleep), DENY(nanosleep), DENY(openat), DENY(newfstatat), DENY(readlinkat), DENY(faccessat),
      DENY(getcwd),
#ifdef __NR_open
      DENY(open), DENY(stat), DENY(lstat), DENY(readlink), DENY(access),
#endif
      ANSWER(SECCOMP_RET_KILL_PROCESS),
  };
  struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
    _exit(status_unconfined);
}
