#include "tests/comm/transport_cases.h"

#include <chrono>
#include <cstring>
#include <thread>

#include <mpi.h>

#include "comm/element.h"
#include "comm/flight_record.h"
#include "comm/mpi_communicator.h"
#include "core/error.h"
#include "core/float_formats.h"
#include "core/random.h"

namespace tessera::comm {
namespace {

constexpr Element kElements[] = {Element::fp32, Element::bf16, Element::fp64};
// The last passes the pieces in which transports pack (2^20 elements) and stage (8 MiB).
constexpr std::int64_t kSizes[] = {0, 1, 2, 7, 64, 1001, 65537, (1 << 20) + 3};
constexpr std::int64_t kPastEager = 300001;  // elements of a message that waits for its receiver

std::vector<double> iota(std::int64_t count, std::int64_t rank, std::int64_t shift = 0) {
  std::vector<double> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    values[static_cast<std::size_t>(i)] = value_of(rank, i + shift);
  return values;
}
std::vector<double> sums(std::int64_t count, std::int64_t ranks, std::int64_t shift = 0) {
  std::vector<double> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    values[static_cast<std::size_t>(i)] = sum_of(ranks, i + shift);
  return values;
}
std::vector<double> part(const std::vector<double>& values, std::int64_t begin,
                         std::int64_t count) {
  return {values.begin() + begin, values.begin() + begin + count};
}

}  // namespace

double value_of(std::int64_t rank, std::int64_t i) {
  return static_cast<double>((i * 7 + rank * 5) % 17 - 8);
}
double sum_of(std::int64_t ranks, std::int64_t i) {
  double sum = 0;
  for (std::int64_t r = 0; r < ranks; ++r) sum += value_of(r, i);
  return sum;
}

Values::Values(Device device, const DeviceStream& compute, Element element, std::int64_t count)
    : device_(device),
      compute_(compute),
      element_(element),
      count_(count),
      live_(allocate_memory(device, std::max<std::int64_t>(1, count) * element_bytes(element))),
      outside_(allocate_memory(device, std::max<std::int64_t>(1, count) * element_bytes(element))) {
}

Values::~Values() {
  compute_.synchronize();
  free_memory(device_, live_);
  free_memory(device_, outside_);
}

void Values::set(const std::vector<double>& values) {
  ASSERT_EQ(static_cast<std::int64_t>(values.size()), count_);
  const std::int64_t bytes = count_ * element_bytes(element_);
  std::vector<std::byte> host(static_cast<std::size_t>(bytes) + 1);  // never null
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto single = static_cast<float>(values[i]);
    const std::uint16_t half = float_to_bf16(single);
    const void* from = element_ == Element::fp64   ? static_cast<const void*>(&values[i])
                       : element_ == Element::fp32 ? static_cast<const void*>(&single)
                                                   : static_cast<const void*>(&half);
    const auto size = static_cast<std::size_t>(element_bytes(element_));
    std::memcpy(host.data() + i * size, from, size);
  }
  upload(device_, outside_, host.data(), bytes, compute_.get());
  copy_memory(device_, live_, outside_, bytes, compute_.get());
}

std::vector<double> Values::get() const {
  const std::int64_t bytes = count_ * element_bytes(element_);
  copy_memory(device_, outside_, live_, bytes, compute_.get());
  std::vector<std::byte> host(static_cast<std::size_t>(bytes) + 1);  // never null
  download(device_, host.data(), outside_, bytes, compute_.get());
  std::vector<double> values(static_cast<std::size_t>(count_));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (element_ == Element::fp64) {
      std::memcpy(&values[i], host.data() + 8 * i, 8);
    } else if (element_ == Element::fp32) {
      float single;
      std::memcpy(&single, host.data() + 4 * i, 4);
      values[i] = single;
    } else {
      std::uint16_t half;
      std::memcpy(&half, host.data() + 2 * i, 2);
      values[i] = bf16_to_float(half);
    }
  }
  return values;
}

void TransportTest::SetUp() {
  world_ = make_mpi(MPI_COMM_WORLD);
  const auto obstacle = GetParam().obstacle;
  if (const std::string reason = obstacle ? obstacle() : ""; !reason.empty())
    GTEST_SKIP() << reason;
  compute_ = std::make_unique<DeviceStream>(GetParam().device, "compute");
}

std::unique_ptr<Transport> TransportTest::make(Traffic traffic) const {
  TransportOptions options;
  options.device = GetParam().device;
  options.staged = GetParam().staged;
  options.start_seconds = 60;
  options.name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  options.traffic = traffic;
  return make_transport(*world_, options);
}

