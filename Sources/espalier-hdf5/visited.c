#include "visited.h"

#include <stdlib.h>

#include "answer.h"

static bool insert(struct visited *visited, uint64_t key) {
  size_t slot = (key * 0x9e3779b97f4a7c15u) >> 20 & (visited->capacity - 1);
  while (visited->slots[slot] != 0) {
    if (visited->slots[slot] == key) return false;
    slot = (slot + 1) & (visited->capacity - 1);
  }
  visited->slots[slot] = key;
  visited->count++;
  return true;
}

bool visit(struct visited *visited, uint64_t address) {
  if (2 * visited->count >= visited->capacity) {
    struct visited larger = {.capacity = visited->capacity ? 2 * visited->capacity : 1024};
    larger.slots = allocate(larger.capacity * sizeof *larger.slots);
    for (size_t slot = 0; slot < visited->capacity; slot++) {
      if (visited->slots[slot] != 0) insert(&larger, visited->slots[slot]);
    }
    free(visited->slots);
    *visited = larger;
  }
  return insert(visited, address + 1);
}
