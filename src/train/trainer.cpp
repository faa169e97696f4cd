#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numbers>

#include <spdlog/spdlog.h>

#include "checkpoints/checkpoint.h"
#include "comm/flight_record.h"
#include "config/load.h"
#include "core/error.h"
#include "core/file_system.h"
#include "core/integers.h"
#include "core/log.h"
#include "core/progress.h"
#include "core/text.h"
#include "core/threads.h"
#include "data/loader.h"
#include "model/architecture.h"
#include "model/flops.h"
#include "optim/schedule.h"
#include "parallel/agreements.h"
#include "parallel/engine.h"
#include "train/data_record.h"
#include "train/evaluation.h"
#include "train/job_watch.h"
#include "train/load.h"
#include "train/metrics.h"
#include "train/resume.h"
#include "train/run_folder.h"
#include "train/saver.h"
#include "train/setup.h"
#include "train/signals.h"

namespace tessera::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMostBadSteps = 10;  // non-finite steps in a row
constexpr std::int64_t kMostAlgorithmBytes = 1 << 24;
constexpr int kLogLines = 25;  // lines a run writes where there is no terminal

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Trainer {
 public:
  Trainer(const Config& config, const TrainOptions& options, comm::Session& session,
          JobWatch& watch)
      : config_(config),
        options_(options),
        ranks_(session.world()),
        watch_(watch),
        topology_(comm::make_topology(config, ranks_.rank(), ranks_.size())),
        folder_(config.run.root, config.run.name),
        threads_(use_threads(session.local_ranks())),
        device_(resolve_device(config_, session.local_rank())),
        ranks_table_(call_roll(session, topology_, device_)) {}
  ~Trainer() { watch_.set_hooks({}, {}); }

  TrainOutcome run();

 private:
  bool first() const { return topology_.rank == 0; }
  void open_folder();
  void set_up();
  void start_or_resume();
  // CUDA: keeps to the measured choices of an earlier job of this run, measures what is missing.
  void fix_algorithms();
  // One optimizer step; returns whether somebody asked to stop after it.
  bool step();
  void apply(const parallel::Agreement& agreement, StepMetrics& metrics);
  void report(const StepMetrics& metrics);
  void evaluate();

  Config config_;  // device and precision resolved
  const TrainOptions& options_;
  comm::Communicator& ranks_;
  JobWatch& watch_;
  comm::Topology topology_;
  RunFolder folder_;
  std::int64_t threads_;
  Device device_;
  std::string ranks_table_;  // who takes part; on rank 0 of several
  StopSignals signals_;

  Data data_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<parallel::Engine> engine_;
  std::unique_ptr<data::Loader> loader_;
  std::unique_ptr<MetricsFile> metrics_;
  std::unique_ptr<ProgressLine> progress_;
  std::unique_ptr<Saver> saver_;
  std::unique_ptr<Evaluation> evaluation_;

  checkpoints::TrainingState state_;
  std::int64_t last_step_ = 0;  // of this job
  int bad_steps_ = 0;
  bool save_requested_ = false;
  StopCause asked_ = StopCause::none;
  double recent_rate_ = 0;  // steps a second, smoothed
  TrainOutcome outcome_;
};

void Trainer::open_folder() {
  FileSystem& files = FileSystem::posix();
  if (first()) {
    folder_.open();
    if (options_.fresh) {
      files.remove_all(folder_.checkpoints());
      files.remove_all(folder_.metrics());
      files.create_directories(folder_.checkpoints());
    }
  }
  ranks_.barrier();
  watch_.open(folder_.path());
  setup_log(static_cast<int>(topology_.rank), folder_.log(topology_.rank));
  progress_ = std::make_unique<ProgressLine>(first());
}

void Trainer::set_up() {
  if (options_.verify_data) verify_data(config_, topology_.rank, topology_.world);
  data_ = open_data(config_);
  require_equal_data(data_, ranks_);
  engine_ = parallel::make_engine(config_, device_, topology_, ranks_);
  watch_.set_hooks([this] { engine_->abort(); }, comm::describe_flight_records);
  evaluation_ = std::make_unique<Evaluation>(
      config_, data_.valid.get(), data_.train->tokenizer_json(), *engine_, topology_, ranks_);
  MemoryPlan plan;
  engine_->plan(plan);
  report_start(config_, folder_.path(), topology_, data_, engine_->table(), plan, threads_,
               device_);
  if (!ranks_table_.empty()) spdlog::info("{}", ranks_table_);
  require_fits(config_, device_, topology_, plan);
  arena_ = std::make_unique<Arena>(plan, device_);
  engine_->bind(*arena_);
}

