#include "comm/mpi_communicator.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/integers.h"

namespace tessera::comm {
namespace {

// MPI-3 counts are int: longer arrays go in pieces of this many elements.
constexpr std::int64_t kPiece = std::int64_t{1} << 28;

class Mpi : public Communicator {
 public:
  // Owns `comm`.
  explicit Mpi(MPI_Comm comm) : comm_(comm) {
    check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    int rank = 0, size = 1;
    check_mpi(MPI_Comm_rank(comm_, &rank), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm_, &size), "MPI_Comm_size");
    rank_ = rank;
    size_ = size;
  }
  ~Mpi() override {
    int finalized = 0;
    if (MPI_Finalized(&finalized) == MPI_SUCCESS && !finalized) MPI_Comm_free(&comm_);
  }

  std::int64_t rank() const override { return rank_; }
  std::int64_t size() const override { return size_; }

  void all_reduce(double* data, std::int64_t count) override {
    for (; count > 0; data += kPiece, count -= kPiece)
      check_mpi(MPI_Allreduce(MPI_IN_PLACE, data, static_cast<int>(std::min(count, kPiece)),
                              MPI_DOUBLE, MPI_SUM, comm_),
                "MPI_Allreduce");
  }

  void broadcast(void* data, std::int64_t bytes) override {
    auto* at = static_cast<char*>(data);
    for (; bytes > 0; at += kPiece, bytes -= kPiece)
      check_mpi(MPI_Bcast(at, static_cast<int>(std::min(bytes, kPiece)), MPI_BYTE, 0, comm_),
                "MPI_Bcast");
  }

  std::vector<std::string> gather_text(const std::string& text) override {
    const int mine = narrow<int>(text.size());
    std::vector<int> sizes(rank_ == 0 ? static_cast<std::size_t>(size_) : 0);
    check_mpi(MPI_Gather(&mine, 1, MPI_INT, sizes.data(), 1, MPI_INT, 0, comm_), "MPI_Gather");
    std::vector<int> starts(sizes.size());
    std::int64_t total = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      starts[i] = narrow<int>(total);
      total += sizes[i];
    }
    std::string all(static_cast<std::size_t>(total), '\0');
    check_mpi(MPI_Gatherv(text.data(), mine, MPI_BYTE, all.data(), sizes.data(), starts.data(),
                          MPI_BYTE, 0, comm_),
              "MPI_Gatherv");
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < sizes.size(); ++i)
      texts.push_back(
          all.substr(static_cast<std::size_t>(starts[i]), static_cast<std::size_t>(sizes[i])));
    return texts;
  }

  void barrier() override { check_mpi(MPI_Barrier(comm_), "MPI_Barrier"); }

  std::unique_ptr<Communicator> split(std::int64_t color, std::int64_t key) override {
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(comm_, color < 0 ? MPI_UNDEFINED : narrow<int>(color),
                             narrow<int>(key), &part),
              "MPI_Comm_split");
    return part == MPI_COMM_NULL ? nullptr : std::make_unique<Mpi>(part);
  }

  MPI_Comm group() const { return comm_; }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::int64_t rank_ = 0, size_ = 1;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi(MPI_Comm parent) {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(parent, &comm), "MPI_Comm_dup");
  return std::make_unique<Mpi>(comm);
}

MPI_Comm mpi_group(const Communicator& communicator) {
  const auto* mpi = dynamic_cast<const Mpi*>(&communicator);
  return mpi ? mpi->group() : MPI_COMM_NULL;
}

void check_mpi(int code, const char* operation) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Error(Category::device, std::string(operation) + " failed: " + text);
}

}  // namespace tessera::comm
