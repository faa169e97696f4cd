#include "kernels/algorithms.h"

#include "core/error.h"
#include "core/json.h"

namespace tessera::kernels {
namespace {
constexpr int kVersion = 1;
}

const Algorithms::Choice* Algorithms::find(const std::string& key) const {
  const auto found = choices_.find(key);
  return found == choices_.end() ? nullptr : &found->second;
}

void Algorithms::set(const std::string& key, Choice choice) {
  choices_[key] = std::move(choice);
}

std::string Algorithms::to_json() const {
  OrderedJson json = {{"version", kVersion}, {"device", device}, {"library", library}};
  json["choices"] = OrderedJson::object();
  for (const auto& [key, choice] : choices_)
    json["choices"][key] = {{"value", choice.value}, {"microseconds", choice.microseconds}};
  return json.dump(1) + "\n";
}

Algorithms Algorithms::from_json(const std::string& text, const std::string& where) {
  const Json json = parse_json(text, where);
  Algorithms result;
  try {
    if (json.at("version").get<int>() != kVersion)
      throw Error(Category::data, where + ": version " + json.at("version").dump() +
                                      " of algorithm choices, this program reads version 1");
    result.device = json.at("device").get<std::string>();
    result.library = json.at("library").get<std::string>();
    for (const auto& [key, choice] : json.at("choices").items())
      result.choices_[key] = {choice.at("value").get<std::string>(),
                              choice.at("microseconds").get<double>()};
  } catch (const nlohmann::json::exception& problem) {
    throw Error(Category::data,
                where + ": not a list of algorithm choices (" + problem.what() + "); remove it");
  }
  return result;
}

}  // namespace tessera::kernels
