#pragma once

#include <stdexcept>

// An error that a user can fix. Its text is one line: what is wrong, the value found, and the next step.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
