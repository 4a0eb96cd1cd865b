// Single ops of native/core/ops on given values: what the parity tests and benchmarks call through
// runOp.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace mammo::addon {

using OpValue = std::variant<double, std::string, std::vector<float>, std::vector<double>,
                             std::vector<int32_t>, std::vector<uint16_t>, std::vector<uint32_t>>;
using OpValues = std::map<std::string, OpValue>;

/// Engine thread. Error ARGUMENT for an unknown op, a missing, unknown or misshapen argument;
/// CONFIG for a faulty config text.
OpValues run_op(const std::string& name, const OpValues& arguments);

}  // namespace mammo::addon
