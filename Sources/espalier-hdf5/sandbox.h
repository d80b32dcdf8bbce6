// The walls around the worker. Files come from anywhere, and HDF5's library has a history of memory errors: what a file
// makes of this process can keep a processor busy for some seconds and lie in its answer, and nothing else.
#pragma once

#include <stdint.h>

/// Bounds on memory (bytes of address space), processor time (seconds) and the size of what is written (bytes), no core
/// dumps, death with the daemon. Ends the process if the system refuses.
void limit_resources(uint64_t memory, uint64_t seconds, uint64_t largest_file);

/// From here on the process can compute, allocate, and read and write the descriptors it has. Opening a file is an
/// error; any other call of the system ends the process. Ends the process (status 3) if the system has no such filter.
void confine(void);
