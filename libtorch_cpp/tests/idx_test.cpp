#include "idx.h"

#include "fixtures.h"

TEST_CASE("IDX files are read plain and gzipped") {
  const Folder folder;
  const at::Tensor values = at::randint(256, {5, 28, 28}, at::kByte);
  write_file(folder / "plain", idx_bytes(values));
  write_gzip(folder / "zipped.gz", idx_bytes(values));
  for (const char* name : {"plain", "zipped"}) {
    CHECK(read_idx(folder.path, name, 3).equal(values));
  }
}

TEST_CASE("IDX files are found by the names that Kaggle gives them") {
  const Folder folder;
  write_file(folder / "a.idx1-ubyte", idx_bytes(at::ones({3}, at::kByte)));
  write_gzip(folder / "b.idx1-ubyte.gz", idx_bytes(at::ones({4}, at::kByte)));
  CHECK(read_idx(folder.path, "a-idx1-ubyte", 1).size(0) == 3);
  CHECK(read_idx(folder.path, "b-idx1-ubyte", 1).size(0) == 4);
}

TEST_CASE("damaged IDX files are rejected by name") {
  const Folder folder;
  const std::string whole = idx_bytes(at::randint(256, {5, 28, 28}, at::kByte));
  const auto expect = [&](const std::string& content, const std::string& found) {
    write_file(folder / "file", content);
    CHECK_ERROR(read_idx(folder.path, "file", 3), (folder / "file").string() + found);
  };
  expect(whole.substr(0, whole.size() - 1), ": found 3919 bytes after its header, expected 3920");
  expect(whole + "x", ": found 3921 bytes after its header, expected 3920");
  expect(whole.substr(0, 7), " is not an IDX file of bytes with 3 dimensions");
  expect("", " is not an IDX file of bytes with 3 dimensions");
  expect(idx_bytes(at::zeros({21}, at::kByte)), " is not an IDX file of bytes with 3 dimensions");
  CHECK_ERROR(read_idx(folder.path, "absent", 3), "has neither absent nor absent.gz");

  write_gzip(folder / "cut.gz", whole);
  const std::string zipped = read_file(folder / "cut.gz");
  write_file(folder / "cut.gz", zipped.substr(0, zipped.size() / 2));
  CHECK_ERROR(read_idx(folder.path, "cut", 3), "cut.gz is a damaged gzip file");
}