void Trainer::start_or_resume() {
  watch_.post(comm::Section::resume, 0);
  std::vector<std::string> refused;
  std::string path;
  if (first()) {
    // A job killed while it replaced a checkpoint may have left it set aside.
    checkpoints::recover_checkpoints(FileSystem::posix(), folder_.checkpoints());
    path = checkpoints::newest_checkpoint(FileSystem::posix(), folder_.checkpoints(), refused);
    if (!refused.empty() && options_.no_fallback)
      throw Error(Category::data, "--no-fallback: the newest checkpoint does not verify: " +
                                      refused[0] + "; without the flag " + path + " is next");
  }
  path = comm::broadcast_text(ranks_, path);
  for (const std::string& why : refused)
    spdlog::warn("not a usable checkpoint, falling back: {}", why);

  if (path.empty()) {
    engine_->initialise(config_.seed);
    if (first()) {
      if (FileSystem::posix().exists(folder_.metrics()) && !options_.fresh)
        spdlog::warn("{} holds no checkpoint, so its steps are done again from the first",
                     folder_.checkpoints());
      spdlog::info("new run, seed {}", config_.seed);
    }
  } else {
    // Rank 0 has just verified every digest.
    const checkpoints::CheckpointReader reader(path, checkpoints::Verify::sizes);
    state_ = reader.state();
    Config saved = parse_config(state_.config_yaml, path + "/config.yaml", path);
    // Written before precisions were resolved, by programs that had fp32 alone.
    if (saved.precision == Precision::automatic) saved.precision = Precision::fp32;
    const ResumeCheck check =
        check_resume(saved, config_, state_, data_.train->digest(), options_.allow_change);
    require_resumable(check, path);
    load_checkpoint(*engine_, reader);
    if (first()) {
      spdlog::info("resumed from {} (step {})", path, state_.step);
      for (const std::string& change : check.allowed) spdlog::warn("changed: {}", change);
      for (const std::string& change : check.noted) spdlog::info("changed: {}", change);
      if (state_.ranks != topology_.world || state_.threads != threads_)
        spdlog::info(
            "layout {} x {} -> {} x {} (ranks x threads): equal to rounding, not to the bit",
            state_.ranks, state_.threads, topology_.world, threads_);
    }
  }
  fix_algorithms();
  state_.config_yaml = resolved_config(config_);
  state_.config_hash = config_hash(config_);
  state_.train_digest = data_.train->digest();
  state_.valid_digest = data_.valid ? data_.valid->digest() : "";
  state_.ranks = topology_.world;
  state_.threads = threads_;
  state_.build = build_name();
  outcome_.first_step = outcome_.step = state_.step;
  last_step_ = config_.train.stop_at > 0 ? config_.train.stop_at : config_.train.steps;

  if (first()) {
    check_data_record(folder_.path(), *data_.train, data_.valid.get(), !path.empty());
    write_atomically(FileSystem::posix(), folder_.config(), state_.config_yaml);
    metrics_ = std::make_unique<MetricsFile>(folder_.metrics(), state_.step);
  }
  saver_ = std::make_unique<Saver>(
      SaverParts{config_, *engine_, ranks_, watch_, *progress_, *data_.train, metrics_.get()},
      folder_.checkpoints(), path, path.empty() ? -1 : state_.step);
  loader_ =
      make_loader(config_, topology_, *data_.train, state_.step, std::max(state_.step, last_step_));
}

void Trainer::fix_algorithms() {
  FileSystem& files = FileSystem::posix();
  std::string recorded = state_.algorithms_json;
  if (recorded.empty() && !options_.fresh && files.exists(folder_.algorithms()))
    recorded = files.read(folder_.algorithms(), kMostAlgorithmBytes);
  state_.algorithms_json =
      parallel::agree_on_algorithms(*engine_, topology_, ranks_, recorded, folder_.algorithms());
  if (first() && !state_.algorithms_json.empty())
    write_atomically(files, folder_.algorithms(), state_.algorithms_json);
}

