#include "comm/watchdog.h"

#include <string_view>

#include <signal.h>

#include "comm/watch_loop.h"
#include "core/error.h"
#include "core/json.h"

namespace tessera::comm {

Exchange exchange_over(Communicator& ranks) {
  return [&ranks](const std::string& mine) {
    const std::string all = broadcast_text(ranks, Json(ranks.gather_text(mine)).dump());
    return parse_json(all, "watchdog exchange").get<std::vector<std::string>>();
  };
}

Watchdog::Watchdog(std::int64_t rank, std::int64_t size, const Exchange& exchange,
                   WatchdogOptions options)
    : options_(std::move(options)), since_(watch_seconds()) {
  TESSERA_CHECK(rank >= 0 && rank < size);
  loop_ = std::make_unique<Loop>(*this, rank, exchange);
  TESSERA_CHECK(loop_->size() == size);
  // Signals are for other threads.
  sigset_t all, previous;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &previous);
  thread_ = std::thread([this] { loop_->run(); });
  ::pthread_sigmask(SIG_SETMASK, &previous, nullptr);
}

Watchdog::~Watchdog() {
  loop_->end();
  thread_.join();
}

void Watchdog::set_place(const ExitPlace& place) {
  const std::lock_guard lock(mutex_);
  place_ = place;
}

void Watchdog::set_hooks(std::function<void()> abort, std::function<std::string()> record) {
  const std::lock_guard lock(mutex_);
  abort_ = std::move(abort);
  record_ = std::move(record);
}

void Watchdog::post(Section section, std::int64_t step, std::int64_t micro_batch) noexcept {
  const bool anew = section == Section::evaluation || section != section_ || step != step_;
  section_ = section;
  step_ = step;
  micro_batch_ = micro_batch;
  if (anew) since_ = watch_seconds();
}

void Watchdog::post_collective(const char* name) noexcept {
  name_ = name;
  ++collective_;
}

void Watchdog::post_computed(double seconds) noexcept {
  computed_ = computed_ + seconds;
  ++steps_;
}

Position Watchdog::position() const noexcept {
  Position position;
  position.section = section_;
  position.step = step_;
  position.micro_batch = micro_batch_;
  position.collective = collective_;
  const std::string_view name = name_.load();
  name.copy(position.name, sizeof position.name - 1);  // the rest is zeros
  return position;
}

double Watchdog::limit(Section section) const {
  switch (section) {
    case Section::start:
      return options_.start_seconds;
    case Section::step:
    case Section::evaluation:
      return options_.step_seconds;
    case Section::resume:
    case Section::checkpoint:
      return options_.checkpoint_seconds;
  }
  return options_.step_seconds;
}

}  // namespace tessera::comm
