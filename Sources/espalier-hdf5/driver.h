// How the library gets at the file: without a name, and without opening anything. A file that is read lies in memory;
// one that is made goes to a descriptor, in which nothing takes room but what is written.
#pragma once

#include <hdf5.h>
#include <stddef.h>

/// File access properties by which H5Fopen, whatever the name, reads the `count` bytes at `base`.
hid_t memory_access(const void *base, size_t count);

/// File access properties by which H5Fcreate, whatever the name, writes to the empty file `descriptor`.
hid_t descriptor_access(int descriptor);
