#include "idx.h"

#include <ATen/ATen.h>
#include <zlib.h>

#include <cstring>
#include <memory>
#include <vector>

#include "error.h"
#include "files.h"

namespace {

constexpr char hint[] = ": fetch the data set again";

// gzread passes plain files through as they are.
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

}  // namespace

Idx read_idx(const std::filesystem::path& folder, const std::string& name, int64_t dimensions) {
  std::string dotted = name;  // as Kaggle has it: x.idx3-ubyte
  if (const size_t dash = name.find("-idx"); dash != std::string::npos) dotted[dash] = '.';
  std::filesystem::path file;
  for (const std::string& each : {name, name + ".gz", dotted, dotted + ".gz"}) {
    file = folder / each;
    if (std::filesystem::exists(file)) break;
  }
  if (!std::filesystem::exists(file)) throw Error(folder.string() + " has neither " + name + " nor " + name + ".gz" + hint);

  const std::string content = read_unzipped(file);
  const uint32_t magic = 0x0800 + dimensions;  // 08: unsigned bytes
  const size_t header = 4 + 4 * dimensions;
  if (content.size() < header) throw Error(file.string() + " is truncated: " + std::to_string(content.size()) + " bytes found" + hint);
  if (big_endian(content, 0) != magic) {
    throw Error(file.string() + " starts with the magic number " + std::to_string(big_endian(content, 0)) + ", expected " +
                std::to_string(magic) + hint);
  }
  std::vector<int64_t> shape;
  size_t count = 1;
  for (int64_t i = 1; i <= dimensions; ++i) {
    shape.push_back(big_endian(content, i));
    if (shape.back() != 0 && count > (size_t{1} << 40) / shape.back()) throw Error(file.string() + " claims an impossible size" + hint);
    count *= shape.back();
  }
  if (content.size() - header != count) {
    throw Error(file.string() + " has " + std::to_string(content.size() - header) + " bytes of data where its header says " +
                std::to_string(count) + hint);
  }
  at::Tensor values = at::empty(shape, at::kByte);
  std::memcpy(values.mutable_data_ptr(), content.data() + header, count);
  return {values, sha256(content)};
}

Split read_split(const std::filesystem::path& folder, const std::string& name) {
  const Idx images = read_idx(folder, name + "-images-idx3-ubyte", 3);
  const Idx labels = read_idx(folder, name + "-labels-idx1-ubyte", 1);
  const std::string where = folder.string() + ": " + name;
  const int64_t count = images.values.size(0);
  if (count == 0 || images.values.size(1) != 28 || images.values.size(2) != 28) {
    throw Error(where + " images are " + std::to_string(count) + " of " + std::to_string(images.values.size(1)) + "x" +
                std::to_string(images.values.size(2)) + ", expected 28x28" + hint);
  }
  if (labels.values.size(0) != count) {
    throw Error(where + " has " + std::to_string(count) + " images and " + std::to_string(labels.values.size(0)) + " labels" + hint);
  }
  const auto largest = labels.values.max().item<int64_t>();
  if (largest > 9) throw Error(where + " has a label " + std::to_string(largest) + ", expected 0 to 9" + hint);
  return {images.values, labels.values, images.sha256, labels.sha256};
}
