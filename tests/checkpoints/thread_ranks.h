// Ranks that are threads of one process, for tests of what ranks do together.
#pragma once

#include <barrier>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "core/error.h"

namespace tessera::checkpoints::testing {

class ThreadRank : public comm::Communicator {
 public:
  struct Shared {
    explicit Shared(std::int64_t ranks)
        : size(ranks), meeting(ranks), texts(static_cast<std::size_t>(ranks)) {}
    const std::int64_t size;
    std::barrier<> meeting;
    std::vector<std::string> texts;
    void* source = nullptr;
  };
  ThreadRank(Shared& shared, std::int64_t rank) : shared_(shared), rank_(rank) {}

  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return shared_.size; }
  void barrier() override { shared_.meeting.arrive_and_wait(); }
  void broadcast(void* data, std::int64_t bytes) override {
    if (rank_ == 0) shared_.source = data;
    barrier();
    if (rank_ != 0) std::memcpy(data, shared_.source, static_cast<std::size_t>(bytes));
    barrier();
  }
  std::vector<std::string> gather_text(const std::string& text) override {
    shared_.texts[static_cast<std::size_t>(rank_)] = text;
    barrier();
    std::vector<std::string> all;
    if (rank_ == 0) all = shared_.texts;
    barrier();
    return all;
  }
  void all_reduce(double* data, std::int64_t count) override {
    TESSERA_CHECK(count == 1);
    shared_.texts[static_cast<std::size_t>(rank_)] = std::to_string(*data);
    barrier();
    double sum = 0;
    for (const std::string& text : shared_.texts) sum += std::stod(text);
    barrier();
    *data = sum;
  }
  std::unique_ptr<comm::Communicator> split(std::int64_t, std::int64_t) override {
    TESSERA_CHECK(!"not needed here");
    return nullptr;
  }

 private:
  Shared& shared_;
  const std::int64_t rank_;
};

// `work` on `ranks` threads; what it returns, in rank order. It must not throw.
template <typename Result>
std::vector<Result> on_ranks(std::int64_t ranks,
                             const std::function<Result(comm::Communicator&)>& work) {
  ThreadRank::Shared shared(ranks);
  std::vector<Result> results(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (std::int64_t rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      ThreadRank here(shared, rank);
      results[static_cast<std::size_t>(rank)] = work(here);
    });
  for (std::thread& thread : threads) thread.join();
  return results;
}

}  // namespace tessera::checkpoints::testing
