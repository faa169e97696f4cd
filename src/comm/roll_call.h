// Who takes part in a job: every rank says where it is and what it runs, before anything else is
// set up. A job that cannot work is refused in one sentence on every rank; else rank 0 prints the
// table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/topology.h"
#include "core/device.h"

namespace tessera::comm {

// One rank's answer.
struct Attendance {
  std::int64_t rank = 0, local_rank = 0;
  std::string host;
  std::string gpu, gpu_id;  // name and UUID; both empty on the CPU
  std::string build;        // version and commit of the program
  std::int64_t nccl = 0;    // version code, as 22803; 0 without it

  bool operator==(const Attendance&) const = default;
};

// This rank's. `build` names the program; a GPU has been chosen where device is cuda.
Attendance attend(std::int64_t rank, std::int64_t local_rank, Device device,
                  const std::string& build);

std::string to_text(const Attendance& attendance);
Attendance attendance_from_text(const std::string& text);  // Error{internal} on anything else

// What is wrong with a job of these ranks (in rank order): two ranks on one GPU, mixed builds,
// mixed NCCL versions, GPUs and CPUs mixed; names both ranks and says what to do. "" when all is
// well.
std::string roll_call_problem(const std::vector<Attendance>& ranks);

// A line a rank: rank, host, GPU, stage, replica. Over 32 ranks: the first, the last, and a line
// for each further host.
std::string roll_call_table(const std::vector<Attendance>& ranks, const Topology& topology);

// All ranks of `world` call it together. Error{config} on every rank where there is a problem;
// else the table on rank 0, "" elsewhere.
std::string roll_call(Communicator& world, const Topology& topology, const Attendance& mine);

}  // namespace tessera::comm
