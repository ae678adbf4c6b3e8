#include "idx.h"

#include <ATen/ATen.h>
#include <zlib.h>

#include <cstring>
#include <memory>
#include <vector>

#include "error.h"

namespace {

constexpr char hint[] = ": fetch the data set again";

// gzread returns the content of uncompressed files unchanged.
std::string read_unzipped(const std::filesystem::path& file) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> stream(gzopen(file.c_str(), "rb"), gzclose);
  if (!stream) throw Error(file.string() + " cannot be opened: " + std::strerror(errno));
  std::string content;
  std::vector<char> chunk(1 << 20);
  for (int count; (count = gzread(stream.get(), chunk.data(), chunk.size())) != 0;) {
    if (count < 0) break;
    content.append(chunk.data(), count);
  }
  int status = Z_OK;
  const char* message = gzerror(stream.get(), &status);
  if (status != Z_OK) throw Error(file.string() + " is a damaged gzip file (" + message + ")" + hint);
  return content;
}

uint32_t big_endian(const std::string& content, size_t position) {
  uint32_t value = 0;
  for (size_t i = 4 * position; i < 4 * position + 4; ++i) value = value << 8 | static_cast<unsigned char>(content[i]);
  return value;
}

std::filesystem::path find(const std::filesystem::path& folder, const std::string& name) {
  std::string dotted = name;  // Kaggle's name: x.idx3-ubyte
  if (const size_t dash = name.find("-idx"); dash != std::string::npos) dotted[dash] = '.';
  for (const std::string& each : {name, name + ".gz", dotted, dotted + ".gz"}) {
    if (std::filesystem::exists(folder / each)) return folder / each;
  }
  throw Error(folder.string() + " has neither " + name + " nor " + name + ".gz" + hint);
}

}  // namespace

at::Tensor read_idx(const std::filesystem::path& folder, const std::string& name, int64_t dimensions) {
  const std::filesystem::path file = find(folder, name);
  const std::string content = read_unzipped(file);
  const size_t header = 4 + 4 * dimensions;
  if (content.size() < header || big_endian(content, 0) != 0x0800 + dimensions) {  // 08: unsigned bytes
    throw Error(file.string() + " is not an IDX file of bytes with " + std::to_string(dimensions) + " dimensions" + hint);
  }
  std::vector<int64_t> shape;
  for (int64_t i = 1; i <= dimensions; ++i) shape.push_back(big_endian(content, i));
  at::Tensor values = at::empty(shape, at::kByte);
  if (content.size() - header != values.nbytes()) {
    throw Error(file.string() + ": found " + std::to_string(content.size() - header) + " bytes after its header, expected " +
                std::to_string(values.nbytes()) + hint);
  }
  std::memcpy(values.mutable_data_ptr(), content.data() + header, values.nbytes());
  return values;
}

Split read_split(const std::filesystem::path& folder, const std::string& name) {
  return {read_idx(folder, name + "-images-idx3-ubyte", 3), read_idx(folder, name + "-labels-idx1-ubyte", 1)};
}