TEST_P(TransportTest, CollectivesGiveTheSumsAndSlicesOfAllRanks) {
  const auto transport = make(Traffic::collectives);
  ASSERT_EQ(transport->rank(), rank());
  ASSERT_EQ(transport->size(), size());
  const std::int64_t n = size();
  const auto check = [&](Element element, std::int64_t count) {
    SCOPED_TRACE(std::to_string(count) + " elements of " + std::to_string(element_bytes(element)));
    Values values(GetParam().device, *compute_, element, count);
    values.set(iota(count, rank()));
    transport->after(*compute_);
    transport->wait(transport->all_reduce(values.data(), count, element), *compute_);
    EXPECT_EQ(values.get(), sums(count, n));

    values.set(iota(count, rank()));
    transport->after(*compute_);
    transport->wait(transport->broadcast(values.data(), count, element), *compute_);
    EXPECT_EQ(values.get(), iota(count, 0));

    const std::int64_t slice = count / n, all = slice * n;
    Values slices(GetParam().device, *compute_, element, all);
    slices.set(iota(all, rank()));
    transport->after(*compute_);
    transport->wait(transport->reduce_scatter(slices.data(), slice, element), *compute_);
    EXPECT_EQ(part(slices.get(), rank() * slice, slice), sums(slice, n, rank() * slice));

    // What the others hold of my slices must not matter.
    std::vector<double> mine(static_cast<std::size_t>(all), -1);
    for (std::int64_t i = 0; i < slice; ++i)
      mine[static_cast<std::size_t>(rank() * slice + i)] = value_of(rank(), i);
    slices.set(mine);
    transport->after(*compute_);
    transport->wait(transport->all_gather(slices.data(), slice, element), *compute_);
    std::vector<double> gathered;
    for (std::int64_t r = 0; r < n; ++r)
      for (std::int64_t i = 0; i < slice; ++i) gathered.push_back(value_of(r, i));
    EXPECT_EQ(slices.get(), gathered);
  };
  for (const Element element : kElements)
    for (const std::int64_t count : kSizes) check(element, count);
}

TEST_P(TransportTest, SumsRepeatBitForBitAndAgreeOnAllRanks) {
  const auto transport = make(Traffic::collectives);
  const CounterRandom random(5, static_cast<std::uint64_t>(rank()));
  constexpr std::int64_t kCount = 100003;
  std::vector<double> start(kCount);
  for (std::size_t i = 0; i < start.size(); ++i)
    start[i] = static_cast<double>(random.bits(i) % 2000003) / 1000003 - 1;
  for (const Element element : kElements) {
    std::vector<double> first;
    for (int repeat = 0; repeat < 3; ++repeat) {
      Values values(GetParam().device, *compute_, element, kCount);
      values.set(start);
      transport->after(*compute_);
      transport->wait(transport->all_reduce(values.data(), kCount, element), *compute_);
      const std::vector<double> result = values.get();
      if (repeat == 0) first = result;
      EXPECT_EQ(result, first);
    }
    std::vector<double> of_rank_0 = first;
    world_->broadcast(of_rank_0.data(), kCount * 8);
    EXPECT_EQ(first, of_rank_0);
  }
}

TEST_P(TransportTest, ManyOperationsInFlightAreWaitedForOnce) {
  const auto transport = make(Traffic::collectives);
  constexpr std::int64_t kOperations = 300, kCount = 17;  // more than any ring of events
  Values values(GetParam().device, *compute_, Element::fp32, kOperations * kCount);
  values.set(iota(kOperations * kCount, rank()));
  transport->after(*compute_);
  Ticket first = 0, last = 0;
  for (std::int64_t n = 0; n < kOperations; ++n) {
    last = transport->all_reduce(values.at(n * kCount), kCount, Element::fp32);
    if (n == 0) first = last;
    EXPECT_EQ(last, n + 1);
  }
  transport->wait(last, *compute_);
  transport->wait(first, *compute_);  // long done; its event is another's by now
  EXPECT_EQ(values.get(), sums(kOperations * kCount, size()));
  EXPECT_THROW(transport->wait(last + 1, *compute_), Error);
  EXPECT_THROW(transport->wait(0, *compute_), Error);
}

TEST_P(TransportTest, ExchangeRunsARing) {
  if (size() == 1) GTEST_SKIP() << "messages need two ranks";
  const auto transport = make(Traffic::messages);
  for (const Element element : kElements)
    for (const std::int64_t count : kSizes) {
      SCOPED_TRACE(std::to_string(count) + " elements");
      Values out(GetParam().device, *compute_, element, count);
      Values in(GetParam().device, *compute_, element, count);
      out.set(iota(count, rank()));
      transport->after(*compute_);
      const Ticket there =
          transport->exchange(out.data(), count, next(), in.data(), count, previous(), element);
      transport->wait(there, *compute_);
      EXPECT_EQ(in.get(), iota(count, previous()));
      // And back, around the other way.
      out.set(in.get());
      transport->after(*compute_);
      const Ticket back =
          transport->exchange(out.data(), count, previous(), in.data(), count, next(), element);
      transport->wait(back, *compute_);
      EXPECT_EQ(in.get(), iota(count, rank()));
    }
}

