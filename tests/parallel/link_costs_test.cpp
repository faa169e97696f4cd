// Messages and rings on links: hand-computed times, and what must grow with what.
#include "parallel/link_costs.h"

#include <gtest/gtest.h>

namespace tessera::parallel {
namespace {

Machine round_numbers() {
  Machine m;
  m.inside = {100.0, 0.01};
  m.between = {10.0, 0.1};
  m.collective_start = 1;
  m.host_step_seconds = 0.5;
  return m;
}

TEST(LinkCosts, AMessageIsStartLatencyAndBytes) {
  EXPECT_DOUBLE_EQ(message_seconds(200, false, round_numbers()), 1 + 0.01 + 2);
  EXPECT_DOUBLE_EQ(message_seconds(200, true, round_numbers()), 1 + 0.1 + 20);
  Machine narrow = round_numbers();
  narrow.message_bandwidth = 50;  // less than inside a node, more than between two
  EXPECT_DOUBLE_EQ(message_seconds(200, false, narrow), 1 + 0.01 + 4);
  EXPECT_DOUBLE_EQ(message_seconds(200, true, narrow), 1 + 0.1 + 20);
}

TEST(LinkCosts, RingsMoveAllButAShareInSteps) {
  const Machine m = round_numbers();
  EXPECT_EQ(ring_seconds(400, {1, 1, 1}, m), 0);
  EXPECT_EQ(ring_bytes(400, 1), 0);
  EXPECT_EQ(ring_bytes(400, 4), 300);
  EXPECT_DOUBLE_EQ(ring_seconds(400, {4, 1, 4}, m), 1 + 3 * 0.01 + 3);
  // A rank a node: 3 steps on its adapter.
  EXPECT_DOUBLE_EQ(ring_seconds(400, {4, 4, 1}, m), 1 + 3 * 0.1 + 30);
  // Two nodes of two: one step between them, two adapters at once.
  EXPECT_DOUBLE_EQ(ring_seconds(400, {4, 2, 2}, m), 1 + 2 * 0.01 + 0.1 + 15);
  // As many adapters as would outrun the links inside change nothing more.
  EXPECT_DOUBLE_EQ(ring_seconds(3200, {32, 2, 16}, m), 1 + 30 * 0.01 + 0.1 + 31);
}

TEST(LinkCosts, AgreementTakesALevelADoubling) {
  const Machine m = round_numbers();
  EXPECT_EQ(agreement_seconds(1, m), 0);
  EXPECT_EQ(agreement_seconds(2, m), 1);
  EXPECT_EQ(agreement_seconds(5, m), 3);
  EXPECT_EQ(agreement_seconds(4096, m), 12);
}

}  // namespace
}  // namespace tessera::parallel
