// Attributes of groups and datasets, from the library to the protocol and back.
#pragma once

#include <hdf5.h>

#include "answer.h"
#include "request.h"

/// Puts the attributes of `object`, in the order of their creation where the object keeps it, otherwise in that in
/// which the object has them.
/// - Parameters:
///   - path: of the object, for sentences.
///   - count: how many the object claims to have.
void put_attributes(struct answer *answer, hid_t object, const char *path, uint64_t count, bool is_ordered);

/// Gives `object` the attributes that the request has next.
void create_attributes(struct request *request, hid_t object);
