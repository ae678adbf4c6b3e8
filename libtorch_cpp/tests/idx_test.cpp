#include "idx.h"

#include "fixtures.h"

TEST_CASE("IDX files are read alike plain and gzipped") {
  const Folder folder;
  const at::Tensor values = at::randint(256, {5, 28, 28}, at::kByte);
  write_file(folder / "plain", idx_bytes(values));
  write_gzip(folder / "zipped.gz", idx_bytes(values));
  for (const char* name : {"plain", "zipped"}) {
    const Idx idx = read_idx(folder.path, name, 3);
    CHECK(idx.values.equal(values));
    CHECK(idx.sha256 == sha256(idx_bytes(values)));
  }
}

TEST_CASE("IDX files are found by the names that Kaggle gives them") {
  const Folder folder;
  write_file(folder / "a.idx1-ubyte", idx_bytes(at::ones({3}, at::kByte)));
  write_gzip(folder / "b.idx1-ubyte.gz", idx_bytes(at::ones({4}, at::kByte)));
  CHECK(read_idx(folder.path, "a-idx1-ubyte", 1).values.size(0) == 3);
  CHECK(read_idx(folder.path, "b-idx1-ubyte", 1).values.size(0) == 4);
}

TEST_CASE("SHA-256 is the standard's (FIPS 180-4, 'abc')") {
  CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("IDX files that are not whole are refused by name") {
  const Folder folder;
  const std::string whole = idx_bytes(at::randint(256, {5, 28, 28}, at::kByte));
  const auto expect = [&](const std::string& content, const std::string& found) {
    write_file(folder / "file", content);
    CHECK_ERROR(read_idx(folder.path, "file", 3), (folder / "file").string() + found);
  };
  expect(whole.substr(0, whole.size() - 1), " has 3919 bytes of data where its header says 3920");
  expect(whole + "x", " has 3921 bytes of data where its header says 3920");
  expect(whole.substr(0, 7), " is truncated: 7 bytes found");
  expect("", " is truncated: 0 bytes found");
  expect(idx_bytes(at::zeros({21}, at::kByte)), " starts with the magic number 2049, expected 2051");
  expect(std::string("\0\0\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16), " claims an impossible size");
  CHECK_ERROR(read_idx(folder.path, "absent", 3), "has neither absent nor absent.gz");

  write_gzip(folder / "cut.gz", whole);
  const std::string zipped = read_file(folder / "cut.gz");
  write_file(folder / "cut.gz", zipped.substr(0, zipped.size() / 2));
  CHECK_ERROR(read_idx(folder.path, "cut", 3), "cut.gz is a damaged gzip file");
}

TEST_CASE("images and labels must belong together") {
  const Folder folder;
  const auto expect = [&](at::IntArrayRef images, int64_t labels, int64_t label, const char* found) {
    write_file(folder / "t-images-idx3-ubyte", idx_bytes(at::zeros(images, at::kByte)));
    write_file(folder / "t-labels-idx1-ubyte", idx_bytes(at::full({labels}, label, at::kByte)));
    CHECK_ERROR(read_split(folder.path, "t"), found);
  };
  expect({5, 28, 27}, 5, 9, "t images are 5 of 28x27, expected 28x28");
  expect({0, 28, 28}, 0, 9, "t images are 0 of 28x28");
  expect({5, 28, 28}, 4, 9, "t has 5 images and 4 labels");
  expect({5, 28, 28}, 5, 10, "t has a label 10, expected 0 to 9");
  expect({5, 28, 28}, 5, 9, "nothing thrown");
}
