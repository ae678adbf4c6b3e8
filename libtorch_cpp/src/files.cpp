#include "files.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "error.h"

std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(stream), {}};
  if (!stream || !std::filesystem::is_regular_file(file)) {
    throw Error(file.string() + " cannot be read: " + std::strerror(errno) + ". Check the path");
  }
  return content;
}

void write_file(const std::filesystem::path& file, std::string_view content) {
  std::ofstream stream(file, std::ios::binary);
  stream.write(content.data(), static_cast<std::streamsize>(content.size()));
  stream.close();
  if (!stream) throw Error(file.string() + " cannot be written: " + std::strerror(errno) + ". Check its folder and the free space");
}
