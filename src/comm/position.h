// Where a rank is in its work (pure): what ranks tell each other so that a hang has a name.
#pragma once

#include <cstdint>
#include <string>

namespace tessera::comm {

// In the order in which a step passes through them.
enum class Section : std::uint8_t { start, resume, step, evaluation, checkpoint };

const char* section_name(Section section);

struct Position {
  Section section = Section::start;
  std::int64_t step = 0;         // being worked on, or (evaluation, checkpoint) done last
  std::int64_t micro_batch = 0;  // begun in this section, from 1; 0 before the first
  std::int64_t collective = 0;   // begun in this process, from 1; 0 before the first
  char name[32] = "";            // of that collective
};

// Whether `a` has got less far than `b`: by step, section, micro-batch, collective.
bool before(const Position& a, const Position& b);

// "step 12, micro-batch 3, collective 34 (gradient reduction)"
std::string describe(const Position& position);

}  // namespace tessera::comm