// Pairs (0, 1), (2, 3), ...: the even rank sends, the odd one receives.
TEST_P(TransportTest, MessagesMeetInTheOrderTheyWereGiven) {
  if (size() == 1) GTEST_SKIP() << "messages need two ranks";
  const auto transport = make(Traffic::messages);
  const std::int64_t counts[] = {5, kPastEager, 1, 0, 4096, kPastEager + 1};
  const std::int64_t partner = rank() ^ 1;
  if (partner >= size()) return;
  std::vector<std::unique_ptr<Values>> values;
  std::vector<Ticket> tickets;
  for (std::int64_t i = 0; i < 6; ++i) {
    values.push_back(
        std::make_unique<Values>(GetParam().device, *compute_, Element::bf16, counts[i]));
    if (rank() % 2 == 0) values.back()->set(iota(counts[i], rank(), i));
  }
  transport->after(*compute_);
  for (std::size_t i = 0; i < 6; ++i)
    tickets.push_back(
        rank() % 2 == 0 ? transport->send(values[i]->data(), counts[i], Element::bf16, partner)
                        : transport->receive(values[i]->data(), counts[i], Element::bf16, partner));
  // Out of order: a ticket stands for all before it, and may be waited for again.
  for (const std::size_t i : {std::size_t{2}, std::size_t{0}, std::size_t{5}, std::size_t{3}})
    transport->wait(tickets[i], *compute_);
  if (rank() % 2 == 1) {
    for (std::int64_t i = 0; i < 6; ++i)
      EXPECT_EQ(values[static_cast<std::size_t>(i)]->get(), iota(counts[i], partner, i));
  }
}

// A link for either way, as between pipeline stages: both ranks send before they receive.
TEST_P(TransportTest, LinksOfBothDirectionsDoNotWaitForEachOther) {
  if (size() == 1) GTEST_SKIP() << "messages need two ranks";
  const auto up = make(Traffic::messages);
  const auto down = make(Traffic::messages);
  const std::int64_t partner = rank() ^ 1;
  if (partner >= size()) return;
  Transport& out = rank() < partner ? *up : *down;
  Transport& in = rank() < partner ? *down : *up;
  Values sent(GetParam().device, *compute_, Element::fp32, kPastEager);
  Values received(GetParam().device, *compute_, Element::fp32, kPastEager);
  sent.set(iota(kPastEager, rank()));
  out.after(*compute_);
  in.after(*compute_);
  const Ticket there = out.send(sent.data(), kPastEager, Element::fp32, partner);
  const Ticket here = in.receive(received.data(), kPastEager, Element::fp32, partner);
  in.wait(here, *compute_);
  out.wait(there, *compute_);
  EXPECT_EQ(received.get(), iota(kPastEager, partner));
}

TEST_P(TransportTest, MessagesWithoutAPartnerAreRefused) {
  const auto transport = make();
  Values values(GetParam().device, *compute_, Element::fp32, 1);
  for (const std::int64_t peer : {std::int64_t{-1}, rank(), size()}) {
    EXPECT_THROW(transport->send(values.data(), 1, Element::fp32, peer), Error);
    EXPECT_THROW(transport->receive(values.data(), 1, Element::fp32, peer), Error);
  }
}

TEST_P(TransportTest, AbortEndsAMessageThatNeverComes) {
  if (size() == 1) GTEST_SKIP() << "messages need two ranks";
  const auto transport = make(Traffic::messages);
  Values values(GetParam().device, *compute_, Element::fp32, 3);
  transport->after(*compute_);
  std::thread watchdog([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    transport->abort();
  });
  // In host memory the wait fails; on a GPU the stream's work ends.
  try {
    transport->wait(transport->receive(values.data(), 3, Element::fp32, next()), *compute_);
    compute_->synchronize();
    EXPECT_EQ(GetParam().device, Device::cuda);
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::device);
    EXPECT_NE(std::string(error.what()).find("aborted"), std::string::npos) << error.what();
  }
  watchdog.join();
  try {
    transport->receive(values.data(), 3, Element::fp32, next());
    ADD_FAILURE() << "an aborted transport took an operation";
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::device);
    EXPECT_NE(std::string(error.what()).find("receive"), std::string::npos) << error.what();
  }
  world_->barrier();
}

TEST_P(TransportTest, TheFlightRecordTellsWhatWasDone) {
  if (size() == 1) GTEST_SKIP() << "a group of one has no record";
  const auto transport = make(Traffic::collectives);
  Values values(GetParam().device, *compute_, Element::fp32, 12 * size());
  values.set(iota(12 * size(), rank()));
  transport->after(*compute_);
  transport->reduce_scatter(values.data(), 12, Element::fp32);
  transport->wait(transport->all_gather(values.data(), 12, Element::fp32), *compute_);
  compute_->synchronize();
  const auto records = all_flight_records();
  ASSERT_EQ(records.size(), 1u);
  const std::vector<FlightEntry> entries = records[0]->entries();
  ASSERT_GE(entries.size(), 2u);
  const FlightEntry& last = entries.back();
  EXPECT_STREQ(entries[entries.size() - 2].operation, "reduce_scatter");
  EXPECT_STREQ(last.operation, "all_gather");
  EXPECT_EQ(last.bytes, 48 * size());
  EXPECT_EQ(last.sequence, records[0]->last());
  EXPECT_NE(describe_flight_records().find("TheFlightRecordTellsWhatWasDone"), std::string::npos);
}

}  // namespace tessera::comm
