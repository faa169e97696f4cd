// What the head finds for every predicting row, on the device and brought to the host: evaluation
// that wants more than a sum.
#pragma once

#include <cstdint>
#include <vector>

#include "core/device_memory.h"
#include "core/memory.h"
#include "kernels/queue.h"

namespace tessera::model {

// Where the head leaves it (loss mode), rows in their order. [rows] each.
template <typename T>
struct RowScores {
  kernels::Wide<T>* losses = nullptr;  // nats, 0 where there is no target
  std::int32_t* best = nullptr;        // the likeliest token, the smallest id among equals
  std::int32_t* counts = nullptr;      // for kernels/sample.h, which keeps books that nobody reads
  std::uint8_t* ended = nullptr;       // all 1
};

// The same in host memory.
struct HostScores {
  std::vector<double> losses;
  std::vector<std::int32_t> best;
};

template <typename T>
class ScoreMemory {
 public:
  void plan(MemoryPlan& plan, std::int64_t rows) {
    rows_ = rows;
    losses_ = plan.reserve<kernels::Wide<T>>("scores", rows);
    best_ = plan.reserve<std::int32_t>("scores", rows);
    counts_ = plan.reserve<std::int32_t>("scores", rows);
    ended_ = plan.reserve<std::uint8_t>("scores", rows);
  }
  RowScores<T> bind(const kernels::Queue& queue, const Arena& arena) {
    queue_ = queue;
    scores_ = {arena.at<kernels::Wide<T>>(losses_), arena.at<std::int32_t>(best_),
               arena.at<std::int32_t>(counts_), arena.at<std::uint8_t>(ended_)};
    const std::vector<std::uint8_t> ones(static_cast<std::size_t>(rows_), 1);
    upload(queue.device, scores_.ended, ones.data(), rows_, queue.stream);
    return scores_;
  }
  // The first `rows`; waits for the queue.
  HostScores bring(std::int64_t rows) const {
    HostScores host;
    std::vector<kernels::Wide<T>> losses(static_cast<std::size_t>(rows));
    host.best.resize(losses.size());
    download(queue_.device, losses.data(), scores_.losses,
             rows * static_cast<std::int64_t>(sizeof(losses[0])), queue_.stream);
    download(queue_.device, host.best.data(), scores_.best,
             rows * static_cast<std::int64_t>(sizeof(std::int32_t)), queue_.stream);
    host.losses.assign(losses.begin(), losses.end());
    return host;
  }

 private:
  std::int64_t rows_ = 0;
  Buffer losses_, best_, counts_, ended_;
  RowScores<T> scores_;
  kernels::Queue queue_;
};

}  // namespace tessera::model
