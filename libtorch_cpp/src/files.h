// Whole files in memory, and their SHA-256.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

// All bytes of a file. Throws Error if it cannot be read.
std::string read_file(const std::filesystem::path& file);

// Creates or replaces a file. Throws Error if not every byte could be written.
void write_file(const std::filesystem::path& file, std::string_view content);

// SHA-256 in hexadecimal.
std::string sha256(std::string_view content);
