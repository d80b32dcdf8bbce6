#define _GNU_SOURCE
#include "file_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// The registry is a list of blocks that only ever grows, so that the handler walks it without a lock. A slot belongs to
// a mapping while `base` is not 0; it is written last on registration and cleared first on the way out, and the
// handler reads it again after `length`, so that it never combines two mappings' numbers.
struct slot {
  _Atomic uintptr_t base;
  _Atomic size_t length;
  _Atomic bool damaged;
};

enum { slots_per_block = 128, max_blocks = 512 };

static _Atomic(struct slot *) blocks[max_blocks];
static pthread_mutex_t registration = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t installation = PTHREAD_ONCE_INIT;
static struct sigaction previous;
static bool installed;
static uintptr_t page_size;

// What the process would have done without us.
static void pass_on(int signal, siginfo_t *info, void *context) {
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler == SIG_IGN && info->si_code <= 0) {
    return;
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    // A fault comes back as soon as the handler returns and then meets the default action; a sent signal does not.
    struct sigaction default_action;
    memset(&default_action, 0, sizeof default_action);
    default_action.sa_handler = SIG_DFL;
    sigaction(signal, &default_action, NULL);
    if (info->si_code <= 0) raise(signal);
  }
}

// The rest of the mapping from the missing page on is replaced in one go: a file that was cut costs one fault and one
// kernel object, not one per page. mmap is not on POSIX's list of async-signal-safe functions; on Linux it is a plain
// system call that takes no lock of the C library.
static bool repair(uintptr_t address) {
  for (int block = 0; block < max_blocks; block++) {
    struct slot *slots = atomic_load_explicit(&blocks[block], memory_order_acquire);
    if (!slots) return false;
    for (int i = 0; i < slots_per_block; i++) {
      uintptr_t base = atomic_load(&slots[i].base);
      if (base == 0 || address < base) continue;
      size_t length = atomic_load(&slots[i].length);
      if (address - base >= length || atomic_load(&slots[i].base) != base) continue;
      uintptr_t page = address & ~(page_size - 1);
      atomic_store(&slots[i].damaged, true);
      return mmap((void *)page, base + length - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
                  -1, 0) != MAP_FAILED;
    }
  }
  return false;
}

static void handle(int signal, siginfo_t *info, void *context) {
  int saved = errno;
  if (info->si_code <= 0 || !repair((uintptr_t)info->si_addr)) pass_on(signal, info, context);
  errno = saved;
}

static void install(void) {
  page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  installed = sigaction(SIGBUS, &action, &previous) == 0;
}

static struct slot *slot_of(int ticket) {
  return atomic_load_explicit(&blocks[ticket / slots_per_block], memory_order_acquire) + ticket % slots_per_block;
}

int file_guard_register(const void *base, size_t length) {
  pthread_once(&installation, install);
  if (!installed) return -1;
  int ticket = -1;
  pthread_mutex_lock(&registration);
  for (int block = 0; block < max_blocks && ticket < 0; block++) {
    struct slot *slots = atomic_load_explicit(&blocks[block], memory_order_relaxed);
    if (!slots) {
      slots = calloc(slots_per_block, sizeof *slots);
      if (!slots) break;
      atomic_store_explicit(&blocks[block], slots, memory_order_release);
    }
    for (int i = 0; i < slots_per_block; i++) {
      if (atomic_load(&slots[i].base) != 0) continue;
      atomic_store(&slots[i].damaged, false);
      atomic_store(&slots[i].length, length);
      atomic_store(&slots[i].base, (uintptr_t)base);
      ticket = block * slots_per_block + i;
      break;
    }
  }
  pthread_mutex_unlock(&registration);
  return ticket;
}

bool file_guard_is_damaged(int ticket) { return atomic_load(&slot_of(ticket)->damaged); }

void file_guard_unregister(int ticket) { atomic_store(&slot_of(ticket)->base, 0); }
