// Reads and writes whole files.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

// Returns the content of a file. Throws Error if it cannot be read.
std::string read_file(const std::filesystem::path& file);

// Creates or replaces a file. Throws Error if it cannot be written completely.
void write_file(const std::filesystem::path& file, std::string_view content);
