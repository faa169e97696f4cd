// Collectives and messages between the ranks of a group on arrays in a device's memory, in the
// order of a stream of their own. Two transports: MPI for host memory (also for a device's memory,
// staged through the host) and NCCL for GPU memory.
//
// Every operation begins after the work that after() named and before wait() of its ticket the data
// may be neither read nor changed. NCCL does not block the host: after() and wait() order streams.
// In host memory and staged, collectives are done when they return and wait() blocks for messages.
//
// Collectives: every rank makes the same calls in the same order. Messages: the k-th send from a to
// b meets the k-th receive at b from a. In host memory and staged a send waits for nothing but its
// own receiver; NCCL runs the operations of one transport one after the other, so ranks that send
// to each other at once use exchange() or a transport for either way. For one layout and size the
// order of additions is fixed: results repeat bit for bit.
//
// NCCL's calls can be captured in a CUDA graph: after(compute), operations, wait(last, compute).
// Such a graph is destroyed before the transport.
//
// Calls come from one thread (the one that MPI was initialised in), abort() from any.
// Errors: Error{device} naming operation, group, and number in the sequence.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "core/device.h"
#include "core/device_stream.h"

namespace tessera::comm {

enum class Element { fp32, bf16, fp64 };
std::int64_t element_bytes(Element element);

using Ticket = std::int64_t;  // of an operation; counts from 1 within a transport

class Transport {
 public:
  virtual ~Transport() = default;
  virtual std::int64_t rank() const = 0;
  virtual std::int64_t size() const = 0;

  // Operations given from here on start after what `compute` has been given until now.
  virtual void after(const DeviceStream& compute) = 0;
  // What `compute` is given from here on starts after the operation of the ticket (and all before
  // it).
  virtual void wait(Ticket ticket, const DeviceStream& compute) = 0;

  // Sums over ranks, in place (bf16: added in fp32 where the transport can, else as it does).
  virtual Ticket all_reduce(void* data, std::int64_t count, Element element) = 0;
  // data holds size() slices of `slice` elements; afterwards slice rank() holds its sum over ranks,
  // the others are undefined.
  virtual Ticket reduce_scatter(void* data, std::int64_t slice, Element element) = 0;
  // data holds size() slices; slice rank() of every rank is brought to all.
  virtual Ticket all_gather(void* data, std::int64_t slice, Element element) = 0;
  // Rank 0's array to all.
  virtual Ticket broadcast(void* data, std::int64_t count, Element element) = 0;
  virtual Ticket send(const void* data, std::int64_t count, Element element, std::int64_t to) = 0;
  virtual Ticket receive(void* data, std::int64_t count, Element element, std::int64_t from) = 0;
  // A send and a receive at once, neither of which waits for the other: neighbours that swap,
  // rings.
  virtual Ticket exchange(const void* out, std::int64_t out_count, std::int64_t to, void* in,
                          std::int64_t in_count, std::int64_t from, Element element) = 0;

  // Ends all operations as soon as possible, from any thread (the watchdog's); later calls fail. In
  // host memory and staged that holds for messages: a collective that waits for a rank ends with
  // the process.
  virtual void abort() noexcept = 0;
};

// What a transport will be used for: NCCL sets up (and gives memory to) nothing else beforehand.
// What is not set up works too, but its first call blocks the host until the other ranks make it.
enum class Traffic { collectives, messages, all };

struct TransportOptions {
  Device device = Device::cpu;    // where the arrays are
  bool staged = false;            // CUDA arrays through host memory and MPI instead of NCCL
  double start_seconds = 120;     // limit for the ranks to meet
  std::string name = "replicas";  // in messages and traces
  Traffic traffic = Traffic::all;
  // NCCL: multiprocessors that an operation may hold; 0 = as many as NCCL likes. A receive that is
  // posted ahead holds them until its message comes, and what it holds no other kernel has.
  int most_blocks = 0;
};

// Over the ranks of `group`. NCCL: the id travels over `group`; Error{device} naming the absent
// ranks when they have not met within start_seconds. A build without NCCL stages CUDA arrays and
// says so once. The ranks of `group` call it in the same order.
std::unique_ptr<Transport> make_transport(Communicator& group, const TransportOptions& options);

// Version code of the NCCL library that this process has loaded, as 22803; 0 in builds without it.
int nccl_version();

}  // namespace tessera::comm
