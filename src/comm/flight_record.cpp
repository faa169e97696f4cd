#include "comm/flight_record.h"

#include <algorithm>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "core/text.h"

namespace tessera::comm {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<std::weak_ptr<FlightRecord>> records;
};

Registry& registry() {
  static Registry registry;
  return registry;
}

}  // namespace

FlightRecord::FlightRecord(std::string name, std::int64_t rank, std::int64_t size)
    : name_(std::move(name)), rank_(rank), size_(size) {}

std::int64_t FlightRecord::begin(const char* operation, std::int64_t bytes, std::int64_t peer) {
  const std::lock_guard lock(mutex_);
  ++last_;
  ring_[static_cast<std::size_t>(last_ % kLength)] = {last_, operation, bytes, peer, false};
  return last_;
}

void FlightRecord::done(std::int64_t sequence) {
  const std::lock_guard lock(mutex_);
  FlightEntry& entry = ring_[static_cast<std::size_t>(sequence % kLength)];
  if (entry.sequence == sequence) entry.done = true;
}

std::int64_t FlightRecord::last() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

std::vector<FlightEntry> FlightRecord::entries() const {
  const std::lock_guard lock(mutex_);
  std::vector<FlightEntry> entries;
  for (std::int64_t n = std::max<std::int64_t>(1, last_ - kLength + 1); n <= last_; ++n)
    entries.push_back(ring_[static_cast<std::size_t>(n % kLength)]);
  return entries;
}

std::string FlightRecord::describe() const {
  const std::vector<FlightEntry> all = entries();
  if (all.empty())
    return fmt::format("group '{}', rank {} of {}: no operation yet\n", name_, rank_, size_);
  std::string text = fmt::format("group '{}', rank {} of {}: operations {} to {}\n", name_, rank_,
                                 size_, all.front().sequence, all.back().sequence);
  for (const FlightEntry& entry : all)
    text += fmt::format(
        "  {:>8}  {:<14}  {:>10}{}{}\n", entry.sequence, entry.operation, human_bytes(entry.bytes),
        entry.peer < 0 ? "" : fmt::format("  rank {}", entry.peer), entry.done ? "  done" : "");
  return text;
}

std::shared_ptr<FlightRecord> make_flight_record(std::string name, std::int64_t rank,
                                                 std::int64_t size) {
  auto record = std::make_shared<FlightRecord>(std::move(name), rank, size);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::erase_if(all.records, [](const auto& gone) { return gone.expired(); });
  all.records.push_back(record);
  return record;
}

std::vector<std::shared_ptr<const FlightRecord>> all_flight_records() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::vector<std::shared_ptr<const FlightRecord>> living;
  for (const auto& weak : all.records)
    if (auto record = weak.lock()) living.push_back(std::move(record));
  return living;
}

std::string describe_flight_records() {
  std::string text;
  for (const auto& record : all_flight_records()) text += record->describe();
  return text;
}

}  // namespace tessera::comm
