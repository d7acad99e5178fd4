// Errors, memory that is used up for one, told as Paddle tells them of its own operators.
#pragma once

#include <new>
#include <stdexcept>
#include <utility>

#include "paddle/extension.h"

// The operator `f`. Paddle's autograd lets no exception through but Paddle's own: any other ends the process, with pages
// of text. So where memory lacks, Paddle is asked for more than there can be, and raises what Python calls MemoryError.
template <auto f>
struct Guarded;

template <class Returned, class... Arguments, Returned (*f)(Arguments...)>
struct Guarded<f> {
    static Returned run(Arguments... arguments) {
        try {
            return f(std::forward<Arguments>(arguments)...);
        } catch (const std::bad_alloc&) {
            paddle::empty({int64_t(1) << 60}, paddle::DataType::FLOAT32, paddle::CPUPlace());
            throw;
        } catch (const std::runtime_error& error) {  // oneDNN's
            PD_THROW(error.what());
        }
    }
};
