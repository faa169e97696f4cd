#include "comm/meeting.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include <spdlog/fmt/fmt.h>

#include "comm/mpi_communicator.h"
#include "core/error.h"

namespace tessera::comm {
namespace {

using Clock = std::chrono::steady_clock;

// Tags of the group's point-to-point messages, which have no other user.
constexpr int kHere = 101, kVerdict = 102;
constexpr std::size_t kNameBytes = 64, kVerdictBytes = 1024;
constexpr std::size_t kNamed = 16;  // absent ranks told by number
// Rank 0's verdict may be on its way when this rank's own time is over.
constexpr double kGraceSeconds = 1;

// What is sent lives for ever: after a failed meeting messages to absent ranks stay unfinished.
std::array<char, kNameBytes> g_here;
std::array<char, kVerdictBytes> g_verdict;

template <std::size_t n>
void put(std::array<char, n>& to, const std::string& text) {
  to.fill('\0');
  std::memcpy(to.data(), text.data(), std::min(text.size(), n - 1));
}

Clock::time_point in(double seconds) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

int world_rank(MPI_Comm group, int rank) {
  MPI_Group here, world;
  check_mpi(MPI_Comm_group(group, &here), "MPI_Comm_group");
  check_mpi(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
  int result = MPI_UNDEFINED;
  check_mpi(MPI_Group_translate_ranks(here, 1, &rank, world, &result), "MPI_Group_translate_ranks");
  MPI_Group_free(&here);
  MPI_Group_free(&world);
  return result;
}

// Waits for a message of `tag`; false when the time is over.
bool arrives(MPI_Comm group, int from, int tag, Clock::time_point deadline, MPI_Status& status) {
  for (int tries = 0;; ++tries) {
    int found = 0;
    check_mpi(MPI_Iprobe(from, tag, group, &found, &status), "MPI_Iprobe");
    if (found) return true;
    if (Clock::now() > deadline) return false;
    if (tries > 1000) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

void send_for_ever(MPI_Comm group, const char* data, std::size_t bytes, int to, int tag) {
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, to, tag, group, &request),
            "MPI_Isend");
  check_mpi(MPI_Request_free(&request), "MPI_Request_free");
}

std::string absent_ranks(MPI_Comm group, const std::vector<bool>& present) {
  std::string text;
  std::size_t absent = 0;
  for (std::size_t rank = 0; rank < present.size(); ++rank) {
    if (present[rank]) continue;
    if (++absent <= kNamed)
      text +=
          fmt::format("{}{}", text.empty() ? "" : ", ", world_rank(group, static_cast<int>(rank)));
  }
  if (absent > kNamed) text += fmt::format(" and {} more", absent - kNamed);
  return (absent == 1 ? "rank " : "ranks ") + text;
}

// Rank 0: counts the others in. "" when all have come.
std::string count_in(MPI_Comm group, int size, const std::string& name, double seconds) {
  const Clock::time_point deadline = in(seconds);
  std::vector<bool> present(static_cast<std::size_t>(size));
  present[0] = true;
  for (int missing = size - 1; missing > 0; --missing) {
    MPI_Status status;
    if (!arrives(group, MPI_ANY_SOURCE, kHere, deadline, status))
      return fmt::format(
          "{} did not reach the start of group '{}' within {:g} s ({} of {} did); look at its "
          "host and its log",
          absent_ranks(group, present), name, seconds, size - missing, size);
    std::array<char, kNameBytes> theirs{};
    check_mpi(MPI_Recv(theirs.data(), kNameBytes, MPI_BYTE, status.MPI_SOURCE, kHere, group,
                       MPI_STATUS_IGNORE),
              "MPI_Recv");
    if (std::strncmp(theirs.data(), g_here.data(), kNameBytes) != 0)
      return fmt::format(
          "rank {} starts group '{}' where rank {} starts group '{}': the ranks do "
          "different things (same program and configuration everywhere?)",
          world_rank(group, status.MPI_SOURCE), theirs.data(), world_rank(group, 0), name);
    present[static_cast<std::size_t>(status.MPI_SOURCE)] = true;
  }
  return "";
}

}  // namespace

void meet(MPI_Comm group, const std::string& name, double seconds) {
  int rank = 0, size = 1;
  check_mpi(MPI_Comm_rank(group, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(group, &size), "MPI_Comm_size");
  put(g_here, name);
  if (rank == 0) {
    put(g_verdict, count_in(group, size, name, seconds));
    for (int to = 1; to < size; ++to)
      send_for_ever(group, g_verdict.data(), kVerdictBytes, to, kVerdict);
    if (g_verdict[0] != '\0') throw Error(Category::device, g_verdict.data());
    return;
  }
  send_for_ever(group, g_here.data(), kNameBytes, 0, kHere);
  MPI_Status status;
  if (!arrives(group, 0, kVerdict, in(seconds + kGraceSeconds), status))
    throw Error(Category::device,
                fmt::format("rank {}, which starts group '{}', has not counted its ranks within "
                            "{:g} s; look at its host and its log",
                            world_rank(group, 0), name, seconds));
  check_mpi(
      MPI_Recv(g_verdict.data(), kVerdictBytes, MPI_BYTE, 0, kVerdict, group, MPI_STATUS_IGNORE),
      "MPI_Recv");
  if (g_verdict[0] != '\0') throw Error(Category::device, g_verdict.data());
}

}  // namespace tessera::comm
