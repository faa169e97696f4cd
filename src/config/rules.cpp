#include "config/rules.h"

#include <algorithm>
#include <set>

#include "config/fields.h"

namespace tessera::settings {
namespace {

using Keys = std::vector<std::string>;

// Collects problems; a rule between values counts only where each value is valid by itself.
class Rules {
 public:
  explicit Rules(const Config& config) {
    for (const Field& field : fields()) {
      const std::string text = field.check(config);
      if (text.empty()) continue;
      invalid_.insert(field.key);
      problems_.push_back({{field.key}, text});
    }
  }

  bool valid(const Keys& keys) const {
    return std::none_of(keys.begin(), keys.end(),
                        [&](const std::string& key) { return invalid_.contains(key); });
  }
  // `holds` is asked only when all of `keys` are valid; says whether the rule was tried and held.
  template <typename Holds, typename Text>
  bool require(const Keys& keys, Holds holds, Text text) {
    if (!valid(keys)) return false;
    if (holds()) return true;
    problems_.push_back({keys, text()});
    return false;
  }
  std::vector<RuleProblem> take() { return std::move(problems_); }

 private:
  std::vector<RuleProblem> problems_;
  std::set<std::string> invalid_;
};

std::string number(std::int64_t value) {
  return std::to_string(value);
}

bool product_fits(std::initializer_list<std::int64_t> factors) {
  std::int64_t product = 1;
  for (const std::int64_t factor : factors)
    if (__builtin_mul_overflow(product, factor, &product)) return false;
  return true;
}

std::string not_a_multiple(std::int64_t value, const std::string& divisor, std::int64_t by) {
  return number(value) + " is not a multiple of " + divisor + " (" + number(by) + ")";
}

void head_rules(const ModelConfig& m, Rules& rules) {
  const Keys both = {"model.heads", "model.width"};
  if (!rules.require(
          both, [&] { return m.width % m.heads == 0; },
          [&] {
            return number(m.heads) + " heads do not divide model.width " + number(m.width) +
                   " evenly";
          }))
    return;
  const std::int64_t head = m.width / m.heads;
  if (!rules.require(
          both, [&] { return head % 2 == 0; },
          [&] {
            return "model.width / model.heads = " + number(head) +
                   " is odd; heads have an even size";
          }))
    return;
  if (!rules.valid({"model.rotary_pct"})) return;
  const auto rotary = static_cast<std::int64_t>(static_cast<double>(head) * m.rotary_pct);
  rules.require(
      {"model.rotary_pct", "model.width", "model.heads"},
      [&] { return rotary >= 2 && rotary % 2 == 0; },
      [&] {
        return print_value(m.rotary_pct) + " of a head of " + number(head) + " rotates " +
               number(rotary) + " dimensions; expected an even number of at least 2";
      });
}

void block_rules(const ModelConfig& m, Rules& rules) {
  if (m.kind != ModelKind::block) return;
  const Keys blocks = {"model.context", "model.block_length"};
  if (rules.require(
          blocks, [&] { return m.context % m.block_length == 0; },
          [&] { return not_a_multiple(m.context, "model.block_length", m.block_length); }))
    rules.require(
        blocks, [&] { return m.context / m.block_length >= 2; },
        [&] {
          return number(m.context) + " holds one block of " + number(m.block_length) +
                 "; a block model needs at least two";
        });
  rules.require(
      {"model.width", "model.block_length", "model.embedder"},
      [&] { return m.embedder != Embedder::concat || m.width % m.block_length == 0; },
      [&] {
        return not_a_multiple(m.width, "model.block_length", m.block_length) +
               "; choose another, or model.embedder: projection";
      });
}

// Every tensor's element count fits in 64 bits.
void size_rules(const Config& c, Rules& rules) {
  const ModelConfig& m = c.model;
  const std::string too_large =
      "the model's or a micro-batch's largest tensor has over 2^63 elements";
  if (!rules.require(
          {"model.ffn_mult", "model.width"},
          [&] {
            return product_fits({m.ffn_mult, m.width, m.width});
          },
          [&] { return too_large; }))
    return;
  // Rows of the token decoder: every block has its prefix before it.
  const Keys keys = {"train.micro_batch", "model.context", "model.vocab",
                     "model.width",       "model.prefix",  "model.block_length"};
  rules.require(
      keys,
      [&] {
        const std::int64_t columns = std::max(m.ffn_mult * m.width, m.vocab);
        if (!product_fits({c.train.micro_batch, m.context, columns})) return false;
        if (m.kind != ModelKind::block) return true;
        const std::int64_t window = m.prefix + m.block_length - 1;
        return product_fits({c.train.micro_batch, m.context / m.block_length, window}) &&
               product_fits(
                   {c.train.micro_batch * (m.context / m.block_length) * window, columns}) &&
               product_fits({m.prefix, m.width, m.width}) &&
               product_fits({m.block_length, m.width, m.width});
      },
      [&] { return too_large; });
}

void batch_rules(const Config& c, Rules& rules) {
  const TrainConfig& t = c.train;
  const std::int64_t replicas = c.parallel.data;
  const bool even = rules.require(
      {"train.global_batch", "train.micro_batch"},
      [&] { return t.global_batch % t.micro_batch == 0; },
      [&] { return not_a_multiple(t.global_batch, "train.micro_batch", t.micro_batch); });
  if (even)
    rules.require(
        {"train.global_batch", "train.micro_batch", "parallel.data"},
        [&] { return replicas == 0 || t.global_batch % (t.micro_batch * replicas) == 0; },
        [&] {
          return not_a_multiple(t.global_batch, "train.micro_batch x parallel.data",
                                t.micro_batch * replicas);
        });
  rules.require(
      {"train.stop_at", "train.steps"}, [&] { return t.stop_at <= t.steps; },
      [&] { return number(t.stop_at) + " is past train.steps (" + number(t.steps) + ")"; });
  rules.require(
      {"train.steps", "train.global_batch", "model.context"},
      [&] {
        return product_fits({t.steps, t.global_batch, c.model.context});
      },
      [&] { return "steps x train.global_batch x model.context tokens do not fit in 64 bits"; });
}

void schedule_rules(const Config& c, Rules& rules) {
  const OptimizerConfig& o = c.optimizer;
  const std::int64_t steps = c.train.steps;
  const bool constant = o.schedule == LearningRateSchedule::constant;
  const bool fits = rules.require(
      {"optimizer.warmup", "train.steps", "optimizer.schedule"},
      [&] { return constant ? o.warmup <= steps : o.warmup < steps; },
      [&] {
        return number(o.warmup) + (constant ? ", expected at most" : ", expected below") +
               " train.steps (" + number(steps) + ")";
      });
  if (!fits || o.schedule != LearningRateSchedule::wsd) return;
  const std::int64_t decay = o.decay_steps > 0 ? o.decay_steps : steps / 10;
  rules.require(
      {"optimizer.decay_steps", "optimizer.warmup", "train.steps", "optimizer.schedule"},
      [&] { return decay <= steps - o.warmup; },
      [&] {
        return number(decay) + (o.decay_steps > 0 ? "" : " (a tenth of train.steps)") +
               " and optimizer.warmup (" + number(o.warmup) + ") together exceed train.steps (" +
               number(steps) + ")";
      });
}

void choice_rules(const Config& c, Rules& rules) {
  rules.require(
      {"data.padding", "model.kind"},
      [&] { return c.data.padding == Padding::none || c.model.kind == ModelKind::block; },
      [&] { return print_value(c.data.padding) + " is for block models; write none"; });
  rules.require(
      {"model.embedder", "model.kind"},
      [&] { return c.model.embedder == Embedder::concat || c.model.kind == ModelKind::block; },
      [&] { return print_value(c.model.embedder) + " is for block models; write concat"; });
  rules.require(
      {"precision", "device"},
      [&] { return c.precision != Precision::bf16 || c.device != DeviceChoice::cpu; },
      [&] { return "bf16 is for device cuda alone; on the CPU write precision: fp32 or auto"; });
  rules.require(
      {"parallel.virtual_stages", "parallel.schedule"},
      [&] {
        return c.parallel.virtual_stages == 1 ||
               c.parallel.schedule == PipelineSchedule::interleaved;
      },
      [&] {
        return number(c.parallel.virtual_stages) +
               " virtual stages need parallel.schedule: interleaved, found " +
               print_value(c.parallel.schedule);
      });
}

}  // namespace

std::vector<RuleProblem> rule_problems(const Config& config) {
  Rules rules(config);
  head_rules(config.model, rules);
  block_rules(config.model, rules);
  size_rules(config, rules);
  batch_rules(config, rules);
  schedule_rules(config, rules);
  choice_rules(config, rules);
  return rules.take();
}

}  // namespace tessera::settings
