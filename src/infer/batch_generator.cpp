#include "infer/batch_generator.h"

#include <algorithm>
#include <chrono>

#include <spdlog/fmt/fmt.h>

#include "core/error.h"
#include "core/integers.h"
#include "kernels/embedding.h"

namespace tessera::infer {
namespace {

// Turns between two questions whether every sequence has ended.
constexpr std::int64_t kTurnsUnasked = 16;

void require(bool holds, const std::string& problem) {
  if (!holds) throw Error(Category::config, problem);
}

void check_ids(const std::vector<std::int32_t>& ids, std::int64_t vocab) {
  std::uint32_t largest = 0;  // negative ids count as large ones
  for (const std::int32_t id : ids) largest = std::max(largest, static_cast<std::uint32_t>(id));
  if (largest < vocab) return;
  for (const std::int32_t id : ids)
    require(id >= 0 && id < vocab,
            fmt::format("prompt token {} lies outside the model's vocabulary of {}", id, vocab));
}

}  // namespace

std::int64_t prefill_rows(Device device) {
  return device == Device::cuda ? 32768 : 2048;
}

template <typename T>
BatchGenerator<T>::BatchGenerator(const ModelConfig& config, const model::ParameterTable& table,
                                  const Limits& limits, Device device, std::int64_t turn,
                                  std::int64_t longest_rows, const std::string& norm_prefix,
                                  const std::string& classifier)
    : config_(config),
      table_(table),
      limits_(limits),
      turn_(turn),
      longest_rows_(longest_rows),
      state_(config.vocab, limits, turn),
      context_(device),
      head_(config_, table, norm_prefix, classifier) {
  prompt_windows_ =
      std::min(limits.sequences, std::max<std::int64_t>(1, prefill_rows(device) / longest_rows));
  scratch_.windows = prompt_windows_;
  scratch_.rows = std::max(limits.sequences, prompt_windows_ * longest_rows);
}

template <typename T>
void BatchGenerator<T>::plan(MemoryPlan& plan) {
  weights_.plan(plan, queue().device, table_.flat_size());
  plan_family(plan);
  scratch_.reserve(config_, plan);
  x_ = plan.reserve<T>("activations", scratch_.rows * config_.width);
  hidden_ = plan.reserve<T>("activations", limits_.sequences * config_.width);
  head_.plan(plan, limits_.sequences);
  state_.plan(plan);
  ids_ = plan.reserve<std::int32_t>("inputs", limits_.sequences * longest_rows_ * turn_);
  context_.plan(plan, kernels::kWorkspaceBytes + prefill_workspace(prompt_windows_, longest_rows_));
}

template <typename T>
void BatchGenerator<T>::bind(const float* parameters) {
  plan(memory_);
  arena_ = std::make_unique<Arena>(memory_, queue().device);
  context_.bind(*arena_);
  parameters_ = weights_.fill(queue(), *arena_, parameters);
  head_.bind(queue(), *arena_, parameters_);
  state_.bind(queue(), *arena_);
  host_ids_ = std::make_unique<HostMemory>(
      parallel::DeviceContext::present(queue().device),
      limits_.sequences * longest_rows_ * turn_ * static_cast<std::int64_t>(sizeof(std::int32_t)));
  bind_family();
}

template <typename T>
void BatchGenerator<T>::set_may_measure(bool may_measure) {
  if (context_.libraries()) kernels::set_may_measure(*context_.libraries(), may_measure);
}

template <typename T>
void BatchGenerator<T>::choose(std::int64_t column, const T* from) {
  head_.run(sequences_, from);
  mark("final norm and classifier");
  state_.choose(column, head_.logits(), head_.stride());
  mark("sampling");
}

template <typename T>
void BatchGenerator<T>::look_up(std::int64_t index, std::int64_t rows, std::int64_t columns,
                                const std::int32_t* ids, std::int64_t ids_stride, T* out) const {
  kernels::EmbeddingForward<T> args;
  args.shape.groups = rows;
  args.shape.rows = 1;
  args.shape.width = args.shape.stride = args.shape.out_group_stride = columns;
  args.shape.vocab = config_.vocab;
  args.shape.ids_group_stride = ids_stride;
  args.ids = ids;
  args.table = parameter(index);
  args.out = out;
  kernels::embedding_forward(queue(), args);
}

template <typename T>
std::int64_t BatchGenerator<T>::begin(const std::vector<Prompt>& prompts,
                                      const GenerateOptions& options) {
  require(static_cast<std::int64_t>(prompts.size()) <= limits_.sequences,
          fmt::format("{} prompts at once, but memory was planned for {}", prompts.size(),
                      limits_.sequences));
  require(options.tokens >= 1 && options.tokens <= limits_.new_tokens,
          fmt::format("{} new tokens asked for, from 1 to {} are planned for", options.tokens,
                      limits_.new_tokens));
  sequences_ = static_cast<std::int64_t>(prompts.size());
  std::vector<Start> starts;
  std::int64_t length = 0, given = 0;
  for (const Prompt& prompt : prompts) {
    require(!prompt.ids.empty(), "a prompt has no tokens");
    check_ids(prompt.ids, config_.vocab);
    starts.push_back(start(prompt, options));
    const Start& one = starts.back();
    length = std::max(length, div_exact(one.tokens, turn_));
    given = std::max(given, one.pad + static_cast<std::int64_t>(prompt.ids.size()) - one.tokens);
    require(length <= longest_rows_,
            fmt::format("a prompt of {} tokens, but memory was planned for {}", prompt.ids.size(),
                        limits_.prompt_tokens));
  }
  std::vector<std::int32_t> rows, positions, forced;
  for (std::int64_t s = 0; s < sequences_; ++s) {
    const Start& one = starts[static_cast<std::size_t>(s)];
    const std::vector<std::int32_t>& ids = prompts[static_cast<std::size_t>(s)].ids;
    const std::int64_t last = one.tokens / turn_ - 1;
    rows.push_back(static_cast<std::int32_t>(s % prompt_windows_ * length + last));
    positions.push_back(static_cast<std::int32_t>(last));
    forced.insert(forced.end(), ids.begin() + (one.tokens - one.pad), ids.end());
    forced.resize(static_cast<std::size_t>((s + 1) * turn_), -1);
  }
  state_.begin(prompts, options, rows, positions, forced);
  prefill(prompts, starts, options.pad_id, length);
  any_given_ = given > 0;
  return div_ceil(options.tokens + given, turn_);
}

template <typename T>
void BatchGenerator<T>::prefill(const std::vector<Prompt>& prompts,
                                const std::vector<Start>& starts, std::int32_t pad_id,
                                std::int64_t length) {
  const std::int64_t columns = length * turn_;
  auto* const here = host_ids_->as<std::int32_t>();
  auto* const there = arena_->at<std::int32_t>(ids_);
  // The host gathers the ids of the next windows while the device works on these.
  for (std::int64_t first = 0; first < sequences_; first += prompt_windows_) {
    const std::int64_t count = std::min(prompt_windows_, sequences_ - first);
    for (std::int64_t s = first; s < first + count; ++s) {
      const Start& one = starts[static_cast<std::size_t>(s)];
      std::int32_t* const row = here + s * columns;
      std::fill_n(row, one.pad, pad_id);
      std::copy_n(prompts[static_cast<std::size_t>(s)].ids.begin(), one.tokens - one.pad,
                  row + one.pad);
      std::fill(row + one.tokens, row + columns, 0);
    }
    upload_async(queue().device, there + first * columns, here + first * columns,
                 count * columns * static_cast<std::int64_t>(sizeof(std::int32_t)), queue().stream);
    embed_prompt(count * length, there + first * columns);
    prompt_stack().prefill(first, count, length, x(), state_.rows() + first,
                           state_.positions() + first, hidden() + first * config_.width);
  }
  mark("prefill");
}

template <typename T>
void BatchGenerator<T>::turn(std::int64_t number, bool last) {
  const auto work = [&] {
    choose_tokens();
    if (!last) absorb_tokens();
  };
  // The first turn runs as it is: whatever is prepared at an operation's first use is prepared
  // then.
  if (queue().device == Device::cpu || number == 0) return work();
  std::unique_ptr<DeviceGraph>& graph = last ? last_turn_ : whole_turn_;
  if (!graph) graph = std::make_unique<DeviceGraph>(context_.stream(), work);
  graph->launch(context_.stream());
}

template <typename T>
std::vector<std::vector<std::int32_t>> BatchGenerator<T>::generate(
    const std::vector<Prompt>& prompts, const GenerateOptions& options, const OnToken& on_token) {
  std::vector<std::vector<std::int32_t>> results(prompts.size());
  if (prompts.empty()) return results;
  const std::string recorded =
      fmt::format("{} {} {} {} {} {} {} {}", prompts.size(), options.tokens,
                  options.sampling.temperature, options.sampling.top_k, options.sampling.top_p,
                  options.sampling.seed, options.end_id, options.allowed.empty());
  if (recorded != recorded_) {
    whole_turn_.reset();
    last_turn_.reset();
  }
  recorded_ = recorded;

  const std::int64_t turns = begin(prompts, options);
  std::vector<bool> stopped(prompts.size());
  // Takes in what has been produced; whether any sequence goes on.
  const auto deliver = [&] {
    const Progress now = state_.progress();
    bool any = false;
    for (std::size_t s = 0; s < prompts.size(); ++s) {
      const auto count = static_cast<std::size_t>(now.produced[s]);
      while (!stopped[s] && results[s].size() < count) {
        results[s].push_back(
            now.outputs[s * static_cast<std::size_t>(now.width) + results[s].size()]);
        if (on_token && !on_token(s, results[s].back())) stopped[s] = true;
      }
      any = any || (!stopped[s] && now.ended[s] == 0);
    }
    return any;
  };
  const std::int64_t unasked = on_token ? 1 : kTurnsUnasked;
  for (std::int64_t t = 0; t < turns; ++t) {
    turn(t, t == turns - 1);
    if (t == 0 && any_given_) state_.forget_forced();
    const bool ask = on_token || (options.end_id >= 0 && (t + 1) % unasked == 0);
    if (ask && t + 1 < turns && !deliver()) break;
  }
  deliver();
  return results;
}

template <typename T>
double BatchGenerator<T>::first_token_seconds(const std::vector<Prompt>& prompts,
                                              const GenerateOptions& options) {
  using Clock = std::chrono::steady_clock;
  context_.stream().synchronize();
  const auto begun = Clock::now();
  begin(prompts, options);
  choose_first();
  context_.stream().synchronize();
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

template <typename T>
std::vector<parallel::PartTime> BatchGenerator<T>::time_parts(const std::vector<Prompt>& prompts,
                                                              const GenerateOptions& options) {
  std::vector<std::string> names;
  Stopwatch watch(queue().device, queue().stream);
  context_.stream().synchronize();
  watch.mark();
  probe_ = [&](const char* part) {
    names.emplace_back(part);
    watch.mark();
  };
  begin(prompts, options);
  choose_tokens();
  absorb_tokens();
  probe_ = {};
  std::vector<parallel::PartTime> parts;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const double time = watch.milliseconds(i, i + 1);
    const auto known =
        std::find_if(parts.begin(), parts.end(), [&](const auto& p) { return p.part == names[i]; });
    if (known == parts.end())
      parts.push_back({names[i], time});
    else
      known->milliseconds += time;
  }
  return parts;
}

template class BatchGenerator<float>;
#ifdef TESSERA_HAS_CUDA
template class BatchGenerator<kernels::bf16>;
#endif

}  // namespace tessera::infer
