// What a transport was last asked to do, for reports on a hang: the last operations of each, kept
// in a fixed ring that the watchdog's thread reads while the main thread is stuck in one of them.
//
// Every function may be called from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace tessera::comm {

struct FlightEntry {
  std::int64_t sequence = 0;  // from 1, in the order of the calls
  const char* operation = "";
  std::int64_t bytes = 0;  // of this rank's array
  std::int64_t peer = -1;  // the other rank of a message (in its group), -1 for collectives
  bool done = false;       // known to have ended; operations on a GPU's stream never are
};

class FlightRecord {
 public:
  static constexpr std::int64_t kLength = 64;

  // `rank` of `size`: in the transport's group.
  FlightRecord(std::string name, std::int64_t rank, std::int64_t size);

  const std::string& name() const { return name_; }
  // Notes an operation that begins now; `operation` is a literal. Returns its sequence number.
  std::int64_t begin(const char* operation, std::int64_t bytes, std::int64_t peer = -1);
  void done(std::int64_t sequence);

  // The number of the newest operation, 0 before the first.
  std::int64_t last() const;
  // The last kLength operations, oldest first.
  std::vector<FlightEntry> entries() const;
  // Some lines: the name and a line an operation, oldest first.
  std::string describe() const;

 private:
  const std::string name_;
  const std::int64_t rank_, size_;
  mutable std::mutex mutex_;
  std::int64_t last_ = 0;
  std::array<FlightEntry, kLength> ring_;
};

// A record that all_flight_records() shows as long as somebody holds it.
std::shared_ptr<FlightRecord> make_flight_record(std::string name, std::int64_t rank,
                                                 std::int64_t size);
// Of this process, in the order of their making.
std::vector<std::shared_ptr<const FlightRecord>> all_flight_records();
// describe() of all of them: what a watchdog prints.
std::string describe_flight_records();

}  // namespace tessera::comm
