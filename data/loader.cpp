// One thread fills a ring of batches that is allocated once; the consumer holds one of them.
#include "data/loader.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "core/error.h"

namespace tessera::data {

struct Loader::State {
  State(TokenSource& tokens, const LoaderOptions& options);

  void fill(Batch& batch, std::int64_t number);
  void run();

  TokenSource& source;
  const LoaderOptions options;
  std::int64_t micro_batches = 0;                    // a step, on this replica
  std::int64_t total = 0;                            // in all
  std::vector<Batch> ring;                           // batch n lives in ring[n % size]
  std::int64_t counted_step = -1, step_targets = 0;  // of the filling thread

  std::mutex mutex;
  std::condition_variable changed;
  std::int64_t ready = 0;  // batches filled
  std::int64_t taken = 0;  // batches given out; the last of them is still the consumer's
  bool stopping = false;
  std::exception_ptr failure;  // of batch `ready`
  double waited = 0;

  std::thread thread;
};

Loader::State::State(TokenSource& tokens, const LoaderOptions& o) : source(tokens), options(o) {
  if (o.replicas < 1 || o.replica < 0 || o.replica >= o.replicas || o.micro_batch < 1 ||
      o.global_batch < 1 || o.ahead < 1 || o.first_step < 0 || o.last_step < o.first_step)
    throw Error(Category::config, "the loader's batch, replicas or steps make no sense");
  if (o.global_batch % (o.replicas * o.micro_batch) != 0)
    throw Error(Category::config, "train.global_batch = " + std::to_string(o.global_batch) +
                                      " is not a multiple of replicas x train.micro_batch = " +
                                      std::to_string(o.replicas) + " x " +
                                      std::to_string(o.micro_batch));
  micro_batches = o.global_batch / (o.replicas * o.micro_batch);
  total = (o.last_step - o.first_step) * micro_batches;
  ring.resize(static_cast<std::size_t>(o.ahead) + 1);
  for (Batch& batch : ring) {
    batch.sequences = o.micro_batch;
    batch.ids.resize(static_cast<std::size_t>(o.micro_batch * source.context()));
    batch.targets.resize(batch.ids.size());
  }
}

void Loader::State::fill(Batch& batch, std::int64_t number) {
  batch.step = options.first_step + number / micro_batches;
  batch.micro_batch = number % micro_batches;
  batch.first_position = batch.step * options.global_batch +
                         options.replica * micro_batches * options.micro_batch +
                         batch.micro_batch * options.micro_batch;
  if (batch.step != counted_step) {
    step_targets = 0;
    for (std::int64_t i = 0; i < options.global_batch; ++i)
      step_targets += source.targets(batch.step * options.global_batch + i, options.first_target);
    counted_step = batch.step;
  }
  batch.step_targets = step_targets;
  const auto context = static_cast<std::size_t>(source.context());
  batch.lost_targets = 0;
  for (std::size_t row = 0; row < static_cast<std::size_t>(batch.sequences); ++row) {
    const std::int64_t position = batch.first_position + static_cast<std::int64_t>(row);
    const std::int64_t lost = source.lost_samples();
    source.read(position, std::span(batch.ids).subspan(row * context, context),
                std::span(batch.targets).subspan(row * context, context));
    if (source.lost_samples() != lost)
      batch.lost_targets += source.targets(position, options.first_target);
  }
}

void Loader::State::run() {
  const auto size = static_cast<std::int64_t>(ring.size());
  for (std::int64_t number = 0; number < total; ++number) {
    {
      std::unique_lock lock(mutex);
      // The consumer's batch, taken - 1, must stay as it is.
      changed.wait(lock, [&] { return stopping || number - (taken - 1) < size; });
      if (stopping) return;
    }
    try {
      fill(ring[static_cast<std::size_t>(number % size)], number);
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
      changed.notify_all();
      return;
    }
    const std::lock_guard lock(mutex);
    ready = number + 1;
    changed.notify_all();
  }
}

Loader::Loader(TokenSource& source, const LoaderOptions& options)
    : state_(std::make_unique<State>(source, options)) {
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->changed.notify_all();
  }
  state_->thread.join();
}

const Batch& Loader::next() {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  TESSERA_CHECK(s.taken < s.total);
  const auto available = [&] { return s.ready > s.taken || s.failure; };
  if (!available()) {
    const auto start = std::chrono::steady_clock::now();
    s.changed.wait(lock, available);
    s.waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  if (s.ready == s.taken) std::rethrow_exception(s.failure);
  const std::size_t slot = static_cast<std::size_t>(s.taken++) % s.ring.size();
  s.changed.notify_all();
  return s.ring[slot];
}

double Loader::waited_seconds() const {
  const std::lock_guard lock(state_->mutex);
  return state_->waited;
}

}  // namespace tessera::data
