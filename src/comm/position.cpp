#include "comm/position.h"

#include <tuple>

namespace tessera::comm {

const char* section_name(Section section) {
  switch (section) {
    case Section::start:
      return "start";
    case Section::resume:
      return "resume";
    case Section::step:
      return "step";
    case Section::evaluation:
      return "evaluation";
    case Section::checkpoint:
      return "checkpoint";
  }
  return "?";
}

bool before(const Position& a, const Position& b) {
  return std::tie(a.step, a.section, a.micro_batch, a.collective) <
         std::tie(b.step, b.section, b.micro_batch, b.collective);
}

std::string describe(const Position& position) {
  const std::string step = std::to_string(position.step);
  std::string text = section_name(position.section);
  if (position.section == Section::step)
    text += " " + step;
  else if (position.section == Section::evaluation || position.section == Section::checkpoint)
    text += " after step " + step;
  if (position.micro_batch > 0) text += ", micro-batch " + std::to_string(position.micro_batch);
  if (position.collective > 0)
    text += ", collective " + std::to_string(position.collective) + " (" + position.name + ")";
  return text;
}

}  // namespace tessera::comm
