// Makes the system's own file calls go wrong, those of libraries (HDF5) included: the program that
// links failing_calls.cpp calls its open, write, pwrite, fsync, rename, ... instead of the C
// library's.
#pragma once

namespace tessera::data {

enum class Fault {
  input_output,  // the call fails with EIO
  no_space,      // it fails with ENOSPC, where it could need space
  short_write,   // a write does half of its work
  kill,          // the process is killed before the call
};

// From now on the n-th call (from 1) that changes files goes wrong. n = 0: none does.
void fail_call(long n, Fault fault);
// Such calls since then.
long counted_calls();

}  // namespace tessera::data