bool Trainer::step() {
  const auto start = Clock::now();
  const double waited = loader_->waited_seconds();
  const std::int64_t context = config_.model.context;
  const std::int64_t micro_batches =
      config_.train.global_batch / (config_.train.micro_batch * topology_.replicas);
  double targets = 0;  // of the global batch
  std::int64_t bytes = 0, counted = 0, lost = 0;
  watch_.post(comm::Section::step, state_.step + 1);
  for (std::int64_t m = 0; m < micro_batches; ++m) {
    watch_.post(comm::Section::step, state_.step + 1, m + 1);
    const data::Batch& batch = loader_->next();
    if (m == 0) {
      targets = static_cast<double>(std::max<std::int64_t>(1, batch.step_targets));
      engine_->begin_step(1.0 / targets);
    }
    engine_->accumulate({batch.sequences, batch.ids.data(), batch.targets.data()});
    lost += batch.lost_targets;
    bytes +=
        eval::target_bytes(batch.targets.data(), batch.sequences, context,
                           model::first_target(config_.model), data_.train->token_bytes(), counted);
  }
  if (device_ == Device::cpu)  // elsewhere the work is only queued
    watch_.post_computed(seconds_since(start) - loader_->waited_seconds() + waited);
  watch_.post_collective("gradient reduction");
  engine_->reduce_gradients();
  if (signals_.requested()) asked_ = StopCause::signal;
  if (first() && folder_.take_stop_request()) asked_ = StopCause::file;
  const bool stop = asked_ != StopCause::none;
  const bool save = first() && folder_.take_save_request();
  watch_.post_collective("agreement");
  const bool counts = engine_->holds_head();  // one rank of a replica
  const parallel::Agreement agreement =
      engine_->agree({counts ? static_cast<double>(bytes) : 0.0, stop ? 1.0 : 0.0, save ? 1.0 : 0.0,
                      saver_->ready(), counts ? static_cast<double>(lost) : 0.0});

  StepMetrics metrics;
  metrics.lost_targets = static_cast<std::int64_t>(agreement.sums[4]);
  metrics.loss = agreement.loss_sum / std::max(1.0, targets - agreement.sums[4]);
  metrics.bits_per_byte =
      agreement.sums[0] > 0 ? agreement.loss_sum / std::numbers::ln2 / agreement.sums[0] : 0;
  metrics.grad_norm = agreement.gradient_norm;
  apply(agreement, metrics);

  state_.step += 1;
  state_.samples += config_.train.global_batch;
  state_.tokens += config_.train.global_batch * context;
  metrics.step = state_.step;
  metrics.tokens = state_.tokens;
  const double seconds = seconds_since(start);
  metrics.step_ms = 1e3 * seconds;
  metrics.tokens_per_second = static_cast<double>(config_.train.global_batch * context) / seconds;
  if (device_ == Device::cuda)
    metrics.mfu = metrics.tokens_per_second * model::training_flops_per_token(config_.model) /
                  model::kDenseBf16Flops / static_cast<double>(topology_.world);
  metrics.data_wait_ms = 1e3 * (loader_->waited_seconds() - waited);
  report(metrics);
  outcome_.loss = metrics.loss;
  save_requested_ = agreement.sums[2] > 0;
  saver_->advance(agreement.sums[3], state_.step);
  return agreement.sums[1] > 0;
}

