#include "checkpoints/background_save.h"

#include <chrono>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace tessera::checkpoints {
namespace {

// `work`'s text behind a '+', or what it threw behind a '-'.
template <typename Work>
std::string outcome_of(Work&& work) {
  try {
    return "+" + work();
  } catch (const std::exception& error) {
    return "-" + std::string(error.what());
  }
}

bool failed(const std::string& outcome) {
  return outcome.front() == '-';
}

std::future<std::string> known(std::string outcome) {
  std::promise<std::string> promise;
  promise.set_value(std::move(outcome));
  return promise.get_future();
}

// `work` on a thread of its own; it throws nothing that is an std::exception.
template <typename Work>
std::future<std::string> on_a_thread(Work work) {
  try {
    return std::async(std::launch::async, std::move(work));
  } catch (const std::system_error& error) {
    return known("-no thread for writing a checkpoint: " + std::string(error.what()));
  }
}

}  // namespace

std::string BackgroundSave::prepare(const std::string& folder, std::int64_t step,
                                    std::int64_t bytes) {
  TESSERA_CHECK(phase_ == Phase::idle);
  std::string outcome;
  if (ranks_.rank() == 0)
    outcome = outcome_of([&] { return prepare_checkpoint(files_, folder, step, bytes); });
  outcome = comm::broadcast_text(ranks_, outcome);
  if (failed(outcome)) return outcome.substr(1);
  temporary_ = outcome.substr(1);
  phase_ = Phase::prepared;
  return "";
}

void BackgroundSave::begin(SaveRequest request) {
  TESSERA_CHECK(phase_ == Phase::prepared);
  request_ = std::move(request);
  warning_ = "";
  phase_ = Phase::parts;
  work_ = on_a_thread([this] { return outcome_of([this] { return write(); }); });
}

bool BackgroundSave::ready() const {
  return work_.valid() && work_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

std::string BackgroundSave::write() {
  return to_json(write_part(files_, temporary_, ranks_.rank(), request_.tensors, request_.slices))
      .dump();
}

std::string BackgroundSave::commit(const std::vector<PartRecord>& parts) {
  std::string path = commit_checkpoint(files_, request_.folder, temporary_, request_.state,
                                       request_.tensors, parts, request_.tokenizer_json);
  try {
    for (const std::string& name :
         apply_retention(files_, request_.folder, request_.keep, request_.keep_every))
      warning_ += name + " is being read and stays for now; ";
  } catch (const Error& error) {
    warning_ += error.what();
  }
  return path;
}

void BackgroundSave::remove_temporary() noexcept {
  try {
    if (files_.exists(temporary_)) files_.remove_all(temporary_);
  } catch (const Error&) {
    // The failure before this one is the one to tell; what is left goes at the next save.
  }
}

std::optional<SaveResult> BackgroundSave::advance() {
  TESSERA_CHECK(phase_ == Phase::parts || phase_ == Phase::commit);
  const bool first = ranks_.rank() == 0;
  const std::string mine = work_.get();
  if (phase_ == Phase::commit) {
    const std::string outcome = comm::broadcast_text(ranks_, mine);
    phase_ = Phase::idle;
    SaveResult result{request_.state.step, "", "", comm::broadcast_text(ranks_, warning_)};
    (failed(outcome) ? result.failure : result.path) = outcome.substr(1);
    request_ = {};
    return result;
  }
  const std::vector<std::string> outcomes = ranks_.gather_text(mine);
  phase_ = Phase::commit;
  if (!first) {
    work_ = known("+");
    return std::nullopt;
  }
  work_ = on_a_thread([this, outcomes] {
    std::string outcome = outcome_of([&] {
      std::vector<PartRecord> parts;
      for (const std::string& text : outcomes) {
        if (failed(text)) throw Error(Category::io, text.substr(1));
        parts.push_back(part_from_json(parse_json(text.substr(1), "part record"), temporary_));
      }
      return commit(parts);
    });
    if (failed(outcome)) remove_temporary();
    return outcome;
  });
  return std::nullopt;
}

SaveResult BackgroundSave::wait() {
  std::optional<SaveResult> result;
  while (!result) {
    block();
    result = advance();
  }
  return *result;
}

}  // namespace tessera::checkpoints
