#include "safetensors.h"

#include "fixtures.h"

namespace {

std::string file_of(const std::string& header, size_t data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + header + std::string(data, 0);
}

}  // namespace

TEST_CASE("written tensors are read back unchanged") {
  const Tensors written = {{"a", at::randn({3, 4})},
                           {"b", at::randn({2}, at::kDouble)},
                           {"c", at::arange(6, at::kInt).view({1, 2, 3})},
                           {"d", at::arange(5, at::kLong)},
                           {"e", at::arange(3, at::kByte)},
                           {"scalar", at::tensor(2.5f)},
                           {"transposed", at::randn({3, 4}).t()},
                           {"empty", at::empty({0, 4})}};
  const Tensors read = parse_safetensors("file", to_safetensors(written));
  REQUIRE(read.size() == written.size());
  for (const auto& [name, tensor] : written) {
    CHECK((read.at(name).scalar_type() == tensor.scalar_type()));
    CHECK(read.at(name).equal(tensor));
  }
}

TEST_CASE("the format's own example is read") {
  std::string file = file_of(R"({"__metadata__":{"by":"hand"},"x":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}})", 8);
  file[file.size() - 4] = 7;
  CHECK(parse_safetensors("file", file).at("x").equal(at::tensor({0, 7}, at::kInt)));
}

TEST_CASE("files that are incomplete or not safetensors are rejected") {
  const std::string whole = to_safetensors({{"a", at::randn({3, 4})}});
  const auto expect = [](const std::string& content, const char* found) { CHECK_ERROR(parse_safetensors("file", content), found); };
  expect("", "it has 0 bytes");
  expect(whole.substr(0, 20), "but the file is shorter");
  expect(whole.substr(0, whole.size() - 1), "a ends at byte 48 of 47");
  expect(whole + "x", "found 49 bytes of tensors, expected 48");
  expect(file_of("not json", 0), "its header is not a JSON object");
  expect(file_of(R"({"a":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}})", 1), "a has the unknown dtype \"F8\"");
  expect(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 8), "a has 4 bytes, expected 8");
  expect(file_of(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4), "a has a shape that does not fit");
  expect(file_of(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}})", 4), "a has a shape that does not fit");
  expect(file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", 8), "a ends at byte 4 of 8");
  expect(file_of(R"({"a":{"dtype":"F32"}})", 4), "its entry a is malformed: ");
}

TEST_CASE("a tensor with another name, type or shape is rejected") {
  const Tensors tensors = {{"a", at::zeros({3, 4})}};
  CHECK(expect_tensor("file", tensors, "a", at::kFloat, {3, 4}).equal(tensors.at("a")));
  CHECK_ERROR(expect_tensor("file", tensors, "b", at::kFloat, {3, 4}), "file has no tensor b");
  CHECK_ERROR(expect_tensor("file", tensors, "a", at::kInt, {3, 4}), "a is Float [3, 4], expected Int [3, 4]");
  CHECK_ERROR(expect_tensor("file", tensors, "a", at::kFloat, {4, 3}), "a is Float [3, 4], expected Float [4, 3]");
}