void Trainer::apply(const parallel::Agreement& agreement, StepMetrics& metrics) {
  metrics.learning_rate =
      optim::learning_rate(config_.optimizer, config_.train.steps, state_.step + 1);
  if (!agreement.finite) {
    metrics.skipped = true;
    ++state_.skipped;
    const std::string tensor = agreement.bad_tensor >= 0
                                   ? engine_->table()[agreement.bad_tensor].name
                                   : std::string("the loss");
    const std::string where = fmt::format(
        "step {}: {} is not finite (samples {} to {} of the run's order)", state_.step + 1, tensor,
        state_.samples, state_.samples + config_.train.global_batch - 1);
    if (++bad_steps_ >= kMostBadSteps)
      throw Error(Category::disagreement,
                  fmt::format("{}, the {}th such step in a row: lower optimizer.lr or look at the "
                              "data; the last checkpoint is {}",
                              where, bad_steps_, saver_->path().empty() ? "none" : saver_->path()));
    if (first()) spdlog::warn("{}: step skipped", where);
    return;
  }
  bad_steps_ = 0;
  const double clip = config_.optimizer.clip;
  const double scale = clip > 0 ? std::min(1.0, clip / (agreement.gradient_norm + 1e-6)) : 1.0;
  watch_.post_collective("update");
  // Skipped steps made no update: Adam's bias correction counts updates.
  engine_->update(state_.step + 1 - state_.skipped, metrics.learning_rate, scale);
}

void Trainer::report(const StepMetrics& m) {
  if (!first()) return;
  metrics_->step(m);
  const double rate = 1e3 / m.step_ms;
  recent_rate_ = recent_rate_ == 0 ? rate : 0.95 * recent_rate_ + 0.05 * rate;
  const std::string line = fmt::format(
      "step {}/{}  loss {:.4f}  {:.3f} bits/byte  norm {:.3g}  lr {:.2e}  {} tok/s  ETA {}", m.step,
      last_step_, m.loss, m.bits_per_byte, m.grad_norm, m.learning_rate,
      human_count(m.tokens_per_second),
      human_duration(static_cast<double>(last_step_ - m.step) / recent_rate_));
  progress_->show(line);
  const std::int64_t every = std::max<std::int64_t>(1, config_.train.steps / kLogLines);
  if (m.step % every == 0 || m.step == last_step_ || m.step == outcome_.first_step + 1) {
    progress_->clear();
    spdlog::info("{}", line);
  }
}

void Trainer::evaluate() {
  watch_.post(comm::Section::evaluation, state_.step);
  const auto at = [&](std::int64_t micro_batch) {
    watch_.post(comm::Section::evaluation, state_.step, micro_batch);
  };
  outcome_.evaluation = evaluation_->loss(at);
  if (outcome_.evaluation) state_.valid_loss = outcome_.evaluation->loss;
  const std::vector<eval::TaskResult> tasks = evaluation_->tasks(at);
  if (!first()) return;
  progress_->clear();
  if (outcome_.evaluation) train::report(*outcome_.evaluation, state_.step, *metrics_);
  for (const eval::TaskResult& task : tasks) train::report(task, state_.step, *metrics_);
}

TrainOutcome Trainer::run() {
  open_folder();
  set_up();
  start_or_resume();
  const auto start = Clock::now();
  if (state_.step >= last_step_ && first())
    spdlog::info("nothing to do: {} steps are done, {} were asked for", state_.step, last_step_);
  const auto due = [&](std::int64_t every) { return every > 0 && state_.step % every == 0; };
  while (state_.step < last_step_ && !outcome_.stopped) {
    outcome_.stopped = step();
    const bool last = state_.step == last_step_ || outcome_.stopped;
    if (due(config_.watchdog.compare_every))
      parallel::require_equal_replicas(*engine_, topology_, ranks_, state_.step);
    if (due(config_.eval.every) || (last && !outcome_.stopped && config_.eval.every > 0))
      evaluate();
    if (due(config_.checkpoint.every) || last || save_requested_)
      saver_->save(state_, data_.train->tokenizer_json());
  }
  saver_->finish(state_.step);
  if (first()) report_use(*data_.train, state_.samples);
  outcome_.checkpoint = saver_->path();
  if (saver_->step() != state_.step && outcome_.step != state_.step)
    throw Error(Category::io, "the last checkpoint could not be written: see " + folder_.log(0));
  outcome_.step = state_.step;
  outcome_.seconds = seconds_since(start);
  if (outcome_.stopped) watch_.stopped(asked_, outcome_.checkpoint);
  watch_.post_collective("end");
  ranks_.barrier();
  return outcome_;
}

}  // namespace

TrainOutcome train(const Config& config, const TrainOptions& options, comm::Session& session) {
  JobWatch watch(config, session.world());
  TrainOutcome outcome;
  watch.guard([&] { outcome = Trainer(config, options, session, watch).run(); });
  return outcome;
}

}  // namespace tessera::train
