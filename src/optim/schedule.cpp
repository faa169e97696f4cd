#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace tessera::optim {

double learning_rate(const OptimizerConfig& config, std::int64_t steps, std::int64_t step) {
  TESSERA_CHECK(step >= 1);
  const auto n = static_cast<double>(step), last = static_cast<double>(steps);
  const auto warmup = static_cast<double>(config.warmup);
  if (step <= config.warmup) return config.lr * n / warmup;
  const double floor = config.min_lr_ratio;
  switch (config.schedule) {
    case LearningRateSchedule::constant:
      return config.lr;
    case LearningRateSchedule::cosine: {
      const double part = std::min(1.0, (n - warmup) / std::max(1.0, last - warmup));
      return config.lr * (floor + (1 - floor) * (1 + std::cos(std::numbers::pi * part)) / 2);
    }
    case LearningRateSchedule::wsd: {
      const auto decay = static_cast<double>(
          config.decay_steps > 0 ? config.decay_steps : std::max<std::int64_t>(1, steps / 10));
      const double part = std::clamp((n - (last - decay)) / decay, 0.0, 1.0);
      return config.lr * (1 - (1 - floor) * part);
    }
  }
  return config.lr;
}

}  // namespace tessera::optim
