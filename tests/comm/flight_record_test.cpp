#include "comm/flight_record.h"

#include <atomic>
#include <thread>

#include <gtest/gtest.h>

namespace tessera::comm {
namespace {

TEST(FlightRecord, KeepsTheLastOperations) {
  FlightRecord record("replicas", 1, 4);
  EXPECT_TRUE(record.entries().empty());
  EXPECT_EQ(record.last(), 0);
  EXPECT_NE(record.describe().find("no operation"), std::string::npos);
  for (int i = 1; i <= 100; ++i) EXPECT_EQ(record.begin("all_reduce", 10 * i, i % 4), i);
  record.done(100);
  record.done(36);  // fallen out
  const auto entries = record.entries();
  ASSERT_EQ(entries.size(), 64u);
  for (std::size_t i = 0; i < 64; ++i) {
    EXPECT_EQ(entries[i].sequence, static_cast<std::int64_t>(37 + i));
    EXPECT_EQ(entries[i].bytes, 10 * entries[i].sequence);
    EXPECT_EQ(entries[i].peer, entries[i].sequence % 4);
    EXPECT_EQ(entries[i].done, entries[i].sequence == 100);
  }
}

TEST(FlightRecord, DescribesItself) {
  FlightRecord record("link 0 to 1", 0, 2);
  record.done(record.begin("send", 4096, 1));
  record.begin("broadcast", 3);
  EXPECT_EQ(record.describe(),
            "group 'link 0 to 1', rank 0 of 2: operations 1 to 2\n"
            "         1  send              4.00 KiB  rank 1  done\n"
            "         2  broadcast              3 B\n");
}

TEST(FlightRecord, TheRegistryHoldsTheLiving) {
  EXPECT_TRUE(all_flight_records().empty());
  const auto a = make_flight_record("a", 0, 2);
  {
    const auto b = make_flight_record("b", 0, 2);
    ASSERT_EQ(all_flight_records().size(), 2u);
    EXPECT_EQ(all_flight_records()[1]->name(), "b");
  }
  ASSERT_EQ(all_flight_records().size(), 1u);
  EXPECT_EQ(describe_flight_records(), a->describe());
}

TEST(FlightRecord, IsReadWhileItIsWritten) {
  const auto record = make_flight_record("busy", 0, 2);
  std::atomic<bool> stop = false;
  std::thread reader([&] {
    while (!stop)
      for (const auto& living : all_flight_records()) {
        const auto entries = living->entries();
        for (std::size_t i = 1; i < entries.size(); ++i) {
          ASSERT_EQ(entries[i].sequence, entries[i - 1].sequence + 1);
          ASSERT_EQ(entries[i].bytes, entries[i].sequence);
        }
      }
  });
  for (int i = 1; i <= 20000; ++i) record->done(record->begin("all_gather", i));
  stop = true;
  reader.join();
  EXPECT_EQ(record->last(), 20000);
}

}  // namespace
}  // namespace tessera::comm
