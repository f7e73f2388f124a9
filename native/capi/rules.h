// What each operation checks and makes, and how much work it is; biper.runtime.operations has the same in Python.
#pragma once

#include <string>
#include <vector>

#include "capi/program.h"

namespace biper::capi {

// The shape of an operation's result, and the names of the attributes and tensors that belong to the operation.
struct Checked {
  Shape shape;
  std::vector<std::string> attributes, tensors;
};

// Checks an operation by its own rule, given the shapes of what it reads.
Checked check_rule(const Checker& check, Kind kind, const std::vector<Shape>& inputs, const Attributes& attributes,
                   const Tensors& tensors);
Checked check_array_rule(const Checker& check, Kind kind, const std::vector<Shape>& inputs,
                         const Attributes& attributes, const Tensors& tensors);

// Checks the epilogue of an operation on images, and adds the names that belong to it.
void check_epilogue(const Checker& check, const Step& step, const std::map<std::string, Shape, std::less<>>& real,
                    Checked& checked);

// The elementary operations for each element of the result, beside moving it.
std::int64_t work_of(Kind kind, const std::vector<Shape>& inputs, const Shape& shape, const Attributes& attributes,
                     const Tensors& tensors);

// The entry of a table with this name; null where there is none.
const UnaryFunction* unary_function(const std::string* name);

}  // namespace biper::capi
