#include "parallel/pipeline_runner.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "parallel/element.h"

namespace tessera::parallel {
namespace {

// How many instructions ahead receives are posted, so that messages arrive behind computing.
constexpr std::size_t kAhead = 2;

}  // namespace

template <typename T>
PipelineRunner<T>::PipelineRunner(const DeviceContext& context, const ScheduleShape& shape,
                                  std::int64_t stage, const RankSchedule& schedule,
                                  std::vector<std::unique_ptr<model::Stage<T>>> chunks, Links links,
                                  bool graphs)
    : context_(context),
      shape_(shape),
      stage_(stage),
      chunks_(std::move(chunks)),
      links_(std::move(links)),
      graphs_(graphs),
      needed_cuts_(chunks_.size()),
      done_cuts_(chunks_.size()),
      sent_gradients_(chunks_.size(), std::vector<comm::Ticket>(kGradientBuffers)) {
  TESSERA_CHECK(static_cast<std::int64_t>(chunks_.size()) == shape.chunks);
  for (const std::int64_t slots : schedule.slots)
    sent_outputs_.emplace_back(static_cast<std::size_t>(slots));
  // The instruction that used a buffer last: of an activation the backward of the same chunk and
  // slot, of a gradient the backward two micro-batches before.
  std::map<std::pair<std::int64_t, std::int64_t>, std::size_t> slot_users, gradient_users;
  for (const Instruction& i : schedule.instructions) {
    Step step;
    step.instruction = i;
    const std::size_t index = steps_.size();
    const auto free_after = [](const auto& users, std::pair<std::int64_t, std::int64_t> key) {
      const auto user = users.find(key);
      return user == users.end() ? 0 : user->second + 1;
    };
    if (i.action == Action::forward) {
      if (!first(i.chunk)) step.from = &links_.activations_in;
      if (!last(i.chunk)) step.to = &links_.activations_out;
      step.free_after = free_after(slot_users, {i.chunk, i.slot});
    } else {
      if (!last(i.chunk)) step.from = &links_.gradients_in;
      if (!first(i.chunk)) step.to = &links_.gradients_out;
      const std::pair key{i.chunk, i.micro_batch % kGradientBuffers};
      step.free_after = free_after(gradient_users, key);
      slot_users[{i.chunk, i.slot}] = gradient_users[key] = index;
    }
    steps_.push_back(std::move(step));
  }
}

template <typename T>
void PipelineRunner<T>::plan(MemoryPlan& plan) {
  for (std::size_t c = 0; c < chunks_.size(); ++c) {
    const model::Stage<T>& stage = *chunks_[c];
    const auto index = static_cast<std::int64_t>(c);
    const std::int64_t in = last(index) ? 0 : stage.output_count(stage.sequences());
    const std::int64_t out = stage.input_count(stage.sequences());
    for (const std::int64_t count : {in, in, out, out})
      gradient_buffers_.push_back(plan.reserve<T>("gradients between stages", count));
  }
}

template <typename T>
void PipelineRunner<T>::bind(const Arena& arena) {
  arena_ = &arena;
}

template <typename T>
void PipelineRunner<T>::set_needed(Cuts cuts, AtPiece needed) {
  needed_cuts_ = std::move(cuts);
  needed_ = std::move(needed);
}

template <typename T>
void PipelineRunner<T>::set_done(Cuts cuts, AtPiece done) {
  done_cuts_ = std::move(cuts);
  done_ = std::move(done);
}

template <typename T>
T* PipelineRunner<T>::gradient_in(const Instruction& i) const {
  if (last(i.chunk)) return nullptr;
  return arena_->at<T>(
      gradient_buffers_[static_cast<std::size_t>(4 * i.chunk + i.micro_batch % kGradientBuffers)]);
}

template <typename T>
T* PipelineRunner<T>::gradient_out(const Instruction& i) const {
  if (first(i.chunk)) return nullptr;
  return arena_->at<T>(gradient_buffers_[static_cast<std::size_t>(
      4 * i.chunk + 2 + i.micro_batch % kGradientBuffers)]);
}

template <typename T>
void PipelineRunner<T>::begin_step() {
  TESSERA_CHECK(next_ == 0 || next_ == steps_.size());
  next_ = 0;
  batches_.clear();
  for (Step& step : steps_) step.received = 0;
}

template <typename T>
void PipelineRunner<T>::add(const model::MicroBatch& batch, const StepTarget<T>& target) {
  batches_.push_back(batch);
  const auto available = static_cast<std::int64_t>(batches_.size());
  for (; next_ < steps_.size() && steps_[next_].instruction.micro_batch < available; ++next_) {
    post_receives(next_);
    if (steps_[next_].instruction.action == Action::forward)
      forward(next_, target);
    else
      backward(next_);
  }
}

template <typename T>
void PipelineRunner<T>::post_receives(std::size_t now) {
  std::vector<Channel*> held;  // messages of a channel are received in order
  for (std::size_t k = now; k < steps_.size() && k <= now + kAhead; ++k) {
    Step& step = steps_[k];
    const Instruction& i = step.instruction;
    if (step.from == nullptr || step.received != 0) continue;
    const bool ready =
        step.free_after <= now && i.micro_batch < static_cast<std::int64_t>(batches_.size());
    if (!ready || std::find(held.begin(), held.end(), step.from) != held.end()) {
      held.push_back(step.from);
      continue;
    }
    const std::int64_t sequences = batches_[static_cast<std::size_t>(i.micro_batch)].sequences;
    model::Stage<T>& stage = chunk(i.chunk);
    step.from->transport().after(stream());
    step.received =
        i.action == Action::forward
            ? step.from->receive(stage.input(i.slot), stage.input_count(sequences), element_of<T>())
            : step.from->receive(gradient_in(i), stage.output_count(sequences), element_of<T>());
  }
}

template <typename T>
void PipelineRunner<T>::run(Step& step, std::size_t part, bool whole,
                            const std::function<void()>& work) {
  // Only whole micro-batches repeat.
  if (!graphs_ || !whole) return work();
  if (step.graphs.size() <= part) step.graphs.resize(part + 1);
  std::unique_ptr<DeviceGraph>& graph = step.graphs[part];
  if (!graph) graph = std::make_unique<DeviceGraph>(stream(), work);
  graph->launch(stream());
}

template <typename T>
void PipelineRunner<T>::forward(std::size_t index, const StepTarget<T>& target) {
  Step& step = steps_[index];
  const Instruction& i = step.instruction;
  model::Stage<T>& stage = chunk(i.chunk);
  const model::MicroBatch& batch = batches_[static_cast<std::size_t>(i.micro_batch)];
  if (step.from) step.from->transport().wait(step.received, stream());
  comm::Ticket& sent =
      sent_outputs_[static_cast<std::size_t>(i.chunk)][static_cast<std::size_t>(i.slot)];
  if (step.to && sent != 0) step.to->transport().wait(sent, stream());

  // The first micro-batch's pieces begin one after the other; others in one go.
  const auto pieces = static_cast<std::int64_t>(stage.pieces().size());
  std::int64_t begin = 0;
  std::size_t part = 0;
  const auto run_part = [&](std::int64_t end) {
    run(step, part++, batch.sequences == stage.sequences(), [&] {
      stage.forward(i.slot, batch, model::HeadMode::train, target.loss_weight, target.loss_sum,
                    {begin, end});
    });
    begin = end;
  };
  if (i.micro_batch == 0 && needed_)
    for (const std::int64_t cut : needed_cuts_[static_cast<std::size_t>(i.chunk)]) {
      if (cut > begin) run_part(cut);
      needed_(static_cast<std::size_t>(i.chunk), cut);
    }
  run_part(pieces);
  // A replayed graph does not tell the stage what the slot holds.
  stage.hold(i.slot, batch);
  if (!step.to) return;
  step.to->transport().after(stream());
  sent = step.to->send(stage.output(i.slot), stage.output_count(batch.sequences), element_of<T>());
}

template <typename T>
void PipelineRunner<T>::backward(std::size_t index) {
  Step& step = steps_[index];
  const Instruction& i = step.instruction;
  model::Stage<T>& stage = chunk(i.chunk);
  const model::MicroBatch& batch = batches_[static_cast<std::size_t>(i.micro_batch)];
  if (step.from) step.from->transport().wait(step.received, stream());
  comm::Ticket& sent = sent_gradients_[static_cast<std::size_t>(i.chunk)]
                                      [static_cast<std::size_t>(i.micro_batch % kGradientBuffers)];
  if (step.to && sent != 0) step.to->transport().wait(sent, stream());

  // The last micro-batch's pieces are done one after the other; others in one go.
  auto end = static_cast<std::int64_t>(stage.pieces().size());
  std::size_t part = 0;
  const auto run_part = [&](std::int64_t begin) {
    run(step, part++, batch.sequences == stage.sequences(), [&] {
      stage.backward(i.slot, gradient_in(i), gradient_out(i), {begin, end});
    });
    end = begin;
  };
  if (i.micro_batch == shape_.micro_batches - 1 && done_)
    for (const std::int64_t cut : done_cuts_[static_cast<std::size_t>(i.chunk)]) {
      run_part(cut);
      done_(static_cast<std::size_t>(i.chunk), cut);
    }
  if (end > 0) run_part(0);
  if (!step.to) return;
  step.to->transport().after(stream());
  sent = step.to->send(gradient_out(i), stage.input_count(batch.sequences), element_of<T>());
}

template <typename T>
void PipelineRunner<T>::evaluate(const model::MicroBatch& batch, double* loss_sum) {
  for (std::int64_t c = 0; c < shape_.chunks; ++c) {
    model::Stage<T>& stage = chunk(c);
    if (!first(c)) {
      comm::Transport& from = links_.activations_in.transport();
      from.after(stream());
      from.wait(links_.activations_in.receive(stage.input(0), stage.input_count(batch.sequences),
                                              element_of<T>()),
                stream());
    }
    comm::Ticket& sent = sent_outputs_[static_cast<std::size_t>(c)][0];
    if (!last(c) && sent != 0) links_.activations_out.transport().wait(sent, stream());
    stage.forward(0, batch, model::HeadMode::loss, nullptr, loss_sum);
    if (last(c)) continue;
    links_.activations_out.transport().after(stream());
    sent = links_.activations_out.send(stage.output(0), stage.output_count(batch.sequences),
                                       element_of<T>());
  }
}

template <typename T>
void PipelineRunner<T>::rehearse(const model::MicroBatch& batch, const StepTarget<T>& target) {
  for (std::int64_t c = 0; c < shape_.chunks; ++c)
    chunk(c).forward(0, batch, model::HeadMode::train, target.loss_weight, target.loss_sum);
  for (std::int64_t c = shape_.chunks; c-- > 0;) {
    const Instruction i{Action::backward, 0, c, 0};
    chunk(c).backward(0, gradient_in(i), gradient_out(i),
                      {0, static_cast<std::int64_t>(chunk(c).pieces().size())});
  }
}

template class PipelineRunner<float>;
#ifdef TESSERA_HAS_CUDA
template class PipelineRunner<kernels::bf16>;
#endif

}  // namespace tessera::parallel
