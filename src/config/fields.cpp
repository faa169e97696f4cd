#include "config/fields.h"

#include <cmath>
#include <limits>
#include <map>

#include "core/text.h"

namespace tessera::settings {
namespace {

constexpr std::int64_t kMaxSize = std::numeric_limits<std::int32_t>::max();

// Rules of single values: what was expected, or "".
using IntegerRule = std::function<std::string(std::int64_t)>;
using NumberRule = std::function<std::string(double)>;

IntegerRule at_least(std::int64_t least) {
  return [least](std::int64_t value) {
    return value >= least ? "" : "at least " + std::to_string(least);
  };
}

// A dimension or count: [least, 2^31 - 1], so that products of two fit in 64 bits.
IntegerRule size(std::int64_t least = 1) {
  return [least](std::int64_t value) {
    return value >= least && value <= kMaxSize
               ? ""
               : "a whole number from " + std::to_string(least) + " to " + std::to_string(kMaxSize);
  };
}

std::string zero_or_one(std::int64_t value) {
  return value == 0 || value == 1 ? "" : "0 or 1";
}

std::string positive(double value) {
  return std::isfinite(value) && value > 0 ? "" : "a finite number above 0";
}

std::string not_negative(double value) {
  return std::isfinite(value) && value >= 0 ? "" : "a finite number of at least 0";
}

std::string zero_to_one(double value) {
  return value >= 0 && value <= 1 ? "" : "a number from 0 to 1";
}

std::string part_of_one(double value) {
  return value > 0 && value <= 1 ? "" : "a number above 0, at most 1";
}

std::string two_betas(const std::array<double, 2>& value) {
  for (const double beta : value)
    if (!(beta >= 0 && beta < 1)) return "two numbers of at least 0, below 1";
  return "";
}

// Printable UTF-8 with something in it: it ends up in paths, logs and JSON.
bool clean(const std::string& text) {
  for (const char c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  return !text.empty() && is_utf8(text);
}

std::string clean_path(const std::string& path) {
  return clean(path) && path.size() < 4096
             ? ""
             : "a path: 1 to 4095 bytes of UTF-8 without control characters";
}

std::string path_or_nothing(const std::string& path) {
  return path.empty() ? "" : clean_path(path);
}

// The run's folder below run.root; no separator, and no "." or ".." as it cannot start with a dot.
std::string file_name(const std::string& name) {
  const bool good =
      !name.empty() && name.size() <= 128 && name[0] != '.' &&
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
          std::string::npos;
  return good ? "" : "1 to 128 of the characters A-Z a-z 0-9 . _ -, not starting with a dot";
}

std::string words(const std::vector<std::string>& list) {
  for (const std::string& word : list)
    if (!clean(word)) return "words: not empty, UTF-8, no control characters";
  return "";
}

std::string blend(const std::vector<DataSource>& sources) {
  for (const DataSource& source : sources) {
    if (const std::string wanted = clean_path(source.path); !wanted.empty()) return wanted;
    if (!(std::isfinite(source.weight) && source.weight > 0))
      return "weights that are finite and above 0";
  }
  return "";
}

struct Anything {
  template <typename T>
  std::string operator()(const T&) const {
    return "";
  }
};

template <typename Member, typename Rule = Anything>
Field field(const char* key, Member member, Rule rule = {}) {
  return {
      key,
      [member](const YamlNode& node, Config& config) { return read_value(node, member(config)); },
      [member](const Config& config) { return print_value(member(config)); },
      [member, rule](const Config& config) -> std::string {
        const std::string wanted = rule(member(config));
        if (wanted.empty()) return "";
        return "found " + shown(print_value(member(config))) + ", expected " + wanted;
      }};
}

// The key is the member's own name, so the two cannot differ.
#define TESSERA_FIELD(member, ...) \
  field(                           \
      #member, [](auto& c) -> auto& { return c.member; } __VA_OPT__(, ) __VA_ARGS__)

// The last component of a key.
std::string leaf(const std::string& key) {
  return key.substr(key.rfind('.') + 1);
}

}  // namespace

const std::vector<Field>& fields() {
  static const std::vector<Field> all = {
      TESSERA_FIELD(run.name, file_name),
      TESSERA_FIELD(run.root, clean_path),
      TESSERA_FIELD(device),
      TESSERA_FIELD(precision),
      TESSERA_FIELD(seed),
      TESSERA_FIELD(attention),
      TESSERA_FIELD(model.kind),
      TESSERA_FIELD(model.vocab, size(2)),
      TESSERA_FIELD(model.width, size()),
      TESSERA_FIELD(model.heads, size()),
      TESSERA_FIELD(model.layers, size()),
      TESSERA_FIELD(model.block_layers, size()),
      TESSERA_FIELD(model.token_layers, size()),
      TESSERA_FIELD(model.block_length, size()),
      TESSERA_FIELD(model.prefix, size()),
      TESSERA_FIELD(model.embedder),
      TESSERA_FIELD(model.context, size(2)),
      TESSERA_FIELD(model.rotary_pct, part_of_one),
      TESSERA_FIELD(model.rotary_base, positive),
      TESSERA_FIELD(model.eps, positive),
      TESSERA_FIELD(model.ffn_mult, size()),
      TESSERA_FIELD(data.train, blend),
      TESSERA_FIELD(data.valid, blend),
      TESSERA_FIELD(data.padding),
      TESSERA_FIELD(data.on_bad_chunk),
      TESSERA_FIELD(train.steps, at_least(1)),
      TESSERA_FIELD(train.global_batch, size()),
      TESSERA_FIELD(train.micro_batch, size()),
      TESSERA_FIELD(train.stop_at, at_least(0)),
      TESSERA_FIELD(train.recompute),
      TESSERA_FIELD(optimizer.lr, positive),
      TESSERA_FIELD(optimizer.warmup, at_least(0)),
      TESSERA_FIELD(optimizer.schedule),
      TESSERA_FIELD(optimizer.min_lr_ratio, zero_to_one),
      TESSERA_FIELD(optimizer.decay_steps, at_least(0)),
      TESSERA_FIELD(optimizer.betas, two_betas),
      TESSERA_FIELD(optimizer.eps, positive),
      TESSERA_FIELD(optimizer.weight_decay, not_negative),
      TESSERA_FIELD(optimizer.decay),
      TESSERA_FIELD(optimizer.clip, not_negative),
      TESSERA_FIELD(parallel.pipeline, size()),
      TESSERA_FIELD(parallel.data, size(0)),
      TESSERA_FIELD(parallel.virtual_stages, size()),
      TESSERA_FIELD(parallel.schedule),
      TESSERA_FIELD(parallel.zero, zero_or_one),
      TESSERA_FIELD(parallel.order),
      TESSERA_FIELD(parallel.gradient_dtype),
      TESSERA_FIELD(parallel.bucket_mib, at_least(1)),
      TESSERA_FIELD(checkpoint.every, at_least(0)),
      TESSERA_FIELD(checkpoint.keep, at_least(1)),
      TESSERA_FIELD(checkpoint.keep_every, at_least(0)),
      TESSERA_FIELD(eval.every, at_least(0)),
      TESSERA_FIELD(eval.batches, at_least(0)),
      TESSERA_FIELD(eval.tasks, words),
      TESSERA_FIELD(eval.task_data, path_or_nothing),
      TESSERA_FIELD(eval.task_items, at_least(0)),
      TESSERA_FIELD(watchdog.step_seconds, positive),
      TESSERA_FIELD(watchdog.checkpoint_seconds, positive),
      TESSERA_FIELD(watchdog.start_seconds, positive),
      TESSERA_FIELD(watchdog.compare_every, at_least(0)),
  };
  return all;
}

const Field* find_field(const std::string& key) {
  static const std::map<std::string, const Field*> index = [] {
    std::map<std::string, const Field*> result;
    for (const Field& each : fields()) result.emplace(each.key, &each);
    return result;
  }();
  const auto at = index.find(key);
  return at == index.end() ? nullptr : at->second;
}

const std::vector<std::string>& sections() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> result;
    for (const Field& each : fields()) {
      const std::size_t dot = each.key.find('.');
      if (dot == std::string::npos) continue;
      const std::string section = each.key.substr(0, dot);
      if (result.empty() || result.back() != section) result.push_back(section);
    }
    return result;
  }();
  return all;
}

std::string nearest_key(const std::string& key, bool section) {
  if (key.size() > 80) return "";  // no typing error; the comparison's time is quadratic
  if (section) return nearest(key, sections());

  std::vector<std::string> keys, leaves, same_leaf;
  for (const Field& each : fields()) {
    keys.push_back(each.key);
    leaves.push_back(leaf(each.key));
    if (leaves.back() == leaf(key)) same_leaf.push_back(each.key);
  }
  // The right name in a wrong or missing section.
  if (same_leaf.size() == 1) return same_leaf[0];
  if (const std::string best = nearest(key, same_leaf); !best.empty()) return best;
  // A typing error in the name, perhaps in the section too.
  if (const std::size_t dot = key.find('.'); dot != std::string::npos) {
    const std::string home = nearest(key.substr(0, dot), sections());
    std::vector<std::string> siblings;
    for (const Field& each : fields())
      if (each.key.starts_with(home + ".")) siblings.push_back(leaf(each.key));
    const std::string best = nearest(key.substr(dot + 1), siblings);
    if (!home.empty() && !best.empty()) return home + "." + best;
  }
  if (const std::string best = nearest(key, keys); !best.empty()) return best;
  const std::string best = nearest(leaf(key), leaves);
  for (const std::string& each : keys)
    if (!best.empty() && leaf(each) == best) return each;
  return "";
}

}  // namespace tessera::settings
