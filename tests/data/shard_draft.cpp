#include "tests/data/shard_draft.h"

#include <stdexcept>

namespace tessera::data {
namespace {

void check(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("shard draft: ") + what);
}

void put_integer(hid_t file, const char* name, std::int64_t value) {
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(
      H5Acreate2(file, name, H5T_STD_I64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  check(H5Awrite(attribute.get(), H5T_NATIVE_INT64, &value) >= 0, name);
}

void put_string(hid_t file, const char* name, const std::string& value) {
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), value.size() + 1);
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(
      H5Acreate2(file, name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  check(H5Awrite(attribute.get(), type.get(), value.c_str()) >= 0, name);
}

void put_index(hid_t file, const char* name, const std::vector<std::int64_t>& values) {
  const hsize_t size = values.size();
  const Hdf5Handle space(H5Screate_simple(1, &size, nullptr), H5Sclose);
  const Hdf5Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  if (size > 0) H5Pset_chunk(layout.get(), 1, &size);
  const Hdf5Handle dataset(
      H5Dcreate2(file, name, H5T_STD_I64LE, space.get(), H5P_DEFAULT, layout.get(), H5P_DEFAULT),
      H5Dclose);
  check(
      H5Dwrite(dataset.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) >= 0,
      name);
}

void put_tokens(hid_t file, const ShardDraft& draft) {
  const hsize_t size[2] = {draft.claimed != 0 ? draft.claimed : draft.tokens.size(), 1};
  const hsize_t most[2] = {H5S_UNLIMITED, 1};
  const Hdf5Handle space(H5Screate_simple(draft.dimensions, size, draft.chunk > 0 ? most : nullptr),
                         H5Sclose);
  const Hdf5Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const hsize_t chunk[2] = {draft.chunk, 1};
  if (draft.chunk > 0) {
    H5Pset_chunk(layout.get(), draft.dimensions, chunk);
    if (draft.deflate) H5Pset_deflate(layout.get(), 6);
    if (draft.checksum) H5Pset_fletcher32(layout.get());
  }
  const Hdf5Handle dataset(
      H5Dcreate2(file, "tokens", draft.type, space.get(), H5P_DEFAULT, layout.get(), H5P_DEFAULT),
      H5Dclose);
  check(dataset.valid(), "tokens");
  if (draft.claimed == 0)
    check(H5Dwrite(dataset.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                   draft.tokens.data()) >= 0,
          "tokens");
}

}  // namespace

void ShardDraft::write(const std::string& path) const {
  const Hdf5Lock lock;
  const Hdf5Handle file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
  check(file.valid(), path.c_str());
  if (without != "format") put_string(file.get(), "format", format);
  if (without != "format_version") put_integer(file.get(), "format_version", version);
  if (without != "vocab_size") put_integer(file.get(), "vocab_size", vocab);
  if (without != "end_of_text") put_integer(file.get(), "end_of_text", end_of_text);
  if (without != "tokenizer_digest") put_string(file.get(), "tokenizer_digest", tokenizer);
  if (without != "documents") put_index(file.get(), "documents", documents);
  if (without != "text_bytes") put_index(file.get(), "text_bytes", text_bytes);
  if (instead) {
    instead(file.get());
  } else if (without != "tokens") {
    put_tokens(file.get(), *this);
  }
}

}  // namespace tessera::data
