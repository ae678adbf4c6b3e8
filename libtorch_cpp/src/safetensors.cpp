#include "safetensors.h"

#include <ATen/ATen.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "error.h"

namespace {

const std::vector<std::pair<std::string, at::ScalarType>> types = {
    {"F32", at::kFloat}, {"F64", at::kDouble}, {"I32", at::kInt}, {"I64", at::kLong}, {"U8", at::kByte}};

std::string describe(at::ScalarType type, at::IntArrayRef shape) {
  std::ostringstream text;
  text << at::toString(type) << " " << shape;
  return text.str();
}

}  // namespace

Tensors parse_safetensors(const std::string& name, std::string_view content) {
  const auto fail = [&](const std::string& found) -> void {
    throw Error(name + " is not a valid safetensors file: " + found + ". Write it again");
  };
  uint64_t header_size = 0;  // little-endian, like the machine
  if (content.size() < sizeof header_size) fail("it has " + std::to_string(content.size()) + " bytes");
  std::memcpy(&header_size, content.data(), sizeof header_size);
  content.remove_prefix(sizeof header_size);
  if (header_size > content.size()) fail("its header has " + std::to_string(header_size) + " bytes, but the file is shorter");
  const auto header = nlohmann::json::parse(content.substr(0, header_size), nullptr, false);
  content.remove_prefix(header_size);
  if (!header.is_object()) fail("its header is not a JSON object");

  Tensors tensors;
  size_t described = 0;
  for (const auto& [key, entry] : header.items()) {
    if (key == "__metadata__") continue;
    try {
      const auto type = std::find_if(types.begin(), types.end(), [&](const auto& t) { return t.first == entry.at("dtype"); });
      if (type == types.end()) fail(key + " has the unknown dtype " + entry.at("dtype").dump());
      const auto shape = entry.at("shape").get<std::vector<int64_t>>();
      const auto [begin, end] = entry.at("data_offsets").get<std::pair<size_t, size_t>>();
      if (begin > end || end > content.size()) {
        fail(key + " ends at byte " + std::to_string(end) + " of " + std::to_string(content.size()));
      }
      uint64_t bytes = at::elementSize(type->second);
      for (const int64_t extent : shape) {
        if (extent < 0 || (extent > 0 && bytes > content.size() / extent)) fail(key + " has a shape that does not fit in the file");
        bytes *= extent;
      }
      if (bytes != end - begin) fail(key + " has " + std::to_string(end - begin) + " bytes, expected " + std::to_string(bytes));
      at::Tensor tensor = at::empty(shape, type->second);
      std::memcpy(tensor.mutable_data_ptr(), content.data() + begin, bytes);
      tensors.emplace(key, tensor);
      described += bytes;
    } catch (const nlohmann::json::exception&) {
      fail("its entry " + key + " is malformed: " + entry.dump());
    }
  }
  if (described != content.size()) {
    fail("found " + std::to_string(content.size()) + " bytes of tensors, expected " + std::to_string(described));
  }
  return tensors;
}

std::string to_safetensors(const Tensors& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const auto& [key, tensor] : tensors) {
    const auto type = std::find_if(types.begin(), types.end(), [&](const auto& t) { return t.second == tensor.scalar_type(); });
    const at::Tensor packed = tensor.contiguous();
    const size_t begin = data.size();
    data.append(static_cast<const char*>(packed.const_data_ptr()), packed.nbytes());
    header[key] = {{"dtype", type->first}, {"shape", packed.sizes().vec()}, {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the tensors start aligned
  const uint64_t header_size = text.size();
  return std::string(reinterpret_cast<const char*>(&header_size), sizeof header_size) + text + data;
}

at::Tensor expect_tensor(const std::string& name, const Tensors& tensors, const std::string& key, at::ScalarType type,
                         at::IntArrayRef shape) {
  const auto found = tensors.find(key);
  if (found == tensors.end()) throw Error(name + " has no tensor " + key + ": write it again");
  const at::Tensor& tensor = found->second;
  if (tensor.scalar_type() != type || tensor.sizes() != shape) {
    throw Error(name + ": " + key + " is " + describe(tensor.scalar_type(), tensor.sizes()) + ", expected " + describe(type, shape) +
                ": write it again");
  }
  return tensor;
}
