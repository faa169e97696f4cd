// How each type of setting is read from YAML and written back: one overload pair a type.
//
// read_value fills `value` and returns what is wrong ("" parts: the value itself; "[1].weight": a
// part of it); on problems `value` is left as it was. print_value gives YAML that reads back to the
// same value, doubles to the last bit.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "config/config.h"
#include "config/yaml_tree.h"

namespace tessera::settings {

struct ValueProblem {
  int line = 0;
  std::string part;  // "" or "[1].weight"
  std::string text;
};
using ValueProblems = std::vector<ValueProblem>;

ValueProblems read_value(const YamlNode& node, std::int64_t& value);
ValueProblems read_value(const YamlNode& node, std::uint64_t& value);
ValueProblems read_value(const YamlNode& node, double& value);
ValueProblems read_value(const YamlNode& node, std::string& value);
ValueProblems read_value(const YamlNode& node, std::array<double, 2>& value);
// A string or a list of strings.
ValueProblems read_value(const YamlNode& node, std::vector<std::string>& value);
// A string, a list of strings, or a list of {path, weight}.
ValueProblems read_value(const YamlNode& node, std::vector<DataSource>& value);

std::string print_value(std::int64_t value);
std::string print_value(std::uint64_t value);
std::string print_value(double value);
std::string print_value(const std::string& value);
std::string print_value(const std::array<double, 2>& value);
std::string print_value(const std::vector<std::string>& value);
std::string print_value(const std::vector<DataSource>& value);

// Spellings of a choice, in the order of its enumerators.
using Spellings = std::vector<std::string>;
inline Spellings spellings(DeviceChoice) {
  return {"auto", "cpu", "cuda"};
}
inline Spellings spellings(Precision) {
  return {"auto", "bf16", "fp32"};
}
inline Spellings spellings(ModelKind) {
  return {"vanilla", "block"};
}
inline Spellings spellings(Recompute) {
  return {"none", "attention+mlp", "layer"};
}
inline Spellings spellings(LearningRateSchedule) {
  return {"cosine", "constant", "wsd"};
}
inline Spellings spellings(Decay) {
  return {"all", "matrices"};
}
inline Spellings spellings(PipelineSchedule) {
  return {"gpipe", "1f1b", "eager_1f1b", "interleaved"};
}
inline Spellings spellings(RankOrder) {
  return {"pipeline_first", "data_first"};
}
inline Spellings spellings(GradientType) {
  return {"fp32", "bf16"};
}
inline Spellings spellings(AttentionChoice) {
  return {"auto", "native", "cudnn"};
}
inline Spellings spellings(Padding) {
  return {"none", "random_pad_first_block", "pad_to_block_boundary"};
}
inline Spellings spellings(Embedder) {
  return {"concat", "projection"};
}
inline Spellings spellings(OnBadChunk) {
  return {"stop", "skip"};
}

ValueProblems read_choice(const YamlNode& node, const Spellings& choices, std::size_t& choice);

template <typename Choice>
requires std::is_enum_v<Choice> ValueProblems read_value(const YamlNode& node, Choice& value) {
  auto choice = static_cast<std::size_t>(value);
  ValueProblems problems = read_choice(node, spellings(value), choice);
  value = static_cast<Choice>(choice);
  return problems;
}

template <typename Choice>
requires std::is_enum_v<Choice> std::string print_value(Choice value) {
  return spellings(value).at(static_cast<std::size_t>(value));
}

// A node for a message: "1.5", "the text \"1.5\"", "nothing", "a list", "a map".
std::string described(const YamlNode& node);

}  // namespace tessera::settings
