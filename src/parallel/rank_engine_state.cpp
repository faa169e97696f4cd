// The state of a rank's engine in host memory, and its measured choices.
#include <algorithm>

#include "core/random.h"
#include "core/stopwatch.h"
#include "kernels/cast.h"
#include "model/initialise.h"
#include "parallel/rank_engine.h"

namespace tessera::parallel {

template <typename T>
void RankEngine<T>::initialise(std::uint64_t seed) {
  std::vector<Wide> values(static_cast<std::size_t>(local_.flat_size()));
  model::initialise(local_, seed, values.data());
  restore(State::parameter, 0, local_.flat_size(), values.data());
  finish_restore();
}

template <typename T>
std::int64_t RankEngine<T>::reserve_snapshot() {
  std::int64_t bytes = 0;
  for (const optim::Segment& s : written_)
    bytes += 3 * s.count() * static_cast<std::int64_t>(sizeof(Wide));
  if (!kept_) kept_.emplace(queue().device, bytes);
  return bytes;
}

template <typename T>
std::vector<SegmentState> RankEngine<T>::snapshot() {
  static_assert(std::is_same_v<Wide, float>);
  wait_for_parameters();
  reserve_snapshot();
  Wide* to = kept_->template as<Wide>();
  const auto copied = [&](const Wide* from, std::int64_t count) {
    download_async(queue().device, to, from, count * static_cast<std::int64_t>(sizeof(Wide)),
                   queue().stream);
    const Wide* const here = to;
    to += count;
    return here;
  };
  std::vector<SegmentState> states;
  for (const optim::Segment& s : written_) {
    const Wide* parameters = nullptr;
    if constexpr (optim::AdamW<T>::kHasMasters)
      parameters = optimizer_->masters(s.offset);
    else
      parameters = parameters_ + s.offset;
    states.push_back({copied(parameters, s.count()), copied(optimizer_->m(s.offset), s.count()),
                      copied(optimizer_->v(s.offset), s.count())});
  }
  synchronize();
  return states;
}

template <typename T>
void RankEngine<T>::restore(State state, std::int64_t flat, std::int64_t count,
                            const float* values) {
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(Wide));
  wait_for_parameters();
  if (state != State::parameter) {
    upload(queue().device, state == State::m ? optimizer_->m(flat) : optimizer_->v(flat), values,
           count * kBytes, queue().stream);
    return;
  }
  if constexpr (!optim::AdamW<T>::kHasMasters) {
    upload(queue().device, parameters_ + flat, values, count * kBytes, queue().stream);
  } else {
    std::vector<std::uint16_t> working(static_cast<std::size_t>(count));
    kernels::cpu::cast_to_bf16({count, values, working.data()});
    upload(queue().device, parameters_ + flat, working.data(),
           count * static_cast<std::int64_t>(sizeof(T)), queue().stream);
    for (const optim::Slice& slice : optimizer_->slices()) {
      const std::int64_t begin = std::max(flat, slice.begin);
      const std::int64_t end = std::min(flat + count, slice.end);
      if (begin < end)
        upload(queue().device, optimizer_->masters(begin), values + (begin - flat),
               (end - begin) * kBytes, queue().stream);
    }
  }
}

template <typename T>
std::vector<float> RankEngine<T>::gradients() {
  std::vector<float> values(static_cast<std::size_t>(local_.flat_size()));
  download(queue().device, values.data(), gradients_,
           local_.flat_size() * static_cast<std::int64_t>(sizeof(Wide)), queue().stream);
  return values;
}

template <typename T>
std::vector<float> RankEngine<T>::parameters() {
  wait_for_parameters();
  const std::int64_t size = local_.flat_size();
  std::vector<T> values(static_cast<std::size_t>(size));
  download(queue().device, values.data(), parameters_, size * static_cast<std::int64_t>(sizeof(T)),
           queue().stream);
  if constexpr (std::is_same_v<T, float>) {
    return values;
  } else {
    std::vector<float> wide(values.size());
    kernels::cpu::cast_from_bf16(
        {size, reinterpret_cast<const std::uint16_t*>(values.data()), wide.data()});
    return wide;
  }
}

template <typename T>
std::vector<std::uint64_t> RankEngine<T>::parameter_hashes() {
  wait_for_parameters();
  std::vector<std::uint64_t> hashes;
  std::vector<T> values;
  for (const model::Parameter& p : local_.parameters()) {
    values.resize(static_cast<std::size_t>(p.count));
    const std::int64_t bytes = p.count * static_cast<std::int64_t>(sizeof(T));
    download(queue().device, values.data(), parameters_ + p.offset, bytes, queue().stream);
    hashes.push_back(
        hash_name({reinterpret_cast<const char*>(values.data()), static_cast<std::size_t>(bytes)}));
  }
  return hashes;
}

template <typename T>
void RankEngine<T>::use_algorithms(const std::string& recorded, const std::string& where) {
  if (!context_.libraries() || recorded.empty()) return;
  kernels::Algorithms known = kernels::Algorithms::from_json(recorded, where);
  const kernels::Algorithms& here = kernels::algorithms(*context_.libraries());
  if (known.device == here.device && known.library == here.library)
    kernels::set_algorithms(*context_.libraries(), std::move(known));
}

template <typename T>
std::string RankEngine<T>::algorithms() const {
  return context_.libraries() ? kernels::algorithms(*context_.libraries()).to_json() : "";
}

template <typename T>
void RankEngine<T>::tune() {
  if (!context_.libraries()) return;
  const std::int64_t count = sequences_ * model_.context;
  const CounterRandom random(1, hash_name("tuning tokens"));
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::int32_t>(random.bits(static_cast<std::uint64_t>(i)) %
                                            static_cast<std::uint64_t>(model_.vocab)));
  kernels::set_may_measure(*context_.libraries(), true);
  wait_for_parameters();
  rehearsed_ = true;
  begin_step(1.0 / static_cast<double>(count));
  runner_->rehearse(take(inputs_[0], {sequences_, ids.data(), ids.data()}), target());
  synchronize();
  kernels::set_may_measure(*context_.libraries(), false);
}

template <typename T>
std::vector<PartTime> RankEngine<T>::time_parts(const model::MicroBatch& batch) {
  const model::MicroBatch there = take(inputs_[0], batch);
  synchronize();  // parameters are there too
  Stopwatch watch(queue().device, queue().stream);
  std::vector<std::string> names;
  watch.mark();
  const auto mark = [&](const std::string& name) {
    names.push_back(name);
    watch.mark();
  };
  clear_gradients();
  mark("clear gradients");
  for (const auto& stage : runner_->chunks()) {
    model::Stage<T>* of = stage.get();
    stage->set_probe([&mark, of](std::size_t piece, bool backward) {
      mark(of->pieces()[piece]->name() + (backward ? " backward" : ""));
    });
  }
  runner_->rehearse(there, target());
  for (const auto& stage : runner_->chunks()) stage->set_probe({});
  optimizer_->squared_norms(gradients_);
  mark("gradient norms");
  optimizer_->update(parameters_, gradients_, 1, 0.0, 0.0);
  mark("AdamW");
  std::vector<PartTime> times;
  for (std::size_t i = 0; i < names.size(); ++i)
    times.push_back({names[i], watch.milliseconds(i, i + 1)});
  return times;
}

template class RankEngine<float>;
#ifdef TESSERA_HAS_CUDA
template class RankEngine<kernels::bf16>;
#endif

}  // namespace tessera::parallel
